"""What each row asks of the daemons: requests of the kernel per unit, counted by its tracepoint. Counts do not care how busy a
machine is, and tell what bounds a row."""

import contextlib
import os
import re
import tempfile
from pathlib import Path

import harness
import programs
import rows
import systems
from runner import backings, say, settle

TRACING = Path("/sys/kernel/tracing")
EVENT = "events/fuse/fuse_request_send"
SENT = re.compile(r" opcode (\d+) ")
FORGETS = {"2", "42"}  # nobody waits for these
BUFFER_KIB = 24576  # of each processor; a request takes some 50 bytes of it
NOT_ASKED = ("plain", "gocryptfs_default", *systems.NORING)


class Counter:
    """An instance of the kernel's tracing for the requests to one mount at a time."""

    def __enter__(self):
        if not (TRACING / EVENT).exists():
            with contextlib.suppress(OSError):
                systems.run(["mount", "-t", "tracefs", "tracefs", TRACING])
        self.place = Path(tempfile.mkdtemp(prefix="latchfs-bench-", dir=TRACING / "instances"))
        self.put("buffer_size_kb", BUFFER_KIB)
        return self

    def __exit__(self, *exc):
        self.place.rmdir()

    def put(self, name, value):
        (self.place / name).write_text(str(value))

    @contextlib.contextmanager
    def counting(self, place):
        """A list that holds the number at the end of the block."""
        counted = []
        self.put(f"{EVENT}/filter", f"connection == {harness.mount_device(place.root)}")
        self.put("trace", "")
        self.put(f"{EVENT}/enable", 1)
        try:
            yield counted
        finally:
            self.put(f"{EVENT}/enable", 0)
        found = SENT.findall((self.place / "trace").read_text())
        counted.append(sum(opcode not in FORGETS for opcode in found))


def of_row(counter, row, place, scale):
    if row.before:
        row.before(place, scale)
    settle(row.cold)
    with counter.counting(place) as counted:
        amount, _ = row.run(place, scale)
        os.sync()
    return counted[0] / max(amount, 1)


def measure(args, picked):
    """{row key: {system: requests per unit}} on tmpfs."""
    found, scale = {}, rows.QUICK
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(backings(args.dir, ["tmpfs"]))["tmpfs"]
        stack.enter_context(programs.supply(base, scale.tree))
        counter = stack.enter_context(Counter())
        for name in args.systems:
            if name in NOT_ASKED:
                continue
            with systems.SYSTEMS[name](base) as place:
                place.new_dir("requests")
                for row in picked:
                    with contextlib.suppress(harness.HarnessError):
                        found.setdefault(row.key, {})[name] = of_row(counter, row, place, scale)
            say(f"requests: {name}")
    return found


def shown(x):
    return "–" if x is None else f"{x:,.0f}" if x >= 20 else f"{x:.1f}" if x >= 0.1 else f"{x:.3f}" if x else "0"


def table(found):
    """Markdown. The mean of four rates has no requests of its own."""
    names = list(dict.fromkeys(name for by_system in found.values() for name in by_system))
    out = ["| requests per unit | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for row in rows.ROWS:
        if row.key in found and row.key != "mix":
            unit = {"s": "run", "MiB/s": "MiB", "/s": "one"}[row.unit]
            out.append(f"| {row.title}, for {'each' if unit == 'one' else 'a ' + unit} | {' | '.join(shown(found[row.key].get(n)) for n in names)} |")
    return "\n".join(out)
