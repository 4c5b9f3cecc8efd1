"""What was written is read back elsewhere: another mount point, a copy of the volume, a read-only mount."""

import errno
import os
import shutil
import stat
import subprocess

import pytest

import harness
from fsbox import PLAIN, check_volume
from syscalls import errno_of, opened, pattern, read_file, syncfs, write_file
from volumes import MARKER, MODES, NAME, SIZES, check, copied, fill, mounts_of

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

# ---- elsewhere ----


@MODES
def test_another_mount_point(volume, workdir, options):
    with volume.mount(options=options) as m:
        fill(m.path)
        check(m.path)
    with volume.mount(workdir / "elsewhere", options=options) as m:
        check(m.path)
    check_volume(volume)


COPIES = {
    "cp -a": ["cp", "-a"], "cp -r": ["cp", "-r"], "rsync": ["rsync", "-aHAX"], "plain rsync": ["rsync", "-rl"],
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_the_volume(volume, workdir, how):
    with volume.mount() as m:
        fill(m.path)
        if "-a" not in COPIES[how][1]:
            # What a copy without attributes cannot bring along.
            for name in (f"{NAME}Fifo", f"{NAME}Hard", "random1", "random3584"):
                os.unlink(m / name)
    target = workdir / "copy"
    subprocess.run([*COPIES[how], f"{volume.path}/", f"{target}/"] if "rsync" in how else
                   [*COPIES[how], volume.path, target], check=True, timeout=100)
    shutil.rmtree(volume.path)
    with copied(volume, target).mount(workdir / "m2") as m:
        if "-a" in COPIES[how][1]:
            check(m.path)
        else:
            for size in SIZES:
                if size not in (1, 3584):
                    assert read_file(m / f"random{size}") == pattern(size, size)
            assert os.readlink(os.fsencode(m / f"{NAME}LongLink")) == MARKER * 270
    check_volume(copied(volume, target))


def test_an_archive_of_the_volume(volume, workdir):
    with volume.mount() as m:
        fill(m.path)
    subprocess.run(["tar", "--xattrs", "-C", volume.path, "-cf", workdir / "v.tar", "."], check=True, timeout=60)
    (workdir / "copy").mkdir()
    subprocess.run(["tar", "--xattrs", "-C", workdir / "copy", "-xpf", workdir / "v.tar"], check=True, timeout=60)
    with copied(volume, workdir / "copy").mount(workdir / "m2") as m:
        check(m.path)


def test_no_plaintext_in_the_volume(volume):
    """Neither names nor contents, in the files, their names and attributes, nor in the journal."""
    with volume.mount() as m:
        fill(m.path)
        for i in range(5):
            write_file(m / f"{NAME}rewritten", MARKER * 1000 * (i + 1))
            with opened(m / f"{NAME}rewritten", os.O_RDWR) as fd:
                os.pwrite(fd, MARKER, 500)
                os.fsync(fd)
        os.rename(m / f"{NAME}rewritten", m / f"{NAME}renamed")
        seen = list(leaks(volume.path))
        assert seen == []
    assert list(leaks(volume.path)) == []
    assert list(leaks(volume.path, needle=b"latchfs")) != []  # the search finds what is there


def leaks(top, needle=None):
    needles = [needle] if needle else [MARKER, NAME.encode(), MARKER.lower(), NAME.lower().encode()]
    for path in top.rglob("*"):
        raw = os.fsencode(path.name)
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raw += os.fsencode(os.readlink(path))
        elif path.is_file():
            raw += read_file(path)
            for name in os.listxattr(path):
                raw += name.encode() + os.getxattr(path, name)
        if any(n in raw for n in needles):
            yield path


# ---- one mount at a time, read only ----


def test_second_mount_is_refused(volume, workdir):
    with volume.mount() as m:
        fill(m.path)
        second = volume.mount(workdir / "second")
        try:
            result = second.mount()
            assert result.returncode == harness.BUSY, result
            assert not second.is_mounted()
        finally:
            second.force_away()
        check(m.path)
    with volume.mount(workdir / "second") as m:
        check(m.path)


def contents(top):
    return {p.relative_to(top): (read_file(p) if p.is_file() and not p.is_symlink() else None, os.lstat(p).st_mtime_ns)
            for p in top.rglob("*")}


def test_read_only_mount(volume):
    with volume.mount() as m:
        fill(m.path)
    before = contents(volume.path)
    with volume.mount(options="ro") as m:
        check(m.path)
        for call in (lambda: write_file(m / "new", b""), lambda: os.truncate(m / "random4096", 0),
                     lambda: os.unlink(m / "random4096"), lambda: os.mkdir(m / "d"),
                     lambda: os.chmod(m / "random4096", 0o600),
                     lambda: os.rename(m / "link", m / "l"), lambda: os.setxattr(m / "random4096", "user.x", b""),
                     lambda: os.open(m / "random4096", os.O_RDWR), lambda: os.utime(m / "random4096"),
                     lambda: os.symlink("x", m / "s"), lambda: os.link(m / "random4096", m / "h")):
            assert errno_of(call) == errno.EROFS
        check(m.path)
        assert mounts_of(volume)[0]["read_only"]
    assert contents(volume.path) == before


def test_read_only_mount_of_an_unclean_volume(volume):
    """It shows what the journal holds, and changes nothing."""
    m = volume.mount()
    with m:
        write_file(m / "f", pattern(1, 300000))
        syncfs(m.path)
        with opened(m / "f", os.O_RDWR) as fd:
            os.pwrite(fd, b"overwritten", 100000)
            os.fsync(fd)
        m.crash()
        m.mount().ok()
        with opened(m / "f", os.O_RDWR) as fd:
            os.pwrite(fd, b"again", 200000)
            os.fsync(fd)
        m.crash()
        before = contents(volume.path)
        want = bytearray(pattern(1, 300000))
        want[100000:100011] = b"overwritten"
        want[200000:200005] = b"again"
        ro = volume.mount(options="ro")
        with ro:
            assert read_file(ro / "f") == want
        assert contents(volume.path) == before
        m.mount().ok()
        assert read_file(m / "f") == want
