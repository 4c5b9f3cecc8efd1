"""Real programs on a mount: archives, compilers, git, sqlite, rsync, a filesystem in a file."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import tarfile
from pathlib import Path

import pytest

import harness
from fsbox import PLAIN
from syscalls import disk_bytes, opened, pattern, read_file, write_file

pytest_plugins = ["fsbox"]
one_mode = pytest.mark.parametrize("box", ["plain" if PLAIN else "writeback"], indirect=True, scope="module")

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1",
       "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c",
       "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c"}


def sh(*argv, cwd="/", timeout=200, **more):
    result = harness.run(argv, cwd=str(cwd), timeout=timeout, env=ENV, **more)
    assert result.returncode == 0, f"{argv}: exit {result.returncode}\n{result.out[-2000:]}\n{result.err[-2000:]}"
    return result.out


@pytest.fixture(scope="module")
def outside():
    """A plain directory to compare with."""
    work = harness.Workdir()
    yield work.path
    work.remove()


# ---- a source tree ----


MODULES, DOCUMENTS = 60, 2900


def source_text(r, i):
    lines = [f"#include \"m{j}.h\"" for j in sorted({i, (i + 1) % MODULES, r.randrange(MODULES)})]
    lines += [f"/* {r.randbytes(30).hex()} */" for _ in range(r.randrange(5, 60))]
    lines += [f"int f{i}(int x) {{ return x < 1 ? {i} : f{(i + 1) % MODULES}(x - 1) + 1; }}"]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def tree(outside):
    """Some 3,000 files: a program in C that builds, documents of all sizes, links, an empty directory, modes."""
    top, r = outside / "tree", random.Random(42)
    (top / "src").mkdir(parents=True)
    for i in range(MODULES):
        (top / f"src/m{i}.h").write_text(f"int f{i}(int x);\n")
        (top / f"src/m{i}.c").write_text(source_text(r, i))
    (top / "src/main.c").write_text('#include <stdio.h>\n#include "m0.h"\nint main(void) { printf("%d\\n", f0(100)); }\n')
    (top / "Makefile").write_text(
        "OBJ = $(patsubst %.c,%.o,$(wildcard src/*.c))\nprog: $(OBJ)\n\t$(CC) -o $@ $^\n"
        "$(OBJ): %.o: %.c $(wildcard src/*.h)\n\t$(CC) -g -MMD -c -o $@ $<\n")
    for i in range(DOCUMENTS):
        place = top / "doc" / f"section {i % 30}" / f"part-{i % 7}"
        place.mkdir(parents=True, exist_ok=True)
        size = r.choice([0, r.randrange(100), r.randrange(5000), r.randrange(5000), r.randrange(40000)])
        (place / f"document number {i}.txt").write_bytes(r.randbytes(size // 2).hex().encode())
        if i % 50 == 0:
            os.symlink(f"../part-{(i + 1) % 7}", place / f"link{i}")
            os.link(place / f"document number {i}.txt", place / f"hard{i}")
            (place / f"document number {i}.txt").chmod(0o4751)
            os.setxattr(place / f"document number {i}.txt", "user.note", b"%d" % i)
    (top / "empty").mkdir()
    (top / ("n" * 250)).write_bytes(b"long name")
    return top


def same_trees(a, b):
    """Contents, types, modes, owners, times, links, ACLs and attributes, by rsync's comparison of checksums."""
    out = sh("rsync", "-naHAXic", "--delete", f"{a}/", f"{b}/")
    assert out == "", out[:2000]


@one_mode
def test_untar_and_compare(fs, tree, outside):
    sh("tar", "--xattrs", "-cf", outside / "tree.tar", "-C", tree, ".")
    os.mkdir(fs / "t")
    sh("tar", "--xattrs", "-xpf", outside / "tree.tar", "-C", fs / "t")
    same_trees(tree, fs / "t")
    fs.remount()
    same_trees(tree, fs / "t")
    sh("tar", "--xattrs", "-cf", outside / "back.tar", "-C", fs / "t", ".")
    os.mkdir(outside / "back")
    sh("tar", "--xattrs", "-xpf", outside / "back.tar", "-C", outside / "back")
    same_trees(tree, outside / "back")
    sh("tar", "--xattrs", "--compare", "-f", outside / "tree.tar", "-C", fs / "t")
    with tarfile.open(fs / "inner.tar", "w") as t:
        t.add(fs / "t/doc", "doc")
    with tarfile.open(fs / "inner.tar") as t:
        assert sum(m.isfile() for m in t) == DOCUMENTS
    sh("rm", "-rf", fs / "t")
    assert os.listdir(fs.dir) == ["inner.tar"]


@one_mode
def test_rsync_there_and_back(fs, tree, outside):
    sh("rsync", "-aHAX", f"{tree}/", fs / "t/")
    same_trees(tree, fs / "t")
    fs.remount()
    assert sh("rsync", "-aHAXi", "--delete", f"{tree}/", fs / "t/") == ""  # by size and time: nothing to do
    sh("rsync", "-aHAX", f"{fs / 't'}/", outside / "rsynced/")
    same_trees(tree, outside / "rsynced")
    write_file(fs / "t/Makefile", b"# changed\n", os.O_APPEND)
    sh("rsync", "-aHAX", "--inplace", "--no-whole-file", f"{tree}/", fs / "t/")
    same_trees(tree, fs / "t")


@one_mode
def test_cp_and_mv(fs, tree):
    sh("cp", "-a", tree, fs / "a")
    same_trees(tree, fs / "a")
    sh("mv", fs / "a", fs / "b")
    sh("cp", "-a", "--reflink=auto", fs / "b", fs / "c")
    fs.remount()
    same_trees(tree, fs / "c")
    sh("diff", "-r", "--no-dereference", fs / "b", fs / "c")


@pytest.mark.heavy
@one_mode
def test_make(fs, tree):
    """A build, a second that has nothing to do (times), and one after a change."""
    sh("cp", "-a", tree, fs / "t")
    sh("make", "-j2", cwd=fs / "t")
    assert sh(fs / "t/prog").strip() == str(100 % MODULES + 100)
    fs.remount()
    assert "up to date" in sh("make", cwd=fs / "t")
    os.utime(fs / "t/src/m3.c")
    out = sh("make", cwd=fs / "t")
    assert out.count(" -c -o") == 1
    assert sh(fs / "t/prog").strip() == str(100 % MODULES + 100)
    sh("strip", fs / "t/prog")
    sh("ar", "rcs", fs / "t/lib.a", *sorted((fs / "t/src").glob("*.o")))
    assert sh(fs / "t/prog").strip() == str(100 % MODULES + 100)


# ---- git ----


@pytest.mark.heavy
@one_mode
def test_git(fs, tree):
    def git(*args, where="r"):
        return sh("git", "-c", "gc.auto=0", *args, cwd=fs / where)

    sh("cp", "-a", tree, fs / "r")
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    assert git("status", "--porcelain") == ""
    for i in range(3):
        write_file(fs / f"r/src/m{i}.c", b"/* more */\n", os.O_APPEND)
        git("mv", f"src/m{i + 10}.h", f"src/moved{i}.h")
        git("commit", "-q", "-a", "-m", f"change {i}")
    fs.remount()
    assert git("status", "--porcelain") == ""
    git("fsck", "--full", "--strict")
    git("clone", "-q", "--no-local", "r", "clone", where=".")
    git("clone", "-q", "r", "linked", where=".")  # hard links
    git("checkout", "-q", "-b", "side", "HEAD~2", where="clone")
    git("merge", "-q", "-m", "merged", "main", where="clone")
    git("gc", "-q", "--prune=now", where="clone")
    git("repack", "-adq")
    fs.remount()
    for where in ("r", "clone", "linked"):
        git("fsck", "--full", "--strict", where=where)
        assert git("status", "--porcelain", where=where) == ""
    assert git("rev-list", "--count", "main", where="clone") == "4\n" or \
        git("rev-list", "--count", "origin/main", where="clone") == "4\n"


# ---- sqlite ----


WRITER = """
import sqlite3, sys
path, mode, me, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
db = sqlite3.connect(path, timeout=60, isolation_level=None)
db.execute("pragma journal_mode=" + mode)
for i in range(rounds):
    db.execute("begin immediate")
    for k in range(20):
        db.execute("insert into t(w, i, k, data) values(?, ?, ?, randomblob(?))", (me, i, k, 100 + 37 * k))
    db.execute("update total set n = n + 20")
    if i % 7 == 6:
        db.execute("delete from t where w = ? and i = ?", (me, i - 3))
        db.execute("update total set n = n - changes()")
    db.execute("rollback" if i % 10 == 9 else "commit")
db.close()
"""


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
def test_sqlite(fs, mode):
    """Several writers with transactions; the sum that each keeps up to date is right at the end."""
    path = fs / "db.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(f"pragma journal_mode={mode}; create table t(w, i, k, data); create index x on t(data);"
                         "create table total(n); insert into total values(0);")
    writers = [subprocess.Popen(["/usr/bin/python3", "-c", WRITER, path, mode, str(n), "25"]) for n in range(3)]
    assert [w.wait(timeout=110) for w in writers] == [0, 0, 0]
    for fresh in (False, True):
        if fresh:
            fs.remount()
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
            assert db.execute("select count(*) from t").fetchone() == db.execute("select n from total").fetchone()
            assert db.execute("select n > 300 from total").fetchone() == (1,)
            db.execute("vacuum")
    assert sh("sqlite3", path, "pragma integrity_check") == "ok\n"


def test_sqlite_killed(fs):
    """kill -9 of a writer: the next one rolls back."""
    path = fs / "db.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript("create table t(w, i, k, data); create table total(n); insert into total values(0);")
    for mode in ("delete", "wal", "delete"):
        w = subprocess.Popen(["/usr/bin/python3", "-c", WRITER, path, mode, "1", "100000"])
        with contextlib.suppress(subprocess.TimeoutExpired):
            w.wait(timeout=0.7)
        w.kill()
        w.wait(timeout=30)
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as db:
            assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
            assert db.execute("select count(*) from t").fetchone() == db.execute("select n from total").fetchone()


# ---- a filesystem in a file ----


def loop_device(image):
    out = harness.run(["losetup", "--find", "--show", image], timeout=60)
    if out.returncode:
        pytest.skip("no loop devices here: " + out.err)
    return out.out.strip()


@pytest.mark.heavy
@one_mode
def test_ext4_image_on_a_loop_device(fs, tree, outside):
    image, inner = fs / "disk.img", outside / "inner"
    inner.mkdir()
    before = disk_bytes(fs.box.backing)
    with opened(image, os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, 2 << 30)
    sh("mkfs.ext4", "-q", "-F", image)
    for turn in range(2):
        device = loop_device(image)
        try:
            sh("mount", device, inner)
            try:
                sh("cp", "-a", tree, inner / f"copy{turn}")
                write_file(inner / f"big{turn}", pattern(turn, 30 << 20))
                if turn:
                    same_trees(tree, inner / "copy0")
                    sh("rm", "-rf", inner / "copy0")
                    sh("fstrim", inner)
            finally:
                sh("umount", inner)
        finally:
            sh("losetup", "-d", device)
        sh("e2fsck", "-fn", image)
        fs.remount()
        sh("e2fsck", "-fn", image)
    assert disk_bytes(fs.box.backing) - before < 300 << 20
    device = loop_device(image)
    try:
        sh("mount", "-o", "ro", device, inner)
        try:
            same_trees(tree, inner / "copy1")
            assert all(read_file(inner / f"big{n}") == pattern(n, 30 << 20) for n in (0, 1))
        finally:
            sh("umount", inner)
    finally:
        sh("losetup", "-d", device)
    os.unlink(image)


# ---- others ----


@one_mode
def test_editors_way_to_save(fs):
    """Write a new file, fsync, rename over the old one, fsync the directory: both there, then one."""
    for i in range(100):
        write_file(fs / "text~", b"version %d\n" % i * 300)
        with opened(fs / "text~", os.O_RDWR) as fd:
            os.fsync(fd)
        os.rename(fs / "text~", fs / "text")
        with opened(fs.dir, os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.fsync(fd)
        assert read_file(fs / "text") == b"version %d\n" % i * 300
    fs.remount()
    assert read_file(fs / "text") == b"version 99\n" * 300
    assert os.listdir(fs.dir) == ["text"]


@one_mode
def test_dd_and_coreutils(fs):
    sh("dd", "if=/dev/urandom", f"of={fs / 'r'}", "bs=64k", "count=50", "conv=fsync", "status=none")
    for bs, flags in (("1M", "direct"), ("4k", "sync"), ("777", "append")):
        sh("dd", f"if={fs / 'r'}", f"of={fs / 'copy'}", f"bs={bs}", f"oflag={flags}", "conv=notrunc" if bs == "777"
           else "conv=fdatasync", "status=none", "count=1" if bs == "777" else "count=100000")
        if bs != "777":
            sh("cmp", fs / "r", fs / "copy")
            os.unlink(fs / "copy")
    sh("split", "-b", "100000", fs / "r", fs / "part-")
    with open(fs / "joined", "wb") as out:
        subprocess.run(["cat", *sorted(Path(fs.dir).glob("part-*"))], stdout=out, check=True, timeout=60)
    sh("cmp", fs / "r", fs / "joined")
    sh("shred", "-n1", "-u", fs / "joined")
    sh("sort", "-o", fs / "sorted", "-S1M", fs / "r")
    sh("gzip", "-k", fs / "sorted")
    sh("gzip", "-t", fs / "sorted.gz")
    sh("sed", "-i", "s/a/b/", fs / "sorted")
    shutil.copystat(fs / "r", fs / "sorted")
    assert int(sh("du", "-s", "--apparent-size", "-B1", fs / "r").split()[0]) == 50 * 65536
