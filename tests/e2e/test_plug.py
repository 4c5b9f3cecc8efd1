"""The plug is pulled under a mounted volume on an ext4 of its own: what a new user finds, command by command."""

import contextlib
import copy
import os
import random
import shutil
import signal
import threading
import time

import pytest

import harness
from diskbox import make_image, mounted_image
from fsbox import check_volume
from syscalls import write_file
from tracked import Load, Tracked, look_after
from volumes import check, every_file_reads, fill, mounts_of

IMAGE_BYTES = 500 << 20
FILES = 6


def make_volume(keyd, workdir, place):
    volume = harness.Volume(keyd, place / "vol")
    volume.passfile, volume.recovery = workdir / "pass", workdir / "recovery"
    return volume.create()


def pull(m, image, pulled, files):
    """What is on the disk at one moment, and what each file may hold then."""
    os.kill(m.pid, signal.SIGSTOP)
    try:
        time.sleep(0.2)  # what the daemon had asked for ends; nothing else is asked
        shutil.copyfile(image, pulled)
        return [copy.deepcopy(f) for f in files]
    finally:
        os.kill(m.pid, signal.SIGCONT)


def run_and_pull(volume, mnt, image, pulled, seed):
    files = [{f"{w}-{i}": Tracked() for i in range(FILES)} for w in range(2)]
    with volume.mount(mnt) as m:
        (m / "tree").mkdir()
        fill(m / "tree")
        os.sync()
        loads = [Load(m.path, seed * 2 + w, f, False) for w, f in enumerate(files)]
        for load in loads:
            load.start()
        time.sleep(random.Random(seed).uniform(0.3, 2.5))
        then = pull(m, image, pulled, files)
        for load in loads:
            load.ended = True
            load.join(timeout=60)
            assert not load.is_alive() and load.wrong is None, load.wrong
    return then


@contextlib.contextmanager
def checked_after(keyd, workdir, pulled):
    """The volume of an image that fsck of the disk and `latch fsck` found right, and what the latter said."""
    harness.run(["e2fsck", "-fy", pulled])
    with mounted_image(pulled, workdir / "later") as place:
        volume = harness.Volume(keyd, place / "vol")
        volume.passfile = workdir / "pass"
        yield volume, fsck(volume)
        check_volume(volume)


def fsck(volume):
    found = volume.latch("fsck", "--json", "--passphrase-file", volume.passfile, volume.path)
    assert found.returncode == 0, found.out + found.err
    return found.out


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(4))
def test_plug(keyd, workdir, seed):
    image, pulled = workdir / "disk.img", workdir / "pulled.img"
    make_image(image, "ext4", IMAGE_BYTES)
    with mounted_image(image, workdir / "disk") as place:
        files = run_and_pull(make_volume(keyd, workdir, place), workdir / "mnt", image, pulled, seed)
    # latch fsck reads through the journal, and changes nothing.
    with checked_after(keyd, workdir, pulled) as (volume, found):
        assert "journal-unclean" in found
        with volume.mount(workdir / "mnt2") as m:
            assert mounts_of(volume)[0]["replay"]["unclean"]
            for f in files:
                look_after(m.path, f)
            check(m / "tree")
            every_file_reads(m.path)
            (m / "new").write_bytes(b"goes on")


class Maker(threading.Thread):
    """Makes directories in directories that nobody syncs, but for a file here and there. kept: those, with their
    content, before a name of theirs changes again."""

    def __init__(self, top, seed):
        super().__init__()
        self.top, self.random, self.ended, self.kept = top / f"made-{seed}", random.Random(seed), False, {}
        self.count = 0

    def run(self):
        self.top.mkdir()
        made, i = [self.top], 0
        while not self.ended:
            i += 1
            new = self.random.choice(made[-20:]) / f"{i}-{'long' * self.random.choice([0, 0, 50])}"
            new.mkdir()
            write_file(new / "young", b"y" * i)
            if self.random.random() < 0.3:
                os.rename(new, new.with_name(f"{i}-renamed"))
                new = new.with_name(f"{i}-renamed")
            if self.random.random() < 0.1:
                self.sync(new / "synced")
            self.count = i
            if len(new.relative_to(self.top).parts) < 6:
                made.append(new)

    def sync(self, path):
        write_file(path, os.fsencode(path.name))
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        self.kept[path] = path.read_bytes()


def make_and_pull(volume, mnt, image, pulled, seed):
    with volume.mount(mnt) as m:
        makers = [Maker(m.path, seed * 2 + i) for i in range(2)]
        for maker in makers:
            maker.start()
        more = random.Random(seed).randrange(150, 600)
        harness.wait_until(lambda: all(maker.count > more for maker in makers), 120, "directories")
        kept = [dict(k) for k in pull(m, image, pulled, [maker.kept for maker in makers])]
        for maker in makers:
            maker.ended = True
            maker.join(timeout=60)
            assert not maker.is_alive()
    return {path.relative_to(mnt): data for k in kept for path, data in k.items()}


def each_can_be_entered(top):
    """How many directories there are. os.walk raises what it finds."""
    def no(error):
        raise error
    return sum(len(dirs) for _, dirs, _ in os.walk(top, onerror=no))


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(2))
def test_new_directories(keyd, workdir, seed):
    """Their records were not flushed: the copies are there."""
    image, pulled = workdir / "disk.img", workdir / "pulled.img"
    make_image(image, "ext4", IMAGE_BYTES)
    with mounted_image(image, workdir / "disk") as place:
        kept = make_and_pull(make_volume(keyd, workdir, place), workdir / "mnt", image, pulled, seed)
    with checked_after(keyd, workdir, pulled) as (volume, _):
        with volume.mount(workdir / "mnt2") as m:
            assert each_can_be_entered(m.path) > 20
            for path, data in kept.items():
                assert (m / path).read_bytes() == data
        assert "unsettled-record" not in fsck(volume)
