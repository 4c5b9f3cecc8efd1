"""The plug is pulled under a mounted volume on an ext4 of its own: what a new user finds, command by command."""

import copy
import os
import random
import shutil
import signal
import time

import pytest

import harness
from diskbox import make_image, mounted_image
from fsbox import check_volume
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


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(4))
def test_plug(keyd, workdir, seed):
    image, pulled = workdir / "disk.img", workdir / "pulled.img"
    make_image(image, "ext4", IMAGE_BYTES)
    with mounted_image(image, workdir / "disk") as place:
        files = run_and_pull(make_volume(keyd, workdir, place), workdir / "mnt", image, pulled, seed)
    harness.run(["e2fsck", "-fy", pulled])
    with mounted_image(pulled, workdir / "later") as place:
        volume = harness.Volume(keyd, place / "vol")
        volume.passfile = workdir / "pass"
        # fsck reads through the journal, and changes nothing.
        found = volume.latch("fsck", "--json", "--passphrase-file", volume.passfile, volume.path)
        assert found.returncode == 0, found.out + found.err
        assert "journal-unclean" in found.out
        with volume.mount(workdir / "mnt2") as m:
            assert mounts_of(volume)[0]["replay"]["unclean"]
            for f in files:
                look_after(m.path, f)
            check(m / "tree")
            every_file_reads(m.path)
            (m / "new").write_bytes(b"goes on")
        check_volume(volume)
