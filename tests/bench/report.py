"""The figures as tables, for a terminal and for docs/PERFORMANCE.md, and as JSON."""

import systems
import targets
from runner import Results

NORING_SUFFIX = "_noring"


def number(x):
    if x is None:
        return "–"
    if x >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}" if x >= 0.1 else f"{x:.3f}"


def cell(results, backing, row, system):
    median = results.median(backing, row, system)
    if median is None:
        return "–"
    least, most = results.spread(backing, row, system)
    return f"{number(median)} ({number(least)}–{number(most)})"


def verdict_text(verdicts):
    if not verdicts:
        return ""
    short = [v for v in verdicts if not v.met]
    if not short:
        return "met"
    return "short: " + ", ".join(f"{just_below(v)} of {v.wanted:g} × {v.against}" for v in short)


def just_below(verdict):
    """A ratio that is short does not look as if it were not."""
    text = f"{verdict.ratio:.2f}"
    return text if float(text) < verdict.wanted else f"{verdict.ratio:.4f}"


def bounded(results, backing, row):
    """Said where not even the backing filesystem itself, or FUSE without encryption, would meet the target against the best peer."""
    wanted = [v.wanted for v in targets.judge(results, backing, row) if v.against in systems.PEERS and not v.met]
    best = targets.best_peer(results, backing, row)
    found = []
    for system, name in (("plain", backing), ("passthrough", "the passthrough")):
        median = results.median(backing, row, system)
        if wanted and median and row.ratio(median, best[1]) < wanted[0]:
            found.append(f"; {name} itself: {row.ratio(median, best[1]):.2f}")
    return "".join(found)


def ratio_text(results, backing, row, against, suffix=""):
    found = targets.compare(results, backing, row, against, suffix)
    if not found:
        return "–"
    return f"{found[1]:.2f} ({found[0]})" if against == "peer" else f"{found[1]:.2f}"


def cost_ratio(results, backing, row):
    """Processor time of latchfs for each unit over that of the thriftiest peer; None where it was not measured."""
    ours = results.cost(backing, row, "latchfs")
    theirs = [c for p in systems.PEERS if not (row.synced and p in systems.UNSYNCED) and (c := results.cost(backing, row, p))]
    return ours / min(theirs) if ours and theirs else None


def ceiling(results, backing, row):
    """How many times better than the best peer the backing filesystem itself is: what no filesystem above it can pass."""
    plain, best = results.median(backing, row, "plain"), targets.best_peer(results, backing, row)
    return f"{row.ratio(plain, best[1]):.2f}" if plain and best else "–"


def rows_of(results, backing, rows):
    return [r for r in rows if r.key in results.rates.get(backing, {})]


def has_noring(results):
    """Whether latchfs was also timed without the host's setting for FUSE over io_uring."""
    return any(f"latchfs{NORING_SUFFIX}" in by_system for rows in results.rates.values() for by_system in rows.values())


def ratio_table(results, backing, rows):
    """Markdown: ratios and verdicts; without the ring too where that was measured."""
    both = has_noring(results)
    heads = ["workload", "/ best peer", *(["no ring / best peer"] if both else []), "/ passthrough", *(["no ring / passthrough"] if both else []),
             "/ plain", "plain / best peer", "verdict", *(["verdict, no ring"] if both else [])]
    out = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in rows_of(results, backing, rows):
        cells = [row.title]
        for against in ("peer", "passthrough", "plain"):
            cells.append(ratio_text(results, backing, row, against))
            if both and against != "plain":
                cells.append(ratio_text(results, backing, row, against, NORING_SUFFIX))
        cells += [ceiling(results, backing, row), verdict_text(targets.judge(results, backing, row)) + bounded(results, backing, row)]
        if both:
            cells.append(verdict_text(targets.judge(results, backing, row, NORING_SUFFIX)))
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


def figure_table(results, backing, rows, names):
    """Markdown: medians with the least and the most."""
    names = [n for n in names if n != "gocryptfs_default"]
    titles = [systems.TITLES.get(n, n) for n in names]
    out = ["| workload | " + " | ".join(titles) + " |", "| --- |" + " --- |" * len(names)]
    for row in rows_of(results, backing, rows):
        cells = [cell(results, backing, row, s) for s in names]
        out.append(f"| {row.title}, {row.unit} | {' | '.join(cells)} |")
    return "\n".join(out)


PARTS = ("wall", "own code", "kernel", "programs")


def parts_table(results, backing, rows, names=("latchfs", "passthrough")):
    """Markdown: microseconds of each unit, on the clock and of processor time. Four rates have no unit of their own."""
    out = ["| µs | " + " | ".join(f"{n}: {p}" for n in names for p in PARTS) + " |", "| --- |" + " --- |" * len(PARTS) * len(names)]
    for row in rows_of(results, backing, rows):
        parts = [results.parts(backing, row, n) for n in names]
        if all(parts) and row.key != "mix":
            unit = {"s": "a run", "MiB/s": "a MiB", "/s": "each"}[row.unit]
            out.append(f"| {row.title}, {unit} | {' | '.join(number(1e6 * x) for p in parts for x in p)} |")
    return "\n".join(out)


def short_line(results, backing, row, verdict):
    """Cells: the row, by how much it is short, the passthrough in our place, and shares of the time on the clock."""
    wall, *parts = results.parts(backing, row, "latchfs")
    through, best = results.median(backing, row, "passthrough"), targets.best_peer(results, backing, row)
    own = f"{row.ratio(through, best[1]):.2f}" if through and best and verdict.against in systems.PEERS else "–"
    return [row.title, backing, f"{just_below(verdict)} of {verdict.wanted:g} × {verdict.against}", own, *(f"{100 * p / wall:.0f} %" for p in parts)]


def short_table(results, rows):
    """Markdown: every target that is not met, and where the time of its row goes."""
    heads = ["workload", "backing", "short", "passthrough instead", "own code", "kernel, for the daemon", "programs"]
    out = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for backing in results.rates:
        for row in rows_of(results, backing, rows):
            for verdict in targets.judge(results, backing, row):
                if not verdict.met:
                    out.append(f"| {' | '.join(short_line(results, backing, row, verdict))} |")
    return "\n".join(out)


def met(results, rows, suffix=""):
    """(rows met, rows judged) over all backings."""
    verdicts = [targets.judge(results, b, r, suffix) for b in results.rates for r in rows_of(results, b, rows)]
    verdicts = [v for v in verdicts if v]
    return sum(all(m.met for m in v) for v in verdicts), len(verdicts)


def terminal(results, rows, names):
    """Plain text: ratios to the best peer first, they matter most."""
    out = []
    for backing in results.rates:
        out.append(f"\n{backing:45}" + "".join(f"{n[:11]:>12}" for n in names) + f"{'/peer':>7}{'/pass':>7}{'/plain':>7}{'cpu/peer':>9}  verdict")
        for row in rows_of(results, backing, rows):
            found = [targets.compare(results, backing, row, a) for a in ("peer", "passthrough", "plain")]
            cells = "".join(f"{number(results.median(backing, row, n)):>12}" for n in names)
            ratios = "".join(f"{f[1]:7.2f}" if f else f"{'–':>7}" for f in found)
            cost = cost_ratio(results, backing, row)
            ratios += f"{cost:9.2f}" if cost else f"{'–':>9}"
            out.append(f"{row.title[:36] + ', ' + row.unit:45}{cells}{ratios}  {verdict_text(targets.judge(results, backing, row))}")
    out.append("\n{} of {} rows met".format(*met(results, rows)))
    if has_noring(results):
        out.append("{} of {} rows met without the ring".format(*met(results, rows, NORING_SUFFIX)))
    return "\n".join(out)


def from_json(known):
    """The Results that as_json wrote."""
    results = Results()
    results.failed, results.names = known["failed"], known.get("names", {})
    for backing, by_row in known["rows"].items():
        results.rates[backing] = {key: row["rates"] for key, row in by_row.items()}
        results.costs[backing] = {key: row["processor_seconds_per_unit"] for key, row in by_row.items()}
    return results


def as_json(results, rows, about):
    by_key = {r.key: r for r in rows}
    figures = {}
    for backing, by_row in results.rates.items():
        for key, by_system in by_row.items():
            row = by_key[key]
            figures.setdefault(backing, {})[key] = {
                "title": row.title, "unit": row.unit, "rates": by_system,
                "processor_seconds_per_unit": {s: [[float(f"{x:.4g}") for x in parts] for parts in c] for s, c in results.costs[backing][key].items()},
                "median": {s: results.median(backing, row, s) for s in by_system},
                "ratio": {a: found[1] for a in ("peer", "passthrough", "plain") if (found := targets.compare(results, backing, row, a))},
                "targets": [{"against": v.against, "ratio": v.ratio, "wanted": v.wanted, "met": v.met}
                            for v in targets.judge(results, backing, row)],
            }
    return {"about": about, "rows": figures, "failed": results.failed, "names": results.names}
