"""Names, directories, links and special files."""

import errno
import os
import shutil
import socket
import stat
import subprocess
import unicodedata

import pytest

from syscalls import (RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, errno_of, in_child, opened, pattern,
                      read_file, renameat2, write_file)

pytest_plugins = ["fsbox"]

NAMES = [
    b"a", b".hidden", b"...", b" ", b"-rf", b"~", b"*", b"\\", b"\n", b"\t\r\x1b[31m", b"\x7f", b"\x01", b"\xff",
    b"\xc3\x28", b"\xed\xa0\x80", b"a\xffb", "Ångström".encode(), "日本語".encode(), "🔒".encode(),
    unicodedata.normalize("NFC", "é").encode(), unicodedata.normalize("NFD", "é").encode(), b"Case", b"case",
    b"latchfs.ini", b"latchfs.ini.bak", b"latchfs.journal", b"latchfs.dir", b"latchfs.tmp.1", b"latchfs.long.x",
    b"latchfs.long.x.name", b"latchfs.", b"name with spaces.txt", b"trailing.", b"trailing ", b"%s%n", b"=",
] + [bytes([65 + n % 26]) * n for n in (2, 15, 16, 17, 127, 160, *range(170, 178), 200, 254, 255)] + [
    b"\xff" * 255, bytes(range(1, 47)) + bytes(range(48, 256)), bytes(range(48, 256)) + bytes(range(1, 47)) + b"!"]


def test_names(fs):
    """Every name as file, directory and symlink; read back byte by byte."""
    for i, name in enumerate(NAMES):
        write_file(fs / name, b"%d" % i)
    os.mkdir(fs / "dirs")
    os.mkdir(fs / "links")
    for name in NAMES:
        os.mkdir(fs / (b"dirs/" + name))
        write_file(fs / (b"dirs/" + name + b"/" + name), name)
        os.symlink(name, fs / (b"links/" + name))
    for fresh in (False, True):
        if fresh:
            fs.remount()
        assert sorted(os.listdir(os.fsencode(fs.dir))) == sorted(NAMES + [b"dirs", b"links"])
        assert sorted(os.listdir(fs / b"dirs")) == sorted(NAMES)
        assert sorted(os.listdir(fs / b"links")) == sorted(NAMES)
        for i, name in enumerate(NAMES):
            assert read_file(fs / name) == b"%d" % i
            assert os.listdir(fs / (b"dirs/" + name)) == [name]
            assert read_file(fs / (b"dirs/" + name + b"/" + name)) == name
            assert os.readlink(fs / (b"links/" + name)) == name
    for name in NAMES:
        os.unlink(fs / name)
        os.unlink(fs / (b"links/" + name))
        os.unlink(fs / (b"dirs/" + name + b"/" + name))
        os.rmdir(fs / (b"dirs/" + name))
    assert os.listdir(fs / "dirs") == os.listdir(fs / "links") == []


def test_name_too_long(fs):
    for call in (os.mkdir, os.stat, os.unlink, lambda p: os.symlink("x", p), os.mkfifo,
                 lambda p: os.open(p, os.O_CREAT | os.O_RDWR)):
        assert errno_of(call, fs / (b"n" * 256)) == errno.ENAMETOOLONG
    assert os.listdir(fs.dir) == []


def test_long_names_leave_nothing_behind(fs):
    """Renames and removals of names with a sidecar: the backing directory is as full as before."""
    def entries():
        return sum(1 for _ in fs.box.backing.rglob("*"))

    fs.remount()
    before = entries()
    long, other = b"L" * 255, b"M" * 255
    for make in (lambda p: write_file(p, b"x"), os.mkdir, lambda p: os.symlink("t" * 4095, p), os.mkfifo):
        make(fs / long)
        os.rename(fs / long, fs / other)
        os.rename(fs / other, fs / b"short")
        os.rename(fs / b"short", fs / long)
        if stat.S_ISDIR(os.lstat(fs / long).st_mode):
            os.rmdir(fs / long)
        else:
            os.link(fs / long, fs / other, follow_symlinks=False)
            write_file(fs / b"over", b"")
            os.rename(fs / b"over", fs / other)
            os.unlink(fs / long)
            os.unlink(fs / other)
    fs.remount()
    assert os.listdir(fs.dir) == []
    assert entries() == before


def test_dot_and_dotdot(fs):
    os.makedirs(fs / "a/b")
    assert os.stat(fs / "a/b/..").st_ino == os.stat(fs / "a").st_ino
    out = subprocess.run(["ls", "-ai", fs / "a/b"], stdout=subprocess.PIPE, check=True, timeout=30).stdout.split()
    assert out[1::2] == [b".", b".."]
    assert int(out[0]) == os.stat(fs / "a/b").st_ino
    assert int(out[2]) == os.stat(fs / "a").st_ino
    assert errno_of(os.rmdir, f"{fs.dir}/a/b/.") == errno.EINVAL
    assert errno_of(os.rmdir, f"{fs.dir}/a/b/..") == errno.ENOTEMPTY


# ---- directories ----


def test_mkdir_rmdir(fs):
    os.mkdir(fs / "d", 0o2750)
    assert errno_of(os.mkdir, fs / "d") == errno.EEXIST
    write_file(fs / "d/f", b"")
    assert errno_of(os.rmdir, fs / "d") == errno.ENOTEMPTY
    assert errno_of(os.unlink, fs / "d") == errno.EISDIR
    assert errno_of(os.rmdir, fs / "d/f") == errno.ENOTDIR
    assert errno_of(os.rmdir, fs / "no") == errno.ENOENT
    os.unlink(fs / "d/f")
    os.rmdir(fs / "d")
    assert os.listdir(fs.dir) == []


def test_directory_links(fs):
    """st_nlink counts subdirectories, as on ext4."""
    base = os.stat(fs.dir).st_nlink
    assert base == 2
    for i in range(3):
        os.mkdir(fs / f"d{i}")
    write_file(fs / "f", b"")
    assert os.stat(fs.dir).st_nlink == base + 3
    os.rename(fs / "d0", fs / "d1/d0")
    assert os.stat(fs.dir).st_nlink == base + 2
    assert os.stat(fs / "d1").st_nlink == 3
    os.rmdir(fs / "d2")
    assert os.stat(fs.dir).st_nlink == base + 1
    fs.remount()
    assert os.stat(fs.dir).st_nlink == base + 1


def test_deep_tree(fs):
    """Deeper than PATH_MAX can say."""
    depth = 60
    fd = os.open(fs.dir, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d" * 100, dir_fd=fd)
        inner = os.open("d" * 100, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    f = os.open("leaf", os.O_CREAT | os.O_RDWR, 0o644, dir_fd=fd)
    os.write(f, b"deep")
    os.fsync(f)
    os.close(f)
    os.close(fd)
    fs.remount()
    fd = os.open(fs.dir, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        inner = os.open("d" * 100, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    f = os.open("leaf", os.O_RDONLY, dir_fd=fd)
    assert os.read(f, 10) == b"deep"
    os.close(f)
    os.close(fd)
    shutil.rmtree(fs.dir)
    os.mkdir(fs.dir)


def fill_directory(fs, count):
    for i in range(count):
        os.mknod(fs / f"entry number {i}")
    assert len(os.listdir(fs.dir)) == count
    fs.remount()
    names = os.listdir(fs.dir)
    assert sorted(names) == sorted(f"entry number {i}" for i in range(count))
    assert all(e.is_file(follow_symlinks=False) for e in os.scandir(fs.dir))
    assert os.stat(fs / f"entry number {count - 1}").st_size == 0
    for name in names[::2]:
        os.unlink(fs / name)
    assert sorted(os.listdir(fs.dir)) == sorted(names[1::2])
    shutil.rmtree(fs.dir)
    os.mkdir(fs.dir)


def test_many_entries(fs):
    fill_directory(fs, 2000)


@pytest.mark.heavy
def test_20000_entries(fs):
    fill_directory(fs, 20000)


@pytest.mark.slow
def test_100000_entries(fs):
    fill_directory(fs, 100000)


def test_listing_while_changing(fs):
    """What stays is listed once; what comes or goes meanwhile may or may not be."""
    for i in range(1500):
        os.mknod(fs / f"stay{i}")
        os.mknod(fs / f"go{i}")
    seen, changed = [], 0
    with os.scandir(fs.dir) as it:
        for entry in it:
            seen.append(entry.name)
            if changed < 1500:
                os.unlink(fs / f"go{changed}")
                os.mknod(fs / f"new{changed}")
                changed += 1
    assert sorted(n for n in seen if n.startswith("stay")) == sorted(f"stay{i}" for i in range(1500))
    assert len(set(seen)) == len(seen)
    assert not [n for n in os.listdir(fs.dir) if n.startswith("go")]


def test_listing_sees_changes_of_before(fs):
    """The cached listing is dropped by every kind of change."""
    os.mkdir(fs / "d")
    changes = [
        (lambda: write_file(fs / "d/f", b""), {"f"}),
        (lambda: os.link(fs / "d/f", fs / "d/g"), {"f", "g"}),
        (lambda: os.rename(fs / "d/f", fs / "d/h"), {"g", "h"}),
        (lambda: os.symlink("x", fs / "d/l"), {"g", "h", "l"}),
        (lambda: os.rename(fs / "d/l", fs / "l"), {"g", "h"}),
        (lambda: os.mkdir(fs / "d/sub"), {"g", "h", "sub"}),
        (lambda: os.rmdir(fs / "d/sub"), {"g", "h"}),
        (lambda: os.mkfifo(fs / "d/p"), {"g", "h", "p"}),
        (lambda: os.unlink(fs / "d/g"), {"h", "p"}),
    ]
    for change, want in changes:
        os.listdir(fs / "d")
        os.listdir(fs / "d")
        change()
        assert set(os.listdir(fs / "d")) == want


def test_rewound_listing(fs):
    with opened(fs.dir, os.O_RDONLY | os.O_DIRECTORY) as fd:
        for i in range(50):
            os.mknod(fs / f"f{i}")
            assert len(os.listdir(fd)) == i + 1


# ---- rename ----


def tree(fs):
    os.makedirs(fs / "one/sub")
    os.makedirs(fs / "two")
    write_file(fs / "one/f", b"one f")
    write_file(fs / "two/f", b"two f")
    write_file(fs / "one/sub/deep", b"deep")
    os.symlink("../one/f", fs / "one/l")


def test_rename_file(fs):
    tree(fs)
    os.rename(fs / "one/f", fs / "one/g")
    os.rename(fs / "one/g", fs / "two/g")
    os.rename(fs / "two/g", fs / "two/f")
    for fresh in (False, True):
        if fresh:
            fs.remount()
        assert read_file(fs / "two/f") == b"one f"
        assert sorted(os.listdir(fs / "one")) == ["l", "sub"]
        assert os.listdir(fs / "two") == ["f"]


def test_rename_directory(fs):
    tree(fs)
    os.rename(fs / "one/sub", fs / "two/sub")
    assert read_file(fs / "two/sub/deep") == b"deep"
    os.mkdir(fs / "empty")
    os.rename(fs / "two/sub", fs / "empty")
    write_file(fs / "empty/new", b"new")
    for fresh in (False, True):
        if fresh:
            fs.remount()
        assert read_file(fs / "empty/deep") == b"deep"
        assert read_file(fs / "empty/new") == b"new"
        assert os.listdir(fs / "two") == ["f"]
        assert sorted(os.listdir(fs.dir)) == ["empty", "one", "two"]


def test_rename_refused(fs):
    tree(fs)
    assert errno_of(os.rename, fs / "no", fs / "x") == errno.ENOENT
    assert errno_of(os.rename, fs / "one", fs / "two") == errno.ENOTEMPTY
    assert errno_of(os.rename, fs / "one", fs / "one/sub/x") == errno.EINVAL
    assert errno_of(os.rename, fs / "one", fs / "two/f") == errno.ENOTDIR
    os.mkdir(fs / "empty")
    assert errno_of(os.rename, fs / "one/f", fs / "empty") == errno.EISDIR
    assert errno_of(os.rename, fs / "one/sub", fs / "one") == errno.ENOTEMPTY
    assert errno_of(renameat2, fs / "one/f", fs / "two/f", RENAME_NOREPLACE | RENAME_EXCHANGE) == errno.EINVAL
    assert errno_of(os.rename, fs / "one/f", fs / ("n" * 256)) == errno.ENAMETOOLONG
    assert read_file(fs / "one/f") == b"one f"


def test_rename_onto_itself_and_hard_link(fs):
    write_file(fs / "a", b"x")
    os.rename(fs / "a", fs / "a")
    os.link(fs / "a", fs / "b")
    os.rename(fs / "a", fs / "b")
    assert sorted(os.listdir(fs.dir)) == ["a", "b"]
    assert os.stat(fs / "a").st_nlink == 2


def test_rename_noreplace(fs):
    tree(fs)
    assert errno_of(renameat2, fs / "one/f", fs / "two/f", RENAME_NOREPLACE) == errno.EEXIST
    assert errno_of(renameat2, fs / "one", fs / "two", RENAME_NOREPLACE) == errno.EEXIST
    renameat2(fs / "one/f", fs / "two/g", RENAME_NOREPLACE)
    renameat2(fs / "one", fs / "two/one", RENAME_NOREPLACE)
    for fresh in (False, True):
        if fresh:
            fs.remount()
        assert read_file(fs / "two/f") == b"two f"
        assert read_file(fs / "two/g") == b"one f"
        assert read_file(fs / "two/one/sub/deep") == b"deep"


LONG = "x" * 255
EXCHANGES = [("one/f", "two/f"), ("one/f", "two"), ("one/sub", "two"), ("one/l", "two/f"), ("one/l", "two/m"),
             ("one/l", "one/sub"), ("one/" + LONG, "two/f"), ("one/" + LONG, "two/" + LONG), ("one/f", "one/l"),
             ("one/" + LONG, "two"), ("one/f", "one/" + LONG)]


@pytest.mark.parametrize("pair", EXCHANGES, ids=lambda p: "-".join(x.replace("/", "_")[:6] for x in p))
def test_rename_exchange(fs, pair):
    tree(fs)
    write_file(fs / "one" / LONG, b"one long")
    write_file(fs / "two" / LONG, b"two long")
    os.symlink("s" * 3000, fs / "two/m")

    def look(name):
        path = fs / name
        if os.path.islink(path):
            return os.readlink(path)
        if os.path.isdir(path):
            return {n: look(f"{name}/{n}") for n in sorted(os.listdir(path))}
        return read_file(path)

    a, b = pair
    was = look(a), look(b)
    renameat2(fs / a, fs / b, RENAME_EXCHANGE)
    assert (look(b), look(a)) == was
    fs.remount()
    assert (look(b), look(a)) == was
    renameat2(fs / a, fs / b, RENAME_EXCHANGE)
    assert (look(a), look(b)) == was


def test_rename_exchange_refused(fs):
    tree(fs)
    assert errno_of(renameat2, fs / "one/f", fs / "no", RENAME_EXCHANGE) == errno.ENOENT
    assert errno_of(renameat2, fs / "one", fs / "one/sub", RENAME_EXCHANGE) == errno.EINVAL


def test_rename_whiteout_is_refused_or_done(fs):
    """For overlay filesystems only; a volume need not have it."""
    write_file(fs / "a", b"x")
    err = errno_of(renameat2, fs / "a", fs / "b", RENAME_WHITEOUT)
    assert err in (0, errno.EINVAL)
    assert read_file(fs / ("a" if err else "b")) == b"x"


def test_rename_into_moved_directory(fs):
    """Directory ids stay true through several moves, seen with a cold cache."""
    os.makedirs(fs / "a/b/c")
    write_file(fs / "a/b/c/f", b"1")
    os.rename(fs / "a/b", fs / "b")
    write_file(fs / "b/c/g", b"2")
    os.rename(fs / "b/c", fs / "a/c")
    os.rename(fs / "b", fs / "a/c/b")
    fs.remount()
    write_file(fs / "a/c/b/h", b"3")
    os.rename(fs / "a/c/f", fs / "a/c/b/f")
    fs.remount()
    assert sorted(os.listdir(fs / "a/c/b")) == ["f", "h"]
    assert [read_file(fs / p) for p in ("a/c/b/f", "a/c/g", "a/c/b/h")] == [b"1", b"2", b"3"]


# ---- hard links ----


def test_hard_links(fs):
    write_file(fs / "a", b"shared")
    os.mkdir(fs / "d")
    os.link(fs / "a", fs / "d/b")
    os.link(fs / "d/b", fs / LONG)
    assert {os.stat(fs / n).st_nlink for n in ("a", "d/b", LONG)} == {3}
    assert len({os.stat(fs / n).st_ino for n in ("a", "d/b", LONG)}) == 1
    with opened(fs / LONG, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b" and more")
    os.chmod(fs / "a", 0o600)
    for fresh in (False, True):
        if fresh:
            fs.remount()
        for name in ("a", "d/b", LONG):
            assert read_file(fs / name) == b"shared and more"
            assert os.stat(fs / name).st_mode & 0o777 == 0o600
    os.unlink(fs / "a")
    assert os.stat(fs / "d/b").st_nlink == 2
    os.unlink(fs / LONG)
    assert os.stat(fs / "d/b").st_nlink == 1
    assert read_file(fs / "d/b") == b"shared and more"


def test_hard_links_refused(fs):
    os.mkdir(fs / "d")
    write_file(fs / "a", b"")
    write_file(fs / "b", b"")
    assert errno_of(os.link, fs / "d", fs / "e") == errno.EPERM
    assert errno_of(os.link, fs / "a", fs / "b") == errno.EEXIST
    assert errno_of(os.link, fs / "no", fs / "e") == errno.ENOENT


def test_hard_link_of_an_empty_file(fs):
    """A file that has no header yet is one file under both names."""
    os.mknod(fs / "a")
    os.link(fs / "a", fs / "b")
    write_file(fs / "b", pattern(1, 9000))
    assert read_file(fs / "a") == pattern(1, 9000)
    fs.remount()
    assert read_file(fs / "a") == read_file(fs / "b") == pattern(1, 9000)


# ---- symbolic links ----


TARGETS = [b"x", b"/etc/passwd", b"../..", b"\xff\xfe", b" ", b"a/" * 100] + [
    b"t" * n for n in (15, 16, 17, 2900, 3000, 3020, 3027, 3040, 3050, 3060, 3071, 3072, 3073, 4000, 4094, 4095)]


def test_symlink_targets(fs):
    for i, target in enumerate(TARGETS):
        os.symlink(target, fs / b"l%d" % i)
    for fresh in (False, True):
        if fresh:
            fs.remount()
        for i, target in enumerate(TARGETS):
            assert os.readlink(fs / b"l%d" % i) == target
            st = os.lstat(fs / b"l%d" % i)
            assert stat.S_ISLNK(st.st_mode)
            assert st.st_size == len(target)


def test_symlinks_move_and_go(fs):
    os.mkdir(fs / "d")
    os.mkdir(fs / "e")
    for i, target in enumerate(TARGETS):
        name = (b"l%d" % i).ljust(255 if i % 2 else 3, b"_")
        os.symlink(target, fs / (b"d/" + name))
        os.rename(fs / (b"d/" + name), fs / (b"e/" + name))
        assert os.readlink(fs / (b"e/" + name)) == target
        os.rename(fs / (b"e/" + name), fs / (b"e/m%d" % i))
        os.link(fs / b"e/m%d" % i, fs / b"e/n%d" % i, follow_symlinks=False)
        assert os.readlink(fs / b"e/n%d" % i) == target
    assert os.listdir(fs / "d") == []
    fs.remount()
    for i, target in enumerate(TARGETS):
        assert os.readlink(fs / b"e/m%d" % i) == target
        os.unlink(fs / b"e/m%d" % i)
        assert os.readlink(fs / b"e/n%d" % i) == target
        os.unlink(fs / b"e/n%d" % i)
    os.rmdir(fs / "e")


def test_symlink_linked_into_another_directory(fs):
    """One inode under two names, or, as a volume binds a target to its directory, a symlink of its own: then
    it has the owner of the first, and a change of one is not a change of the other."""
    os.mkdir(fs / "d")
    os.symlink("target", fs / "a")
    os.lchown(fs / "a", 1234, 4321)
    os.link(fs / "a", fs / "d/b", follow_symlinks=False)
    same = fs.box.plain
    owners = {}
    for step in ("linked", "remounted"):
        if step == "remounted":
            fs.remount()
        assert os.readlink(fs / "a") == os.readlink(fs / "d/b") == "target"
        assert (os.lstat(fs / "a").st_ino == os.lstat(fs / "d/b").st_ino) == same, step
        assert os.lstat(fs / "d/b").st_nlink == (2 if same else 1)
        owners[step] = (os.lstat(fs / "d/b").st_uid, os.lstat(fs / "d/b").st_gid)
    assert owners == {"linked": (1234, 4321), "remounted": (1234, 4321)}


def test_symlink_linked_into_another_directory_stands_alone(fs):
    os.mkdir(fs / "d")
    os.symlink("target", fs / "a")
    os.link(fs / "a", fs / "d/b", follow_symlinks=False)
    os.lchown(fs / "d/b", 77, 88)
    os.unlink(fs / "a")
    assert os.readlink(fs / "d/b") == "target"
    fs.remount()
    assert os.readlink(fs / "d/b") == "target"
    assert (os.lstat(fs / "d/b").st_uid, os.lstat(fs / "d/b").st_gid) == (77, 88)


def test_symlinks_are_followed(fs):
    write_file(fs / "f", b"content")
    os.mkdir(fs / "d")
    os.symlink("f", fs / "to-file")
    os.symlink("../f", fs / "d/up")
    os.symlink("d", fs / "to-dir")
    os.symlink("nowhere", fs / "dangling")
    os.symlink("loop", fs / "loop")
    assert read_file(fs / "to-file") == read_file(fs / "to-dir/up") == b"content"
    assert errno_of(os.stat, fs / "dangling") == errno.ENOENT
    assert errno_of(os.stat, fs / "loop") == errno.ELOOP
    write_file(fs / "dangling", b"made")
    assert read_file(fs / "nowhere") == b"made"
    assert errno_of(os.readlink, fs / "f") == errno.EINVAL
    assert errno_of(os.symlink, "x", fs / "f") == errno.EEXIST
    assert errno_of(os.symlink, "", fs / "empty") == errno.ENOENT
    os.lchown(fs / "to-file", 1234, 4321)
    os.utime(fs / "to-file", ns=(5, 7), follow_symlinks=False)
    st = os.lstat(fs / "to-file")
    assert (st.st_uid, st.st_gid, st.st_mtime_ns) == (1234, 4321, 7)
    assert os.stat(fs / "f").st_uid == 0


# ---- special files ----


def test_special_files(fs):
    os.mkfifo(fs / "fifo", 0o640)
    os.mknod(fs / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(fs / "block", 0o600 | stat.S_IFBLK, os.makedev(259, 70000))
    os.mknod(fs / "plain", 0o600 | stat.S_IFREG)
    with socket.socket(socket.AF_UNIX) as s:
        # sun_path is short.
        os.chdir(fs.dir)
        try:
            s.bind("sock")
        finally:
            os.chdir("/")
    for fresh in (False, True):
        if fresh:
            fs.remount()
        assert stat.S_ISFIFO(os.stat(fs / "fifo").st_mode)
        assert stat.S_ISSOCK(os.stat(fs / "sock").st_mode)
        assert stat.S_ISREG(os.stat(fs / "plain").st_mode)
        assert os.stat(fs / "null").st_rdev == os.makedev(1, 3)
        assert stat.S_ISCHR(os.stat(fs / "null").st_mode)
        assert os.stat(fs / "block").st_rdev == os.makedev(259, 70000)
        types = {e.name: (e.is_file(follow_symlinks=False), e.is_dir(follow_symlinks=False)) for e in os.scandir(fs.dir)}
        assert types["plain"] == (True, False)
        assert types["fifo"] == types["sock"] == types["null"] == (False, False)
    with opened(fs / "null", os.O_WRONLY) as fd:
        assert os.write(fd, b"gone") == 4
    assert errno_of(os.mkfifo, fs / "fifo") == errno.EEXIST
    assert errno_of(os.mknod, fs / "plain") == errno.EEXIST


def test_special_file_unlinked_while_open(fs):
    os.mkfifo(fs / "p")
    with opened(fs / "p", os.O_RDWR | os.O_NONBLOCK) as fd:
        os.unlink(fs / "p")
        os.fchmod(fd, 0o600)
        os.fchown(fd, 12, 34)
        st = os.fstat(fd)
        assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_nlink) == (0o600, 12, 34, 0)


def test_fifo_and_socket_work(fs):
    os.mkfifo(fs / "fifo")
    with subprocess.Popen(["cat", fs / "fifo"], stdout=subprocess.PIPE) as cat:
        write_file(fs / "fifo", b"through")
        assert cat.communicate(timeout=30)[0] == b"through"

    def talk():
        os.chdir(fs.dir)
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("sock")
            server.listen(1)
            client.connect("sock")
            client.sendall(b"hello")
            return server.accept()[0].recv(10)

    assert in_child(talk, timeout=30) == b"hello"
