"""-o shared: several mounts change one volume, and each sees after an open what others closed before."""

import contextlib
import errno
import fcntl
import os

import pytest

import harness
from fsbox import PLAIN
from syscalls import F_OFD_GETLK, errno_of, ofd_lock, opened, pattern, read_file, write_file
from test_seal import GROUP, backing_of, is_sealed, record_offset, write_at
from volumes import unlock

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")


@contextlib.contextmanager
def two_mounts(volume, options="shared"):
    with volume.mount(volume.path.with_name("a"), options) as a, volume.mount(volume.path.with_name("b"), options) as b:
        yield a, b


@pytest.fixture
def pair(volume):
    with two_mounts(volume) as both:
        yield both


def test_close_to_open(pair):
    a, b = pair
    for i in range(6):
        here, there = (a, b) if i % 2 else (b, a)
        for size in (5, 4096, 300_000):
            write_file(here / f"f{size}", pattern(i, size))
            assert read_file(there / f"f{size}") == pattern(i, size)
    assert sorted(os.listdir(a)) == sorted(os.listdir(b)) == ["f300000", "f4096", "f5"]


def test_kept_open(pair):
    """A descriptor that stays open here does not keep old content from those who open the file anew."""
    a, b = pair
    for size in (100, 3000, 40_000, 900_000):
        name = f"f{size}"
        write_file(a / name, pattern(0, size))
        with opened(a / name, os.O_RDWR) as one, opened(b / name, os.O_RDWR) as two:
            for i in range(1, 5):
                here, there, fd = (a, b, one) if i % 2 else (b, a, two)
                assert os.pread(fd, size, 0) == pattern(i - 1, size)
                write_file(here / name, pattern(i, size))
                assert read_file(there / name) == pattern(i, size)


def test_names(pair):
    """What one mount does to names and attributes the other sees at once: nothing of that is cached."""
    a, b = pair
    os.makedirs(a / "d/e")
    write_file(a / "d/x", b"one")
    assert read_file(b / "d/x") == b"one"
    os.rename(b / "d/x", b / "d/e/y")
    assert not os.path.exists(a / "d/x") and read_file(a / "d/e/y") == b"one"
    os.rename(a / "d", a / "top")
    assert os.listdir(b) == ["top"] and read_file(b / "top/e/y") == b"one"
    os.symlink("to", os.fsencode(a / "link"))
    assert os.readlink(os.fsencode(b / "link")) == b"to"
    os.unlink(b / "link")
    os.symlink("elsewhere", os.fsencode(b / "link"))
    assert os.readlink(os.fsencode(a / "link")) == b"elsewhere"
    os.link(a / "top/e/y", a / "hard")
    assert os.stat(b / "hard").st_nlink == 2
    os.setxattr(b / "hard", "user.k", b"v")
    assert os.getxattr(a / "hard", "user.k") == b"v"
    os.chmod(a / "hard", 0o640)
    os.truncate(a / "hard", 1)
    assert (os.stat(b / "hard").st_mode & 0o777, os.stat(b / "hard").st_size) == (0o640, 1)
    os.unlink(b / "hard")
    os.unlink(b / "top/e/y")
    os.rmdir(b / "top/e")
    assert os.listdir(a / "top") == []
    os.mkdir(a / "top/e")
    assert os.listdir(b / "top/e") == []


def test_moved_around(pair):
    """A directory that was the parent becomes the child."""
    a, b = pair
    os.makedirs(a / "p/q")
    write_file(a / "p/q/f", b"f")
    os.rename(b / "p/q", b / "q")
    os.rename(b / "p", b / "q/p")
    assert os.listdir(a / "q/p") == [] and read_file(a / "q/f") == b"f"
    write_file(a / "q/p/g", b"g")
    assert read_file(b / "q/p/g") == b"g"


def test_open_files_last(pair):
    """An open file is the same one whatever happens to its name."""
    a, b = pair
    write_file(a / "x", b"old" * 2000)
    write_file(a / "z", b"moved")
    with open(a / "x", "rb", buffering=0) as x, open(a / "z", "r+b", buffering=0) as z:
        os.unlink(b / "x")
        os.mkdir(b / "dir")
        os.rename(b / "z", b / "dir/z")
        for i in range(20):
            write_file(b / "x", b"new" * 2000)
            os.unlink(b / "x")
        write_file(b / "x", b"new" * 2000)
        assert x.read() == b"old" * 2000
        assert z.read() == b"moved"
        z.write(b" on")
        os.fsync(z.fileno())
        assert read_file(b / "dir/z") == b"moved on"
        assert os.fstat(x.fileno()).st_nlink == 0
        assert read_file(a / "x") == b"new" * 2000


def test_appends(pair):
    """O_APPEND finds the end that the other mount has made."""
    a, b = pair
    with open(a / "log", "ab", buffering=0) as one, open(b / "log", "ab", buffering=0) as two:
        for i in range(10):
            one.write(b"one %04d\n" % i)
            two.write(b"two %04d\n" % i)
    lines = read_file(a / "log").splitlines()
    assert lines == [b"%s %04d" % (who, i) for i in range(10) for who in (b"one", b"two")]
    assert read_file(b / "log").splitlines() == lines


def test_who_may_mount(volume):
    with volume.mount(volume.path.with_name("a"), "shared") as a:
        alone = volume.mount(volume.path.with_name("b"))
        assert alone.mount().returncode == harness.BUSY
        assert volume.mount(volume.path.with_name("b"), "ro").mount().returncode == harness.BUSY
        write_file(a / "f", b"f")
    with volume.mount(volume.path.with_name("a")) as a:
        assert volume.mount(volume.path.with_name("b"), "shared").mount().returncode == harness.BUSY
        assert read_file(a / "f") == b"f"
    for other in ("ro", "ignore-journal"):
        r = volume.mount(volume.path.with_name("b"), f"shared,{other}").mount()
        assert r.returncode == harness.USAGE and other in r.err


def test_what_needs_the_volume_alone_is_refused(pair):
    """Clearly, and nothing is left behind by it."""
    a, b = pair
    volume = a.volume
    os.mkdir(a / "d")
    secret = ["--passphrase-file", volume.passfile]
    for words in (["freeze", a], ["protect", *secret, a / "d"], ["rotate", "directory", *secret, a],
                  ["rotate", "data", *secret, a], ["scrub", a]):
        r = volume.latch(*(os.fspath(w) for w in words), timeout=60)
        assert r.returncode == harness.BUSY and "shared" in r.err, (words, r)
    write_file(b / "d/f", b"goes on")
    assert read_file(a / "d/f") == b"goes on"


def test_master_key_and_slots(pair):
    """What is in latchfs.ini alone may change beside shared mounts."""
    a, b = pair
    volume = a.volume
    volume.latch("rotate", "master", "--passphrase-file", volume.passfile, volume.path).ok()
    write_file(a / "f", b"after")
    assert read_file(b / "f") == b"after"


def test_lock(pair):
    """One latch-keyd, so both mounts are locked; what was written before is on the disk, and all goes on afterwards."""
    a, b = pair
    volume = a.volume
    write_file(a / "f", pattern(1, 50_000))
    with opened(a / "f", os.O_RDWR) as fd:
        volume.lock("--force").ok()
        for m in pair:
            assert errno_of(read_file, m / "f") == errno.ENOKEY
            assert errno_of(write_file, m / "g", b"g") == errno.ENOKEY
        assert errno_of(os.pread, fd, 10, 0) == errno.ENOKEY
        unlock(volume)
        os.pwrite(fd, b"more", 50_000)
    assert read_file(b / "f") == pattern(1, 50_000) + b"more"


def has_token(volume):
    """Some mount has its turn."""
    with opened(volume.path / "latchfs.journal", os.O_RDONLY) as fd:
        return ofd_lock(fd, fcntl.F_WRLCK, 0, 1, F_OFD_GETLK) != fcntl.F_UNLCK


def test_idle_mount_gives_its_turn_back(volume):
    with volume.mount(volume.path.with_name("a"), "shared") as a:
        write_file(a / "f", b"f")
        harness.wait_until(lambda: not has_token(volume), what="the turn to end")
        # Everything is in place: two pages of journal without a ring.
        assert os.stat(volume.path / "latchfs.journal").st_size == 8192
        before = inspect(a)
        assert read_file(a / "f") == b"f"
        harness.wait_until(lambda: not has_token(volume), what="the turn to end")
        # What was only read has left no trace.
        assert inspect(a) == before


def inspect(mount):
    return read_file(mount.volume.path / "latchfs.journal")


def test_the_rest_of_a_dead_mount_is_put_in_place(volume):
    """By the next mount, shared or not, also when nobody else was there."""
    for options in ("shared", None):
        with volume.mount(volume.path.with_name("a"), "shared") as a:
            with opened(a / "f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
                for i in range(50):
                    os.pwrite(fd, pattern(i, 5000), i * 7000)
                os.fsync(fd)
            a.crash()
        with volume.mount(volume.path.with_name("b"), options) as b:
            data = read_file(b / "f")
            assert all(data[i * 7000:i * 7000 + 5000] == pattern(i, 5000) for i in range(50))


def test_another_namespace(volume):
    """As from another machine: a process that sees none of the other's mounts."""
    with volume.mount(volume.path.with_name("a"), "shared") as a:
        write_file(a / "f", b"from a")
        os.mkdir(volume.path.with_name("b"))
        script = f"""
            {volume.bins.latch} mount --passphrase-file {volume.passfile} -o shared {volume.path} {volume.path.with_name("b")}
            cat {volume.path.with_name("b")}/f
            echo -n from b > {volume.path.with_name("b")}/g
            {volume.bins.latch} umount {volume.path.with_name("b")}
        """
        r = harness.run(["unshare", "-m", "sh", "-e", "-c", script], env=volume.keyd.env, timeout=60).ok()
        assert "from a" in r.out
        assert read_file(a / "g") == b"from b"


def test_seals(volume):
    """Whoever finds a file at rest seals it, whoever changes it opens the seal; one that was cut is refused by both."""
    size = 3 * GROUP
    with two_mounts(volume, "shared,seal-seconds=1") as (a, b):
        write_file(a / "f", pattern(1, size))
        backing = backing_of(volume, a, "f")
        harness.wait_until(lambda: is_sealed(backing), what="a seal")
        with opened(b / "f", os.O_RDWR) as fd:
            os.pwrite(fd, b"changed", size // 2)
            os.fsync(fd)
        harness.wait_until(lambda: is_sealed(backing) and not has_token(volume), what="another seal")
        assert read_file(a / "f")[size // 2:][:7] == b"changed"
        with opened(a / "f", os.O_RDWR) as fd:
            os.pwrite(fd, b"again", size // 2)
    assert is_sealed(backing)
    with two_mounts(volume) as (a, b):
        write_at(backing, record_offset(200), bytes(32))
        for m in (a, b):
            assert errno_of(read_file, m / "f") == errno.EIO
