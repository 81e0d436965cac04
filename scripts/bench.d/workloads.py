"""What is moved: the arguments of workload.c, what each needs, and what is known of criu with it."""

from dataclasses import dataclass, field

MIB = 1 << 20


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    mode: tuple = ()
    bytes: int = 0  # of memory, roughly
    # criu 4.2 with the same workload, measured earlier on the same kind of machine (kernel 6.18, 2 CPUs): downtime in ms
    reference: dict = field(default_factory=dict)


def reference(tcp, page_server):
    return {"tcp": tcp, "page-server": page_server}


WORKLOADS = [
    Workload("tiny", "tiny", ("tiny",), 1 * MIB, reference(49, 238)),
    Workload("idle-1g", "1 GiB idle", ("memory", "1024"), 1024 * MIB, reference(3262, 2106)),
    Workload("idle-4g", "4 GiB idle", ("memory", "4096"), 4096 * MIB),
    Workload("shared-1g", "1 GiB shared, idle", ("shared", "1024"), 1024 * MIB),
    # 26 pages and a sleep of 1 ms: 26 000 of 262 144 pages a second
    Workload("rewrite-1g", "1 GiB, 10 %/s rewritten", ("rewrite", "1024", "26"), 1024 * MIB, reference(2790, 2086)),
    Workload("hot-1g", "1 GiB, hot 64 MiB", ("hot", "1024", "64"), 1088 * MIB),
    Workload("threads-200", "200 threads", ("threads", "200"), 8 * MIB, reference(153, 318)),
    Workload("threads-2000", "2000 threads", ("threads", "2000"), 48 * MIB),
    Workload("files-1000", "1000 files", ("files", "1000", "{files}"), 1 * MIB, reference(102, 291)),
    Workload("timers-1000", "1000 timers", ("timers", "1000"), 1 * MIB),
    Workload("epolls-100", "100 epolls of 100 items", ("epolls", "100"), 1 * MIB),
    Workload("sockets-1000", "1000 unix sockets", ("sockets", "1000"), 1 * MIB),
    Workload("udp-1000", "1000 UDP sockets", ("udp", "1000"), 1 * MIB),
    Workload("mappings-10000", "10 000 mappings", ("mappings", "10000"), 48 * MIB),
]
BY_NAME = {workload.name: workload for workload in WORKLOADS}
