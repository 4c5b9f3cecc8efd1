"""Versions and their states, registered backups, shredding, names, environments."""

import errno
import json
import os
import shutil

import pytest

import harness
from fsbox import PLAIN, check_volume
from keylife import admin, check_tree, directory, fill_tree, headers, keys, protect, states
from syscalls import errno_of, pattern, read_file, write_file

pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")


# ---- protect ----


def test_protect_inherits_and_seals_its_name(volume):
    with volume.mount() as m:
        protect(volume, m / "QuietName")
        held = fill_tree(m / "QuietName", 12)
        os.symlink("elsewhere", m / "QuietName/link")
        shown = volume.latch("key", "list", volume.path).ok().out
        assert "QuietName" in shown
        status = json.loads(volume.latch("status", "--json").ok().out)
        (vol,) = status["keyd"]["volumes"]
        (quiet,) = [d for d in vol["directories"] if d.get("name") == "QuietName"]
        assert quiet["active"] == 1 and not quiet["locked"] and len(quiet["leases"]) == 1
        assert "QuietName" in volume.latch("status").ok().out
    pd = directory(volume, "QuietName")["id"]
    assert b"QuietName" not in (volume.path / "latchfs.ini").read_bytes()
    assert sum(1 for _, of, *_ in headers(volume) if of == pd) == sum(1 for d in held.values() if d)
    volume.lock().ok()
    assert "QuietName" not in volume.latch("key", "list", volume.path).ok().out
    with volume.mount() as m:
        check_tree(held)
        assert os.readlink(m / "QuietName/link") == "elsewhere"
    check_volume(volume)


def test_protect_refuses(volume, workdir):
    with volume.mount() as m:
        os.mkdir(m / "full")
        write_file(m / "full/f", b"x")
        write_file(m / "file", b"x")
        protect(volume, m / "one")
        for path, words in ((m / "full", "not empty"), (m / "file", "not a directory"), (m.path, "root"),
                            (m / "one", "already"), (m / "absent", "No such"), (volume.path, "inside a mount"),
                            (workdir, "neither")):
            result = admin(volume, "protect", path)
            assert result.returncode != 0 and words in result.err, (path, result.err)
        os.mkdir(m / "two")
        result = admin(volume, "protect", "--name", "one", m / "two")
        assert result.returncode != 0, "the same name twice"
        assert errno_of(os.rename, m / "full/f", m / "one/f") == errno.EXDEV
        assert errno_of(os.link, m / "file", m / "one/l") == errno.EXDEV
        harness.run(["mv", m / "full/f", m / "one/f"]).ok()
        assert read_file(m / "one/f") == b"x"
        with open(volume.path.with_name("wrong"), "w") as f:
            f.write("wrong\n")
        os.mkdir(m / "three")
        bad = volume.latch("protect", "--passphrase-file", volume.path.with_name("wrong"), m / "three")
        assert bad.returncode == harness.WRONG_PASSPHRASE
    check_volume(volume)


def test_many_directories(volume):
    with volume.mount() as m:
        held = {}
        for i in range(20):
            protect(volume, m / f"dir{i}")
            held |= fill_tree(m / f"dir{i}", 3, i * 10)
        check_tree(held)
    with volume.mount():
        check_tree(held)
    assert len(keys(volume)["directories"]) == 21


# ---- states ----


def test_destroy_needs_nothing_to_need_it(volume):
    with volume.mount() as m:
        protect(volume, m / "team")
        held = fill_tree(m / "team", 10)
        admin(volume, "backup", "register", volume.path, "offsite 1").ok()
        refused = admin(volume, "key", "destroy", m / "team", "1")
        assert refused.returncode != 0, "the active version"
        admin(volume, "rotate", "directory", m / "team").ok()
        refused = admin(volume, "key", "destroy", m / "team", "1")
        assert refused.returncode != 0 and "offsite 1" in refused.err
        assert "offsite 1" in volume.latch("backup", "list", volume.path).ok().out
        (backup,) = json.loads(volume.latch("backup", "list", "--json", volume.path).ok().out)
        admin(volume, "backup", "forget", volume.path, str(backup["number"])).ok()
        admin(volume, "key", "destroy", m / "team", "1").ok()
        assert states(directory(volume, "team")["versions"]) == {1: "destroyed", 2: "active"}
        assert not (volume.path / "latchfs.ini.bak").exists(), "it has the destroyed key"
        check_tree(held)
    with volume.mount():
        check_tree(held)
    check_volume(volume)


def test_destroy_finds_a_header(volume, workdir):
    """A file of before was put back after the walk: the key it needs is not destroyed."""
    with volume.mount() as m:
        write_file(m / "f", pattern(1, 9000))
        ino = os.stat(m / "f").st_ino
    (path,) = [p for p, *_ in headers(volume) if os.stat(p).st_ino == ino]
    shutil.copy(path, workdir / "old")
    volume.unlock().ok()
    admin(volume, "rotate", "directory", volume.path).ok()
    shutil.copyfile(workdir / "old", path)
    refused = admin(volume, "key", "destroy", volume.path, "1")
    assert refused.returncode != 0
    with volume.mount() as m:
        assert errno_of(read_file, m / "f") == errno.EIO
        admin(volume, "key", "accept", m.path, "1").ok()
        assert read_file(m / "f") == pattern(1, 9000)
        refused = admin(volume, "key", "destroy", m.path, "1")
        assert refused.returncode == harness.USAGE and "decrypt-only" in refused.err
        admin(volume, "rotate", "directory", m.path).ok()
        assert read_file(m / "f") == pattern(1, 9000)
        admin(volume, "key", "destroy", m.path, "1").ok()
        assert read_file(m / "f") == pattern(1, 9000)
    with volume.mount() as m:
        assert read_file(m / "f") == pattern(1, 9000)


def test_master_versions(volume):
    volume.unlock().ok()
    for _ in range(2):
        admin(volume, "rotate", "master", volume.path).ok()
    assert admin(volume, "key", "destroy", "--master", volume.path, "3").returncode != 0, "the active one"
    admin(volume, "backup", "register", volume.path, "full").ok()
    admin(volume, "key", "retire", "--master", volume.path, "1").ok()
    result = admin(volume, "key", "destroy", "--master", volume.path, "1")
    admin(volume, "backup", "forget", volume.path, "1").ok()
    if result.returncode != 0:
        admin(volume, "key", "destroy", "--master", volume.path, "1").ok()
    assert states(keys(volume)["masters"])[1] == "destroyed"
    for bad in ("0", "9", "x", "-1", "1"):
        assert admin(volume, "key", "destroy", "--master", volume.path, bad).returncode != 0
    with volume.mount() as m:
        held = fill_tree(m.path, 3)
        check_tree(held)


# ---- shredding ----


@pytest.mark.parametrize("held_by_keyd", [False, True], ids=["plain", "held"])
def test_shred(volume, workdir, held_by_keyd):
    with volume.mount() as m:
        protect(volume, m / "secret", *(["--held"] if held_by_keyd else []))
        held = fill_tree(m / "secret", 6)
        rest = fill_tree(m / "rest", 6, 50)
    with volume.mount() as m:
        check_tree(held)
    volume.lock()
    backup = workdir / "backup"
    shutil.copytree(volume.path, backup, symlinks=True)
    with volume.mount() as m:
        result = volume.latch("shred", "--passphrase-file", volume.passfile, m / "secret")
        assert result.returncode == harness.USAGE and "nothing was done" in result.err
        check_tree(held)
        said = admin(volume, "shred", "--yes", m / "secret").ok().out
        assert ("every copy" in said) == held_by_keyd
        assert errno_of(os.listdir, m / "secret") == errno.ENOKEY
        check_tree(rest)
    with volume.mount() as m:
        assert errno_of(os.listdir, m / "secret") == errno.ENOKEY
        check_tree(rest)
        os.mkdir(m / "new")
        assert admin(volume, "shred", "--yes", m / "new").returncode != 0
    volume.lock()
    other = harness.Volume(volume.keyd, backup)
    other.write_passfile()
    other.latch("unlock", "--accept-older", "--passphrase-file", other.passfile, other.path).ok()
    with other.mount(mountpoint=m.path) as copy:
        check_tree(rest)
        if held_by_keyd:
            assert errno_of(os.listdir, copy / "secret") == errno.ENOKEY
        else:
            check_tree(held)


# ---- labels ----


def test_names_and_environment(volume, workdir, bins):
    with volume.mount() as m:
        protect(volume, m / "a", "--name", "first")
        admin(volume, "key", "name", m / "a", "second").ok()
        assert "second" in volume.latch("key", "list", volume.path).ok().out
        admin(volume, "rotate", "directory", "--dir", "second", volume.path).ok()
        assert admin(volume, "rotate", "directory", "--dir", "first", volume.path).returncode == harness.USAGE
        admin(volume, "key", "environment", volume.path, "production").ok()
        assert admin(volume, "key", "environment", volume.path, "bad;name").returncode == harness.USAGE
    volume.lock().ok()
    config = "[keyd]\nidle_exit_seconds = 0\nenvironment = staging\n"
    with harness.Keyd(bins, workdir / "staging", config=config) as staging:
        other = harness.Volume(staging, volume.path)
        refused = other.unlock()
        assert refused.returncode == harness.NOKEY and "production" in refused.err


def test_shred_means_all_of_it(volume):
    """A path inside is refused and named; what is left is found by its inode and can be removed."""
    with volume.mount() as m:
        protect(volume, m / "secret")
        held = fill_tree(m / "secret", 4)
        inside = next(iter(held))
        for path in (inside, os.path.dirname(inside)):
            result = admin(volume, "shred", "--yes", path)
            assert result.returncode == harness.USAGE and str(m / "secret") in result.err
        check_tree(held)
        out = admin(volume, "shred", "--yes", m / "secret").ok().out
        (line,) = [x for x in out.splitlines() if "its ciphertext is" in x]
        left = line.split("its ciphertext is ")[1].split(";")[0]
    assert os.path.isdir(left)
    shutil.rmtree(left)
    with volume.mount() as m:
        assert os.listdir(m.path) == []


def test_destroy_says_what_is_wrong(volume):
    volume.unlock().ok()
    for version, words in (("99", "no version 99"), ("1", "active")):
        result = admin(volume, "key", "destroy", volume.path, version)
        assert result.returncode == harness.USAGE and words in result.err


def test_lock_by_id(volume):
    """For who may not read the volume, and when latchfs.ini is gone."""
    with volume.mount() as m:
        protect(volume, m / "team")
        held = fill_tree(m / "team", 3)
        vid, team = keys(volume)["volume"], directory(volume, "team")["id"]
        volume.latch("lock", f"{vid}/{team}").ok()
        assert errno_of(os.listdir, m / "team") == errno.ENOKEY
        volume.latch("unlock", m / "team").ok()
        check_tree(held)
        os.rename(volume.path / "latchfs.ini", volume.path / "latchfs.ini.gone")
        refused = volume.latch("lock", volume.path)
        assert refused.returncode == harness.CORRUPT and ".bak" in refused.err
        volume.latch("lock", vid).ok()
        assert errno_of(os.listdir, m.path) == errno.ENOKEY
        os.rename(volume.path / "latchfs.ini.gone", volume.path / "latchfs.ini")
        assert volume.latch("lock", "1" * 32).returncode != 0


def test_rotation_is_refused_before_it_begins(keyd, volume):
    """Not mounted and not allowed to lease: the key store stays as it was."""
    volume.unlock().ok()
    volume.lock().ok()
    before = (volume.path / "latchfs.ini").read_bytes()
    refused = admin(volume, "rotate", "directory", volume.path)
    assert refused.returncode == harness.NOKEY
    assert (volume.path / "latchfs.ini").read_bytes() == before
