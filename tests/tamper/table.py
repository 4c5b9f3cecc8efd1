"""Counts of the run, as the table of docs/THREATS.md."""

import collections

from verdict import ACROSS, EMPTIED, EXCHANGED, OLDER, PARTS

DOCUMENT = "docs/THREATS.md"
BEGIN = "<!-- made by tests/tamper/run: do not change by hand -->\n"
END = "<!-- end of what tests/tamper/run makes -->\n"

IN_WORDS = {
    OLDER: "older",
    EMPTIED: "empty",
    EXCHANGED: "exchanged",
    ACROSS: "exchanged",
    PARTS: "parts",
}


def verdict_text(counts, undetected):
    """What came of the cases of one row."""
    total = sum(counts.values())
    parts = []
    if counts["refused"]:
        parts.append(("refused at mount", counts["refused"]))
    if counts["error"]:
        parts.append(("error", counts["error"]))
    if counts["left out"]:
        parts.append(("left out and counted", counts["left out"]))
    if counts["check"]:
        parts.append(("`latch verify`", counts["check"]))
    detected = ", ".join(text if n == total else f"{text} {n}" for text, n in parts)
    harmless = "all" if counts["harmless"] == total else counts["harmless"] or ""
    silent = ", ".join(sorted(IN_WORDS.get(u, u) for u in undetected))
    if counts["silent"] and counts["silent"] < total:
        silent = f"{silent} {counts['silent']}"
    return detected, str(harmless), silent


def render(rows, results):
    """rows: those of the table; results by row number."""
    counts = collections.defaultdict(collections.Counter)
    undetected = collections.defaultdict(set)
    for r in results:
        counts[r.row][r.kind] += 1
        undetected[r.row] |= set(r.undetected)
    lines = ["| change | of what | cases | detected | harmless | not detected |\n", "| --- | --- | --- | --- | --- | --- |\n"]
    for n, row in enumerate(rows):
        if row.removes or not counts[n]:
            continue
        total = sum(counts[n].values())
        lines.append("| %s | %s | %d | %s | %s | %s |\n" % (
            (row.section, row.title, total) + verdict_text(counts[n], undetected[n])))
    return "".join(lines)


def parts_of(text):
    """What stands before, between and behind the markers."""
    before, begin, rest = text.partition(BEGIN)
    between, end, behind = rest.partition(END)
    if not begin or not end:
        raise SystemExit("tamper: the document lacks the two markers")
    return before + begin, between, end + behind


def put(path, made):
    with open(path, encoding="utf-8") as f:
        before, _, behind = parts_of(f.read())
    with open(path, "w", encoding="utf-8") as f:
        f.write(before + made + behind)


def differs(path, made):
    """Lines of the document's table and of the run's that the other lacks."""
    with open(path, encoding="utf-8") as f:
        stands = parts_of(f.read())[1].splitlines()
    ours = made.splitlines()
    if stands == ours:
        return []
    return ["-" + line for line in stands if line not in ours] + ["+" + line for line in ours if line not in stands] or [
        "the same lines in another order"]
