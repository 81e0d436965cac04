"""Runs the workloads and prints what came of them; started by scripts/bench, when the hosts are up."""

import argparse
import functools
import json
import os
import platform
import signal
import subprocess
import sys

import criu
import table
from hosts import Failure, Gone, Host
from move import Running, floor, goes_on, measured, memory_of_push, push, warm
from workloads import BY_NAME, MIB, WORKLOADS

FLOOR_BYTES = 1024 * MIB
FLOOR_RUNS = 5  # at most
FLOOR_HOW = ("fresh", "populated")


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", add_help=False)
    parser.add_argument("--place", required=True)
    parser.add_argument("--programs", required=True)
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--criu", nargs="?", const="")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--phases", action="store_true")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("workloads", nargs="*")
    return parser.parse_args()


def say(text):
    print(text, file=sys.stderr, flush=True)


def tell_machine():
    model, memory = platform.machine(), 0
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(file.readline().split()[1]) * 1024
    return {"kernel": platform.release(), "cpus": len(os.sched_getaffinity(0)), "model": model, "memory_gib": round(memory / 2**30)}


def free_memory():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


def moved(workload, options, hosts, run):
    """One run: started on alpha, moved to beta by run(), checked, ended."""
    for host in hosts.values():
        host.must_be_up()
    with Running(workload, options.place, options.programs, hosts) as running:
        warm(options.programs, workload.bytes + 64 * MIB)
        return run(running)


def memory(running):
    _, extra = memory_of_push(running)
    goes_on(running)
    running.end()
    return extra


def repeat(what, runs, once):
    """(what each run gave, why the others failed). Two failures in a row end it: the third would be no news."""
    done, failures, row = [], [], 0
    for number in range(1, runs + 1):
        try:
            done.append(once())
            row = 0
            say(f"{what}, run {number}: downtime {done[-1]['downtime_ms']:.1f} ms, total {done[-1]['total_ms']:.0f} ms")
        except Failure as failure:
            failures.append(str(failure))
            row += 1
            say(f"{what}, run {number}: FAILED: {failure}")
            if row == 2:
                break
    return done, failures


def bench(workload, options, hosts, criu_program):
    entry = {"name": workload.name, "title": workload.title, "skipped": None, "summary": {}, "moves": [], "failures": [], "criu": {},
             "extra_memory_bytes": None}
    # images in memory besides, twice, with criu
    needed = workload.bytes * (4 if criu_program else 2) + 512 * MIB
    if free_memory() < needed:
        entry["skipped"] = f"{needed / 2**30:.1f} GiB of memory are needed, {free_memory() / 2**30:.1f} are free"
        say(f"{workload.title}: skipped: {entry['skipped']}")
        return entry
    mover = functools.partial(push, options=["--measure"] if options.measure else [])
    entry["moves"], entry["failures"] = repeat(
        workload.title, options.runs, lambda: moved(workload, options, hosts, lambda running: measured(running, mover)))
    entry["summary"] = table.summary(entry["moves"])
    if entry["moves"]:
        try:
            entry["extra_memory_bytes"] = moved(workload, options, hosts, memory)
        except Failure as failure:
            entry["failures"].append(str(failure))
    if entry["failures"]:
        for host in hosts.values():
            for line in host.log_tail(4):
                say(f"  {host.name}: {line}")
    if criu_program:
        for way in criu.WAYS:
            moves, failures = repeat(f"{workload.title}, criu, {way}", options.runs,
                                     lambda: moved(workload, options, hosts,
                                                   lambda running: measured(running, criu.mover(criu_program, way))))
            entry["criu"][way] = {"summary": table.summary(moves), "moves": moves, "failures": failures}
    return entry


def main():
    options = arguments()
    for signal_number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(signal_number, lambda number, _: sys.exit(128 + number))
    chosen = [BY_NAME[name] for name in options.workloads] or WORKLOADS
    hosts = {name: Host(name) for name in ("alpha", "beta")}
    result = {"machine": tell_machine(), "binaries": options.binaries, "runs": options.runs,
              "floor": {"bytes": FLOOR_BYTES, "seconds": {}}, "workloads": [], "criu": None}
    program = None
    if options.criu is not None:
        program, version, why_not = criu.find(options.criu)
        result["criu"] = {"program": program, "version": version, "skipped": why_not}
        if why_not:
            say(f"criu is skipped: {why_not}")
    if free_memory() > 2 * FLOOR_BYTES + 512 * MIB:
        for how in FLOOR_HOW:
            result["floor"]["seconds"][how] = [floor(options.programs, FLOOR_BYTES, how) for _ in range(min(options.runs, FLOOR_RUNS))]
    for workload in chosen:
        result["workloads"].append(bench(workload, options, hosts, program))
    if options.json:
        if result["criu"] and result["criu"]["skipped"]:
            result["criu"]["reference"] = {"what": criu.REFERENCE, "downtime_ms": {w.name: w.reference for w in chosen if w.reference}}
        print(json.dumps(result, indent=1, ensure_ascii=False))
    else:
        print(table.text(result, options.phases), end="")
    return 1 if any(entry["failures"] for entry in result["workloads"]) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failure, Gone, subprocess.CalledProcessError) as failure:
        sys.exit(f"bench: {failure}")
