"""Writes the generated part of docs/PERFORMANCE.md and the charts."""

from pathlib import Path

import chart
import extra
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
            wanted = next((a[1] for t in targets.TARGETS.get(row.key, []) for a in t if a[0] == "peer"), None)
            if found and wanted:
                entries.append((row.title, found[1], wanted, found[1] >= wanted))
        groups.append((PLACES[backing], entries))
    return chart.bars("latchfs against the best other encrypting filesystem, workload by workload",
                      "Of gocryptfs, securefs, EncFS and CryFS the best in each. Right of 1× latchfs is faster. The mark is the target, green meets it.", groups)


def scaling_chart(found):
    plots = []
    for plot, x_title in extra.PLOTS:
        lines = [(line, points, "") for line, points in found.get("latchfs", {}).get(plot, {}).items()]
        if lines:
            plots.append((f"by {x_title}", x_title, lines, chart.mib if plot == "files" else chart.short))
    return chart.panels("Microseconds for each operation as things grow", "latchfs on tmpfs. Level is good; both axes are logarithmic.", plots)


def heading(about):
    peers = ", ".join(f"{name} {version}" for name, version in about["peers"].items())
    return (f"One run of `tests/bench/run {'--quick ' if about['quick'] else ''}--docs`: {about['rounds']} round{'' if about['rounds'] == 1 else 's'}, "
            f"{about['processors']} processors, Linux {about['kernel']}, load before the run {about['load']:.1f}. Compared: {peers}. "
            f"Their options: {OPTIONS}.\n\n"
            "\"/ best peer\" says how many times better latchfs is than the best of the other encrypting filesystems in this row, and which "
            "it is; \"plain / best peer\" is what the backing filesystem itself reaches, so no filesystem above it can do better without "
            "more caching. Rows of programs (tar, git, make) count seconds, all others rates; ratios above 1 are always better. "
            "CryFS makes no call that syncs, so it is no peer in the rows whose data must be on disk.")


def costs_table(found):
    out = ["| measured | latchfs | wanted | verdict |", "| --- | --- | --- | --- |"]
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


def growth_table(found):
    titles = {"directories": "names", "files": "MiB", "threads": "threads"}
    out = ["| operation | smallest | largest | dearest / cheapest |", "| --- | --- | --- | --- |"]
    for plot, line, least, most, growth in extra.growth_lines(found):
        out.append(f"| {line} | {report.number(least[1])} µs at {least[0]:,} {titles[plot]} | {report.number(most[1])} µs at "
                   f"{most[0]:,} | {growth:.1f} |")
    return "\n".join(out)


def generated(results, rows, names, costs, scaling, about):
    good, judged = report.met(results, rows)
    parts = [heading(about), f"**{good} of {judged} rows are met**, both backings counted.",
             "![Ratios to the best peer](benchmark.svg)"]
    for backing in results.rates:
        parts += [f"### Ratios {PLACES[backing]}", report.ratio_table(results, backing, rows)]
    parts += ["Warm reads against gocryptfs as it comes, without its option -kernel_cache:", defaults_table(results, rows)]
    if costs:
        parts += ["### Processor time, memory, mounting", costs_table(costs)]
    if scaling:
        parts += ["### Growth",
                  "Microseconds for each operation of latchfs on tmpfs; by threads it is the wall time over the operations of all threads.",
                  "![Cost as things grow](scaling.svg)", growth_table(scaling)]
    for backing in results.rates:
        parts += [f"### Figures {PLACES[backing]}", "Medians with the least and the most.", report.figure_table(results, backing, rows, names)]
    return "\n\n".join(parts)


def write(docs, results, rows, names, costs, scaling, about):
    """docs is the directory; its PERFORMANCE.md has the two markers."""
    docs = Path(docs)
    (docs / "benchmark.svg").write_text(ratio_chart(results, rows))
    if scaling:
        (docs / "scaling.svg").write_text(scaling_chart(scaling))
    text = (docs / "PERFORMANCE.md").read_text()
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    block = generated(results, rows, names, costs, scaling, about)
    (docs / "PERFORMANCE.md").write_text(f"{before}{BEGIN}\n\n{block}\n\n{END}{after}")
