"""latch header: copies of the key store, and what putting one back says, refuses and keeps."""

import fcntl
import os
import stat

import pytest

import harness
from clibox import flip, refused, tree
from harness import BUSY, CORRUPT, IO, NOTVOLUME, OK, USAGE, WRONG_PASSPHRASE


def ini_of(volume):
    return volume.path / "latchfs.ini"


def backup(latch, volume, path, *more):
    return latch("header", "backup", *more, volume.path, path)


def restore(latch, volume, path, *more):
    return latch("header", "restore", *more, volume.path, path)


@pytest.fixture
def copy(latch, volume, workdir):
    """A backup of the fresh volume's key store."""
    path = workdir / "copy"
    backup(latch, volume, path).ok()
    return path


def admin(volume, *words, **more):
    return volume.latch(*words, "--passphrase-file", volume.passfile, **more)


# ---- backup ----


def test_backup(latch, volume, workdir, copy):
    assert copy.read_bytes() == ini_of(volume).read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert "key store" in latch("inspect", copy).ok().out
    volume.keyd.stop()
    backup(latch, volume, workdir / "without a key").ok()


def test_backup_refusals(latch, volume, workdir, copy):
    before = tree(workdir)
    refused(backup(latch, volume, copy), USAGE, "exists")
    refused(backup(latch, volume, workdir / "no" / "copy"), IO)
    refused(latch("header", "backup", workdir, workdir / "new"), NOTVOLUME)
    refused(latch("header", "copy", volume.path, workdir / "new"), USAGE)
    refused(latch("header", "backup", volume.path), USAGE)
    os.symlink(volume.passfile, workdir / "link")
    refused(backup(latch, volume, workdir / "link"), USAGE, "exists")
    (workdir / "link").unlink()
    assert tree(workdir) == before
    os.symlink(volume.passfile, workdir / "link")
    backup(latch, volume, workdir / "link", "--force").ok()
    assert not (workdir / "link").is_symlink() and volume.passfile.read_text() == volume.passphrase + "\n"


def test_backup_of_a_damaged_store_is_refused(latch, volume, workdir):
    flip(ini_of(volume), ini_of(volume).read_text().index("sealed") + 20)
    refused(backup(latch, volume, workdir / "new"), CORRUPT)
    assert not (workdir / "new").exists()


# ---- restore ----


def test_restore_brings_back_slots(latch, volume, workdir, copy):
    admin(volume, "slot", "add", "--new-recovery-file", workdir / "r3", "--label", "later", volume.path).ok()
    latch("slot", "remove", "--recovery-file", workdir / "r3", volume.path, "1").ok()
    refused(volume.unlock(), WRONG_PASSPHRASE)
    ini_of(volume).chmod(0o640)
    os.chown(ini_of(volume), 65534, 65534)
    present = ini_of(volume).read_bytes()
    said = restore(latch, volume, copy).ok().out
    assert "brought back: slot 1, passphrase" in said and "lost: slot 3, recovery, label later" in said
    assert "slot 2" not in said and "--accept-older" in said
    assert ini_of(volume).read_bytes() == copy.read_bytes()
    assert (volume.path / "latchfs.ini.bak").read_bytes() == present
    st = ini_of(volume).stat()
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o640, 65534, 65534)
    refused(volume.unlock(), CORRUPT)
    admin(volume, "unlock", "--accept-older", volume.path).ok()
    volume.lock().ok()
    volume.unlock().ok()


def test_restore_of_the_same_says_nothing_more(latch, volume, copy):
    said = restore(latch, volume, copy).ok().out
    assert "lost" not in said and "brought" not in said and "accept-older" not in said
    volume.unlock().ok()


def test_restore_says_which_keys_come_and_go(latch, volume, workdir, copy):
    admin(volume, "rotate", "master", volume.path).ok()
    said = restore(latch, volume, copy).ok().out
    assert "lost: master key version 2" in said
    restore(latch, volume, volume.path / "latchfs.ini.bak").ok()
    volume.unlock().ok()
    with volume.mount() as m:
        (m / "file").write_text("x")
        admin(volume, "rotate", "directory", m.path).ok()
    volume.lock()
    before = tree(volume.path)
    result = restore(latch, volume, copy)
    assert result.returncode == USAGE and "--force" in result.err
    assert "lost: key version 2 of protected directory" in result.out and "(root)" in result.out
    assert tree(volume.path) == before
    with volume.mount() as m:
        assert (m / "file").read_text() == "x"
    volume.lock()
    restore(latch, volume, copy, "--force").ok()
    admin(volume, "unlock", "--accept-older", volume.path).ok()
    volume.lock().ok()


def test_restore_after_a_directory_was_protected(latch, volume, copy):
    with volume.mount() as m:
        (m / "secret").mkdir()
        admin(volume, "protect", m / "secret").ok()
    volume.lock()
    result = restore(latch, volume, copy)
    assert result.returncode == USAGE and "lost: key version 1 of protected directory" in result.out


def test_restore_into_a_volume_in_use(latch, volume, copy):
    before = ini_of(volume).read_bytes()
    with volume.mount():
        refused(restore(latch, volume, copy, "--force"), BUSY, "mounted")
    refused(restore(latch, volume, copy), BUSY, "unlocked", "latch lock")
    volume.lock().ok()
    assert ini_of(volume).read_bytes() == before and not (volume.path / "latchfs.ini.bak").exists()
    restore(latch, volume, copy).ok()


def test_restore_of_another_volumes(latch, volume, keyd, workdir, copy):
    other = harness.Volume(keyd, workdir / "other").create()
    before = tree(other.path)
    refused(restore(latch, other, copy), USAGE, "another volume")
    refused(restore(latch, other, copy, "--force"), USAGE, "another volume")
    ini_of(other).unlink()
    refused(restore(latch, other, copy, "--force"), USAGE, "another volume")
    ini_of(other).write_bytes(before[str(ini_of(other))][3])
    assert {k: v[3] for k, v in tree(other.path).items()} == {k: v[3] for k, v in before.items()}


@pytest.mark.parametrize("how", ["empty", "cut", "flipped", "text", "huge", "directory", "missing"])
def test_restore_of_what_is_no_whole_copy(latch, volume, copy, how):
    data = copy.read_bytes()
    if how == "flipped":
        flip(copy, data.index(b"store-key") + 20)
    elif how in ("missing", "directory"):
        copy.unlink()
    else:
        copy.write_bytes({"empty": b"", "cut": data[:-1], "text": b"hello\n", "huge": data + b"#" * (1 << 20)}[how])
    if how == "directory":
        copy.mkdir()
    before = tree(volume.path)
    result = restore(latch, volume, copy, "--force")
    refused(result, IO if how == "missing" else result.returncode)
    assert result.returncode in (CORRUPT, IO) and tree(volume.path) == before


@pytest.mark.parametrize("how", ["missing", "damaged", "damaged with a good .bak"])
def test_restore_where_the_key_store_is_lost(latch, volume, copy, how):
    with volume.mount() as m:
        (m / "file").write_text("x")
    volume.lock().ok()
    bak = volume.path / "latchfs.ini.bak"
    if how == "missing":
        ini_of(volume).unlink()
    else:
        ini_of(volume).write_text("damaged")
    if "good" in how:
        bak.write_bytes(copy.read_bytes())
    restore(latch, volume, copy).ok()
    assert ini_of(volume).read_bytes() == copy.read_bytes()
    assert bak.exists() == (how != "missing")
    assert how == "missing" or bak.read_bytes() == (copy.read_bytes() if "good" in how else b"damaged")
    with volume.mount() as m:
        assert (m / "file").read_text() == "x"


def test_restore_where_nothing_says_which_volume_it_is(latch, volume, workdir, copy):
    bare = workdir / "bare"
    bare.mkdir()
    refused(latch("header", "restore", bare, copy), USAGE, "--force")
    assert os.listdir(bare) == []
    latch("header", "restore", "--force", bare, copy).ok()
    assert os.listdir(bare) == ["latchfs.ini"]
    refused(latch("header", "restore", workdir / "nothing", copy), IO)


def test_a_restore_does_not_wait_for_others(latch, volume, copy):
    fd = os.open(volume.path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        refused(restore(latch, volume, copy), BUSY, "another command")
    finally:
        os.close(fd)
    assert restore(latch, volume, copy).returncode == OK


def test_a_destroyed_key_comes_back_and_is_said(latch, volume, copy):
    admin(volume, "rotate", "master", volume.path).ok()
    admin(volume, "key", "retire", "--master", volume.path, "1").ok()
    admin(volume, "key", "destroy", "--master", volume.path, "1").ok()
    assert "brought back: master key version 1" in restore(latch, volume, copy).ok().out
