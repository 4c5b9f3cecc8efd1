"""latch view: its keys, its users, its command."""

import errno
import os
import time

import pytest

import harness
from clibox import refused
from syscalls import errno_of, in_child, opened, pattern, read_file, write_file
from viewbox import View, backing_length, fill, foreground, names, new_pass, refused_here, tree

pytest_plugins = ["viewbox"]


def test_lock_and_unlock(filled):
    with filled.mounted() as m:
        before = tree(m, inodes=True)
        path = filled.stored(m, "size4097")
        with opened(path, os.O_RDONLY) as fd:
            filled.latch("lock", "--force", filled.plain).ok()
            assert errno_of(os.pread, fd, 100, 0) == errno.ENOKEY
            time.sleep(1.1)
            for call in (lambda: read_file(path), lambda: os.listdir(m), lambda: os.stat(m / "latchfs.dir")):
                assert errno_of(call) == errno.ENOKEY
            filled.latch("unlock", "--passphrase-file", filled.passfile, filled.plain).ok()
            harness.wait_until(lambda: errno_of(os.listdir, m) == 0, what="the view to get its keys")
            assert len(os.pread(fd, 100, 0)) == 100
        assert tree(m, inodes=True) == before


def keys_of(view, m, monkeypatch):
    """Every kind of key that a view has, by name."""
    import latchread

    class WithNameKey(latchread.Protected):
        def __init__(self, pd, keys, name_key, least, name):
            super().__init__(pd, keys, name_key, least, name)
            self.name_key = name_key

    monkeypatch.setattr(latchread, "Protected", WithNameKey)
    keys = view.keys(m)
    root = keys.directories[keys.root]
    found = {"name": root.name_key, "directory": root.keys[max(root.keys)], "siv": root.siv, "record": root.record,
             "link": root.symlink, "xattr": root.xattr, "journal": keys.journal}
    found.update({f"V{n}": latchread.subkey(root.name_key, b"latchfsV", n) for n in (1, 2, 3)})
    fd = os.open(view.stored(m, "size4097"), os.O_RDONLY)
    root = latchread.Directory(os.fsencode(m), keys, None)
    f = latchread.File(fd, keys, root.protected, root.id)
    os.close(fd)
    found["file"] = f.file_keys[1]
    found.update({f"file {n}": latchread.subkey(f.file_keys[1], b"latchfsF", n) for n in (1, 2, 3)})
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of the daemon")
def test_no_key_stays_in_memory(filled, monkeypatch):
    """After a lock none of the keys is anywhere in the daemon's memory; before, those that it keeps are."""
    from test_core import Memory, halves

    with filled.mounted("other"), foreground(filled, "small") as (m, p):
        keys = keys_of(filled, m, monkeypatch)
        tree(m)
        with opened(filled.stored(m, "size4097"), os.O_RDONLY) as fd:
            os.pread(fd, 100, 5000)
            os.listxattr(fd)
        memory = Memory(p.pid)
        assert {name for name, key in keys.items() if memory.has(key[:16])} >= {"directory", "siv", "V1", "V2", "V3", "xattr"}
        filled.latch("lock", "--force", filled.plain).ok()
        memory = Memory(p.pid)
        assert not {name: memory.where(half) for name, key in keys.items() for half in halves(key) if memory.has(half)}
        filled.latch("unlock", "--passphrase-file", filled.passfile, filled.plain).ok()


def test_keyd_gone_and_back(filled, keyd):
    """latch-keyd's end alone changes nothing; a new one that the volume is unlocked at can lock it."""
    with filled.mounted() as m:
        before = tree(m)
        keyd.kill()
        assert tree(m) == before
        keyd.start()
        filled.latch("unlock", "--passphrase-file", filled.passfile, filled.plain).ok()

        def locks():
            filled.latch("lock", "--force", filled.plain)
            return errno_of(os.listdir, m) == errno.ENOKEY

        harness.wait_until(locks, what="the view to hear of the lock")


def test_slots_of_the_key_store(view):
    """The commands for slots and master keys take the plain directory; ciphertext stays what it is."""
    write_file(view.plain / "f", pattern(1, 9000))
    with view.mounted() as m:
        before = tree(m, inodes=True, skip=(b"latchfs.ini",))
        view.latch("slot", "add", "--passphrase-file", view.passfile, "--new-passphrase-file", new_pass(view), "--fast-kdf",
                   view.plain).ok()
        view.latch("rotate", "master", "--passphrase-file", view.passfile, view.plain).ok()
        assert (view.plain / ".latchfs-view.ini.bak").exists() and not (view.plain / "latchfs.ini").exists()
        assert tree(m, inodes=True, skip=(b"latchfs.ini",)) == before
        assert read_file(m / "latchfs.ini") == read_file(view.config)
        assert names(view, m) == {"f"}
    view.latch("lock", view.plain).ok()
    with view.mounted() as m:
        assert tree(m, inodes=True, skip=(b"latchfs.ini",)) == before
    for what in ("directory", "data", "all"):
        refused(view.latch("rotate", what, "--passphrase-file", view.passfile, view.plain), harness.USAGE, "latch view --init")
    with view.mounted() as m:
        assert tree(m, inodes=True, skip=(b"latchfs.ini",)) == before


# ---- users ----


def test_ordinary_user(bins, workdir, user):
    with harness.Keyd(bins, workdir / "keyd-user", user=user) as keyd:
        home = workdir / "home"
        home.mkdir()
        os.chown(home, user.pw_uid, user.pw_gid)
        view = View(keyd, home, user=user).init()
        in_child(lambda: fill(view.plain), uid=user.pw_uid, gid=user.pw_gid)
        write_file(view.plain / "not mine", b"secret")
        os.chmod(view.plain / "not mine", 0o600)
        os.mkdir(view.plain / "closed", 0o700)
        in_child(lambda: os.mkdir(view.plain / "shut", 0o000), uid=user.pw_uid, gid=user.pw_gid)

        def check(m):
            stored = view.stored(m, "not mine")
            assert os.stat(stored).st_size == backing_length(6)
            assert errno_of(read_file, stored) == errno.EACCES
            assert errno_of(os.listdir, view.stored(m, "closed")) == errno.EACCES
            assert errno_of(os.listdir, view.stored(m, "shut")) == errno.EACCES
            assert view.decrypt(m, read_file(view.stored(m, "size4097")), view.dir / "scratch") == pattern(4097, 4097)
            return len(os.listdir(m))

        with view.mounted() as m:
            assert in_child(lambda: check(m), uid=user.pw_uid, gid=user.pw_gid) > 25
            assert errno_of(os.listdir, m) == errno.EACCES  # not even root


# ---- the command ----


def test_refusals(view, workdir):
    other = workdir / "other"
    other.mkdir()
    mnt = view.make(workdir / "mnt")
    wrong = workdir / "wrong"
    wrong.write_text("wrong\n")
    refused(view.latch("view", "--passphrase-file", wrong, view.plain, mnt), harness.WRONG_PASSPHRASE)
    view_of = lambda *args: view.latch("view", "--passphrase-file", view.passfile, *args)  # noqa: E731
    refused(view_of(other, mnt), harness.NOTVOLUME, "latch view --init")
    refused(view_of(view.plain, workdir / "none"), harness.IO, "make the directory")
    refused_here(view_of(view.plain, view.plain), harness.BUSY, "not empty")
    refused(view_of(view.plain), harness.USAGE, "usage")
    refused(view_of("--no-such", view.plain, mnt), harness.USAGE, "--no-such")
    refused_here(view_of("-o", "no_such", view.plain, mnt), harness.USAGE, "no_such")
    refused(view.latch("view", "--init", "--fast-kdf", "--passphrase-file", view.passfile, "--no-recovery", view.plain),
            harness.USAGE, "is there already")
    refused(view.latch("view", "--init", "--fast-kdf", "--passphrase-file", view.passfile, "--no-recovery", workdir / "none"),
            harness.IO, "none")
    view.config.write_bytes(view.config.read_bytes()[:-20])
    refused(view_of(view.plain, mnt), harness.CORRUPT, ".latchfs-view.ini")
    assert harness.mount_device(mnt) is None


def test_unmounting_ends_the_process(view):
    write_file(view.plain / "f", b"x")
    with view.mounted("first"), foreground(view, "second") as (m, p):
        assert len(os.listdir(m)) == 4
        view.latch("umount", m).ok()
        assert p.wait(30) == 0
        assert b"its view ends" in p.stderr.read()
