"""latch lock and unlock under a mount."""

import errno
import os
import signal
import subprocess
import time

import pytest

import harness
from fsbox import PLAIN, check_volume
from syscalls import errno_of, opened, pattern, read_file, resident, write_file
from volumes import NAME, check, fill, mounts_of, unlock

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")


def test_lock_and_unlock(volume):
    with volume.mount() as m:
        fill(m.path)
        check(m.path)
        volume.lock("--force").ok()
        for call in (lambda: os.listdir(m.path), lambda: read_file(m / "random4096"), lambda: os.stat(m / "random1"),
                     lambda: os.readlink(m / "link"), lambda: write_file(m / "new", b""), lambda: os.stat(m / "no"),
                     lambda: os.getxattr(m / "random1", f"user.{NAME}"), lambda: os.unlink(m / "random4096"),
                     lambda: os.mkdir(m / "d"), lambda: os.rename(m / "link", m / "l")):
            assert errno_of(call) == errno.ENOKEY
        assert m.is_mounted() and mounts_of(volume)[0]["locked"]
        assert errno_of(os.stat, m.path) in (0, errno.ENOKEY)
        unlock(volume)
        check(m.path)
        write_file(m / "new", b"works on")
        os.unlink(m / "new")
    with volume.mount() as m:
        check(m.path)
    check_volume(volume)


def test_lock_with_open_files(volume):
    """Handles stay; they are refused while locked, and work on afterwards. Dirty pages reach the disk."""
    with volume.mount() as m:
        with opened(m / "f", os.O_RDWR | os.O_CREAT) as fd:
            os.write(fd, pattern(1, 200000))
            result = volume.lock("--force").ok()
            assert "1 mount" in result.out
            assert errno_of(os.pread, fd, 100, 0) == errno.ENOKEY
            assert errno_of(os.pread, fd, 100, 150000) == errno.ENOKEY
            assert write_error(fd) == errno.ENOKEY
            unlock(volume)
            assert os.pread(fd, 200000, 0) == pattern(1, 200000)
            os.pwrite(fd, b"after", 0)
            os.fsync(fd)
        assert read_file(m / "f") == b"after" + pattern(1, 200000)[5:]


def write_error(fd):
    """The error of a write and a sync: with the writeback cache the write itself may succeed."""
    return errno_of(os.pwrite, fd, b"x", 0) or errno_of(os.fsync, fd)


def test_lock_saves_what_was_written(volume):
    """kill -9 right after the lock loses nothing: it was on the disk before the keys went."""
    m = volume.mount()
    with m:
        for i in range(50):
            write_file(m / f"f{i}", pattern(i, 5000 * i))
        volume.lock("--force").ok()
        m.crash()
        m.mount().ok()
        for i in range(50):
            assert read_file(m / f"f{i}") == pattern(i, 5000 * i)


def test_lock_under_load(volume):
    """Writers and readers get ENOKEY, nothing worse; what they had synced reads back after the unlock."""
    script = ("import os, sys, errno\nn = 0\nwhile True:\n"
              "  try:\n"
              "    fd = os.open(sys.argv[1] + '/f%d' % n, os.O_CREAT | os.O_RDWR)\n"
              "    os.write(fd, b'%d' % n * 3000); os.fsync(fd); os.close(fd)\n"
              "  except OSError as e:\n"
              "    print(n); sys.exit(0 if e.errno == errno.ENOKEY else 1)\n"
              "  n += 1\n")
    with volume.mount() as m:
        for turn in range(3):
            top = m / f"t{turn}"
            os.mkdir(top)
            p = subprocess.Popen(["/usr/bin/python3", "-c", script, top], stdout=subprocess.PIPE, text=True)
            try:
                time.sleep(0.5)
                volume.lock("--force").ok()
                out, _ = p.communicate(timeout=60)
            finally:
                p.kill()
                p.wait()
            assert p.returncode == 0, "another error than ENOKEY"
            unlock(volume)
            assert int(out) > 0
            for n in range(int(out)):
                assert read_file(top / f"f{n}") == b"%d" % n * 3000
    check_volume(volume)


def test_lock_drops_the_page_cache(volume):
    """No page of a file stays with the kernel: a handle opened before finds nothing in memory."""
    with volume.mount() as m:
        write_file(m / "f", pattern(1, 4 << 20))
        read_file(m / "f")
        with opened(m / "f", os.O_RDONLY) as fd:
            assert resident(fd) > 0.5
            volume.lock("--force").ok()
            assert resident(fd) == 0
            unlock(volume)
            assert os.pread(fd, 4 << 20, 0) == pattern(1, 4 << 20)


def test_lock_with_a_mapping(volume):
    """A mapped page is gone as well: touching it is a bus error, not the old content."""
    with volume.mount() as m:
        write_file(m / "f", pattern(1, 100000))
        ready = volume.path.with_name("ready")
        script = ("import mmap, os, sys, time\nfd = os.open(sys.argv[1], os.O_RDONLY)\n"
                  "m = mmap.mmap(fd, 100000, prot=mmap.PROT_READ); m[:]\nopen(sys.argv[2], 'w').close()\n"
                  "while os.path.exists(sys.argv[2]): time.sleep(0.01)\n"
                  "print(m[50000:50010].hex())\n")
        p = subprocess.Popen(["/usr/bin/python3", "-c", script, m / "f", ready], stdout=subprocess.PIPE)
        try:
            harness.wait_until(ready.exists, what="the mapping")
            volume.lock("--force").ok()
            ready.unlink()
            out, _ = p.communicate(timeout=60)
        finally:
            p.kill()
            p.wait()
        assert out == b"" and p.returncode == -signal.SIGBUS
        unlock(volume)
        assert read_file(m / "f") == pattern(1, 100000)


def test_lock_after_keyd_was_killed(keyd, volume):
    """A lock through a new keyd reaches the mount although that has not found it yet."""
    with volume.mount() as m:
        write_file(m / "f", b"secret")
        keyd.kill()
        keyd.start()
        result = volume.lock("--force")
        assert result.returncode == 0, result.err
        with pytest.raises(OSError) as e:
            read_file(m / "f")
        assert e.value.errno == errno.ENOKEY
        unlock(volume)
        assert read_file(m / "f") == b"secret"


def test_sync_and_growth_after_unlock(volume):
    """The journal starts anew at an unlock: what is written and synced then survives kill -9."""
    with volume.mount() as m:
        with open(m / "open", "wb", buffering=0) as f:
            for round_number in range(3):
                f.write(pattern(round_number, 1 << 20))
                os.fsync(f.fileno())
                volume.lock("--force").ok()
                unlock(volume)
        for n in range(20):
            write_file(m / "tmp", pattern(n, 9000))
            os.rename(m / "tmp", m / "saved")
        fd = os.open(m / "open", os.O_RDWR)
        os.pwrite(fd, pattern(9, 70000), 4096 * 3)
        os.fsync(fd)
        os.close(fd)
        m.crash()
        m.mount().ok()
        want = bytearray(b"".join(pattern(i, 1 << 20) for i in range(3)))
        want[4096 * 3:4096 * 3 + 70000] = pattern(9, 70000)
        assert read_file(m / "open") == bytes(want)
        assert read_file(m / "saved") == pattern(19, 9000)
