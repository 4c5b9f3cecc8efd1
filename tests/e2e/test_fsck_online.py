"""latch fsck --online: a mounted volume is checked while people work in it."""

import os
import signal
import subprocess

import pytest

import harness
from checkbox import CHUNK, Made, about, add_keyfile, damage, kinds, valid
from clibox import flip, refused
from fsbox import PLAIN
from harness import BUSY, CORRUPT, FAILURE, NOKEY, OK
from keylife import check_tree, fill_tree, load
from syscalls import pattern, read_file, write_file
from test_fsck import copy, made  # noqa: F401
from test_verify import where

pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")


def online(made, *options, target=None, path=()):
    return valid(made.volume.latch("fsck", "--online", "--json", *options, "--", target, *path))


def test_clean_under_load(volume):
    made = Made(add_keyfile(volume))
    with volume.mount() as m:
        held = fill_tree(m / "tree", 40)
        with load(m / "load"):
            for options in ([], ["--contents"], ["--contents", "--workers", "4"]):
                shown = online(made, *options, target=m.path)
                assert shown["exit"] == OK and not damage(shown), shown["findings"]
                assert shown["mountpoint"] == str(m.path) and shown["volume"] == str(volume.path)
                assert shown["summary"]["files"] >= 40
        check_tree(held)
    assert made.found("--contents", code=OK)["findings"] == []


def test_what_is_not_in_place_yet(volume):
    """Written a moment ago: it counts as the mount reads it."""
    made = Made(add_keyfile(volume))
    with volume.mount() as m:
        write_file(m / "file", pattern(1, 50 * CHUNK))
        with open(m / "file", "r+b") as f:
            for n in range(0, 50, 3):
                f.seek(n * CHUNK + 5)
                f.write(b"overwritten")
            f.flush()
            os.fsync(f.fileno())
            assert online(made, "--contents", target=m.path)["exit"] == OK


def test_damage_is_found(copy):
    flip(copy.backing("big"), 200 * CHUNK)
    flip(copy.backing("one/file"), 20)
    os.unlink(copy.backing("two/sub") / "latchfs.dir")
    with copy.volume.mount() as m:
        shown = online(copy, "--contents", target=m.path)
        assert shown["exit"] == CORRUPT and {"bad-chunk", "bad-header", "missing-record"} <= damage(shown)
        f = about(shown, "bad-chunk")
        assert f["plain_path"] == "big" and f["cipher_path"] == str(copy.cipher["big"]) and f["range"]["length"] == CHUNK
        assert "bad-chunk" not in kinds(online(copy, target=m.path))
        lines = copy.volume.latch("fsck", "--online", "--contents", m.path)
        assert lines.returncode == CORRUPT and "one/file" in lines.out
        assert read_file(m / "paged") == pattern(1, 10 * CHUNK)


def test_many_findings(copy):
    """More than one answer holds."""
    for n in range(300):
        (copy.path / f"strange name {n}").write_text("x")
    with copy.volume.mount() as m:
        names = [f["cipher_path"] for f in online(copy, target=m.path)["findings"] if f["kind"] == "bad-name"]
        assert sorted(names) == sorted(f"strange name {n}" for n in range(300))


def test_a_subtree(copy):
    flip(copy.backing("one/file"), CHUNK)
    flip(copy.backing("two/sub/file"), CHUNK)
    with copy.volume.mount() as m:
        for target, path, names in [(m.path, ["one"], {"one/file"}), (m.path, ["/two/sub/"], {"two/sub/file"}), (m / "two", [], {"two/sub/file"}),
                                    (m / "two", ["sub"], {"two/sub/file"}), (m / "one/sub", [], set()), (copy.path, [], {"one/file", "two/sub/file"})]:
            shown = online(copy, "--contents", target=target, path=path)
            assert {f["plain_path"] for f in shown["findings"]} == names, (target, path)
        shown = online(copy, "--contents", "--cipher", target=m.path, path=[copy.cipher["two"]])
        assert {f["plain_path"] for f in shown["findings"]} == {"two/sub/file"}
        refused(copy.volume.latch("fsck", "--online", m.path, "nothing there"), harness.IO, "nothing there")


def test_locked(copy):
    with copy.volume.mount() as m:
        copy.volume.lock().ok()
        refused(copy.volume.latch("fsck", "--online", m.path), NOKEY, "locked")


def begin_slowly(volume, mountpoint):
    """A verify that has come some way and has long to go."""
    state = volume.path.with_name("place")
    slow = subprocess.Popen([volume.bins.latch, "verify", "--rate", "500K", "--state", str(state), str(mountpoint)], env=volume.keyd.env,
                            cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    harness.wait_until(lambda: where(state) or slow.poll() is not None, what="the slow check to run")
    assert slow.poll() is None, slow.communicate()
    return slow


def test_one_at_a_time_and_stopped(volume):
    made = Made(add_keyfile(volume))
    with volume.mount() as m:
        for n in range(30):
            write_file(m / f"f{n}", pattern(n, 100 * CHUNK))
        slow = begin_slowly(volume, m.path)
        try:
            refused(volume.latch("fsck", "--online", m.path), BUSY, "another check")
            slow.send_signal(signal.SIGINT)
            slow.communicate(timeout=60)
        finally:
            slow.kill()
        assert slow.returncode == FAILURE
        assert online(made, "--contents", target=m.path)["exit"] == OK


def test_unmounted_under_way(volume):
    """The check ends with the mount, and says so."""
    made = Made(add_keyfile(volume))
    with volume.mount() as m:
        for n in range(30):
            write_file(m / f"f{n}", pattern(n, 100 * CHUNK))
        slow = begin_slowly(volume, m.path)
        m.umount().ok()
        out, err = slow.communicate(timeout=60)
        assert slow.returncode not in (OK, CORRUPT) and err.startswith("latch: "), (out, err)
        assert made.found("--contents", code=OK)["findings"] == []
