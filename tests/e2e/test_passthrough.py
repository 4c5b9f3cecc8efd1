"""The benchmark's passthrough shows the directory below as it is: else its figures would say nothing."""

import contextlib
import os
import resource
import stat
import subprocess

import pytest

import fsx
import harness
from fsbox import PLAIN
from syscalls import in_child, opened, pattern, read_file, write_file

pytest_plugins = ["fsbox"]
pytestmark = [pytest.mark.skipif(PLAIN, reason="about another mount"),
              pytest.mark.skipif(os.geteuid() != 0, reason="mounts for others")]


class Passthrough:
    def __init__(self, top, options, limit=None):
        self.below, self.path, self.limit = top / "below", top / "mnt", limit
        self.options = ["-o", options] if options else []

    def __enter__(self):
        self.below.mkdir(exist_ok=True)
        self.path.mkdir(exist_ok=True)
        self.process = subprocess.Popen([harness.build_dir() / "tests/bench/passthrough", "-f", *self.options,
                                         self.below, self.path], stdin=subprocess.DEVNULL, preexec_fn=self.keep_few)
        harness.wait_until(lambda: harness.mount_device(self.path) is not None, what="the mount")
        return self

    def keep_few(self):
        if self.limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit, self.limit))

    def __exit__(self, *exc):
        minor = harness.mount_device(self.path)
        result = harness.run(["umount", self.path])
        if result.returncode != 0 and minor is not None:
            harness.abort_connection(minor)
            harness.run(["umount", "-l", self.path])
        assert self.process.wait(timeout=20) == 0
        result.ok()


@pytest.fixture(params=["", "writethrough", "answer_open"])
def mount(workdir, request):
    with Passthrough(workdir, request.param) as m:
        yield m


def seen(top):
    """Everything about a tree but the times, which the kernel brings down later."""
    found = {}
    for path in sorted(top.rglob("*")):
        st = path.lstat()
        data = os.readlink(path) if stat.S_ISLNK(st.st_mode) else read_file(path) if stat.S_ISREG(st.st_mode) else None
        found[path.relative_to(top)] = (st.st_ino, st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size, data)
    return found


def make_tree(top):
    for name in ("a", "b", "a/deep"):
        (top / name).mkdir()
    for i in range(40):
        write_file(top / "a" / f"file-{i}", pattern(i, i * 700))
    write_file(top / "a/deep/big", pattern(1, 3 << 20))
    os.symlink("a/deep", top / "link")
    os.link(top / "a/file-7", top / "b/seven")
    os.rename(top / "a/file-8", top / "b/eight")
    os.chmod(top / "a/file-9", 0o640)
    os.chown(top / "a/file-10", 12, 34)
    os.truncate(top / "a/file-11", 100)
    os.setxattr(top / "a/file-12", "user.colour", b"green")
    os.unlink(top / "a/file-13")
    os.mkfifo(top / "pipe")


def test_the_same_tree(mount):
    make_tree(mount.path)
    above = seen(mount.path)
    assert len(above) == 46 and above == seen(mount.below)
    assert os.getxattr(mount.below / "a/file-12", "user.colour") == b"green"
    os.utime(mount.path / "a/file-3", ns=(10**18 + 1, 10**18 + 2))
    assert os.stat(mount.below / "a/file-3").st_mtime_ns == 10**18 + 2


def test_data(mount):
    runner = fsx.Runner(mount.path / "f", 5)
    if "answer_open" in mount.options:
        pytest.skip("the same calls as without")
    model = runner.run(0, 400)
    with opened(mount.path / "f", os.O_RDWR) as fd:
        os.fsync(fd)
    assert read_file(mount.below / "f") == bytes(model)


def test_many_names(mount):
    names = {f"name-{i}" for i in range(5000)}
    for name in names:
        write_file(mount.below / name, b"")
    assert set(os.listdir(mount.path)) == names
    with os.scandir(mount.path) as entries:  # removed while it is read
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(mount.below) == []


def test_unlinked(mount):
    write_file(mount.path / "f", b"kept")
    with opened(mount.path / "f", os.O_RDWR) as fd:
        os.unlink(mount.path / "f")
        assert os.pread(fd, 10, 0) == b"kept" and os.pwrite(fd, b"new", 0) == 3
        assert os.fstat(fd).st_nlink == 0 and not os.path.exists(mount.path / "f")


def test_whose_files(mount):
    os.chmod(mount.path, 0o777)
    in_child(lambda: write_file(mount.path / "f", b"x"), uid=65534, gid=65534, umask=0o027)
    st = os.stat(mount.below / "f")
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (65534, 65534, 0o640)


def read_from_below(path):
    with opened(path, os.O_RDWR) as fd:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(fd, 4000, 0)


def test_more_files_than_descriptors(workdir):
    """All known to the kernel at once; those that lost their name while they are open too."""
    with Passthrough(workdir, "", limit=60) as m, contextlib.ExitStack() as stack:
        open_files = []
        for i in range(400):
            path = m.path / f"file-{i}"
            write_file(path, pattern(i, 3000))
            if i % 10 == 0:
                open_files.append((i, stack.enter_context(opened(path, os.O_RDWR))))
        for i, fd in open_files[:10]:
            os.pwrite(fd, b"written", 3000)
            os.rename(m.path / f"file-{i + 1}", m.path / f"file-{i}") if i % 20 else os.unlink(m.path / f"file-{i}")
        assert sum(len(read_file(e.path)) for e in os.scandir(m.path)) == 390 * 3000
        for i in range(200, 300):
            os.chmod(m.path / f"file-{i}", 0o640)
            assert read_from_below(m.path / f"file-{i}") == pattern(i, 3000)
        for i, fd in open_files[:10]:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(fd, 4000, 0) == pattern(i, 3000) + b"written" and os.fstat(fd).st_nlink == 0
