"""What a run of the bench prints."""

from statistics import median

from criu import REFERENCE, WAYS
from workloads import BY_NAME

NONE = "–"


def spread(values, digits):
    """The median, and the least and the most where they differ."""
    values = [value for value in values if value is not None]
    if not values:
        return NONE
    # a small minus is noise, not a finding
    text = [f"{value:.{digits}f}".replace("-0.0", "0.0") for value in (median(values), min(values), max(values))]
    return text[0] if text[1] == text[2] else f"{text[0]} ({text[1]}–{text[2]})"


FIGURES = ("downtime_ms", "reported_downtime_ms", "probed_downtime_ms", "total_ms", "bytes_sent", "rounds", "longest_stall_ms",
           "slowdown_percent", "stolen_ms")


def summary(moves):
    """{figure: its median, least and most}, for the JSON document."""
    values = {name: [move[name] for move in moves if move.get(name) is not None] for name in FIGURES}
    return {name: {"median": median(of), "least": min(of), "most": max(of)} for name, of in values.items() if of}


def column(moves, pick, digits=0):
    return spread([pick(move) for move in moves], digits)


def layout(rows):
    """Rows, the first of which is the head, as a Markdown table: text to the left, figures to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row):
        return "| " + " | ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                                 for i, (cell, width) in enumerate(zip(row, widths))) + " |"

    rule = "|" + "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths)) + "|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def memory_columns(extra):
    return [f"{extra[side] / 2**20:.1f}" if extra else NONE for side in ("source", "destination")]


def main_table(result):
    probed = any(move["probed_downtime_ms"] is not None for entry in result["workloads"] for move in entry["moves"])
    rows = [["workload", "downtime ms", *["schedulers saw ms"] * probed, "total ms", "sent MiB", "rounds", "longest stall ms",
             "slowdown %", "memory here MiB", "memory there MiB"]]
    for entry in result["workloads"]:
        moves = entry["moves"]
        if not moves:
            rows.append([entry["title"], "skipped" if entry["skipped"] else "FAILED", *[NONE] * (7 + probed)])
            continue
        rows.append([
            entry["title"],
            column(moves, lambda m: m["downtime_ms"], 1),
            *[column(moves, lambda m: m["probed_downtime_ms"], 1)] * probed,
            column(moves, lambda m: m["total_ms"]),
            column(moves, lambda m: m["bytes_sent"] / 2**20, 1),
            column(moves, lambda m: m["rounds"]),
            column(moves, lambda m: m["longest_stall_ms"], 1),
            column(moves, lambda m: m["slowdown_percent"], 1),
            *memory_columns(entry["extra_memory_bytes"]),
        ])
    return layout(rows)


def floor_lines(result):
    times = result["floor"]["seconds"]
    if not times:
        return []
    gib = result["floor"]["bytes"] / 2**30
    floor = median(times["fresh"])
    lines = [f"The floor of this run, {gib:g} GiB by process_vm_readv, loopback TCP (2 connections, cubic) and process_vm_writev: "
             f"{spread([t * 1e3 for t in times['fresh']], 0)} ms into new memory "
             f"({spread([t * 1e3 for t in times['populated']], 0)} ms into pages that are there)."]
    for entry in result["workloads"]:
        if entry["name"] == "idle-1g" and entry["moves"]:
            total = median(move["total_ms"] for move in entry["moves"])
            lines.append(f"Total time of {entry['title']}: {total / 1e3 / floor:.2f} × the floor.")
    return lines


def stolen_lines(result):
    """What no program on this machine can help: both processors stand still meanwhile, and so does whatever is measured."""
    stolen = []
    for entry in result["workloads"]:
        times = [move["stolen_ms"] for move in entry["moves"]]
        if any(times):
            stolen.append(f"{entry['title']} {spread(times, 0)}")
    return [f"The hypervisor took CPU time away from this machine meanwhile (steal), ms a move: {', '.join(stolen)}."] if stolen else []


def criu_table(result):
    criu = result["criu"]
    measured = criu["skipped"] is None
    name = f"criu {criu['version']}" if measured else REFERENCE
    rows = [["workload", "downtime ms", "criu, images over TCP, ms", "ratio", "criu, page-server, ms", "ratio"]]
    for entry in result["workloads"]:
        moves = entry["moves"]
        row = [entry["title"], column(moves, lambda m: m["downtime_ms"], 1)]
        for way in WAYS:
            if measured:
                times = [move["downtime_ms"] for move in entry["criu"][way]["moves"]]
            else:
                times = [BY_NAME[entry["name"]].reference[way]] if BY_NAME[entry["name"]].reference else []
            row.append(spread(times, 0))
            ours = median(move["downtime_ms"] for move in moves) if moves else None
            row.append(f"{median(times) / ours:.0f} ×" if times and ours else NONE)
        rows.append(row)
    lines = [f"Downtime against {name}:", ""]
    if not measured:
        lines.insert(0, f"criu was skipped: {criu['skipped']}.")
    return "\n".join(lines) + "\n" + layout(rows)


def phases_table(entry):
    """Where the time of a workload goes; what took less than a microsecond in every run is there too."""
    names = []
    for move in entry["moves"]:
        names += [name for name in move["phases_us"] if name not in names]
    rows = [[entry["title"], "µs", "least", "most"]]
    for name in names:
        times = [move["phases_us"].get(name, 0) for move in entry["moves"]]
        rows.append([name, *[f"{value:.0f}" for value in (median(times), min(times), max(times))]])
    for name in ("downtime_ms", "reported_downtime_ms", "total_ms"):
        times = [move[name] * 1e3 for move in entry["moves"]]
        label = {"downtime_ms": "downtime, as the process saw it", "reported_downtime_ms": "downtime, as reported",
                 "total_ms": "total"}[name]
        rows.append([label, *[f"{value:.0f}" for value in (median(times), min(times), max(times))]])
    return layout(rows)


def text(result, phases):
    machine = result["machine"]
    head = (f"{machine['cpus']} CPUs ({machine['model']}), {machine['memory_gib']} GiB, Linux {machine['kernel']}; both hosts on "
            f"it; {result['runs']} {'run' if result['runs'] == 1 else 'runs each: median (least–most)'}.")
    parts = [head, main_table(result), "\n".join(floor_lines(result) + stolen_lines(result))]
    if phases:
        parts += [phases_table(entry) for entry in result["workloads"] if entry["moves"]]
    if result["criu"]:
        parts.append(criu_table(result))
    notes = [f"{entry['title']}: {why}" for entry in result["workloads"] for why in notes_of(entry)]
    parts.append("\n".join(notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def notes_of(entry):
    if entry["skipped"]:
        yield f"skipped: {entry['skipped']}"
    failed = len(entry["failures"])
    if failed:
        yield f"{failed} of {failed + len(entry['moves'])} moves failed: {entry['failures'][0]}"
    for way, done in entry["criu"].items():
        if done["failures"]:
            yield f"criu, {way}: {len(done['failures'])} moves failed: {done['failures'][0]}"
    for warning in sorted({warning for move in entry["moves"] for warning in move["warnings"]}):
        yield f"warning: {warning}"
