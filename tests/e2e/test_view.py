"""latch view: a plain directory shown as an encrypted volume."""

import errno
import os
import random
import shutil
import stat
import time

import pytest

import harness
from syscalls import errno_of, opened, pattern, read_file, write_file
from viewbox import CHUNK, SIZES, View, backing_length, look, plain_tree, tree

pytest_plugins = ["viewbox"]


# ---- the same bytes ----


def test_two_mounts_are_the_same(filled):
    with filled.mounted("a") as a:
        first = tree(a, inodes=True)
        with filled.mounted("b") as b:
            assert tree(b, inodes=True) == first
    with filled.mounted("c") as c:
        assert tree(c, inodes=True) == first
    assert len(first) > 80 and len({ino for _, ino in first.values()}) == len(first)


def test_unlike_another_key(filled, keyd, workdir):
    """The same plain tree under another key store has nothing in common with it."""
    other = View(keyd, workdir)
    config = workdir / "other.ini"
    recovery = workdir / "other.recovery"
    other.latch("view", "--init", "--fast-kdf", "--passphrase-file", other.passfile, "--recovery-file", recovery,
                "--config", config, other.plain).ok()
    with filled.mounted("a") as a, other.mounted("b", "--config", config) as b:
        one, two = ({path for path in tree(p) if not path.startswith(b"latchfs.")} for p in (a, b))
        assert not one & two
        bodies = [{look(p / n)[6] for n in os.listdir(p) if (p / n).is_file() and not n.startswith("latchfs.ini")} for p in (a, b)]
        assert not bodies[0] & bodies[1]


def test_lengths_from_stat(filled):
    """st_size is the number of bytes that a read gives, and follows from the plain size."""
    with filled.mounted() as m:
        for size in SIZES:
            path = filled.stored(m, f"size{size}")
            assert os.stat(path).st_size == backing_length(size) == len(read_file(path))
        for place, _, files in os.walk(m):
            for name in files:
                path = os.path.join(place, name)
                st = os.lstat(path)
                if stat.S_ISLNK(st.st_mode):
                    assert st.st_size == len(os.readlink(path))
                elif stat.S_ISREG(st.st_mode):
                    assert st.st_size == len(read_file(path)), path
                assert st.st_nlink == 1


def test_listing_is_what_can_be_looked_up(filled):
    with filled.mounted() as m:
        for place, dirs, files in os.walk(os.fsencode(m)):
            assert b"latchfs.dir" in files
            for e in os.scandir(place):
                st = os.lstat(e.path)
                assert e.inode() == st.st_ino
                assert e.is_dir(follow_symlinks=False) == stat.S_ISDIR(st.st_mode)
                assert e.is_symlink() == stat.S_ISLNK(st.st_mode)
        assert errno_of(os.stat, m / "no-such-name") == errno.ENOENT
        assert errno_of(os.stat, m / ("A" * 30)) == errno.ENOENT
        assert errno_of(os.stat, m / ("latchfs.long." + "A" * 43)) == errno.ENOENT
        assert errno_of(os.stat, m / ("latchfs.link." + "a" * 32)) == errno.ENOENT
        assert errno_of(os.stat, m / ".latchfs-view.ini") == errno.ENOENT


# ---- it is a volume ----


def test_second_reader(filled, workdir):
    os.unlink(filled.plain / "fifo")  # it reads no special files
    os.unlink(filled.plain / "socket")
    if (filled.plain / "device").exists():
        os.unlink(filled.plain / "device")
    with filled.mounted() as m:
        result = filled.read_by_reader(m, workdir / "out", "--xattrs").ok()
    import json

    found, want = tree(workdir / "out"), plain_tree(filled)
    assert found.keys() == want.keys()
    for path, (what, _) in want.items():
        mode, _, _, size, times, rdev, body, _ = what
        got = found[path][0]
        assert (got[0], got[3], got[4], got[6]) == (mode, size, times, body) or stat.S_ISLNK(mode) and got[6] == body
    value = (b"value " * 20).hex()
    attrs = json.loads(result.out)
    assert all(attrs[p] == {"user.comment": value, "user.empty": ""} for p in ("size1", "size0", "dir"))


def test_offline_tools(filled, workdir):
    with filled.mounted() as m:
        listed = filled.latch("ls", "--passphrase-file", filled.passfile, m).ok().out.splitlines()
        assert set(listed) >= {f"size{s}" for s in SIZES}
        cat = filled.latch("cat", "--passphrase-file", filled.passfile, m, "dir/ ").ok()
        assert cat.out.encode("utf-8", "surrogateescape") == read_file(filled.plain / "dir/ ")
        filled.latch("extract", "--passphrase-file", filled.passfile, "--to", workdir / "out", m).ok()
    got, want = tree(workdir / "out"), plain_tree(filled)
    assert {p: w[0][6] for p, w in got.items()} == {p: w[0][6] for p, w in want.items()}


def test_copy_is_an_ordinary_volume(filled, workdir):
    """A copy of the view mounts read-write, is what the plain directory was, and is checked as clean."""
    with filled.mounted() as m:
        harness.run(["rsync", "-aX", f"{m}/", workdir / "vol"]).ok()
    copy = harness.Volume(filled.keyd, workdir / "vol")
    copy.write_passfile()
    with copy.mount() as mounted:
        assert tree(mounted.path) == plain_tree(filled)
        write_file(mounted / "size4097", b"changed", os.O_TRUNC)
        write_file(mounted / "new", pattern(1, 50000))
        os.rename(mounted / "dir", mounted / "moved")
        os.setxattr(mounted / "size0", "user.more", b"x")
        with opened(mounted / f"size{SIZES[-1]}", os.O_WRONLY) as fd:
            os.pwrite(fd, b"overwritten", 200 * CHUNK + 1)
    with copy.mount() as mounted:
        assert read_file(mounted / "new") == pattern(1, 50000)
        assert read_file(mounted / "moved" / " ") == read_file(filled.plain / "dir/ ")
        want = bytearray(pattern(SIZES[-1], SIZES[-1]))
        want[200 * CHUNK + 1 : 200 * CHUNK + 12] = b"overwritten"
        assert read_file(mounted / f"size{SIZES[-1]}") == want
    copy.latch("fsck", "--passphrase-file", copy.passfile, copy.path).ok()


def test_random_files_and_reads(view, workdir):
    """Random sizes, holes and overwrites; whole reads and reads at random places give the same bytes."""
    rng = random.Random(7)
    for i in range(12):
        size = rng.choice([rng.randrange(9000), rng.randrange(2**21)])
        write_file(view.plain / f"f{i}", b"")
        os.truncate(view.plain / f"f{i}", size)
        with opened(view.plain / f"f{i}", os.O_WRONLY) as fd:
            for _ in range(rng.randrange(12)):
                at = rng.randrange(size + 1)
                os.pwrite(fd, rng.randbytes(min(size - at, rng.randrange(200000))), at)
    with view.mounted() as m:
        for name in sorted(os.listdir(m)):
            whole = read_file(m / name)
            for _ in range(3):
                with opened(m / name, os.O_RDONLY) as fd:
                    for _ in range(20):
                        at, length = rng.randrange(len(whole) + 10), rng.choice([1, 4096, 70000, 700000])
                        assert os.pread(fd, length, at) == whole[at : at + length]
        view.read_by_reader(m, workdir / "out").ok()
    for i in range(12):
        assert read_file(workdir / "out" / f"f{i}") == read_file(view.plain / f"f{i}")


# ---- backups ----


def restic(workdir, *args):
    env = {"RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": str(workdir / "repo"), "HOME": str(workdir), "PATH": os.environ["PATH"]}
    return harness.run(["restic", "--no-cache", *args], env=env).ok()


@pytest.mark.skipif(not shutil.which("restic"), reason="no restic")
def test_restic_sees_one_changed_chunk(view, workdir):
    size = 24 << 20
    write_file(view.plain / "big", pattern(1, size))
    write_file(view.plain / "same", pattern(2, 4 << 20))
    restic(workdir, "init")
    with view.mounted() as m:
        restic(workdir, "backup", m)
    before = sum(p.stat().st_size for p in (workdir / "repo").rglob("*") if p.is_file())
    with opened(view.plain / "big", os.O_WRONLY) as fd:
        os.pwrite(fd, b"changed", 10 << 20)
    with view.mounted() as m:
        restic(workdir, "backup", m)
    grown = sum(p.stat().st_size for p in (workdir / "repo").rglob("*") if p.is_file()) - before
    assert 0 < grown < 17 << 20, grown  # two of its chunks, which have 8 MiB at most
    restic(workdir, "restore", "latest", "--target", workdir / "back")
    view.read_by_reader(workdir / f"back/{view.dir}/view", workdir / "out").ok()
    assert read_file(workdir / "out/big") == read_file(view.plain / "big")


def test_rsync_sends_what_changed(view, workdir):
    write_file(view.plain / "big", pattern(1, 8 << 20))
    write_file(view.plain / "same", pattern(2, 4 << 20))
    old = time.time() - 1000
    for name in ("big", "same"):
        os.utime(view.plain / name, (old, old))
    with view.mounted() as m:
        harness.run(["rsync", "-aX", f"{m}/", workdir / "copy"]).ok()
    with opened(view.plain / "big", os.O_WRONLY) as fd:
        os.pwrite(fd, b"changed", 4 << 20)
    with view.mounted() as m:
        result = harness.run(["rsync", "-aX", "--no-whole-file", "--stats", f"{m}/", workdir / "copy"]).ok()
        assert harness.run(["rsync", "-acXn", "--itemize-changes", f"{m}/", workdir / "copy"]).ok().out == ""
    literal = int(next(w for w in result.out.splitlines() if w.startswith("Literal data")).split()[2].replace(",", ""))
    assert 0 < literal < 200000
    view.read_by_reader(workdir / "copy", workdir / "out").ok()
    assert read_file(workdir / "out/big") == read_file(view.plain / "big")


# ---- holes ----


def test_sparse_file_of_two_gigabytes(view, workdir):
    size, places = (2 << 30) + 77, [0, 1 << 30, (2 << 30) - 5]
    write_file(view.plain / "sparse", b"")
    os.truncate(view.plain / "sparse", size)
    with opened(view.plain / "sparse", os.O_WRONLY) as fd:
        for at in places:
            os.pwrite(fd, b"data", at)
    with view.mounted() as m:
        path = view.stored(m, "sparse")
        assert os.stat(path).st_size == backing_length(size)
        with opened(path, os.O_RDONLY) as fd:
            at, data = 0, 0
            while errno_of(os.lseek, fd, at, os.SEEK_DATA) == 0:
                at = os.lseek(fd, at, os.SEEK_DATA)
                end = os.lseek(fd, at, os.SEEK_HOLE)
                data, at = data + end - at, end
            assert 3 * CHUNK <= data < 1 << 20
        harness.run(["cp", "-a", "--sparse=auto", f"{m}/.", view.make(workdir / "vol")]).ok()
    assert sum(p.stat().st_blocks * 512 for p in (workdir / "vol").iterdir()) < 4 << 20
    copy = harness.Volume(view.keyd, workdir / "vol")
    copy.write_passfile()
    with copy.mount(options="ro") as mounted, opened(mounted / "sparse", os.O_RDONLY) as fd:
        assert os.fstat(fd).st_size == size
        for at in places:
            assert os.pread(fd, 4, at) == b"data"
        assert os.pread(fd, 100, 1 << 29) == bytes(100)
