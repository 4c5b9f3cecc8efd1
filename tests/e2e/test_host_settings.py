"""Settings of the host that make a mount faster: root's mounts have those of a mount, others are told of them. That of FUSE over
io_uring is the whole host's."""

import os
from pathlib import Path

import pytest

import harness
import uring
from fsbox import PLAIN
from volumes import mounts_of

pytest_plugins = ["fsbox"]
pytestmark = [pytest.mark.skipif(PLAIN, reason="about mounts"),
              pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

GOOD = {"strict_limit": 0, "max_ratio": 100, "read_ahead_kb": 1024}


def bdi(mount):
    place = Path(f"/sys/class/bdi/0:{harness.mount_device(mount.path)}")
    if not place.is_dir():
        pytest.skip("the kernel shows no /sys/class/bdi here")
    return place


def settings(place):
    return {name: int((place / name).read_text()) for name in GOOD}


def advice(volume):
    """What is said of the mount's own."""
    one, = mounts_of(volume)
    return {Path(a["path"]).name: a for a in one["host_advice"] if "/bdi/" in a["path"]}


def lines(volume):
    return [line.strip() for line in volume.latch("status").ok().out.splitlines() if "root could write" in line and "/bdi/" in line]


def ring_advice(volume):
    one, = mounts_of(volume)
    return [(a["now"], a["better"]) for a in one["host_advice"] if a["path"] == str(uring.PARAMETER)]


def test_root_has_them(volume):
    with volume.mount() as m:
        place = bdi(m)
        assert settings(place) == GOOD and advice(volume) == {} and lines(volume) == []
        (place / "read_ahead_kb").write_text("4096")
        assert advice(volume) == {}
        (place / "max_ratio").write_text("7")
        found = advice(volume)
        assert list(found) == ["max_ratio"] and found["max_ratio"]["path"] == str(place / "max_ratio")
        assert found["max_ratio"]["now"] == 7 and found["max_ratio"]["better"] == 100
    harness.wait_until(lambda: not place.exists(), what="the settings to go with the mount")


def test_others_are_told(workdir, bins, user):
    place = workdir / "theirs"
    place.mkdir()
    os.chown(place, user.pw_uid, user.pw_gid)
    with harness.Keyd(bins, place / "keyd", user=user) as keyd:
        volume = harness.Volume(keyd, place / "vol", user=user).create()
        volume.unlock().ok()
        with volume.mount() as m:
            before, found = settings(bdi(m)), advice(volume)
            assert {name: a["now"] for name, a in found.items()} == before and before != GOOD
            assert all(0 <= a["percent"] < 100 for a in found.values())
            told = lines(volume)
            assert len(told) == 3 and f"1024 to {bdi(m)}/read_ahead_kb (now {before['read_ahead_kb']})" in told[2]
            for name, a in found.items():
                Path(a["path"]).write_text(str(a["better"]))
            assert settings(bdi(m)) == GOOD and advice(volume) == {}
        with volume.mount(options="ro"):
            assert list(advice(volume)) == ["read_ahead_kb"]


@pytest.mark.skipif(not uring.can_switch(), reason="no FUSE over io_uring to switch here")
def test_the_ring_is_the_hosts(volume):
    with volume.mount():
        with uring.switched(True):
            assert ring_advice(volume) == []
        with uring.switched(False):
            assert ring_advice(volume) == [(0, 1)] and str(uring.PARAMETER) in volume.latch("status").ok().out
