"""latch view of hostile and odd trees, and what it leaves out."""

import errno
import os
import subprocess
import time

import pytest

import harness
from clibox import refused
from syscalls import errno_of, opened, pattern, read_file, write_file
from viewbox import backing_length, foreground, names, new_pass, refused_here, tree

pytest_plugins = ["viewbox"]


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
