"""Many users on a mount of root's, and an ordinary user's own mount."""

import dataclasses
import errno
import os
import resource
import stat

import pytest

import harness
from fsbox import PLAIN, check_volume
from syscalls import errno_of, in_child, opened, read_file, write_file

pytest_plugins = ["fsbox"]

ALICE, BOB = 11111, 22222
TEAM, AGROUP, BGROUP = 33333, 11112, 22223


def as_alice(call, groups=(TEAM,), **more):
    return in_child(call, uid=ALICE, gid=AGROUP, groups=groups, **more)


def as_bob(call, groups=(), **more):
    return in_child(call, uid=BOB, gid=BGROUP, groups=groups, **more)


@pytest.fixture
def shared(fs):
    """A directory that everybody may write."""
    fs.dir.chmod(0o777)
    return fs


def owner(path):
    st = os.lstat(path)
    return st.st_uid, st.st_gid


# ---- one mount, many users ----


def test_files_belong_to_their_maker(shared):
    def make():
        write_file(shared / "f", b"mine")
        os.mkdir(shared / "d")
        os.symlink("f", shared / "l")
        os.mkfifo(shared / "p")
        os.mknod(shared / "n")
        write_file(shared / ("long" * 60), b"")
        os.symlink("t" * 4000, shared / "longlink")

    as_alice(make)
    for fresh in (False, True):
        if fresh:
            shared.remount()
        for name in os.listdir(shared.dir):
            assert owner(shared / name) == (ALICE, AGROUP), name


def test_backing_files_belong_to_the_same(shared):
    """Owners and modes are plaintext: the volume's files have them too."""
    if shared.box.plain:
        pytest.skip("a plain directory has no backing files")
    carol = 44444
    in_child(lambda: write_file(shared / "f", b"mine"), uid=carol, gid=carol)
    os.chmod(shared / "f", 0o640)
    shared.remount()
    found = [p for p in shared.box.backing.rglob("*") if os.lstat(p).st_uid == carol]
    assert [stat.S_IMODE(os.lstat(p).st_mode) for p in found] == [0o640]


def test_modes_refuse_others(shared):
    as_alice(lambda: write_file(shared / "private", b"x"))
    as_alice(lambda: os.mkdir(shared / "closed", 0o700))
    as_alice(lambda: write_file(shared / "closed/f", b"x"))
    os.chmod(shared / "private", 0o600)
    refused = {
        "read": lambda: os.open(shared / "private", os.O_RDONLY),
        "write": lambda: os.open(shared / "private", os.O_WRONLY),
        "truncate": lambda: os.truncate(shared / "private", 0),
        "chmod": lambda: os.chmod(shared / "private", 0o666),
        "chown": lambda: os.chown(shared / "private", BOB, -1),
        "utime": lambda: os.utime(shared / "private", ns=(1, 1)),
        "list": lambda: os.listdir(shared / "closed"),
        "enter": lambda: os.stat(shared / "closed/f"),
        "create": lambda: write_file(shared / "closed/g", b""),
        "unlink": lambda: os.unlink(shared / "closed/f"),
        "rename": lambda: os.rename(shared / "closed/f", shared / "stolen"),
        "setxattr": lambda: os.setxattr(shared / "private", "user.x", b""),
        "getxattr": lambda: os.getxattr(shared / "private", "user.x"),
        "mknod": lambda: os.mknod(shared / "dev", stat.S_IFCHR | 0o666, os.makedev(1, 1)),
    }
    for fresh in (False, True):
        if fresh:
            shared.remount()
        for what, call in refused.items():
            assert as_bob(lambda c=call: errno_of(c)) in (errno.EACCES, errno.EPERM), what
    assert as_alice(lambda: read_file(shared / "private")) == b"x"
    assert sorted(os.listdir(shared.dir)) == ["closed", "private"]


def test_what_one_user_cached_another_may_not_read(shared):
    """Pages and entries in the kernel's cache are still under the mode."""
    as_alice(lambda: write_file(shared / "f", b"secret"))
    os.chmod(shared / "f", 0o600)
    assert as_alice(lambda: read_file(shared / "f")) == b"secret"
    assert as_bob(lambda: errno_of(read_file, shared / "f")) == errno.EACCES
    os.chmod(shared / "f", 0o644)
    assert as_bob(lambda: read_file(shared / "f")) == b"secret"
    os.chmod(shared.dir, 0o700)
    assert as_bob(lambda: errno_of(read_file, shared / "f")) == errno.EACCES


def test_sticky_directory(shared):
    shared.dir.chmod(0o1777)
    as_alice(lambda: write_file(shared / "f", b""))
    assert as_bob(lambda: errno_of(os.unlink, shared / "f")) in (errno.EPERM, errno.EACCES)
    assert as_bob(lambda: errno_of(os.rename, shared / "f", shared / "g")) in (errno.EPERM, errno.EACCES)
    as_alice(lambda: os.unlink(shared / "f"))


def test_supplementary_groups(shared):
    os.mkdir(shared / "team")
    os.chown(shared / "team", 0, TEAM)
    os.chmod(shared / "team", 0o770)
    as_alice(lambda: write_file(shared / "team/f", b"of the team"))
    assert owner(shared / "team/f") == (ALICE, AGROUP)
    assert as_bob(lambda: errno_of(os.listdir, shared / "team")) == errno.EACCES
    assert as_bob(lambda: os.listdir(shared / "team"), groups=[5, TEAM, 7]) == ["f"]
    os.chown(shared / "team/f", -1, TEAM)
    os.chmod(shared / "team/f", 0o660)
    as_bob(lambda: write_file(shared / "team/f", b"bob's now"), groups=[TEAM])
    os.chmod(shared / "team", 0o771)
    assert as_bob(lambda: errno_of(read_file, shared / "team/f")) == errno.EACCES


def test_setgid_directory_for_members(shared):
    os.mkdir(shared / "team")
    os.chown(shared / "team", 0, TEAM)
    os.chmod(shared / "team", 0o2775)

    def make():
        write_file(shared / "team/f", b"")
        os.mkdir(shared / "team/d")
        os.chmod(shared / "team/f", 0o2755)

    as_alice(make)
    for name in ("f", "d"):
        assert owner(shared / "team" / name) == (ALICE, TEAM)
        assert os.stat(shared / "team" / name).st_mode & stat.S_ISGID


def test_setgid_is_dropped_outside_the_group(shared):
    """chmod g+s by an owner outside the file's group, and a file made so in a setgid directory."""
    os.mkdir(shared / "team")
    os.chown(shared / "team", 0, TEAM)
    os.chmod(shared / "team", 0o2777)

    def make():
        with opened(shared / "team/f", os.O_CREAT | os.O_RDWR, 0o2775):
            pass
        write_file(shared / "team/g", b"")
        os.chmod(shared / "team/g", 0o2775)

    as_bob(make)
    for name in ("f", "g"):
        assert owner(shared / "team" / name) == (BOB, TEAM)
        assert not os.stat(shared / "team" / name).st_mode & stat.S_ISGID, name


def test_chgrp(shared):
    as_alice(lambda: write_file(shared / "f", b""))
    as_alice(lambda: os.chown(shared / "f", -1, TEAM))
    assert owner(shared / "f") == (ALICE, TEAM)
    assert as_alice(lambda: errno_of(os.chown, shared / "f", -1, BGROUP)) == errno.EPERM
    assert as_alice(lambda: errno_of(os.chown, shared / "f", BOB, -1)) == errno.EPERM
    assert as_bob(lambda: errno_of(os.chown, shared / "f", -1, BGROUP)) == errno.EPERM


def odd_modes(directory):
    """What the owner of a file may do with it after its mode forbids it: everything through the handle."""
    for mode in (0o400, 0o200, 0):
        path = directory / f"m{mode:o}"
        with opened(path, os.O_CREAT | os.O_RDWR, mode) as fd:
            os.write(fd, b"created so ")
            os.fsync(fd)
            assert os.pread(fd, 20, 0) == b"created so "
        path = directory / f"c{mode:o}"
        with opened(path, os.O_CREAT | os.O_RDWR) as fd:
            os.fchmod(fd, mode)
            os.write(fd, b"x" * 10000)
            os.fsync(fd)
            os.ftruncate(fd, 9000)
            assert os.pread(fd, 10, 8990) == b"x" * 10
            os.utime(fd, ns=(1, 2))
            os.setxattr(path, "user.a", b"b") if mode & 0o200 else None
        os.chmod(path, mode)
        os.rename(path, directory / f"r{mode:o}")
        os.link(directory / f"r{mode:o}", directory / f"h{mode:o}")


def check_odd_modes(directory):
    for mode in (0o400, 0o200, 0):
        for name, content in ((f"m{mode:o}", b"created so "), (f"r{mode:o}", b"x" * 9000)):
            assert stat.S_IMODE(os.stat(directory / name).st_mode) == mode
            err = errno_of(os.open, directory / name, os.O_RDONLY)
            assert err == (0 if mode & 0o400 else errno.EACCES)
            err = errno_of(os.open, directory / name, os.O_WRONLY)
            assert err == (0 if mode & 0o200 else errno.EACCES)
            os.chmod(directory / name, 0o600)
            assert read_file(directory / name) == content
            os.chmod(directory / name, mode)


def test_odd_modes(shared):
    as_alice(lambda: odd_modes(shared.dir))
    as_alice(lambda: check_odd_modes(shared.dir))
    shared.remount()
    as_alice(lambda: check_odd_modes(shared.dir))


@pytest.mark.skipif(PLAIN, reason="about mounts")
def test_no_allow_other(keyd, volume):
    with volume.mount(options="no_allow_other") as m:
        write_file(m / "f", b"root's")
        assert as_bob(lambda: errno_of(os.stat, m.path)) == errno.EACCES


# ---- an ordinary user's own mount ----


@pytest.fixture
def own(request, bins, workdir, user):
    """A keyd, a volume and a mount of an ordinary user's."""
    home = workdir / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    with harness.Keyd(bins, home / "keyd", user=user) as keyd:
        volume = harness.Volume(keyd, home / "vol", user=user).create()
        with volume.mount() as mounted:
            yield mounted
        check_volume(volume)


def as_owner(mounted, call, **more):
    user = mounted.user
    return in_child(call, uid=user.pw_uid, gid=user.pw_gid, **more)


def remount(mounted):
    mounted.umount().ok()
    mounted.mount().ok()


@pytest.mark.skipif(PLAIN, reason="about mounts")
def test_own_mount_is_private(own):
    as_owner(own, lambda: write_file(own / "f", b"mine"))
    assert as_owner(own, lambda: os.stat(own / "f").st_uid) == own.user.pw_uid
    assert as_bob(lambda: errno_of(os.stat, own.path)) == errno.EACCES
    assert errno_of(os.stat, own / "f") == errno.EACCES  # root too: no allow_other
    assert as_owner(own, lambda: read_file(own / "f")) == b"mine"


@pytest.mark.skipif(PLAIN, reason="about mounts")
def test_own_mount_odd_modes(own):
    """The daemon has no more rights than the owner, and must open for itself what the owner no longer may."""
    def make():
        os.mkdir(own / "d")
        odd_modes(own / "d")
        check_odd_modes(own / "d")

    as_owner(own, make)
    remount(own)
    as_owner(own, lambda: check_odd_modes(own / "d"))


@pytest.mark.skipif(PLAIN, reason="about mounts")
def test_own_mount_closed_directories(own):
    """A directory without x or w for its owner, with files open in it."""
    def act():
        os.mkdir(own / "d")
        write_file(own / "d/f", b"1")
        with opened(own / "d/f", os.O_RDWR) as fd:
            os.chmod(own / "d", 0)
            os.write(fd, b"2")
            os.fsync(fd)
            assert errno_of(os.listdir, own / "d") == errno.EACCES
            assert errno_of(os.stat, own / "d/f") == errno.EACCES
        os.chmod(own / "d", 0o500)
        assert read_file(own / "d/f") == b"2"
        assert errno_of(write_file, own / "d/g", b"") == errno.EACCES
        os.chmod(own / "d", 0o700)
        write_file(own / "d/g", b"3")

    as_owner(own, act)
    remount(own)
    assert as_owner(own, lambda: sorted(os.listdir(own / "d"))) == ["f", "g"]


@pytest.mark.skipif(PLAIN, reason="about mounts")
def test_own_mount_refuses_chown(own):
    as_owner(own, lambda: write_file(own / "f", b""))
    assert as_owner(own, lambda: errno_of(os.chown, own / "f", BOB, -1)) == errno.EPERM
    assert as_owner(own, lambda: errno_of(os.mknod, own / "d", stat.S_IFCHR | 0o600, os.makedev(1, 3))) == errno.EPERM


# ---- few descriptors ----


MANY_DIRS, MANY_FILES = 60, 60


def plant(top):
    for d in range(MANY_DIRS):
        os.mkdir(top / f"d{d}")
        for f in range(MANY_FILES):
            write_file(top / f"d{d}" / f"f{f}", b"%d-%d" % (d, f))


def open_all(top, count):
    """Opens count files at once, writes into each, unlinks some, and reads all back through the handles."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 200, count + 200))
    names = [(d, f) for d in range(MANY_DIRS) for f in range(MANY_FILES)][:count]
    fds = [os.open(top / f"d{d}" / f"f{f}", os.O_RDWR) for d, f in names]
    for fd, (d, f) in zip(fds, names):
        os.pwrite(fd, b"!", 0)
        if f % 3 == 0:
            os.unlink(top / f"d{d}" / f"f{f}")
    for fd, (d, f) in zip(fds, names):
        assert os.pread(fd, 20, 0) == b"!" + (b"%d-%d" % (d, f))[1:]
        os.close(fd)


def check_planted(top, count):
    names = [(d, f) for d in range(MANY_DIRS) for f in range(MANY_FILES)]
    for i, (d, f) in enumerate(names):
        path = top / f"d{d}" / f"f{f}"
        if i < count and f % 3 == 0:
            assert not path.exists()
        else:
            content = b"%d-%d" % (d, f)
            assert read_file(path) == (b"!" + content[1:] if i < count else content)


def frugal(bins, directory):
    """latch, and all that it starts, under ulimit -n 1024."""
    wrapper = directory / "latch-1024"
    wrapper.write_text(f'#!/bin/sh\nulimit -n 1024\nexec {bins.latch} "$@"\n')
    wrapper.chmod(0o755)
    return dataclasses.replace(bins, latch=str(wrapper))


def few_descriptors(m, run):
    count = 2500
    run(lambda: plant(m.path))
    limits = harness.Path(f"/proc/{m.pid}/limits").read_text()
    assert " 1024 " in next(line for line in limits.splitlines() if line.startswith("Max open files"))
    run(lambda: open_all(m.path, count))
    run(lambda: check_planted(m.path, count))
    remount(m)
    run(lambda: check_planted(m.path, count))


@pytest.mark.heavy
@pytest.mark.skipif(PLAIN, reason="about mounts")
@pytest.mark.parametrize("options", [None, "writethrough"])
def test_few_descriptors_as_root(bins, workdir, options):
    """Programs have thousands of files open, the daemon may have 1024."""
    with harness.Keyd(frugal(bins, workdir), workdir / "keyd") as keyd:
        volume = harness.Volume(keyd, workdir / "vol").create()
        with volume.mount(options=options) as m:
            few_descriptors(m, lambda call: in_child(call, timeout=300))
        check_volume(volume)


@pytest.mark.heavy
@pytest.mark.skipif(PLAIN, reason="about mounts")
def test_few_descriptors_as_user(bins, workdir, user):
    home = workdir / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    with harness.Keyd(frugal(bins, workdir), home / "keyd", user=user) as keyd:
        volume = harness.Volume(keyd, home / "vol", user=user).create()
        with volume.mount() as m:
            few_descriptors(m, lambda call: in_child(call, uid=user.pw_uid, gid=user.pw_gid, timeout=300))
        check_volume(volume)
