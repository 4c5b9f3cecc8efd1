"""Power cuts while keys are rotated: latch, latch-keyd and the mount run under the recorder of the crash laboratory, and
states that a power cut may leave of the volume and of latch-keyd's state directory together are tried. In every one
the volume opens with every slot and all files are there; the rotation can be run again."""

import os
import random
import shutil
import sys
from pathlib import Path

import pytest

import harness
from fsbox import PLAIN
from keylife import admin, check_tree, fill_tree, protect

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "crash"))
import disk  # noqa: E402
import trace as t  # noqa: E402

pytestmark = [pytest.mark.skipif(PLAIN, reason="about volumes"), pytest.mark.heavy]
STATES = int(os.environ.get("LATCHFS_KEY_STATES", "24"))


class RecordedKeyd(harness.Keyd):
    """Everything below top is recorded, whoever of ours changes it."""

    def __init__(self, bins, directory, top, trace):
        super().__init__(bins, directory)
        self.state.rmdir()
        self.state = top / "state"
        self.recorder = {} if trace is None else {
            "LD_PRELOAD": str(harness.build_dir() / "tests/crash/crash_recorder.so"), "CRASH_ROOT": str(top), "CRASH_TRACE": str(trace)}

    @property
    def env(self):
        return super().env | self.recorder


def relocate(held, old, new):
    return {os.path.join(new, os.path.relpath(p, old)): data for p, data in held.items()}


def record(bins, workdir, steps):
    """Runs it all; the records, where the rotations begin, and what the files hold."""
    top, trace = workdir / "recorded", workdir / "trace"
    top.mkdir()
    with RecordedKeyd(bins, workdir / "keyd", top, trace) as keyd:
        volume = harness.Volume(keyd, top / "vol")
        volume.passfile, volume.recovery = workdir / "pass", workdir / "recovery"
        volume.create()
        mountpoint = workdir / "mnt"
        with volume.mount(mountpoint) as m:
            protect(volume, m / "plain")
            protect(volume, m / "held", "--held")
            held = fill_tree(m / "plain", 6) | fill_tree(m / "held", 6, 50)
        volume.unlock().ok()
        start = len(t.read(trace))
        for step in steps:
            admin(volume, *(volume.path if a == "VOLUME" else a for a in step)).ok()
        volume.lock()
    return t.read(trace), start, held, volume


def check(bins, where, n, held, recorded, again):
    with RecordedKeyd(bins, where / "keyd", where / "root", None) as keyd:
        volume = harness.Volume(keyd, where / "root/vol")
        volume.passfile, volume.recovery = recorded.passfile, recorded.recovery
        what = f"state {n} in {where}"
        for secret in (("--passphrase-file", volume.passfile), ("--recovery-file", volume.recovery)):
            opened = volume.latch("unlock", *secret, volume.path)
            assert opened.returncode == 0, f"{what}: {opened.err}"
            volume.lock().ok()
        with volume.mount(where / "mnt") as m:
            check_tree(relocate(held, recorded.path.parent.parent / "mnt", m.path))
        if again:
            volume.unlock().ok()
            for step in again:
                admin(volume, *(volume.path if a == "VOLUME" else a for a in step)).ok()
            with volume.mount(where / "mnt") as m:
                check_tree(relocate(held, recorded.path.parent.parent / "mnt", m.path))


@pytest.mark.parametrize("steps", [
    [("rotate", "master", "VOLUME")],
    [("rotate", "directory", "--dir", "held", "VOLUME")],
    [("rotate", "data", "--dir", "plain", "VOLUME"), ("rotate", "data", "--dir", "held", "VOLUME")],
    [("rotate", "master", "VOLUME"), ("key", "destroy", "--master", "VOLUME", "1")],
], ids=["master", "directory", "data", "destroy"])
def test_power_cuts(bins, workdir, steps, request):
    records, start, held, volume = record(bins, workdir, steps)
    rnd = random.Random(request.node.name)
    # Half of them where files change places: that is where an order matters.
    places = [i + 1 + k for i in range(start, len(records)) if records[i][0] in (t.RENAME, t.UNLINK) for k in range(3)]
    cuts = sorted(min(len(records), rnd.choice(places)) if n % 2 else rnd.randint(start, len(records)) for n in range(STATES))
    fs, at = disk.Disk(), 0
    for n, cut in enumerate(cuts):
        while at < cut:
            fs.feed(at, records[at])
            at += 1
        image = fs.cut(rnd) if n % 4 else fs.alive()
        where = workdir / f"state{n}"
        (where / "root").mkdir(parents=True)
        image.write(where / "root", where / "inodes")
        check(bins, where, n, held, volume, steps[:1] if n % 6 == 5 else None)
        shutil.rmtree(where)
