"""The rows of the table: what is timed, in the order in which each system of a round runs them.

Rows build on each other: the stream that one writes the next ones read, so that little time goes into preparing. A run is
handed the Place and the Scale and returns (amount, seconds).
"""

import subprocess
import time
from dataclasses import dataclass, replace
from typing import Callable, Optional

import harness
import programs


@dataclass(frozen=True)
class Scale:
    stream: int  # MiB of the large file
    seconds: float  # at most, for what can be stopped
    files: int  # small files
    names: int  # in the large directory, as many as can be made in
    names_seconds: float
    tree: int  # files of the source tree


FULL = Scale(stream=128, seconds=0.3, files=2000, names=100000, names_seconds=20, tree=500)
QUICK = Scale(stream=64, seconds=0.15, files=800, names=20000, names_seconds=1.5, tree=200)


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    unit: str  # "s" is better when less, all others when more
    run: Callable
    before: Optional[Callable] = None  # untimed
    cold: bool = False  # caches are dropped first
    synced: bool = False  # what is written must be on disk
    defaults: bool = False  # run by gocryptfs without options too
    once: bool = False  # before is run in the first round only, its directory stays

    def ratio(self, ours, theirs):
        """How many times better ours is."""
        return theirs / ours if self.unit == "s" else ours / theirs


def workload(name, directory, **args):
    """Runs the program of that name; (operations, seconds)."""
    argv = [str(harness.build_dir() / "tests" / "bench" / "workload"), name, str(directory)]
    argv += [f"{k}={v}" for k, v in args.items()]
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    if p.returncode:
        raise harness.HarnessError(f"{name}: {p.stderr.strip()}")
    done, seconds = p.stdout.split()
    return int(done), float(seconds)


def on_stream(name, **more):
    return lambda p, s: workload(name, p.dir, seconds=s.seconds, **more)


def seq_write(p, s):
    done, seconds = workload("seqwrite", p.dir, amount=s.stream, seconds=4 * s.seconds)
    return done, seconds


def whole_stream(p, s):
    workload("seqread", p.dir)


def create_small(size, name):
    def run(p, s):
        done, seconds = workload("create", p.dir / name, amount=s.files, seconds=2 * s.seconds, size=size)
        p.made[name] = done
        return done, seconds

    return run


def in_small(what, name="small", passes=False, **more):
    """On the files that create_small made; with passes again and again until the time is over."""

    def run(p, s):
        amount = {} if passes else {"amount": p.made[name]}
        return workload(what, p.dir / name, files=p.made[name], seconds=s.seconds, **amount, **more)

    return run


def read_all(name):
    return lambda p, s: workload("read", p.dir / name, files=p.made[name], amount=p.made[name])


def make_16k(p, s):
    create_small(16384, "medium")(p, replace(s, seconds=s.seconds / 2, files=500))
    read_all("medium")(p, s)


def read_16k(p, s):
    done, seconds = in_small("read", "medium", passes=True)(p, s)
    return done / 64, seconds


def make_names(p, s):
    """Not in the round's directory: it stays for all rounds."""
    workload("names", p.root / "names", amount=s.names, seconds=s.names_seconds)


def enough(result, s):
    """A system that made few names is left out: a small directory is another workload."""
    if result[0] < s.names // 8:
        raise harness.HarnessError(f"only {result[0]} names were made in the time")
    return result


def list_names(p, s):
    list_names_once(p, s)
    return workload("list", p.root / "names", seconds=s.seconds)


def list_names_once(p, s):
    return enough(workload("list", p.root / "names", amount=1), s)


def stat_names(p, s):
    return workload("walk", p.dir / "small", amount=1)


def stat_names_warm(p, s):
    return workload("walk", p.dir / "small", seconds=s.seconds)


def four_at_once(p, s):
    """A stream written, small files created, small files read, a log appended to, at the same time for the same time: the
    geometric mean of the four rates."""
    parts = [("seqwrite", "mix", {"files": 64}), ("create", "mix-small", {"size": 2048}), ("read", "small", {"files": p.made["small"]}),
             ("append", "mix", {})]
    program = str(harness.build_dir() / "tests" / "bench" / "workload")
    (p.dir / "mix").mkdir()
    running = [subprocess.Popen([program, what, str(p.dir / where), f"seconds={2 * s.seconds}", *(f"{k}={v}" for k, v in more.items())],
                                stdout=subprocess.PIPE, text=True) for what, where, more in parts]
    product = 1.0
    for process in running:
        done, seconds = process.communicate(timeout=120)[0].split()
        product *= max(int(done), 1) / float(seconds)
    return product ** 0.25, 1.0


def timed(call):
    """A program's run as (1, seconds)."""

    def run(p, s):
        begun = time.perf_counter()
        call(p, s)
        return 1, time.perf_counter() - begun

    return run


def grep_twice(p, s):
    """The first one reads, after which the kernel forgets the time of access, which the second one asks for."""
    programs.grep(p, s)
    programs.grep(p, s)


ROWS = [
    Row("seq_write", "sequential write, 1 MiB calls, fsync", "MiB/s", seq_write, defaults=True, synced=True),
    Row("seq_read_cold", "sequential read, cold", "MiB/s", lambda p, s: workload("seqread", p.dir), cold=True),
    Row("seq_read_warm", "sequential read, warm", "MiB/s", lambda p, s: workload("seqread", p.dir), before=whole_stream, defaults=True),
    Row("rand_read_cold", "random 4 KiB read, cold", "/s", on_stream("randread"), cold=True),
    Row("rand_read_16", "random 4 KiB read, cold, 16 at a time", "/s", on_stream("randread", threads=16), cold=True),
    Row("rand_write", "random 4 KiB write, buffered, fsync at the end", "/s", on_stream("randwrite"), synced=True),
    Row("rand_write_sync", "random 4 KiB write, fdatasync each", "/s", on_stream("randsync"), synced=True),
    Row("append_sync", "append 100 bytes, fdatasync each", "/s", on_stream("append"), synced=True),
    Row("create", "create + write 2 KiB + close", "/s", create_small(2048, "small"), defaults=True),
    Row("read_small", "open + read + close 2 KiB, warm", "/s", in_small("read", passes=True), before=read_all("small"), defaults=True),
    Row("read_16k", "small-file reads (16 KiB), warm", "MiB/s", read_16k, before=make_16k, defaults=True),
    Row("stat_warm", "stat walk, warm", "/s", stat_names_warm, before=stat_names),
    Row("stat_cold", "stat walk, cold", "/s", stat_names, cold=True),
    Row("readdir_cold", "readdir of 100,000 names, cold", "/s", list_names_once, before=make_names, cold=True, once=True),
    Row("readdir_warm", "readdir of 100,000 names, warm", "/s", list_names),
    Row("mix", "four programs at once", "/s", four_at_once),
    Row("rename", "rename", "/s", in_small("rename")),
    Row("unlink", "unlink", "/s", in_small("unlink")),
    Row("mkdir", "mkdir", "/s", lambda p, s: workload("mkdir", p.dir / "dirs", seconds=s.seconds)),
    Row("untar", "untar", "s", timed(programs.untar)),
    Row("tar_out", "tar out, cold", "s", timed(programs.tar_out), cold=True),
    Row("grep_cold", "grep -r, cold", "s", timed(programs.grep), cold=True),
    Row("grep_warm", "grep -r, warm", "s", timed(programs.grep), before=grep_twice),
    Row("git", "git checkout + status", "s", timed(programs.git_checkout), before=programs.git_clone),
    Row("make", "a small make build", "s", timed(programs.make_build), before=programs.make_ready),
    Row("sqlite_wal", "sqlite, WAL, synchronous=full", "/s", programs.sqlite("wal"), synced=True),
    Row("sqlite_rollback", "sqlite, rollback journal, synchronous=full", "/s", programs.sqlite("delete"), synced=True),
]
