"""Writes the generated part of docs/PERFORMANCE.md and the charts."""

from pathlib import Path

import asked
import chart
import extra
import host
import report
import targets

BEGIN, END = "<!-- tests/bench/run --docs writes from here -->", "<!-- to here -->"
OPTIONS = "gocryptfs -kernel_cache; securefs format 4, --attr-timeout 3600; encfs --standard, kernel_cache, big_writes; cryfs noatime, " \
          "kernel_cache, big_writes"
PLACES = {"ext4": "on disk", "tmpfs": "in memory (tmpfs)"}


def ratio_chart(results, rows):
    """Ratios to the best peer of each backing side by side."""
    groups = []
    for backing in results.rates:
        entries = []
        for row in report.rows_of(results, backing, rows):
            found = targets.compare(results, backing, row, "peer")
            without = targets.compare(results, backing, row, "peer", report.NORING_SUFFIX)
            wanted = next((a[1] for t in targets.TARGETS.get(row.key, []) for a in t if a[0] == "peer"), None)
            if found and wanted:
                entries.append(chart.Bar(row.title, found[1], wanted, without[1] if without else None))
        groups.append((PLACES[backing], entries))
    notes = ["Each workload against the fastest of gocryptfs, securefs, EncFS and CryFS in it. Right of 1× latchfs is faster."]
    return chart.bars("latchfs against the best other encrypting filesystem", notes, groups)


def growth_chart(found):
    lines, plots = found["lines"], []
    for plot, x_title in extra.PLOTS:
        drawn = [(line, points, system != "latchfs") for system, by_plot in lines.items() for line, points in by_plot.get(plot, {}).items()]
        if drawn:
            plots.append((f"by {x_title}", x_title, drawn, chart.mib if plot == "files" else chart.short))
    return chart.panels("Microseconds for each operation as things grow",
                        "On tmpfs. Level is good; both axes are logarithmic. Dashed: the passthrough, which encrypts nothing.", plots)


def ring_text(about):
    """Which setting of the host the figures are for."""
    ring = about.get("ring")
    if not ring:
        return "All figures are without FUSE over io_uring."
    if not ring["offered"]:
        return "This kernel has no FUSE over io_uring, or it could not be switched: all figures are without it."
    if "latchfs" not in ring["used"]:
        return "The host's `/sys/module/fuse/parameters/enable_uring` was Y while latchfs was mounted, but latchfs did not use it: all figures are " \
               "without the ring."
    text = "**Host setting**: `/sys/module/fuse/parameters/enable_uring` was Y while latchfs (with its option `-o uring`) and the passthrough were mounted, so that they talk " \
           "to the kernel through io_uring; the kernel's default is N, and latchfs's is not to. "
    if "latchfs_noring" in about["systems"]:
        return text + "\"No ring\" is the same without: what a mount gets by default."
    return text + "This run did not time them without it: on a host that nobody has changed they are slower."


IMAGE = "The disk is an ext4 with a journal in an image file, by a loop device with direct I/O: the machine's own ext4 has no journal."


def heading(about):
    once = " It was one round only: single figures may be off by a good part." if about["rounds"] == 1 else ""
    peers = ", ".join(f"{name} {version}" for name, version in about["peers"].items())
    return (f"One run of `tests/bench/run {'--quick ' if about['quick'] else ''}--docs`: {about['rounds']} round{'' if about['rounds'] == 1 else 's'}, "
            f"{about['processors']} processors, Linux {about['kernel']}, load before the run {about['load']:.1f}. Compared: {peers}. "
            f"Their options: {OPTIONS}.{once} {IMAGE if about.get('image') else ''}\n\n{ring_text(about)}\n\n"
            "\"/ best peer\" says how many times better latchfs is than the best of the other encrypting filesystems in this row, and which "
            "it is; \"plain / best peer\" is what the backing filesystem itself reaches, so no filesystem above it can do better without "
            "more caching, and a row that is short says so where that, or the passthrough, would be short of the target too. Rows of programs (tar, git, make) count seconds, all others rates; ratios above 1 are always better. "
            "CryFS makes no call that syncs, so it is no peer in the rows whose data must be on disk.")


def of_its_own(about):
    """Of a part that may come from another run than the rows."""
    return f"Linux {about['kernel']}, {about['date']}, load before {about['load']:.1f}."


def used_ring(used):
    return "with FUSE over io_uring" if used else "without FUSE over io_uring"


def costs_table(found):
    out = [f"{of_its_own(found['about'])} Where nothing else is said {used_ring(found['ring'])}.", "", "| measured | latchfs | wanted | verdict |",
           "| --- | --- | --- | --- |"]
    for title, measured, wanted, met in extra.cost_lines(found):
        out.append(f"| {title} | {measured} | {wanted} | {'' if met is None else 'met' if met else 'short'} |")
    return "\n".join(out)


def defaults_table(results, rows):
    """Warm reads against gocryptfs as it comes, whose user did not ask for the kernel's cache."""
    out = ["| workload | " + " | ".join(PLACES[b] for b in results.rates) + " |", "| --- |" + " --- |" * len(results.rates)]
    for row in rows:
        if row.defaults and row.key not in ("seq_write", "create"):  # they only make what the others read
            found = [targets.compare(results, b, row, "gocryptfs_default") for b in results.rates]
            if all(found):
                out.append(f"| {row.title} | {' | '.join(f'{f[1]:.2f}' for f in found)} |")
    return "\n".join(out)


def size_text(plot, x):
    return chart.mib(x) if plot == "files" else f"{x:,} {'thread' if plot == 'threads' else 'name'}{'' if x == 1 else 's'}"


def growth_table(found):
    out = ["| operation | system | smallest | largest | dearest / cheapest |", "| --- | --- | --- | --- | --- |"]
    for system, plot, line, least, most, growth in extra.growth_lines(found):
        ends = [f"{report.number(cost)} µs at {size_text(plot, x)}" for x, cost in (least, most)]
        out.append(f"| {line} | {system} | {' | '.join(ends)} | {growth:.1f} |")
    return "\n".join(out)


def names_text(results):
    """Who did not get all names of the large directory made in the time."""
    found = []
    for backing, by_system in results.names.items():
        most = max(by_system.values())
        found += [f"{s} {PLACES[backing]} {n:,}" for s, n in by_system.items() if n < most]
    return f"Names in the large directory, where they were not all made in the time: {', '.join(found)}." if found else ""


def failed_text(results):
    return "Not measured: " + "; ".join(f"{what} ({why.strip()})" for what, why in results.failed.items()) + "." if results.failed else ""


def summary(results, rows):
    texts = ["**{} of {} rows are met**, both backings counted".format(*report.met(results, rows))]
    if report.has_noring(results):
        texts.append("; without the ring {} of {}".format(*report.met(results, rows, report.NORING_SUFFIX)))
    return "".join(texts) + "."


def generated(known, rows):
    results = known.results
    parts = [heading(known.about), summary(results, rows), "![Ratios to the best peer](benchmark.svg)"]
    for backing in results.rates:
        parts += [f"### Ratios {PLACES[backing]}", report.ratio_table(results, backing, rows)]
    parts += [names_text(results), failed_text(results)]
    parts += ["Warm reads against gocryptfs as it comes, without its option -kernel_cache:", defaults_table(results, rows)]
    parts += ["### Rows that are short",
              "With FUSE over io_uring. \"Passthrough instead\" is what FUSE without encryption reaches against the same peer; the last three columns "
              "are processor time as a share of the row's time on the clock: what they leave is waiting for the disk, waking, and waiting for a processor. "
              "What would lift each stands under \"Where it falls short\".",
              report.short_table(results, rows)]
    if "tmpfs" in results.rates:
        parts += ["### Where the time goes",
                  "The same run on tmpfs, where no disk is waited for: microseconds for each unit on the clock, and processor time of it: of the daemon's own "
                  "code with its libraries, of the kernel in the daemon's threads, and of the programs. What the clock has beyond their sum is waking, and "
                  "waiting for a processor; where it has less, program and daemon worked at the same time.",
                  report.parts_table(results, "tmpfs", rows)]
    if known.requests:
        parts += ["### Requests of the kernel",
                  f"Counted by its tracepoint on tmpfs, without FORGET; cold rows after the caches were dropped. {of_its_own(known.requests['about'])}",
                  asked.table(known.requests["figures"])]
    if known.costs:
        parts += ["### Processor time, memory, mounting", costs_table(known.costs)]
    if known.growth:
        ring = used_ring(known.growth["lines"].get("latchfs", {}).get("ring"))
        parts += ["### Growth",
                  f"Microseconds for each operation on tmpfs, {ring}; by threads it is the wall time over the operations of all threads. "
                  f"{of_its_own(known.growth['about'])}",
                  "![Cost as things grow](scaling.svg)", growth_table(known.growth)]
    if known.host:
        parts += ["### Writeback and reading ahead by settings of the host",
                  "One mount whose settings in /sys/class/bdi change from round to round, MiB/s, medians with the least and the most; files of "
                  f"128 MiB in calls of 1 MiB, {used_ring(known.host['ring'])}. {of_its_own(known.host['about'])}", host.table(known.host["figures"])]
    for backing in results.rates:
        parts += [f"### Figures {PLACES[backing]}", "Medians with the least and the most.",
                  report.figure_table(results, backing, rows, known.about["systems"])]
    return "\n\n".join(p for p in parts if p)


def write(docs, known, rows):
    """docs is the directory; its PERFORMANCE.md has the two markers. known: the Report of the run."""
    docs = Path(docs)
    (docs / "benchmark.svg").write_text(ratio_chart(known.results, rows))
    if known.growth:
        (docs / "scaling.svg").write_text(growth_chart(known.growth))
    text = (docs / "PERFORMANCE.md").read_text()
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    (docs / "PERFORMANCE.md").write_text(f"{before}{BEGIN}\n\n{generated(known, rows)}\n\n{END}{after}")
