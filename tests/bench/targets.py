"""What is asked of each row, and whether it is met.

A target is a tuple of alternatives, one of which must hold; a row has a list of targets, all of which must. An alternative is
(against, factor, backings): latchfs is at least factor times as good as "peer" (the best of the others that encrypt),
"passthrough" or "plain" (the backing filesystem itself), on these backings.
"""

from dataclasses import dataclass

import systems

BOTH = ("ext4", "tmpfs")
DISK = ("ext4",)
MEMORY = ("tmpfs",)


def peer(factor, backings=BOTH):
    return (("peer", factor, backings),)


def own(factor, backings=BOTH):
    return (("passthrough", factor, backings),)


TARGETS = {
    "seq_write": [peer(2), own(0.85)],
    "seq_read_cold": [(("peer", 1.5, BOTH), ("plain", 0.9, DISK)), own(0.8, MEMORY)],
    "seq_read_warm": [peer(5), own(0.9)],
    "read_16k": [peer(5), own(0.9)],
    "rand_read_cold": [peer(1.3)],
    "rand_read_16": [peer(1.3)],
    "rand_write": [peer(3)],
    "rand_write_sync": [peer(1.2)],
    "append_sync": [peer(1.2), (("plain", 0.9, DISK),)],
    "create": [peer(2), own(0.8)],
    "stat_cold": [peer(2)],
    "stat_warm": [peer(2)],
    "readdir_cold": [peer(2)],
    "readdir_warm": [peer(2)],
    "read_small": [peer(3)],
    "unlink": [peer(1.5)],
    "rename": [peer(1.5)],
    "mkdir": [peer(1.5)],
    "untar": [peer(2)],
    "tar_out": [peer(2)],
    "grep_cold": [peer(2)],
    "grep_warm": [peer(2)],
    "git": [peer(2)],
    "make": [peer(2)],
    "sqlite_wal": [peer(1.2)],
    "sqlite_rollback": [peer(1.2)],
    "mix": [peer(1.5)],
}


@dataclass
class Measured:
    """One alternative on one backing: against names the system that it was compared with."""

    against: str
    ratio: float
    wanted: float

    @property
    def met(self):
        return self.ratio >= self.wanted


def best_peer(results, backing, row):
    """(name, median) of the peer that does best in this row; None without one."""
    found = [(p, results.median(backing, row, p)) for p in systems.PEERS if not (row.synced and p in systems.UNSYNCED)]
    found = [(p, m) for p, m in found if m]
    if not found:
        return None
    return min(found, key=lambda f: f[1]) if row.unit == "s" else max(found, key=lambda f: f[1])


def compare(results, backing, row, against, suffix=""):
    """(name, ratio) of latchfs against "peer", "passthrough" or "plain"; None where it was not measured. suffix: of the systems
    that are ours, where another setting of the host than the usual one is meant."""
    ours = results.median(backing, row, f"latchfs{suffix}")
    name = f"passthrough{suffix}" if against == "passthrough" else against
    other = best_peer(results, backing, row) if against == "peer" else (name, results.median(backing, row, name))
    if not ours or not other or not other[1]:
        return None
    return other[0].removesuffix(suffix), row.ratio(ours, other[1])


def judge(results, backing, row, suffix=""):
    """A list of Measured: of each target that applies to the backing the alternative that comes nearest."""
    verdicts = []
    for alternatives in TARGETS.get(row.key, []):
        measured = []
        for against, factor, where in alternatives:
            found = compare(results, backing, row, against, suffix) if backing in where else None
            if found:
                measured.append(Measured(found[0], found[1], factor))
        if measured:
            verdicts.append(max(measured, key=lambda m: m.ratio / m.wanted))
    return verdicts
