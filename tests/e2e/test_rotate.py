"""Rotation of master, directory and file keys: online under load, offline, cut at any point and run again."""

import errno
import json
import os
import random
import shutil
import subprocess
import time

import pytest

import harness
from fsbox import PLAIN, check_volume
from keylife import admin, check_tree, directory, fill_tree, headers, keys, kill, load, protect, start, states
from syscalls import errno_of, pattern, read_file, write_file

pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")


def root(volume):
    return directory(volume, "(root)")


def read_elsewhere(volume, workdir, held, top):
    """The second reader finds the same contents in the ciphertext."""
    out = workdir / f"read{random.randrange(10**9)}"
    reader = os.path.join(os.path.dirname(__file__), "../reader/latchread.py")
    harness.run(["/usr/bin/python3", reader, volume.path, "--passphrase-file", volume.passfile, out]).ok()
    for path, data in held.items():
        assert read_file(os.path.join(out, os.path.relpath(path, top))) == data
    shutil.rmtree(out)


# ---- master ----


def test_master_under_load(volume, workdir):
    with volume.mount() as m:
        held = fill_tree(m / "tree", 20)
        with load(m / "load"):
            for _ in range(3):
                assert "master key: version" in admin(volume, "rotate", "master", volume.path).ok().out
        check_tree(held)
        volume.lock().ok()
        volume.unlock().ok()
        harness.wait_until(lambda: errno_of(os.listdir, m.path) == 0, what="the mount to unlock")
        check_tree(held)
    shown = keys(volume)
    assert states(shown["masters"]) == {1: "decrypt-only", 2: "decrypt-only", 3: "decrypt-only", 4: "active"}
    assert {v["master"] for d in shown["directories"] for v in d["versions"]} == {4}
    with volume.mount():
        check_tree(held)
    check_volume(volume)
    read_elsewhere(volume, workdir, {}, m.path)


def test_old_header_backup_opens_after_master_rotation(volume, workdir):
    """decrypt-only: a header backup of before still works, as a restored key store would."""
    ini = volume.path / "latchfs.ini"
    old = ini.read_bytes()
    with volume.mount() as m:
        held = fill_tree(m.path, 5)
    admin(volume, "rotate", "master", volume.path).ok()
    volume.lock()
    ini.write_bytes(old)
    refused = volume.unlock()
    assert refused.returncode == harness.CORRUPT and "generation" in refused.err
    volume.latch("unlock", "--accept-older", "--passphrase-file", volume.passfile, volume.path).ok()
    with volume.mount():
        check_tree(held)


# ---- directory ----


def test_directory_under_load(volume, workdir):
    with volume.mount() as m:
        protect(volume, m / "team")
        held = fill_tree(m / "team", 60)
        other = fill_tree(m / "rest", 10, seed=500)
        before = {p: os.stat(p) for p in held}
        with load(m / "team/load"):
            out = admin(volume, "rotate", "directory", m / "team").ok().out
        assert "version 2 is active" in out
        check_tree(held)
        check_tree(other)
        for path, st in before.items():
            now = os.stat(path)
            assert (now.st_size, now.st_mtime_ns) == (st.st_size, st.st_mtime_ns), path
        write_file(m / "team/fresh", b"after")
    team = directory(volume, "team")
    assert team["least"] == 2 and states(team["versions"]) == {1: "retired", 2: "active"}
    versions = {v for _, pd, v, _, _ in headers(volume) if pd == team["id"]}
    assert versions == {2}
    assert {v for _, pd, v, _, _ in headers(volume) if pd == root(volume)["id"]} == {1}
    with volume.mount() as m:
        check_tree(held)
        check_tree(other)
    check_volume(volume)
    read_elsewhere(volume, workdir, held | other, m.path)


def test_directory_offline(volume):
    """Not mounted, but unlocked: the command walks the volume itself."""
    with volume.mount() as m:
        held = fill_tree(m.path, 30)
    admin(volume, "rotate", "directory", volume.path).ok()
    assert root(volume)["least"] == 2
    assert {v for _, _, v, _, _ in headers(volume)} == {2}
    volume.lock().ok()
    refused = admin(volume, "rotate", "directory", volume.path)
    assert refused.returncode == harness.NOKEY, refused.err
    with volume.mount():
        check_tree(held)


def test_replayed_old_header_is_refused(volume):
    """After the rotation a file put back from before is refused, and so is its old header on today's file."""
    with volume.mount() as m:
        write_file(m / "f", pattern(1, 100000))
        (inode,) = [os.stat(m / "f").st_ino]
    (path,) = [p for p, *_ in headers(volume) if os.stat(p).st_ino == inode]
    old = path + ".old"
    shutil.copy(path, "/tmp/" + os.path.basename(old)[:60])
    saved = "/tmp/" + os.path.basename(old)[:60]
    try:
        admin(volume, "unlock", volume.path).ok()
        admin(volume, "rotate", "directory", volume.path).ok()
        now = open(path, "rb").read()
        with open(saved, "rb") as f:
            before = f.read()
        with volume.mount() as m:
            assert read_file(m / "f") == pattern(1, 100000)
        with open(path, "r+b") as f:
            f.write(before[:512])
        with volume.mount() as m:
            assert errno_of(read_file, m / "f") == errno.EIO
        with open(path, "r+b") as f:
            f.write(now[:512])
        with volume.mount() as m:
            assert read_file(m / "f") == pattern(1, 100000)
    finally:
        os.unlink(saved)


def test_files_that_nobody_may_write(volume):
    with volume.mount() as m:
        for mode in (0o444, 0o000, 0o200):
            write_file(m / f"m{mode:o}", pattern(mode, 5000))
            os.chmod(m / f"m{mode:o}", mode)
        os.link(m / "m444", m / "hard")
        admin(volume, "rotate", "directory", m.path).ok()
        for mode in (0o444, 0o000, 0o200):
            assert os.stat(m / f"m{mode:o}").st_mode & 0o777 == mode
            assert read_file(m / f"m{mode:o}") == pattern(mode, 5000)
    assert {v for _, _, v, _, _ in headers(volume)} == {2}


def test_damaged_file_keeps_the_old_key(volume):
    with volume.mount() as m:
        held = fill_tree(m / "t", 8)
        write_file(m / "bad", pattern(3, 9000))
        ino = os.stat(m / "bad").st_ino
    (path,) = [p for p, *_ in headers(volume) if os.stat(p).st_ino == ino]
    with open(path, "r+b") as f:
        f.seek(490)
        f.write(b"damage")
    with volume.mount() as m:
        result = admin(volume, "rotate", "directory", m.path)
        assert result.returncode == harness.CORRUPT and "1 file" in result.err
        check_tree(held)
        assert root(volume)["least"] == 1
        os.unlink(m / "bad")
        admin(volume, "rotate", "directory", m.path).ok()
        check_tree(held)
    assert root(volume)["least"] == root(volume)["versions"][-1]["version"]


# ---- data ----


def chunks_of(path):
    with open(path, "rb") as f:
        raw = f.read()
    return [raw[i : i + 4096] for i in range(4096, len(raw), 4096)]


def test_data_under_load(volume, workdir):
    with volume.mount() as m:
        protect(volume, m / "team")
        held = fill_tree(m / "team", 40)
        some = next(iter(held))
        os.setxattr(some, "user.note", b"plain words")
        sparse = m / "team/sparse"
        with open(sparse, "wb") as f:
            f.truncate(5 << 20)
            f.seek(3 << 20)
            f.write(b"island" * 1000)
        held[str(sparse)] = read_file(sparse)
    before = {p: chunks_of(p) for p, *_ in headers(volume)}
    blocks = sum(os.stat(p).st_blocks for p in before)
    with volume.mount() as m:
        with load(m / "team/load"):
            admin(volume, "rotate", "data", m / "team").ok()
        check_tree(held)
        assert os.getxattr(some, "user.note") == b"plain words"
        for name in os.listdir(m / "team/load"):
            os.unlink(m / "team/load" / name)
    team = directory(volume, "team")
    assert team["least"] == 2
    for path, pd, version, first, second in headers(volume):
        if pd != team["id"]:
            continue
        assert version == 2 and (first == 0) != (second == 0)
        now = chunks_of(path)
        same = [i for i, (a, b) in enumerate(zip(before[path], now)) if a == b and any(a)]
        assert not same, f"{path}: {len(same)} pages are as they were"
    assert sum(os.stat(p).st_blocks for p in before if os.path.exists(p)) <= blocks * 1.1 + 200, "holes were filled"
    with volume.mount():
        check_tree(held)
        assert os.getxattr(some, "user.note") == b"plain words"
    check_volume(volume)
    read_elsewhere(volume, workdir, held, m.path)


def test_all(volume, workdir):
    with volume.mount() as m:
        protect(volume, m / "a")
        protect(volume, m / "b")
        held = fill_tree(m / "a", 10) | fill_tree(m / "b", 10, 100) | fill_tree(m / "c", 10, 200)
        admin(volume, "rotate", "all", m.path).ok()
        check_tree(held)
    shown = keys(volume)
    assert states(shown["masters"])[2] == "active"
    assert all(d["least"] == 2 for d in shown["directories"])
    with volume.mount():
        check_tree(held)
    read_elsewhere(volume, workdir, held, m.path)


# ---- progress, rate ----


def test_progress_as_json(volume):
    with volume.mount() as m:
        fill_tree(m.path, 20)
        lines = [json.loads(x) for x in admin(volume, "rotate", "data", "--json", m.path).ok().out.splitlines()]
    assert lines[-1] == {"act": "data of directory", "directory": root(volume)["id"], "version": 2, "done": True}
    steps = [x for x in lines if x["act"] == "re-encrypting"]
    assert steps[-1]["done"] and steps[-1]["files"] == 20 and steps[-1]["changed"] == 20


def test_limit_rate_and_stop(volume):
    """A slow rotation goes on until it is told to stop; nothing is lost, and it is taken up again."""
    with volume.mount() as m:
        held = {}
        for i in range(4):
            held[str(m / f"f{i}")] = pattern(i, 3 << 20)
            write_file(m / f"f{i}", held[str(m / f"f{i}")])
        slow = start(volume, "rotate", "data", "--limit-rate", "200K", m.path)
        time.sleep(1.0)
        assert slow.poll() is None, slow.communicate()
        assert volume.latch("rotate", "directory", "--limit-rate", "fast", m.path).returncode == harness.USAGE
        slow.terminate()
        _, err = slow.communicate(timeout=60)
        assert slow.returncode == harness.FAILURE and b"run the same command again" in err
        check_tree(held)
        refused = admin(volume, "rotate", "directory", m.path)
        assert refused.returncode != 0 and "data" in refused.err
        admin(volume, "rotate", "data", m.path).ok()
        check_tree(held)
    assert root(volume)["least"] == root(volume)["versions"][-1]["version"]
    assert {(v, f == 0 or s == 0) for _, _, v, f, s in headers(volume)} == {(root(volume)["least"], True)}


# ---- cut anywhere ----


def finish(volume, what, path):
    """What a person does: the same command again, until it says yes."""
    for _ in range(20):
        result = admin(volume, "rotate", what, path)
        if result.returncode == 0:
            return
        time.sleep(0.2)
    result.ok()


@pytest.mark.heavy
@pytest.mark.parametrize("what", ["directory", "data"])
def test_kill_latch_at_any_point(volume, what):
    dice = random.Random(what)
    with volume.mount() as m:
        held = fill_tree(m.path, 80)
        for _ in range(6):
            process = start(volume, "rotate", what, m.path)
            time.sleep(dice.random() * 0.6)
            kill(process)
            check_tree({p: held[p] for p in dice.sample(sorted(held), 5)})
        finish(volume, what, m.path)
        check_tree(held)
    assert root(volume)["least"] == root(volume)["versions"][-1]["version"]
    assert {v for _, _, v, _, _ in headers(volume)} == {root(volume)["least"]}
    with volume.mount():
        check_tree(held)
    check_volume(volume)


@pytest.mark.heavy
@pytest.mark.parametrize("what", ["directory", "data"])
def test_kill_latchfs_at_any_point(volume, what):
    dice = random.Random(what)
    held = None
    for _ in range(6):
        m = volume.mount()
        with m:
            if held is None:
                held = fill_tree(m.path, 80)
                os.sync()
            check_tree(held)
            process = start(volume, "rotate", what, m.path)
            time.sleep(0.1 + dice.random() * 0.5)
            m.crash()
            kill(process)
    with volume.mount() as m:
        check_tree(held)
        finish(volume, what, m.path)
        check_tree(held)
    assert {v for _, _, v, _, _ in headers(volume)} == {root(volume)["least"]}
    check_volume(volume)


@pytest.mark.heavy
def test_kill_keyd_at_any_point(volume):
    """keyd dies at any point of master and directory rotations: everything opens afterwards, with every slot."""
    dice = random.Random(4)
    with volume.mount() as m:
        held = fill_tree(m.path, 20)
    for what in ("master", "directory", "master", "data", "master", "directory"):
        volume.unlock().ok()
        process = start(volume, "rotate", what, volume.path)
        time.sleep(dice.random() * 0.25)
        volume.keyd.kill()
        kill(process)
        volume.keyd.start()
        volume.unlock().ok()
        volume.lock().ok()
        volume.latch("unlock", "--recovery-file", volume.recovery, volume.path).ok()
        finish(volume, what, volume.path)
    with volume.mount() as m:
        check_tree(held)
    check_volume(volume)


def test_no_mount_answers(volume):
    """A stopped mount does not take the new key: the rotation says so and can be run again."""
    with volume.mount() as m:
        held = fill_tree(m.path, 5)
        pid = m.pid
        subprocess.run(["kill", "-STOP", str(pid)], check=True)
        try:
            result = admin(volume, "rotate", "directory", volume.path, timeout=100)
            assert result.returncode != 0
        finally:
            subprocess.run(["kill", "-CONT", str(pid)], check=True)
        finish(volume, "directory", m.path)
        check_tree(held)


@pytest.mark.parametrize("what", ["directory", "data"])
def test_rotate_right_after_keyd_was_replaced(volume, what):
    """The mount has its keys from a keyd that is gone and has not found the new one: its old keys prove nothing."""
    with volume.mount() as m:
        held = fill_tree(m.path, 10)
        volume.keyd.kill()
        time.sleep(8)  # the mount looks for it less and less often
        volume.keyd.start()
        volume.unlock().ok()
        admin(volume, "rotate", what, m.path).ok()
        check_tree(held)
        volume.lock().ok()
        volume.unlock().ok()
        harness.wait_until(lambda: errno_of(os.listdir, m.path) == 0, what="the mount to unlock")
        check_tree(held)
        write_file(m / "fresh", b"after")
    assert root(volume)["least"] == 2 and {v for _, _, v, _, _ in headers(volume)} == {2}
    with volume.mount():
        check_tree(held)
    check_volume(volume)
