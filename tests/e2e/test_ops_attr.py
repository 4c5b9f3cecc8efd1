"""Attributes: modes, owners, times, extended attributes, ACLs, and locks."""

import errno
import fcntl
import os
import stat
import struct
import subprocess

import pytest

from syscalls import (F_OFD_GETLK, errno_of, fallocate, in_child, ofd_lock, opened, pattern, read_file, write_file)

pytest_plugins = ["fsbox"]

UID, GID, OTHER_GID = 12345, 23456, 34567


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


# ---- modes, owners, times ----


def test_chmod(fs):
    write_file(fs / "f", b"x")
    os.mkdir(fs / "d")
    for mode in (0o777, 0o644, 0o400, 0o200, 0, 0o4755, 0o2755, 0o1777, 0o7777):
        for name in ("f", "d"):
            os.chmod(fs / name, mode)
            assert mode_of(fs / name) == mode
    fs.remount()
    assert mode_of(fs / "f") == mode_of(fs / "d") == 0o7777


def test_fchmod_keeps_the_handle(fs):
    with opened(fs / "f", os.O_RDWR | os.O_CREAT) as fd:
        os.fchmod(fd, 0)
        os.write(fd, b"still mine")
        os.fsync(fd)
        assert os.pread(fd, 100, 0) == b"still mine"
    fs.remount()
    assert read_file(fs / "f") == b"still mine"
    assert mode_of(fs / "f") == 0


def test_umask(fs):
    def make():
        write_file(fs / "f", b"")
        with opened(fs / "g", os.O_CREAT | os.O_RDWR, 0o777):
            pass
        os.mkdir(fs / "d", 0o777)
        os.mkfifo(fs / "p", 0o666)
        os.mknod(fs / "n", 0o666)

    in_child(make, umask=0o027)
    assert [mode_of(fs / n) for n in "fgdpn"] == [0o640, 0o750, 0o750, 0o640, 0o640]
    with opened(fs / "ro", os.O_CREAT | os.O_RDWR, 0o400) as fd:
        os.write(fd, b"the creator may write")
    assert mode_of(fs / "ro") == 0o400


def test_chown(fs):
    write_file(fs / "f", b"x")
    os.mkdir(fs / "d")
    os.symlink("f", fs / "l")
    for name in ("f", "d", "l"):
        os.chown(fs / name, UID, GID, follow_symlinks=False)
        os.chown(fs / name, -1, OTHER_GID, follow_symlinks=False)
    fs.remount()
    for name in ("f", "d", "l"):
        st = os.lstat(fs / name)
        assert (st.st_uid, st.st_gid) == (UID, OTHER_GID)


def test_setgid_directory(fs):
    os.mkdir(fs / "d")
    os.chown(fs / "d", UID, GID)
    os.chmod(fs / "d", 0o2775)

    def make():
        write_file(fs / "d/f", b"")
        os.mkdir(fs / "d/sub")
        os.mkfifo(fs / "d/p")
        os.symlink("x", fs / "d/l")

    make()
    for name in ("f", "sub", "p", "l"):
        assert os.lstat(fs / "d" / name).st_gid == GID
    assert mode_of(fs / "d/sub") & stat.S_ISGID
    write_file(fs / "d/sub/deeper", b"")
    assert os.stat(fs / "d/sub/deeper").st_gid == GID


def test_utimens(fs):
    write_file(fs / "f", b"x")
    os.mkdir(fs / "d")
    times = [(1, 999_999_999), (1_000_000_001, 123_456_789), (-5_000_000_000, 7_000_000_123),
             (2**33 * 10**9 + 1, 2**32 * 10**9 + 999_999_999)]
    for atime, mtime in times:
        for name in ("f", "d"):
            os.utime(fs / name, ns=(atime, mtime))
            st = os.stat(fs / name)
            assert (st.st_atime_ns, st.st_mtime_ns) == (atime, mtime)
    fs.remount()
    for name in ("f", "d"):
        st = os.stat(fs / name)
        assert (st.st_atime_ns, st.st_mtime_ns) == times[-1]


def test_times_after_cached_writes(fs):
    """What utimensat set after a write stays, also when the write reaches the disk later."""
    with opened(fs / "f", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, pattern(1, 200000))
        os.utime(fd, ns=(1_000, 2_000))
        os.fsync(fd)
        assert os.fstat(fd).st_mtime_ns == 2_000
    assert os.stat(fs / "f").st_mtime_ns == 2_000
    fs.remount()
    assert (os.stat(fs / "f").st_mtime_ns, os.stat(fs / "f").st_size) == (2_000, 200000)


def test_changes_move_mtime_and_ctime(fs):
    old = 1_000_000_000_000_000_000
    write_file(fs / "f", b"x" * 10)
    os.mkdir(fs / "d")

    def moves(path, change, mtime=True):
        os.utime(path, ns=(old, old))
        before = os.stat(path).st_ctime_ns
        change()
        fresh = os.stat(path)
        assert (fresh.st_mtime_ns != old) == mtime
        assert fresh.st_ctime_ns >= before

    moves(fs / "f", lambda: write_file(fs / "f", b"y"))
    moves(fs / "f", lambda: os.truncate(fs / "f", 5))
    moves(fs / "f", lambda: os.chmod(fs / "f", 0o600), mtime=False)
    moves(fs / "f", lambda: os.rename(fs / "f", fs / "f2") or os.rename(fs / "f2", fs / "f"), mtime=False)
    moves(fs / "d", lambda: write_file(fs / "d/new", b""))
    moves(fs / "d", lambda: os.unlink(fs / "d/new"))
    moves(fs / "d", lambda: os.mkdir(fs / "d/sub"))
    moves(fs / "d", lambda: os.rename(fs / "d/sub", fs / "sub"))


def test_mtime_of_a_write_survives_remount(fs):
    write_file(fs / "f", pattern(1, 50000))
    mtime = os.stat(fs / "f").st_mtime_ns
    fs.remount()
    assert os.stat(fs / "f").st_mtime_ns == mtime


def test_inode_numbers_are_stable(fs):
    write_file(fs / "f", b"x")
    os.mkdir(fs / "d")
    inos = [os.stat(fs / n).st_ino for n in ("f", "d")]
    assert len(set(inos)) == 2
    assert {e.name: e.inode() for e in os.scandir(fs.dir)} == dict(zip(("f", "d"), inos))
    os.rename(fs / "f", fs / "d/g")
    assert os.stat(fs / "d/g").st_ino == inos[0]
    fs.remount()
    assert [os.stat(fs / n).st_ino for n in ("d/g", "d")] == inos


# ---- set-user-id ----


SUID_BREAKERS = {
    "write": lambda fd, path: os.write(fd, b"changed"),
    "truncate": lambda fd, path: os.truncate(path, 1),
    "ftruncate": lambda fd, path: os.ftruncate(fd, 20000),
    "fallocate": lambda fd, path: fallocate(fd, 0, 0, 30000),
    "chown": lambda fd, path: os.chown(path, -1, GID),
}


@pytest.mark.parametrize("how", SUID_BREAKERS)
def test_set_id_bits_go(fs, how):
    write_file(fs / "f", b"program")
    os.chown(fs / "f", UID, GID)
    os.chmod(fs / "f", 0o6775)

    def act():
        with opened(fs / "f", os.O_RDWR) as fd:
            SUID_BREAKERS[how](fd, fs / "f")

    in_child(act, uid=UID, gid=GID)
    assert mode_of(fs / "f") == 0o775
    fs.remount()
    assert mode_of(fs / "f") == 0o775


def test_set_id_bits_stay_for_root(fs):
    write_file(fs / "f", b"program")
    os.chmod(fs / "f", 0o6755)
    write_file(fs / "f", b"changed")
    assert mode_of(fs / "f") == 0o6755


def test_capabilities_go_with_a_write(fs):
    write_file(fs / "f", b"program")
    os.chmod(fs / "f", 0o777)
    caps = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    os.setxattr(fs / "f", "security.capability", caps)
    assert os.getxattr(fs / "f", "security.capability") == caps
    in_child(lambda: write_file(fs / "f", b"changed"), uid=UID, gid=GID)
    assert errno_of(os.getxattr, fs / "f", "security.capability") == errno.ENODATA
    fs.remount()
    assert errno_of(os.getxattr, fs / "f", "security.capability") == errno.ENODATA


def test_capabilities_work(fs):
    """A program with CAP_SETUID in its file becomes root (nosuid is off for root's mounts)."""
    subprocess.run(["cp", "/bin/cat", fs / "cat"], check=True, timeout=30)
    os.chmod(fs / "cat", 0o755)
    os.chmod(fs.dir, 0o755)
    os.setxattr(fs / "cat", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 1, 0, 0, 0))
    write_file(fs / "secret", b"for root")
    os.chmod(fs / "secret", 0)
    fs.remount()

    def read():
        return subprocess.run([fs / "cat", fs / "secret"], stdout=subprocess.PIPE, check=False, timeout=30).stdout

    assert in_child(read, uid=UID, gid=GID) == b"for root"


# ---- extended attributes ----


VALUES = {"user.empty": b"", "user.one": b"\0", "user.text": b"value", "user.long": pattern(1, 1500),
          "user." + "n" * 100: b"long name", "trusted.t": b"trusted", "security.s": b"security",
          "user.latchfs.x": b"ours by name", "user.\xe9\xff": b"odd name"}


@pytest.mark.parametrize("kind", ["file", "directory", "empty file"])
def test_xattrs(fs, kind):
    path = fs / "x"
    if kind == "directory":
        os.mkdir(path)
    else:
        write_file(path, b"" if kind == "empty file" else b"data")
    for name, value in VALUES.items():
        os.setxattr(path, name, value, os.XATTR_CREATE)
    for fresh in (False, True):
        if fresh:
            fs.remount()
        assert sorted(n for n in os.listxattr(path) if n != "security.selinux") == sorted(VALUES)
        for name, value in VALUES.items():
            assert os.getxattr(path, name) == value
    os.setxattr(path, "user.text", b"other", os.XATTR_REPLACE)
    os.removexattr(path, "user.one")
    fs.remount()
    assert os.getxattr(path, "user.text") == b"other"
    assert "user.one" not in os.listxattr(path)


def test_xattr_errors(fs):
    write_file(fs / "f", b"")
    os.setxattr(fs / "f", "user.a", b"x")
    assert errno_of(os.setxattr, fs / "f", "user.a", b"y", os.XATTR_CREATE) == errno.EEXIST
    assert errno_of(os.setxattr, fs / "f", "user.b", b"y", os.XATTR_REPLACE) == errno.ENODATA
    assert errno_of(os.getxattr, fs / "f", "user.b") == errno.ENODATA
    assert errno_of(os.removexattr, fs / "f", "user.b") == errno.ENODATA
    assert errno_of(os.setxattr, fs / "f", "nonsense.b", b"y") == errno.EOPNOTSUPP
    assert errno_of(os.setxattr, fs / "f", "user.big", bytes(70000)) in (errno.E2BIG, errno.ENOSPC)
    assert errno_of(os.setxattr, fs / "f", "user." + "n" * 251, b"") in (errno.ERANGE, errno.ENAMETOOLONG)
    assert os.getxattr(fs / "f", "user.a") == b"x"
    os.symlink("f", fs / "l")
    assert errno_of(os.setxattr, fs / "l", "user.a", b"x", follow_symlinks=False) == errno.EPERM
    assert os.listxattr(fs / "l", follow_symlinks=False) == []
    assert os.listxattr(fs / "f") == ["user.a"]


def test_xattrs_go_along(fs):
    """Through rename, hard links, writes and truncation."""
    write_file(fs / "f", b"x")
    os.setxattr(fs / "f", "user.a", b"value")
    os.mkdir(fs / "d")
    os.rename(fs / "f", fs / "d/g")
    os.link(fs / "d/g", fs / "h")
    write_file(fs / "h", pattern(1, 50000))
    os.truncate(fs / "h", 0)
    fs.remount()
    assert os.getxattr(fs / "h", "user.a") == os.getxattr(fs / "d/g", "user.a") == b"value"


def test_trusted_is_for_root(fs):
    write_file(fs / "f", b"")
    os.chmod(fs / "f", 0o666)
    os.setxattr(fs / "f", "trusted.t", b"x")
    os.setxattr(fs / "f", "user.u", b"x")
    assert in_child(lambda: os.listxattr(fs / "f"), uid=UID, gid=GID) == ["user.u"]
    assert in_child(lambda: errno_of(os.getxattr, fs / "f", "trusted.t"), uid=UID, gid=GID) == errno.ENODATA


# ---- ACLs ----


def acl(*args):
    subprocess.run(["setfacl", *args], check=True, timeout=30)


def acl_of(path):
    p = subprocess.run(["getfacl", "-cpn", path], check=True, timeout=30, stdout=subprocess.PIPE, text=True)
    return sorted(p.stdout.split())


def test_acl_is_enforced(fs):
    os.chmod(fs.dir, 0o755)
    write_file(fs / "f", b"x")
    os.chmod(fs / "f", 0o600)
    may_read = lambda: errno_of(os.open, fs / "f", os.O_RDONLY)  # noqa: E731
    assert in_child(may_read, uid=UID, gid=GID) == errno.EACCES
    acl("-m", f"u:{UID}:r", fs / "f")
    for fresh in (False, True):
        if fresh:
            fs.remount()
        assert in_child(may_read, uid=UID, gid=GID) == 0
        assert in_child(may_read, uid=UID + 1, gid=GID) == errno.EACCES
        assert in_child(lambda: errno_of(os.open, fs / "f", os.O_RDWR), uid=UID, gid=GID) == errno.EACCES
        assert f"user:{UID}:r--" in acl_of(fs / "f")
    acl("-m", f"g:{GID}:rw", fs / "f")
    assert in_child(may_read, uid=UID + 1, gid=GID + 1, groups=[GID]) == 0
    os.chmod(fs / "f", 0o600)  # takes the mask away
    assert in_child(may_read, uid=UID, gid=GID) == errno.EACCES
    acl("-b", fs / "f")
    assert acl_of(fs / "f") == ["group::---", "other::---", "user::rw-"]


def test_default_acl_is_inherited(fs):
    os.mkdir(fs / "d")
    acl("-d", "-m", f"u:{UID}:rwx,g::rx,o::-", fs / "d")

    def make():
        write_file(fs / "d/f", b"")
        os.mkdir(fs / "d/sub")
        write_file(fs / "d/sub/f", b"")
        os.mkfifo(fs / "d/p", 0o666)
        os.symlink("x", fs / "d/l")

    in_child(make, umask=0o077)  # a default ACL stands in for the umask
    for fresh in (False, True):
        if fresh:
            fs.remount()
        for name in ("d/f", "d/sub/f"):
            got = acl_of(fs / name)
            assert any(e.startswith(f"user:{UID}:rwx") for e in got), got
            # write_file asks for 0644: the group bits become the mask.
            assert mode_of(fs / name) == 0o640
        assert mode_of(fs / "d/p") == 0o660
        assert f"default:user:{UID}:rwx" in acl_of(fs / "d/sub")
        assert mode_of(fs / "d/sub") == 0o770


def test_acl_mode_and_mask(fs):
    write_file(fs / "f", b"")
    os.chmod(fs / "f", 0o640)
    acl("-m", f"u:{UID}:rwx", fs / "f")
    assert mode_of(fs / "f") == 0o670
    os.chmod(fs / "f", 0o604)
    assert "mask::---" in acl_of(fs / "f")
    fs.remount()
    assert mode_of(fs / "f") == 0o604
    assert "mask::---" in acl_of(fs / "f")


# ---- locks ----


def test_flock(fs):
    write_file(fs / "f", b"")
    with opened(fs / "f", os.O_RDWR) as one, opened(fs / "f", os.O_RDWR) as two:
        fcntl.flock(one, fcntl.LOCK_SH)
        fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert errno_of(fcntl.flock, one, fcntl.LOCK_EX | fcntl.LOCK_NB) == errno.EWOULDBLOCK
        fcntl.flock(two, fcntl.LOCK_UN)
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert errno_of(fcntl.flock, two, fcntl.LOCK_SH | fcntl.LOCK_NB) == errno.EWOULDBLOCK


def test_posix_locks(fs):
    write_file(fs / "f", b"x" * 100)

    def try_lock(start, length):
        with opened(fs / "f", os.O_RDWR) as fd:
            return errno_of(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)

    with opened(fs / "f", os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
        assert in_child(lambda: try_lock(0, 20)) == 0
        assert in_child(lambda: try_lock(29, 1)) in (errno.EAGAIN, errno.EACCES)
        assert in_child(lambda: try_lock(30, 5)) == 0
        fcntl.lockf(fd, fcntl.LOCK_UN, 10, 20)
        assert in_child(lambda: try_lock(0, 100)) == 0


def test_ofd_locks(fs):
    write_file(fs / "f", b"")
    with opened(fs / "f", os.O_RDWR) as one, opened(fs / "f", os.O_RDWR) as two:
        ofd_lock(one, fcntl.F_WRLCK, 0, 10)
        assert errno_of(ofd_lock, two, fcntl.F_WRLCK, 5, 10) in (errno.EAGAIN, errno.EACCES)
        assert ofd_lock(two, fcntl.F_WRLCK, 5, 10, F_OFD_GETLK) == fcntl.F_WRLCK
        ofd_lock(two, fcntl.F_WRLCK, 10, 10)
        ofd_lock(one, fcntl.F_UNLCK, 0, 10)
        ofd_lock(two, fcntl.F_WRLCK, 0, 10)


def test_lease_and_notify_do_not_break(fs):
    """inotify sees local changes; a lease is granted or refused, nothing worse."""
    write_file(fs / "f", b"x")
    with opened(fs / "f", os.O_RDONLY) as fd:
        assert errno_of(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_RDLCK) in (0, errno.EINVAL, errno.EAGAIN)
        assert errno_of(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_UNLCK) in (0, errno.EINVAL, errno.EAGAIN)
