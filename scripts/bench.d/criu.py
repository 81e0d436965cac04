"""The same moves with criu, to compare with."""

import os
import shutil
import subprocess
import sys
import time

from hosts import ADDRESS, HERE, Failure, command, wait_for

WAYS = ("tcp", "page-server")
PORT = 7171
REFERENCE = "criu 4.2, reference, measured earlier on the same kind of machine"


def find(path):
    """(its path, its version, None), or (None, None, why it cannot be used)."""
    program = shutil.which(path or "criu")
    if not program:
        return None, None, f"no {path or 'criu on the path'}"
    program = os.path.abspath(program)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()
    version = version[1] if len(version) > 1 else "of an unknown version"
    try:
        done = subprocess.run(command("alpha", program, "check"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return None, version, f"criu {version}: `criu check` did not end in a minute"
    if done.returncode:
        return None, version, f"criu {version} does not work here: {reason(done.stdout)}"
    return program, version, None


def reason(said):
    """What the last errors say, without the places in its source."""
    errors = [line.partition("): ")[2] for line in said.splitlines() if line.startswith("Error (")]
    return "; ".join(error.rstrip(".") for error in errors[-3:]) or said.strip() or "`criu check` fails without a word"


def mover(program, way):
    """What moves a running workload with criu."""

    def move(running):
        directories = {side: os.path.join(running.directory, side) for side in ("send", "take")}
        for directory in directories.values():
            os.mkdir(directory)

        def words(side):
            return [sys.executable, "-B", os.path.join(HERE, "carry.py"), side, program, directories[side], ADDRESS["beta"],
                    PORT, way]

        with subprocess.Popen(command("beta", *words("take")), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, cwd="/") as taker:
            try:
                if taker.stdout.readline() != "ready\n":
                    raise Failure(f"criu's destination did not start: {taker.communicate()[1].strip()}")
                if way == "page-server":
                    wait_for("criu's page server does not listen", 10, lambda: listens(running.hosts["beta"], PORT + 1))
                begin = time.time_ns()
                sent = subprocess.run(command("alpha", *words("send"), running.pid), stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=600, check=False)
                if sent.returncode:
                    raise Failure(sent.stderr.strip())
                errors = taker.communicate(timeout=600)[1]
                if taker.returncode:
                    raise Failure(errors.strip())
            except subprocess.TimeoutExpired:
                raise Failure("criu did not end in 10 minutes") from None
            finally:
                if taker.poll() is None:
                    taker.terminate()
        return begin, {"total_ms": (time.time_ns() - begin) / 1e6}

    return move


def listens(host, port):
    with open(f"/proc/{host.init}/net/tcp", encoding="ascii") as file:
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in list(file)[1:])
