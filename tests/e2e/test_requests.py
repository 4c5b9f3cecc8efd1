"""What operations cost, counted: requests of the kernel and system calls below, as docs/PERFORMANCE.md says.

A change that makes one of them cost more or less has to change the table there."""

import os
import re
import shutil
import time
from pathlib import Path

import pytest

import harness
from fsbox import PLAIN
from requestbox import Calls, Requests
from syscalls import opened, pattern, read_file, write_file

pytest_plugins = ["fsbox"]
pytestmark = [pytest.mark.skipif(PLAIN, reason="about a mount"),
              pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

DOCS = Path(__file__).resolve().parents[2] / "docs/PERFORMANCE.md"
MIB = 1 << 20
TIMES = 16
SLACK = 0.8
NAMES = 100


# ---- operations: each is made TIMES times, with i = 0, 1, ... ----


def create(top, i):
    with opened(top / f"new-{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600) as fd:
        os.write(fd, bytes(2048))


def append(top, i):
    with opened(top / "log", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, bytes(100))
        os.fdatasync(fd)


def overwrite(top, i):
    with opened(top / "stream", os.O_RDWR) as fd:
        os.pwrite(fd, pattern(i, 4096), (i * 37 % 4096) * 4096)
        os.fdatasync(fd)


def write_stream(top, i):
    with opened(top / "fresh", os.O_CREAT | os.O_WRONLY) as fd:
        os.pwrite(fd, bytes(MIB), i * MIB)


def read_stream(top, i):
    with opened(top / "stream", os.O_RDONLY) as fd:
        os.pread(fd, MIB, i * MIB)


def read_some(top, i):
    with opened(top / "blocks", os.O_RDONLY) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(fd, 4096, (i * 37 % 256) * 4096)


def missing(top, i):
    assert not os.path.exists(top / f"none-{i}")


def listing(top, i):
    assert len(os.listdir(top / f"full-{i}")) == NAMES


# Beside what the table calls them: a mount that knows nothing yet, and then the same again.
COLD = {
    "stat, new to the kernel": lambda top, i: os.stat(top / f"kept-{i}"),
    "stat, known": lambda top, i: os.stat(top / f"kept-{i}"),
    "stat of a name that is not there": missing,
    "the same again": missing,
    "open, read 2 KiB, close, new": lambda top, i: read_file(top / f"kept-{i}"),
    "open, read 2 KiB, close, known": lambda top, i: read_file(top / f"kept-{i}"),
    "list a directory of 100 files, new": listing,
    "list it again": listing,
    "open, read 4 KiB at random, close": read_some,
    "read 1 MiB of a stream, cold": read_stream,
    "read 1 MiB of a stream, known": read_stream,
}
CHANGES = {
    "create, write 2 KiB, close": create,
    "write 1 MiB of a stream": write_stream,
    "append 100 bytes, fdatasync, close": append,
    "overwrite 4 KiB, fdatasync, close": overwrite,
    "chmod": lambda top, i: os.chmod(top / f"kept-{i}", 0o640),
    "set an attribute": lambda top, i: os.setxattr(top / f"kept-{i}", "user.a", b"1"),
    "rename": lambda top, i: os.rename(top / f"kept-{i}", top / f"named-{i}"),
    "link": lambda top, i: os.link(top / f"named-{i}", top / f"second-{i}"),
    "symlink": lambda top, i: os.symlink("somewhere", top / f"link-{i}"),
    "unlink": lambda top, i: os.unlink(top / f"new-{i}"),
    "mkdir": lambda top, i: os.mkdir(top / f"dir-{i}"),
    "rmdir": lambda top, i: os.rmdir(top / f"dir-{i}"),
}


def prepare(top):
    for i in range(TIMES):
        write_file(top / f"kept-{i}", pattern(i, 2048))
        (top / f"full-{i}").mkdir()
        for k in range(NAMES):
            write_file(top / f"full-{i}" / f"name-{k}", b"")
    write_file(top / "log", b"")
    (top / "empty").mkdir()
    write_file(top / "blocks", pattern(0, MIB))
    write_file(top / "stream", pattern(0, TIMES * MIB))


# ---- the table ----


def amounts(cell):
    """'LOOKUP, 2 READ' -> {LOOKUP: 1, READ: 2}"""
    found = {}
    for item in cell.split(", ") if cell != "none" else []:
        count, name = re.fullmatch(r"(?:(\d+) )?(\w+)", item).groups()
        found[name] = int(count or 1)
    return found


def table():
    section = DOCS.read_text().split("## What costs what\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")]
    return {name: (amounts(sent), amounts(below)) for name, sent, below in rows[2:]}


def as_cell(counts):
    return ", ".join(f"{n} {name}" if n > 1 else name for name, n in sorted(counts.items())) or "none"


def rounded(amounts):
    return {name: round(n) for name, n in amounts.items() if round(n)}


def agree(expected, found):
    """What comes for some of the operations only, or now and then beside them, does not count."""
    return all(abs(expected.get(name, 0) - found.get(name, 0)) < SLACK for name in expected.keys() | found.keys())


def repeat(operation, top):
    """With pauses: two changes in one tick of the kernel's clock have one time, which it tells once."""
    for i in range(TIMES):
        operation(top, i)
        time.sleep(0.012)


def measure(volume, counting):
    """counting(mount): a function that counts what another function does. Returns amounts by operation."""
    found = {}
    with volume.mount() as m:
        prepare(m.path)
    for operations in (COLD, CHANGES):
        with volume.mount() as m, counting(m) as count:
            if operations is CHANGES:
                for i in range(TIMES):
                    os.stat(m / f"kept-{i}")
            read_file(m / "log")  # so that the kernel has learned that opens need not be asked
            os.listdir(m / "empty")
            for name, operation in operations.items():
                counts = count(lambda operation=operation, top=m.path: repeat(operation, top))
                found[name] = {what: n / TIMES for what, n in counts.items()}
    return found


def flushes_records(volume):
    """Whether a mkdir flushes: where the filesystem below does not keep its metadata in order (docs/FORMAT.md)."""
    with volume.mount() as m:
        before = set(volume.path.iterdir())
        (m / "probe").mkdir()
        new, = (d for d in set(volume.path.iterdir()) - before if d.is_dir())
        flushes = "user.latchfs-record" not in os.listxattr(new)
        (m / "probe").rmdir()
    return flushes


def wrong_rows(found, column, flushes):
    expected = {name: row[column] for name, row in table().items()}
    if flushes and "fsetxattr" in expected["mkdir"]:
        expected["mkdir"]["fsync"] = expected["mkdir"].pop("fsetxattr")
    assert set(expected) == set(found)
    return {name: f"{name}: the table says\n    {as_cell(expected[name])}\n  and it is\n    {as_cell(rounded(counts))}"
            for name, counts in found.items() if not agree(expected[name], counts)}


def assert_table(volume, counting, column):
    """Three tries: whoever drops the kernel's caches meanwhile adds to what is counted."""
    wrong, flushes = None, flushes_records(volume)
    for _ in range(3):
        now = wrong_rows(measure(volume, counting), column, flushes)
        wrong = now if wrong is None else {name: now[name] for name in wrong if name in now}
        if not wrong:
            return
        shutil.rmtree(volume.path)
        volume.recovery.unlink()
        volume.create().unlock().ok()
    raise AssertionError("\n".join(wrong.values()))


class CountRequests:
    def __init__(self, mount):
        self.minor = harness.mount_device(mount.path)

    def __enter__(self):
        self.requests = Requests()
        return self

    def __exit__(self, *exc):
        self.requests.close()

    def __call__(self, call):
        self.requests.start()
        call()
        return self.requests.stop(self.minor)


class CountCalls:
    def __init__(self, mount):
        self.pid = mount.pid

    def __enter__(self):
        self.calls = Calls(self.pid)
        return self

    def __exit__(self, *exc):
        self.calls.close()

    def __call__(self, call):
        self.calls.start()
        call()
        return self.calls.stop()


def test_requests(volume):
    assert_table(volume, CountRequests, 0)


@pytest.mark.heavy  # a sanitizer makes calls of its own
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_calls_below(volume):
    assert_table(volume, CountCalls, 1)
