"""What the tests of volumes write, and how they look at it again."""

import json
import os
import stat

import pytest

import harness
from syscalls import opened, pattern, read_file, write_file

MODES = pytest.mark.parametrize("options", [None, "writethrough"], ids=["writeback", "writethrough"])
CHUNK = 4096
SIZES = [0, 1, 3584, 3585, 4096, 4097, 112 * CHUNK + 5, 500 * CHUNK + 17]
MARKER = b"PlainTextMarker"
NAME = "SecretNameOfAFile"


def fill(top):
    """One of everything, with marker bytes in names, contents, targets and attributes."""
    for size in SIZES:
        write_file(top / f"{NAME}{size}", (MARKER * (size // len(MARKER) + 1))[:size])
        write_file(top / f"random{size}", pattern(size, size))
    os.makedirs(top / f"{NAME}Dir/inner")
    write_file(top / f"{NAME}Dir/inner" / (NAME * 14), MARKER)
    os.symlink(MARKER * 3, os.fsencode(top / "link"))
    os.symlink(MARKER * 270, os.fsencode(top / f"{NAME}LongLink"))
    os.link(top / "random4097", top / f"{NAME}Hard")
    os.mkfifo(top / f"{NAME}Fifo", 0o640)
    os.setxattr(top / "random1", f"user.{NAME}", MARKER * 10)
    os.chown(top / "random1", 1111, 2222)
    os.chmod(top / "random1", 0o4710)
    os.utime(top / "random3584", ns=(10**18, 10**18 + 7))


def check(top):
    check_without_count(top)
    assert len(os.listdir(top)) == 2 * len(SIZES) + 5


def check_without_count(top):
    for size in SIZES:
        assert read_file(top / f"{NAME}{size}") == (MARKER * (size // len(MARKER) + 1))[:size]
        assert read_file(top / f"random{size}") == pattern(size, size)
    assert read_file(top / f"{NAME}Dir/inner" / (NAME * 14)) == MARKER
    assert os.readlink(os.fsencode(top / "link")) == MARKER * 3
    assert os.readlink(os.fsencode(top / f"{NAME}LongLink")) == MARKER * 270
    assert read_file(top / f"{NAME}Hard") == pattern(4097, 4097)
    assert stat.S_ISFIFO(os.stat(top / f"{NAME}Fifo").st_mode)
    assert os.getxattr(top / "random1", f"user.{NAME}") == MARKER * 10
    st = os.stat(top / "random1")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o4710, 1111, 2222)
    assert os.stat(top / "random3584").st_mtime_ns == 10**18 + 7


def copied(volume, directory):
    """The same volume at another place, opened by the same passphrase."""
    other = harness.Volume(volume.keyd, directory)
    other.write_passfile()
    return other


def mounts_of(volume):
    shown = json.loads(volume.latch("status", "--json").ok().out)
    return [m for m in shown["mounts"] if m["volume"] == str(volume.path)]


def unlock(volume):
    """latch unlock; the mounts have their keys a moment after."""
    volume.unlock().ok()
    harness.wait_until(lambda: not any(m["locked"] for m in mounts_of(volume)), what="the mounts to unlock")


def every_file_reads(top):
    for place, dirs, files in os.walk(top, onerror=raise_error):
        for name in dirs + files:
            path = os.path.join(place, name)
            st = os.lstat(path)
            if stat.S_ISREG(st.st_mode):
                assert len(read_file(path)) == st.st_size


def raise_error(error):
    raise error
