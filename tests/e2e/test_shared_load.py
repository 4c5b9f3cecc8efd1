"""-o shared under load: two writers at once against a model, and kill -9 of the mount that has the turn."""

import contextlib
import os
import random
import subprocess
import sys
import threading
import time

import pytest

import harness
from fsbox import PLAIN, check_volume
from syscalls import opened, pattern, read_file, write_file
from test_shared import two_mounts

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

STEPS = 120
SIZES = (0, 10, 3000, 3584, 3585, 4096, 50_000, 500_000)


class Model:
    """A directory of files, as bytes; every operation is made through a mount and compared."""

    def __init__(self, name):
        self.name = name
        self.files = {}

    def data(self, r):
        return pattern(r.randrange(1 << 30), r.choice(SIZES))

    def overwrite(self, top, name, r):
        self.files[name] = self.data(r)
        write_file(top / name, self.files[name], os.O_TRUNC)

    def patch(self, top, name, r):
        at, data = r.randrange(60_000), self.data(r)[:5000]
        old = self.files.setdefault(name, b"")
        with opened(top / name, os.O_RDWR | os.O_CREAT) as fd:
            os.pwrite(fd, data, at)
        if data:
            self.files[name] = old[:at].ljust(at, b"\0") + data + old[at + len(data):]

    def append(self, top, name, r):
        data = self.data(r)[:3000]
        with opened(top / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
            os.write(fd, data)
            if r.random() < 0.2:
                os.fsync(fd)
        self.files[name] = self.files.get(name, b"") + data

    def cut(self, top, name, r):
        if name in self.files:
            size = r.randrange(70_000)
            os.truncate(top / name, size)
            self.files[name] = self.files[name][:size].ljust(size, b"\0")

    def rename(self, top, name, r):
        other = f"f{r.randrange(8)}"
        if name in self.files and other != name:
            os.rename(top / name, top / other)
            self.files[other] = self.files.pop(name)

    def unlink(self, top, name, r):
        if name in self.files:
            os.unlink(top / name)
            del self.files[name]

    def look(self, top, name, r):
        if name in self.files:
            assert os.stat(top / name).st_size == len(self.files[name]), f"{self.name}/{name}"
            assert read_file(top / name) == self.files[name], f"{self.name}/{name}"
        else:
            assert not os.path.exists(top / name), f"{self.name}/{name}"
        assert sorted(os.listdir(top)) == sorted(self.files)

    OPS = [overwrite, patch, append, cut, rename, unlink, look, look, look]

    def step(self, mount, r):
        r.choice(self.OPS)(self, mount / self.name, f"f{r.randrange(8)}", r)


def writer(mount, own, shared, lock, seed, failures):
    r = random.Random(seed)
    try:
        for _ in range(STEPS):
            if r.random() < 0.5:
                own.step(mount, r)
            else:
                with lock:
                    shared.step(mount, r)
    except BaseException as e:
        failures.append(e)
        raise


@pytest.mark.parametrize("seed,options", [(1, "shared"), (2, "shared,seal-seconds=1")])
def test_two_writers(volume, seed, options):
    """Each has files of its own, and takes a lock for those of both."""
    models = [Model("own0"), Model("own1"), Model("both")]
    failures, lock = [], threading.Lock()
    with two_mounts(volume, options) as pair:
        for m in models:
            os.mkdir(pair[0] / m.name)
        threads = [threading.Thread(target=writer, args=(pair[i], models[i], models[2], lock, seed * 10 + i, failures))
                   for i in (0, 1)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failures
        for mount in pair:
            everything_is_there(mount, models)
    with volume.mount() as m:
        everything_is_there(m, models)
    check_volume(volume)


def everything_is_there(mount, models):
    for model in models:
        for name in model.files:
            model.look(mount / model.name, name, None)


# ---- kill -9 ----

SYNCER = """
import os, random, sys
top, i = sys.argv[1], 0
os.mkdir(top)
d = os.open(top, os.O_RDONLY)
while True:
    data = random.Random(i).randbytes((10, 3000, 5000, 100000)[i % 4])
    try:
        fd = os.open(f"{top}/f{i % 20}.new", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)
        os.rename(f"{top}/f{i % 20}.new", f"{top}/f{i % 20}")
        os.fsync(d)
    except OSError:
        break
    print(i, flush=True)
    i += 1
"""


@contextlib.contextmanager
def syncer(top):
    p = subprocess.Popen([sys.executable, "-c", SYNCER, str(top)], stdout=subprocess.PIPE, text=True)
    try:
        yield p
    finally:
        p.kill()
        p.wait()


def wait_for_some(p):
    for _ in range(5):
        assert p.stdout.readline()


def last_of(p):
    """The last file that it said to be synced; after wait_for_some."""
    lines = p.stdout.read().split()
    return int(lines[-1]) if lines else 4


def content(i):
    return random.Random(i).randbytes((10, 3000, 5000, 100000)[i % 4])


def test_kill_the_holder(volume):
    """The other mount goes on; what either had synced is there, and a new mount beside it works."""
    with volume.mount(volume.path.with_name("b"), "shared") as b, syncer(b / "survivor") as survivor:
        for round_ in range(3):
            with volume.mount(volume.path.with_name("a"), "shared") as a, syncer(a / f"dead{round_}") as p:
                wait_for_some(p)
                time.sleep(0.3)
                a.crash()
                last = last_of(p)
            look_after(b / f"dead{round_}", last)
        wait_for_some(survivor)
        survivor.kill()
        look_after(b / "survivor", last_of(survivor))
    with volume.mount() as m:
        look_after(m / "dead0", None)
    check_volume(volume)


def look_after(top, last):
    """All names of the last round are there; the next of its kind may have come after the last that was told."""
    names = [n for n in os.listdir(top) if not n.endswith(".new")]
    for n in names:
        read_file(top / n)
    if last is not None:
        for i in range(max(0, last - 18), last + 1):
            assert read_file(top / f"f{i % 20}") in (content(i), content(i + 20)), f"{top}/f{i % 20}"
