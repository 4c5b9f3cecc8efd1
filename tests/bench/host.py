"""Settings of the host that the run needs and puts back: FUSE over io_uring, and what the kernel allows a mount's writeback."""

import contextlib
import fcntl
import os
import random
import statistics
import time
from pathlib import Path

import harness

RING = Path("/sys/module/fuse/parameters/enable_uring")
RING_LOCK = "/tmp/latchfs-uring-parameter.lock"  # of all tests that switch it
MIB = 1 << 20


def ring_available():
    """Whether this kernel has FUSE over io_uring and we may switch it."""
    allowed = Path("/proc/sys/kernel/io_uring_disabled")
    return os.access(RING, os.W_OK) and (not allowed.exists() or allowed.read_text().strip() == "0")


@contextlib.contextmanager
def ring(on):
    """What is mounted inside is offered FUSE over io_uring, or not; a mount keeps what it got."""
    if not ring_available():
        yield
        return
    with open(RING_LOCK, "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = RING.read_text().strip()
        try:
            RING.write_text("Y" if on else "N")
            yield
        finally:
            RING.write_text(before)


def has_ring(pids):
    """Whether a daemon really talks to the kernel that way: it then has io_uring descriptors."""
    for pid in pids:
        with contextlib.suppress(OSError):
            if any("io_uring" in os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir()):
                return True
    return False


# ---- writeback and reading ahead of one mount ----

KERNELS = {"strict_limit": 1, "max_ratio": 1, "read_ahead_kb": 128}  # what a FUSE mount gets
WRITES = [{"strict_limit": 1, "max_ratio": 1}, {"strict_limit": 1, "max_ratio": 3}, {"strict_limit": 1, "max_ratio": 20},
          {"strict_limit": 1, "max_ratio": 100}, {"strict_limit": 0, "max_ratio": 100}]
READS = [{"read_ahead_kb": kb} for kb in (128, 1024, 4096)]


def apply(bdi, settings):
    """strict_limit last when it is switched on: it decides what max_ratio means."""
    values = KERNELS | settings
    if not values["strict_limit"]:
        (bdi / "strict_limit").write_text("0")
    (bdi / "max_ratio").write_text(str(values["max_ratio"]))
    (bdi / "strict_limit").write_text(str(values["strict_limit"]))
    (bdi / "read_ahead_kb").write_text(str(values["read_ahead_kb"]))


def written(path, mib, block):
    """MiB/s of a new file with its fsync."""
    begun = time.perf_counter()
    with open(path, "wb", buffering=0) as f:
        for _ in range(mib):
            f.write(block)
        os.fsync(f.fileno())
    took = time.perf_counter() - begun
    os.unlink(path)
    return mib / took


def read_cold(path, mib):
    """MiB/s of a file whose pages in this mount were dropped; below they stay."""
    with open(path, "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        begun = time.perf_counter()
        while f.read(MIB):
            pass
        return mib / (time.perf_counter() - begun)


def name_of(settings):
    return ", ".join(f"{k} {v}" for k, v in settings.items())


def measure(place, rounds, mib, seconds):
    """{"write" | "read": {settings: MiB/s of each round}} of one mount whose settings change from round to round. No round
    begins after the seconds are over."""
    bdi = Path(f"/sys/class/bdi/0:{harness.mount_device(place.root)}")
    block, kept = os.urandom(MIB), place.root / "kept"
    with open(kept, "wb", buffering=0) as f:
        for _ in range(mib):
            f.write(block)
        os.fsync(f.fileno())
    cases = [("write", s, lambda: written(place.root / "stream", mib, block)) for s in WRITES]
    cases += [("read", s, lambda: read_cold(kept, mib)) for s in READS]
    found, end = {"write": {}, "read": {}}, time.monotonic() + seconds
    for _ in range(rounds):
        if time.monotonic() > end:
            break
        for kind, settings, run in random.sample(cases, len(cases)):
            apply(bdi, settings)
            found[kind].setdefault(name_of(settings), []).append(run())
    return found


def cell(values, base):
    """A figure with its least and most, and what it gives over base."""
    text = f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"
    if values is base:
        return text
    ratio = statistics.median(v / b for v, b in zip(values, base))
    return f"{text}, {100 * ratio - 100:+.0f} %"


def table(found):
    """Markdown of {backing: measure()}; percentages are medians of each round's ratio to the kernel's own settings."""
    backings = list(found)
    out = ["| settings of the mount | " + " | ".join(backings) + " |", "| --- |" + " --- |" * len(backings)]
    for kind, title, cases in (("write", "write + fsync", WRITES), ("read", "read", READS)):
        for settings in cases:
            name = name_of(settings)
            cells = [cell(found[b][kind][name], found[b][kind][name_of(cases[0])]) for b in backings]
            out.append(f"| {title}, {name} | {' | '.join(cells)} |")
    return "\n".join(out)
