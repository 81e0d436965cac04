"""One workload started, moved once, and looked at: with migrate-cli, or with whatever else `move` does."""

import json
import os
import shutil
import subprocess
import time

import ticks
from hosts import Failure, Peaks, command, wait_for

BEFORE = 1.2  # seconds that it runs undisturbed, to know how fast it works
AFTER = 0.3
LEAST_COPYING = 50_000_000  # ns: a slowdown measured over less says nothing
FIRST_PID = 6000  # far from beta's, whatever has run on alpha before


class Running:
    """A workload that runs on alpha. As a context manager it is gone at the end, wherever it is by then."""

    def __init__(self, workload, place, programs, hosts):
        self.workload, self.hosts, self.programs = workload, hosts, programs
        self.directory = os.path.join(place, "run")
        os.makedirs(os.path.join(self.directory, "files"))
        self.path = os.path.join(self.directory, "log")
        self.log = ticks.Log(self.path)
        self.child = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        mode = [word.format(files=os.path.join(self.directory, "files")) for word in self.workload.mode]
        # Many runs of many threads would come to PIDs that beta's agent uses, and be moved in another way.
        words = ["sh", "-c", f'echo {FIRST_PID} >/proc/sys/kernel/ns_last_pid; exec "$@"', "sh",
                 os.path.join(self.programs, "workload"), self.path, *mode]
        self.errors = open(os.path.join(self.directory, "errors"), "w+")
        self.child = subprocess.Popen(command("alpha", *words), stdin=subprocess.DEVNULL, stdout=self.errors,
                                      stderr=self.errors, cwd="/")
        wait_for(f"{self.workload.title} did not get ready", 120, lambda: self.log.ready() or self.child.poll() is not None)
        if not self.log.ready() or self.log.verdict():
            self.errors.seek(0)
            raise Failure(f"the workload did not start: {self.errors.read().strip()}")
        self.pid = self.log.pid()

    def end(self):
        """Has it look whether all is still right, and end."""
        self.log.stop()
        right, why = wait_for("it was told to stop after the move, and did not", 30, self.log.verdict)
        if not right:
            raise Failure(f"after the move the program found: {why}")
        self.wait_gone()

    def wait_gone(self):
        wait_for(f"process {self.pid} does not end", 30, lambda: not any(host.has(self.pid) for host in self.hosts.values()))

    def __exit__(self, *_):
        if pid := self.log.pid():
            for host in self.hosts.values():
                host.kill(pid, self.path)
            self.wait_gone()
        elif self.child:
            self.child.terminate()
        if self.child:
            self.child.wait()
            self.errors.close()
        self.log.close()
        shutil.rmtree(self.directory)


def goes_on(running):
    """Waits until it runs on beta."""
    try:
        wait_for("it was moved, and does not go on", 10,
                 lambda: running.log.last_host() == "beta" or running.log.verdict())
    except Failure as failure:
        raise Failure(f"{failure}; {'; '.join(host.tell(running.pid) for host in running.hosts.values())}") from None
    if verdict := running.log.verdict():
        raise Failure(f"after the move the program found: {verdict[1]}")


def stolen_ms():
    """CPU time that the hypervisor has taken from this machine since it started, all processors together."""
    with open("/proc/stat", encoding="ascii") as stat:
        return int(stat.readline().split()[8]) * 1e3 / os.sysconf("SC_CLK_TCK")


def measured(running, move):
    """Runs move(), and returns what the process itself saw of it; move() returns (begin in ns, whatever else it measured)."""
    time.sleep(BEFORE)
    before = stolen_ms()
    begin, rest = move(running)
    goes_on(running)
    stolen = stolen_ms() - before
    time.sleep(AFTER)
    logs = [running.log.ticks(number) for number in range(ticks.LOGS)]
    running.end()

    downtime = stall = 0
    for noted in filter(None, logs):
        moved = ticks.stood(noted)
        if not moved:
            raise Failure("one of its threads did not go on")
        downtime = max(downtime, moved.arrived.ns - moved.left.ns)
        stall = max(stall, ticks.longest_gap(noted, begin, moved.arrived.ns + int(AFTER * 1e9)))
    left = ticks.stood(logs[0]).left.ns
    slowdown = None
    if left - begin >= LEAST_COPYING:
        alone = ticks.work_rate(logs[0], begin - int((BEFORE - 0.1) * 1e9), begin)
        copied = ticks.work_rate(logs[0], begin, left)
        if alone and copied is not None:
            slowdown = 100 * (1 - copied / alone)
    return {"downtime_ms": downtime / 1e6, "longest_stall_ms": stall / 1e6, "slowdown_percent": slowdown,
            "copied_for_ms": (left - begin) / 1e6, "stolen_ms": stolen, **rest}


def push(running, options=()):
    """The move with migrate-cli. Nothing looks on: on a machine with few CPUs that would be a good part of what is measured."""
    return pushed(running, lambda cli: None, options)


def memory_of_push(running):
    """The same move, of which only the memory is taken: the most bytes that the agents took beyond what they had before."""
    peaks = {side: Peaks(running.hosts[name], running.pid) for side, name in (("source", "alpha"), ("destination", "beta"))}

    def look():
        for peak in peaks.values():
            peak.look()

    def look_on(cli):
        while cli.poll() is None:
            look()
            time.sleep(0.005)

    begin, _ = pushed(running, look_on)
    look()
    return begin, {side: peak.bytes() for side, peak in peaks.items()}


def pushed(running, meanwhile, options=()):
    """Moves it with migrate-cli; meanwhile(cli) may look on until that ends."""
    words = ["sh", "-c", 'date +%s%N; exec "$@"', "sh", "migrate-cli", "push", running.pid, "beta", "--json", "--quiet",
             *options]
    with subprocess.Popen(command("alpha", *words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, cwd="/") as cli:
        meanwhile(cli)
        try:
            said, errors = cli.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            cli.terminate()
            raise Failure("migrate-cli push did not end in 5 minutes") from None
    lines = said.splitlines()
    try:
        report = json.loads(lines[-1])
        outcome = report["outcome"]
    except (ValueError, IndexError, TypeError, KeyError):
        raise Failure(f"migrate-cli push ended with {cli.returncode} and no report: {errors.strip()}") from None
    if outcome != "moved":
        raise Failure(f"{outcome}: {report['reason'] or errors.strip()}")
    return int(lines[0]), {
        "total_ms": report["total_us"] / 1e3, "reported_downtime_ms": (report["downtime_us"] or 0) / 1e3,
        "probed_downtime_ms": None if report["downtime_probed_us"] is None else report["downtime_probed_us"] / 1e3,
        "bytes_sent": report["bytes_sent"], "pages_sent": report["pages_sent"], "rounds": len(report["rounds"]),
        "phases_us": report["phases"], "tracker": report["tracker"], "warnings": report["warnings"],
    }


def warm(programs, size):
    subprocess.run([os.path.join(programs, "machine"), "warm", str(size)], check=True)


def floor(programs, size, how):
    """Seconds that the plainest way to move `size` bytes takes."""
    warm(programs, 2 * size)
    done = subprocess.run([os.path.join(programs, "machine"), "floor", str(size), how], stdout=subprocess.PIPE, text=True,
                          check=True)
    return float(done.stdout)
