"""latch view: a plain directory shown as an encrypted volume."""

import errno
import os
import random
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

import harness
from clibox import refused
from syscalls import errno_of, in_child, opened, pattern, read_file, write_file
from viewbox import CHUNK, View, foreground, look, tree

SIZES = [0, 1, 3583, 3584, 3585, 4095, 4096, 4097, 2 * CHUNK, 112 * CHUNK - 1, 112 * CHUNK, 112 * CHUNK + 1, 240 * CHUNK,
         240 * CHUNK + 7, 400 * CHUNK + 33]
CONFIG = b".latchfs-view.ini"
ODD_NAMES = [b"x" * 175, b"x" * 176, b"y" * 255, b"\xff\xfe", b"latchfs.ini", b"latchfs.dir", b"latchfs.long.x", b" ",
             b"new\nline", "Grüße".encode(), b"-rf", b".hidden"]


def backing_length(size):
    """By docs/FORMAT.md."""
    if size <= 3584:
        return 512 + size
    last = (size - 1) // CHUNK
    page = 1 + last if last < 112 else 114 + 129 * ((last - 112) // 128) + (last - 112) % 128
    return page * CHUNK + size - last * CHUNK


def fill(top):
    for size in SIZES:
        write_file(top / f"size{size}", pattern(size, size))
    os.makedirs(top / "dir/inner/most")
    for i, name in enumerate(ODD_NAMES):
        write_file(os.path.join(os.fsencode(top / "dir"), name), pattern(i, 100 * i))
        os.mkdir(os.path.join(os.fsencode(top / "dir/inner"), name))
        os.symlink(name, os.path.join(os.fsencode(top / "dir/inner/most"), name))
    for length in (1, 100, 720, 721, 722, 3027, 4000, 4095):
        os.symlink("t" * length, top / f"link{length}")
    write_file(top / "hole", b"begin")
    os.truncate(top / "hole", 300 * CHUNK)
    with opened(top / "hole", os.O_WRONLY) as fd:
        os.pwrite(fd, b"middle", 150 * CHUNK + 5)
    os.mkfifo(top / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(top)
        s.bind("socket")
        os.chdir("/")
    for path in ("size1", "size0", "dir"):
        os.setxattr(top / path, "user.comment", b"value " * 20)
        os.setxattr(top / path, "user.empty", b"")
    os.chmod(top / "size4096", 0o4711)
    os.utime(top / "size4097", ns=(10**18, 10**18 + 7))


def fill_as_root(top):
    os.mknod(top / "device", 0o20600, os.makedev(1, 3))
    os.chown(top / "size1", 1111, 2222)


@pytest.fixture
def view(keyd, workdir):
    return View(keyd, workdir).init()


@pytest.fixture
def filled(view):
    fill(view.plain)
    if os.geteuid() == 0:
        fill_as_root(view.plain)
    return view


def plain_tree(view):
    return tree(view.plain, skip=(CONFIG,))


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
    assert 0 < grown < size / 3, grown
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


# ---- while it changes ----


def start_reading(path, first=2 * CHUNK):
    fd = os.open(path, os.O_RDONLY)
    return fd, os.read(fd, first)


def read_on(fd, data):
    while piece := os.read(fd, 1 << 17):
        data += piece
    os.close(fd)
    return data


def settle(path):
    """The time stamp is old enough to tell the next change."""
    old = time.time() - 100
    os.utime(path, (old, old))
    time.sleep(0.15)


def test_change_behind_a_reader(view, workdir):
    """A chunk changed after its record was given out: the reader gets what fits the record."""
    data = pattern(1, 500 * CHUNK)
    write_file(view.plain / "f", data)
    settle(view.plain / "f")
    with view.mounted() as m:
        fd, read = start_reading(view.stored(m, "f"))
        with opened(view.plain / "f", os.O_WRONLY) as out:
            os.pwrite(out, b"NEW", 50 * CHUNK)
            os.pwrite(out, b"NEW", 400 * CHUNK)
        plain = view.decrypt(m, read_on(fd, read), workdir / "scratch")
        assert plain[: 112 * CHUNK] == data[: 112 * CHUNK]
        assert plain[400 * CHUNK : 400 * CHUNK + 3] == b"NEW"
        again = view.decrypt(m, read_file(view.stored(m, "f")), workdir / "scratch")
        assert again == read_file(view.plain / "f")


def test_change_that_cannot_fit_any_more_is_an_error(view):
    """The records of a group were given out and are forgotten since; after a change its chunks are refused, never
    given out to fail when the backup is restored. A new opening works."""
    write_file(view.plain / "f", pattern(1, 60 * 128 * CHUNK))
    settle(view.plain / "f")
    with view.mounted() as m:
        path = view.stored(m, "f")
        fd, _ = start_reading(path)
        for group in range(1, 59):  # more than are kept
            os.pread(fd, CHUNK, (113 + 129 * (group - 1)) * CHUNK)
        with opened(view.plain / "f", os.O_WRONLY) as out:
            os.pwrite(out, b"NEW", 50 * CHUNK)
        assert errno_of(os.pread, fd, CHUNK, 51 * CHUNK) == errno.EIO
        assert errno_of(os.pread, fd, CHUNK, 0) == errno.EIO
        os.close(fd)
        assert len(read_file(path)) == os.stat(path).st_size


def test_single_chunks_of_a_changed_file(view):
    """The same for a reader that jumps: a chunk, then a change, then the record of its group."""
    write_file(view.plain / "f", pattern(1, 300 * CHUNK))
    settle(view.plain / "f")
    with view.mounted() as m, opened(view.stored(m, "f"), os.O_RDONLY) as fd:
        assert len(os.pread(fd, CHUNK, 200 * CHUNK)) == CHUNK
        with opened(view.plain / "f", os.O_WRONLY) as out:
            os.pwrite(out, b"NEW", 150 * CHUNK)
        assert errno_of(os.pread, fd, CHUNK, 113 * CHUNK) == errno.EIO
        assert len(os.pread(fd, CHUNK, 0)) == CHUNK  # of another group nothing was given out


def test_growth_while_open(view, workdir):
    """A log that grows is backed up as it was when it was opened, and fstat says so."""
    sizes = (100, 3584, 10000, 200 * CHUNK + 5)
    for size in sizes:
        write_file(view.plain / f"log{size}", pattern(size, size))
        settle(view.plain / f"log{size}")
    with view.mounted() as m:
        for size in sizes:
            path = view.stored(m, f"log{size}")
            fd, read = start_reading(path, 100)
            with opened(view.plain / f"log{size}", os.O_WRONLY | os.O_APPEND) as out:
                os.write(out, b"more" * 30000)
            assert os.fstat(fd).st_size == os.stat(path).st_size == backing_length(size)
            read = read_on(fd, read)
            assert len(read) == backing_length(size)
            assert view.decrypt(m, read, workdir / "scratch") == pattern(size, size)
            harness.wait_until(lambda: os.stat(path).st_size == backing_length(size + 120000), what="the new size to show")
            assert len(read_file(path)) == backing_length(size + 120000)


def test_many_changes_within_one_tick(view):
    """Each opening shows the content of its time, also where time stamps are too coarse to tell."""
    write_file(view.plain / "f", bytes(5 * CHUNK))
    with view.mounted() as m:
        path, seen = view.stored(m, "f"), set()
        with opened(view.plain / "f", os.O_WRONLY) as out:
            for i in range(100):
                os.pwrite(out, b"%d" % i, 2 * CHUNK)
                seen.add(read_file(path))
        assert len(seen) == 100


def test_another_file_takes_the_name(view, workdir):
    """Saved by rename between the look at its size and the opening: the reader gets the whole new file."""
    write_file(view.plain / "f", pattern(1, 5000))
    with view.mounted() as m:
        path = view.stored(m, "f")
        assert os.stat(path).st_size == backing_length(5000)
        write_file(view.plain / "new", pattern(2, 90000))
        os.rename(view.plain / "new", view.plain / "f")
        with opened(path, os.O_RDONLY) as fd:
            assert os.fstat(fd).st_size == backing_length(90000)
            assert view.decrypt(m, os.pread(fd, 1 << 20, 0), workdir / "scratch") == pattern(2, 90000)


def test_cut_while_open(view):
    write_file(view.plain / "f", pattern(1, 600 * CHUNK))
    settle(view.plain / "f")
    with view.mounted() as m:
        fd, _ = start_reading(view.stored(m, "f"))
        os.truncate(view.plain / "f", 300 * CHUNK)
        assert len(os.pread(fd, CHUNK, 100 * CHUNK)) == CHUNK  # made before
        assert errno_of(os.pread, fd, CHUNK, 500 * CHUNK) == errno.EIO
        os.close(fd)


def test_files_come_and_go(view):
    write_file(view.plain / "a", b"1")
    with view.mounted() as m:
        a = view.stored(m, "a")
        os.unlink(view.plain / "a")
        time.sleep(1.1)
        assert errno_of(os.stat, a) == errno.ENOENT
        os.mkdir(view.plain / "a")
        write_file(view.plain / "a/b", b"2")
        assert stat.S_ISDIR(os.stat(a).st_mode) and len(os.listdir(a)) == 2
        os.rename(view.plain / "a", view.plain / "moved")
        time.sleep(1.1)
        assert errno_of(os.listdir, a) == errno.ENOENT


# ---- hostile and odd trees ----


def test_links_are_not_followed(view, workdir):
    """A directory that is exchanged for a link to elsewhere while it is known leads nowhere, also further up."""
    outside = workdir / "outside"
    os.makedirs(outside / "e/f")
    write_file(outside / "e/f/secret", b"not of this tree" * 10)
    os.makedirs(view.plain / "d/e/f")
    write_file(view.plain / "d/e/f/secret", b"inside")
    with view.mounted() as m:
        d = view.stored(m, "d")
        inner = d
        for _ in "ef":
            inner = inner / next(n for n in os.listdir(inner) if n != "latchfs.dir")
        secret = next(n for n in os.listdir(inner) if n != "latchfs.dir")
        with opened(inner, os.O_RDONLY | os.O_DIRECTORY) as fd:
            time.sleep(1.1)
            os.rename(view.plain / "d", view.plain / "old")
            os.symlink(outside, view.plain / "d")
            gone = (errno.ESTALE, errno.ENOENT, errno.ENOTDIR)
            assert errno_of(os.open, secret, os.O_RDONLY, dir_fd=fd) in gone
            assert errno_of(os.stat, secret, dir_fd=fd) in gone
        time.sleep(1.1)
        assert os.path.islink(d)


def test_deep_paths(view, workdir):
    """Deeper than the longest path that the kernel takes."""
    fd = os.open(view.plain, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 150, dir_fd=fd)
        inner = os.open("d" * 150, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    with open(os.open("end", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as f:
        f.write(pattern(1, 9000))
    os.close(fd)
    with view.mounted() as m:
        fd = os.open(m, os.O_RDONLY)
        for depth in range(40):
            name = next(n for n in os.listdir(fd) if not n.startswith("latchfs."))
            inner = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = inner
        name = next(n for n in os.listdir(fd) if not n.startswith("latchfs."))
        with open(os.open(name, os.O_RDONLY, dir_fd=fd), "rb") as f:
            assert len(f.read()) == backing_length(9000)
        os.close(fd)


def test_hard_links_are_files_of_their_own(view, workdir):
    write_file(view.plain / "one", b"content")
    os.link(view.plain / "one", view.plain / "two")
    with view.mounted() as m:
        one, two = view.stored(m, "one"), view.stored(m, "two")
        assert os.stat(one).st_ino != os.stat(two).st_ino
        assert os.stat(one).st_nlink == 1 and read_file(one) != read_file(two)
        view.read_by_reader(m, workdir / "out").ok()
    assert read_file(workdir / "out/one") == read_file(workdir / "out/two") == b"content"


def test_acls_pass_through(view):
    write_file(view.plain / "f", b"x")
    if harness.run(["setfacl", "-m", "u:1234:r", view.plain / "f"]).returncode:
        pytest.skip("no ACLs on this file system")
    with view.mounted() as m:
        shown = harness.run(["getfacl", "-np", view.stored(m, "f")]).ok().out
    assert "user:1234:r--" in shown


def test_nothing_can_be_changed(filled):
    with filled.mounted() as m:
        path = filled.stored(m, "size1")
        for call in (lambda: write_file(m / "new", b""), lambda: os.unlink(path), lambda: os.mkdir(m / "d"),
                     lambda: os.rename(path, m / "x"), lambda: os.chmod(path, 0o777), lambda: os.truncate(path, 0),
                     lambda: os.setxattr(path, "user.x", b""), lambda: os.utime(path)):
            assert errno_of(call) == errno.EROFS


def test_few_inodes(view):
    """More files than the table may have: names that nobody uses are given back."""
    for d in range(6):
        os.mkdir(view.plain / f"d{d}")
        for i in range(100):
            write_file(view.plain / f"d{d}/{i}", b"x" * i)
    with view.mounted("plain-mount") as m:
        want = tree(m, inodes=True)
    with foreground(view, "small", "-o", "inodes=60") as (m, p):
        for place, _, files in os.walk(m):
            for name in files:
                os.lstat(os.path.join(place, name))
            time.sleep(1)
        assert tree(m, inodes=True) == want
    had = int(p.stderr.read().decode().split("it had ")[1].split()[0])
    assert 60 <= had < 500, had


# ---- what is left out ----


def names(view, m, place=""):
    import latchread

    keys = view.keys(m)
    directory = latchread.Directory(os.fsencode(m), keys, None)
    return {os.fsdecode(n) for n in map(directory.decrypt_name, map(os.fsencode, os.listdir(m))) if n is not None}


def test_exclude(view, workdir):
    for path in ("keep", "a.o", "cache/x", "sub/a.o", "sub/keep", "sub/cache/y", "build/z"):
        os.makedirs(os.path.dirname(view.plain / path), exist_ok=True)
        write_file(view.plain / path, b"x")
    write_file(workdir / "patterns", b"# comment\n/build\n")
    with view.mounted("all") as m:
        stored = view.stored(m, "a.o").name
    with view.mounted("view", "--exclude", "*.o", "--exclude", "cache/", "--exclude-from", workdir / "patterns") as m:
        assert names(view, m) == {"keep", "sub"}
        assert errno_of(os.stat, m / stored) == errno.ENOENT
        view.read_by_reader(m, workdir / "out").ok()
    assert sorted(p.name for p in (workdir / "out").rglob("*")) == ["keep", "keep", "sub"]
    refused_here(view.try_mount("bad", "--exclude", "!x"), harness.USAGE, "--exclude")
    refused_here(view.try_mount("bad", "--exclude-from", workdir / "no-such"), harness.IO, "no-such")


def refused_here(result, code, *words):
    """One line; it may be latchfs-view's."""
    assert result.returncode == code, (result.returncode, result.err)
    assert len(result.err.splitlines()) == 1, result.err
    for word in words:
        assert word in result.err


def test_mount_point_inside(view, workdir):
    """The view does not show itself, nor the key store."""
    write_file(view.plain / "f", b"x")
    os.makedirs(view.plain / "mnt/here")
    view.latch("view", "--passphrase-file", view.passfile, view.plain, view.plain / "mnt/here").ok()
    m = view.plain / "mnt/here"
    try:
        assert names(view, m) == {"f", "mnt"}
        view.read_by_reader(m, workdir / "out").ok()
        assert not (workdir / "out/mnt/here").exists() and (workdir / "out/mnt").is_dir()
    finally:
        view.latch("umount", m).ok()


def test_views_do_not_show_views(view, workdir):
    """Two views of one directory, both inside it, would otherwise show each other without end."""
    write_file(view.plain / "f", b"x")
    places = [view.plain / "one", view.plain / "dir/two"]
    for place in places:
        os.makedirs(place)
        view.latch("view", "--passphrase-file", view.passfile, view.plain, place).ok()
    try:
        assert names(view, places[0]) == {"f", "dir"}
        assert names(view, places[1]) == {"f", "dir", "one"}
        for place in places:  # latchfs.ini and .journal, f, and latchfs.dir: of the top, dir, and of the other view
            assert sum(len(files) for _, _, files in os.walk(place)) == 6
            view.read_by_reader(place, workdir / place.name).ok()
        walkers = [subprocess.Popen(["sh", "-c", 'for i in 1 2 3 4 5 6 7 8; do find "$1" -ls | cat > "$2"; done', "-", place,
                                     workdir / f"{place.name}.{i}"]) for place in places for i in range(4)]
        assert [w.wait(60) for w in walkers] == [0] * 8  # neither waits for the other
    finally:
        for place in places:
            view.latch("umount", place).ok()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_one_file_system(view, workdir):
    other = view.plain / "other"
    os.mkdir(other)
    write_file(view.plain / "f", b"x")
    harness._mount("tmpfs", str(other), "tmpfs", 0)
    try:
        write_file(other / "inside", b"y")
        with view.mounted("with") as m:
            assert len(os.listdir(view.stored(m, "other"))) == 2
        with view.mounted("without", "--one-file-system") as m:
            assert os.listdir(view.stored(m, "other")) == ["latchfs.dir"]
            view.read_by_reader(m, workdir / "out").ok()
        assert os.listdir(workdir / "out/other") == []
    finally:
        harness._libc.umount2(os.fsencode(other), 2)


def test_key_store_elsewhere(view, workdir):
    """--config: the key store is not in the tree, and the tree may have a file of that name."""
    config = workdir / "keys/latchfs.ini"
    config.parent.mkdir()
    os.unlink(view.config)
    os.unlink(view.recovery)
    view.init("--config", config)
    write_file(view.config, b"just a file")
    refused(view.latch("view", "--init", "--fast-kdf", "--passphrase-file", view.passfile, "--no-recovery", "--config", config,
                       view.plain), harness.USAGE, "is there already")
    with view.mounted("view", "--config", config) as m:
        assert names(view, m) == {".latchfs-view.ini"}
        assert read_file(m / "latchfs.ini") == read_file(config)
        # Slots are changed where the key store is; the view shows the new one.
        view.latch("slot", "add", "--passphrase-file", view.passfile, "--new-passphrase-file", new_pass(view), "--fast-kdf",
                   config.parent).ok()
        assert read_file(m / "latchfs.ini") == read_file(config)


def new_pass(view):
    path = view.dir / "new.pass"
    path.write_text("another one\n")
    path.chmod(0o600)
    return path


# ---- keys ----


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
