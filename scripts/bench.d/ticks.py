"""What a workload noted while it ran: the reader of the file that workload.c writes."""

import bisect
import mmap
import os
import struct
from collections import namedtuple

TICKS, LOGS, PAGE = 1 << 17, 2, 4096
TICK = struct.Struct("<QQ16s")
HEAD = struct.Struct("<QQ2QIII256s")  # magic, pid, count of each log, ready, stop, verdict, why
SIZE = PAGE + LOGS * TICKS * TICK.size
STOP_AT = 36

Tick = namedtuple("Tick", "ns work host")
Stood = namedtuple("Stood", "left arrived")  # the last tick here and the first one there


class Log:
    def __init__(self, path):
        with open(path, "wb") as file:
            file.truncate(SIZE)
        self.file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.map = mmap.mmap(self.file, SIZE)

    def close(self):
        self.map.close()
        os.close(self.file)

    def head(self):
        return HEAD.unpack_from(self.map)

    def pid(self):
        return self.head()[1]

    def ready(self):
        _, _, _, _, ready, _, verdict, _ = self.head()
        return ready or verdict

    def stop(self):
        self.map[STOP_AT] = 1

    def verdict(self):
        """None while it runs, else whether all was right, and what was not."""
        verdict, why = self.head()[6:]
        return (verdict == 1, why.partition(b"\0")[0].decode(errors="replace")) if verdict else None

    def last_host(self):
        count = self.head()[2]
        return self.tick(0, count - 1).host if count else None

    def tick(self, log, number):
        ns, work, host = TICK.unpack_from(self.map, PAGE + (log * TICKS + number % TICKS) * TICK.size)
        return Tick(ns, work, host.partition(b"\0")[0].decode())

    def ticks(self, log):
        count = self.head()[2 + log]
        return [self.tick(log, number) for number in range(max(0, count - TICKS), count)]


def stood(ticks):
    """The two ticks between which it changed hosts; None when it did not."""
    for left, arrived in zip(ticks, ticks[1:]):
        if left.host != arrived.host:
            return Stood(left, arrived)
    return None


def longest_gap(ticks, first_ns, last_ns):
    """The longest time without a tick on one host, in ns: a stall that is not the move itself."""
    return max((b.ns - a.ns for a, b in zip(ticks, ticks[1:])
                if a.ns >= first_ns and b.ns <= last_ns and a.host == b.host), default=0)


def work_rate(ticks, first_ns, last_ns):
    """Work for each ms between two times. Of a program that only waits, its ticks are the work."""
    times = [tick.ns for tick in ticks]
    first, last = bisect.bisect_left(times, first_ns), bisect.bisect_right(times, last_ns) - 1
    if last <= first:
        return None
    a, b = ticks[first], ticks[last]
    done = b.work - a.work if b.work else last - first
    return done * 1e6 / (b.ns - a.ns)
