"""The kernel opens and closes files without asking: what a program holds keeps working all the same, and who holds
files is known all the same."""

import ctypes
import dataclasses
import errno
import json
import mmap
import os
import resource
import stat
import subprocess
import time

import pytest

import harness
from fsbox import PLAIN, check_volume
from keylife import protect
from mutebox import FLUSH, POLL, mute_filesystem
from syscalls import errno_of, in_child, opened, pattern, read_file, write_file
from volumes import mounts_of

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about mounts")
PYTHON = "/usr/bin/python3"


# ---- what a handle can do ----


def handles(top):
    """Everything that used to lean on an open of the daemon's."""
    with opened(top / "f", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b"0123456789")
        os.fchmod(fd, 0)
        os.pwrite(fd, b"A", 0)
        os.fsync(fd)
        assert os.pread(fd, 10, 0) == b"A123456789"
        os.unlink(top / "f")
        os.pwrite(fd, b"B", 1)
        os.fsync(fd)
        os.ftruncate(fd, 5)
        assert os.pread(fd, 10, 0) == b"AB234" and os.fstat(fd).st_nlink == 0
        os.fchmod(fd, 0o600)
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    write_file(top / "f", b"old")
    with opened(top / "f", os.O_RDONLY) as fd, opened(top / "f", os.O_WRONLY) as out:
        write_file(top / "new", b"new")
        os.rename(top / "new", top / "f")
        os.pwrite(out, b"O", 0)
        assert os.pread(fd, 10, 0) == b"Old" and read_file(top / "f") == b"new"
    with opened(top / "f", os.O_WRONLY | os.O_APPEND) as fd, opened(top / "f", os.O_WRONLY | os.O_TRUNC) as cut:
        assert os.fstat(cut).st_size == 0 and read_file(top / "f") == b""
        os.write(cut, b"1")
        os.write(fd, b"2")
        os.write(fd, b"3")
        assert read_file(top / "f") == b"123"
    os.chmod(top / "f", 0o400)
    if os.geteuid():
        assert errno_of(os.open, top / "f", os.O_WRONLY) == errno.EACCES
        assert errno_of(os.open, top / "f", os.O_RDWR | os.O_TRUNC) == errno.EACCES
    with opened(top / "read-only", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o400) as fd:
        os.write(fd, b"written once")
    assert read_file(top / "read-only") == b"written once"


@pytest.mark.parametrize("options", [None, "writethrough"])
def test_handles_as_root(volume, options):
    with volume.mount(options=options) as m:
        for turn in ("first", "again"):  # the first open is the one that the kernel asks about
            os.mkdir(m / turn)
            handles(m / turn)
    check_volume(volume)


def frugal(bins, directory):
    """latch, and all that it starts, under ulimit -n 128."""
    wrapper = directory / "latch-128"
    wrapper.write_text(f'#!/bin/sh\nulimit -n 128\nexec {bins.latch} "$@"\n')
    wrapper.chmod(0o755)
    return dataclasses.replace(bins, latch=str(wrapper))


HELD = 300


def hold_many(top):
    """More handles than the daemon may have descriptors, of files that lose their mode, and every second one its name."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (HELD + 100, HELD + 100))
    fds = []
    for i in range(HELD):
        fds.append(os.open(top / f"f{i}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.write(fds[i], pattern(i, 5000))
    for i, fd in enumerate(fds):
        os.fchmod(fd, 0)
        if i % 2:
            os.unlink(top / f"f{i}")
    for fd in fds:
        os.pwrite(fd, b"after", 100)
    for i, fd in enumerate(fds):
        os.fsync(fd)
        assert os.pread(fd, 5000, 0) == pattern(i, 5000)[:100] + b"after" + pattern(i, 5000)[105:]
    for i in range(0, HELD, 2):
        os.chmod(top / f"f{i}", 0o400)
    os.listdir(top)
    for fd in fds:
        os.close(fd)


@pytest.mark.heavy
@pytest.mark.parametrize("ordinary", [False, True])
def test_few_descriptors(bins, workdir, user, ordinary):
    home = workdir / "home"
    home.mkdir()
    who = user if ordinary else None
    if who:
        os.chown(home, user.pw_uid, user.pw_gid)
    with harness.Keyd(frugal(bins, workdir), home / "keyd", user=who) as keyd:
        volume = harness.Volume(keyd, home / "vol", user=who).create()
        with volume.mount() as m:
            assert " 128 " in harness.Path(f"/proc/{m.pid}/limits").read_text().split("Max open files")[1]
            in_child(lambda: hold_many(m.path), uid=who and who.pw_uid, gid=who and who.pw_gid)
            assert sorted(os.listdir(volume.path)) != []
        left = [p for p in os.listdir(volume.path) if p.startswith("latchfs.tmp")]
        assert left == [], "what was removed while it was held is gone"
        with volume.mount() as m:
            names = in_child(lambda: os.listdir(m.path), uid=who and who.pw_uid, gid=who and who.pw_gid)
            assert sorted(names) == sorted(f"f{i}" for i in range(0, HELD, 2))
        check_volume(volume)


# ---- who holds files ----


def held(volume):
    return mounts_of(volume)[0]["open_files"]


def test_open_files_are_counted(volume):
    """Files, not handles; mapped ones and removed ones too; no directories."""
    with volume.mount() as m:
        protect(volume, m / "one")
        write_file(m / "f", pattern(1, 10000))
        write_file(m / "one" / "g", b"g")
        assert held(volume) == 0
        with opened(m / "f", os.O_RDONLY) as fd, opened(m / "f", os.O_RDWR) as other, opened(m.path, os.O_RDONLY):
            assert held(volume) == 1
            with opened(m / "one" / "g", os.O_RDONLY) as g:
                os.unlink(m / "one" / "g")
                assert held(volume) == 2
                assert sorted(d["open_files"] for d in mounts_of(volume)[0]["directories"]) == [1, 1]
                assert os.pread(g, 1, 0) == b"g"
            mapped = mmap.mmap(fd, 10000, prot=mmap.PROT_READ)
            assert other >= 0
        # Python's mmap keeps a descriptor of its own; a child that is told to close all has the mapping alone.
        assert held(volume) == 1
        mapped.close()
        assert held(volume) == 0


def test_a_mapping_alone_is_counted(volume, workdir):
    script = ("import ctypes, os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\nlibc = ctypes.CDLL(None)\n"
              "libc.mmap.restype = ctypes.c_void_p\n"
              "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]\n"
              "libc.mmap(None, 4096, 1, 1, fd, 0)\nos.close(fd)\nprint('mapped', flush=True)\ninput()\n")
    with volume.mount() as m:
        write_file(m / "f", pattern(1, 10000))
        p = subprocess.Popen([PYTHON, "-c", script, m / "f"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert p.stdout.readline() == "mapped\n"
            assert held(volume) == 1
        finally:
            p.communicate("\n", timeout=60)
        assert held(volume) == 0


def test_another_mount_namespace_is_counted(volume, workdir):
    """A bind mount elsewhere, in a namespace of its own, is the same mount."""
    place = workdir / "elsewhere"
    place.mkdir()
    script = 'mount --bind "$0" "$1" && umount "$0" && exec 3< "$1/f" && echo open && read line'
    with volume.mount() as m:
        write_file(m / "f", b"f")
        p = subprocess.Popen(["unshare", "-m", "--propagation", "private", "/bin/bash", "-c", script, m.path, place],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
        try:
            assert p.stdout.readline() == "open\n"
            assert held(volume) == 1
            assert volume.lock().returncode == harness.BUSY
        finally:
            p.communicate("\n", timeout=60)
        assert held(volume) == 0
        volume.lock().ok()
        volume.unlock().ok()


@pytest.mark.alone  # nor can other mounts look into it
@pytest.mark.parametrize("mute,seen,script", [
    (POLL, 1, "import os, select, sys; select.epoll().register(os.open(sys.argv[1], os.O_RDWR))"),
    (FLUSH, 0, "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); os.execv('/bin/true', ['true'])"),
], ids=["epoll", "exec"])
def test_a_process_that_cannot_be_looked_into(volume, workdir, mute, seen, script):
    """Its epoll descriptor or all of it is locked for as long as a filesystem of its own does not answer."""
    place = workdir / "mute"
    place.mkdir()
    with volume.mount() as m:
        write_file(m / "f", b"f")
        with opened(m / "f", os.O_RDONLY):
            with mute_filesystem(place, mute) as asked:
                p = subprocess.Popen([PYTHON, "-c", script, place / "file"], stderr=subprocess.DEVNULL)
                assert asked.wait(60)
                shown = volume.latch("status", "--json", timeout=30).ok().out
            p.wait(timeout=60)
        assert [x["open_files"] for x in json.loads(shown)["mounts"] if x["volume"] == str(volume.path)] == [seen]


@pytest.mark.alone  # nor can others look into it
def test_unmounting_beside_such_a_process(volume, workdir):
    """Who keeps the mount busy cannot be told then, and is not waited for."""
    place = workdir / "mute"
    place.mkdir()
    script = "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); os.execv('/bin/true', ['true'])"
    with volume.mount() as m:
        write_file(m / "f", b"f")
        with opened(m / "f", os.O_RDONLY):
            with mute_filesystem(place, FLUSH) as asked:
                p = subprocess.Popen([PYTHON, "-c", script, place / "file"])
                assert asked.wait(60)
                result = volume.latch("umount", m.path, timeout=30)
            p.wait(timeout=60)
        assert result.returncode == harness.BUSY and "cannot be looked at" in result.err


# ---- idle time ----


def with_idle_time(keyd, volume, seconds):
    ini = (volume.path / "latchfs.ini").read_text()
    volume_id = next(line.split(" = ")[1] for line in ini.splitlines() if line.startswith("id = "))
    keyd.stop()
    keyd.config.write_text(f"[keyd]\nidle_exit_seconds = 0\n[directory {volume_id}//]\nidle_seconds = {seconds}\n")
    keyd.start()
    volume.unlock().ok()


def test_use_that_the_kernel_answers_counts(keyd, volume):
    """Names, attributes and content are cached for a day, and nothing is held open for long: whoever reads warm files
    again and again is not taken for idle. Once he ends, he is."""
    with volume.mount() as m:
        with_idle_time(keyd, volume, 4)
        write_file(m / "f", b"warm")
        end = time.monotonic() + 12
        while time.monotonic() < end:
            assert read_file(m / "f") == b"warm"
            time.sleep(0.2)
        harness.wait_until(lambda: mounts_of(volume)[0]["locked"], what="the idle lock")
        volume.unlock().ok()
        harness.wait_until(lambda: errno_of(read_file, m / "f") == 0, what="the unlock")
