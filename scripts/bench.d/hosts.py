"""The two hosts, as scripts/hosts makes them, and what runs in them."""

import os
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HOSTS = os.path.join(os.path.dirname(HERE), "hosts")
STATE = "/run/migrate-hosts"
ADDRESS = {"alpha": "10.77.0.1", "beta": "10.77.0.2"}


class Failure(Exception):
    """Something did not move, or could not be measured; the text says what."""


class Gone(Exception):
    """The hosts have been brought down meanwhile; nothing more can be measured."""


def command(host, *words):
    return [HOSTS, "exec", host, "--", *map(str, words)]


def wait_for(what, seconds, look):
    """The first true answer of look()."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := look():
            return answer
        time.sleep(0.005)
    raise Failure(f"{what}: nothing in {seconds} s")


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""


class Host:
    """One of them. Its processes are looked at through the root directory of its PID 1, by the PIDs that it gives them."""

    def __init__(self, name):
        self.name = name
        self.init = read(f"{STATE}/{name}/init").split()[0].decode()
        self.proc = f"/proc/{self.init}/root/proc"
        self.agent = int(read(f"{STATE}/{name}/agent.pid") or 0)

    def pids(self):
        self.must_be_up()
        return [int(entry) for entry in os.listdir(self.proc) if entry.isdigit()]

    def must_be_up(self):
        if not os.path.isdir(f"{self.proc}/1"):
            raise Gone(f"the host {self.name} is gone: somebody has brought it down")

    def has(self, pid):
        stat = read(f"{self.proc}/{pid}/stat")
        return bool(stat) and stat.rpartition(b")")[2].split()[0] != b"Z"

    def tell(self, pid):
        """What becomes of a process here, for a message."""
        status = read(f"{self.proc}/{pid}/status").decode(errors="replace")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        if not fields:
            return f"on {self.name} it is not"
        told = ", ".join(f"{name} {' '.join(fields[name].split())}" for name in ("State", "Threads", "TracerPid", "SigPnd", "ShdPnd"))
        waits = read(f"{self.proc}/{pid}/syscall").decode().strip()
        return f"on {self.name}: {told}, system call {waits}"

    def arguments(self, pid):
        return read(f"{self.proc}/{pid}/cmdline").split(b"\0")

    def status(self, pid):
        """The lines of its status with a number, in bytes where that is a size; {} when there is no such process."""
        found = {}
        for line in read(f"{self.proc}/{pid}/status").decode(errors="replace").splitlines():
            name, _, value = line.partition(":")
            words = value.split()
            if words and words[0].isdigit():
                found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
        return found

    def forget_peak(self, pid):
        with open(f"{self.proc}/{pid}/clear_refs", "w") as file:  # proc(5): 5 resets VmHWM
            file.write("5")

    def kill(self, pid, marker):
        """Kills it, if it is still the process that has `marker` among its arguments."""
        if marker.encode() in self.arguments(pid):
            subprocess.run(command(self.name, "kill", "-KILL", pid), stderr=subprocess.DEVNULL, check=False)

    def log_tail(self, lines):
        return read(f"{STATE}/{self.name}/agent.log").decode(errors="replace").splitlines()[-lines:]


class Peaks:
    """The most memory that a host's agent, and what it starts, took beyond what the agent had at the beginning."""

    def __init__(self, host, ignored):
        self.host = host
        self.seen = set(host.pids()) | {ignored}
        self.extra = {}
        self.idle = 0
        if host.agent:
            host.forget_peak(host.agent)
            self.idle = host.status(host.agent).get("VmRSS", 0)
            self.extra[host.agent] = 0

    def look(self):
        for pid in self.host.pids():
            if pid not in self.seen:
                self.seen.add(pid)
                # by its parent: between fork and exec it has no name of its own
                if self.host.status(pid).get("PPid") in self.extra:
                    self.extra[pid] = 0
        for pid in self.extra:
            peak = self.host.status(pid).get("VmHWM", 0) - (self.idle if pid == self.host.agent else 0)
            self.extra[pid] = max(self.extra[pid], peak)

    def bytes(self):
        return sum(self.extra.values())
