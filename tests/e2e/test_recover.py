"""latch recover: the journal of a volume whose mount died is put in place without mounting it."""

import fcntl
import os
import re
import shutil
import subprocess
import time

import pytest

from clibox import refused
from harness import BUSY, CORRUPT, IO, WRONG_PASSPHRASE
from offlinebox import Offline, cipher_path, snapshot
from syscalls import pattern, read_file, write_file
from volumes import CHUNK

CLEAN = 2 * 4096


@pytest.fixture
def offline(volume, workdir):
    return Offline(volume, workdir)


@pytest.fixture
def crashed(volume):
    """A volume whose mount was killed with synced changes in the journal; what its files hold."""
    held = {f"f{i}": pattern(i, 20000 + i) for i in range(12)}
    with volume.mount() as m:
        os.mkdir(m / "d")
        for name, data in held.items():
            write_file(m / "d" / name, data)
        os.sync()
    with volume.mount() as m:
        for i, name in enumerate(held):
            with open(m / "d" / name, "r+b") as f:
                f.seek(CHUNK)
                f.write(pattern(100 + i, CHUNK))
                os.fsync(f.fileno())
            data = bytearray(held[name])
            data[CHUNK:2 * CHUNK] = pattern(100 + i, CHUNK)
            held[name] = bytes(data)
        volume.in_place = {name: cipher_path(volume, m / "d" / name) for name in held}
        m.crash()
    assert os.stat(volume.path / "latchfs.journal").st_size > CLEAN
    return held


def check(offline, held):
    got = offline.cat(*(f"d/{name}" for name in held))
    for name, data in held.items():
        assert got[:len(data)] == data, name
        got = got[len(data):]


def is_clean(volume):
    return os.stat(volume / "latchfs.journal").st_size == CLEAN


def counts(result):
    return [int(n) for n in re.search(r"replayed (\d+) of (\d+) journal entries into (\d+) file", result.out).groups()]


def test_recover(volume, offline, crashed):
    check(offline, crashed)
    done, all_of_them, files = counts(offline("recover").ok())
    assert done == all_of_them >= len(crashed) and files == len(crashed)
    assert is_clean(volume.path)
    check(offline, crashed)
    # Without the journal: it is in place now.
    journal = volume.path / "latchfs.journal"
    kept = journal.read_bytes()
    journal.unlink()
    check(offline, crashed)
    journal.write_bytes(kept)
    before = {k: v[-1] for k, v in snapshot(volume.path).items() if k != "latchfs.journal"}
    assert "clean" in offline("recover").ok().out
    assert {k: v[-1] for k, v in snapshot(volume.path).items() if k != "latchfs.journal"} == before
    with volume.mount() as m:
        for name, data in crashed.items():
            assert read_file(m / "d" / name) == data


def test_refusals_change_nothing(volume, offline, crashed, workdir):
    before = snapshot(volume.path)
    wrong = workdir / "wrong"
    wrong.write_text("not it")
    offline.opening = ["--passphrase-file", wrong]
    refused(offline("recover"), WRONG_PASSPHRASE)
    assert snapshot(volume.path) == before


def test_in_use(volume, offline, crashed):
    with volume.mount() as m:
        refused(offline("recover"), BUSY, "mounted", str(m.path))
    with open(volume.path / "latchfs.journal", "rb") as journal:
        fcntl.flock(journal, fcntl.LOCK_SH)
        refused(offline("recover"), BUSY, "in use")


def test_a_copy_with_other_inodes(volume, offline, crashed, workdir):
    copy = workdir / "copy"
    shutil.copytree(volume.path, copy, symlinks=True)
    at = offline.at(copy)
    before = snapshot(copy)
    check(at, crashed)
    assert snapshot(copy) == before
    done, all_of_them, _ = counts(at("recover").ok())
    assert done == all_of_them and is_clean(copy)
    check(at, crashed)


def test_what_cannot_be_replayed_is_counted(volume, offline, crashed):
    gone, hurt = sorted(crashed)[:2]
    os.unlink(volume.path / volume.in_place[gone])
    with open(volume.path / volume.in_place[hurt], "r+b") as f:
        f.write(b"garbage!")
    result = offline("recover").ok()
    done, all_of_them, files = counts(result)
    assert files == len(crashed) - 2 and done < all_of_them and "gone or newer" in result.out
    for name in (gone, hurt):
        del crashed[name]
    check(offline, crashed)


def test_missing_and_broken_journal(volume, offline, crashed):
    journal = volume.path / "latchfs.journal"
    journal.unlink()
    before = snapshot(volume.path)
    refused(offline("recover"), CORRUPT, "latchfs.journal", "missing", "--ignore-journal")
    assert snapshot(volume.path) == before
    journal.write_bytes(os.urandom(100000))
    refused(offline("recover"), CORRUPT, "latchfs.journal", "--ignore-journal")
    offline("recover", "--ignore-journal").ok()
    assert is_clean(volume.path)
    for name, data in crashed.items():  # each chunk as it was before or after
        got = offline.cat(f"d/{name}")
        assert got[:CHUNK] == data[:CHUNK] and got[2 * CHUNK:] == data[2 * CHUNK:]
        assert got[CHUNK:2 * CHUNK] in (data[CHUNK:2 * CHUNK], pattern(int(name[1:]), 20000 + int(name[1:]))[CHUNK:2 * CHUNK])


def test_cut_short_and_run_again(volume, offline, crashed):
    for delay in (0.05, 0.09, 0.13, 0.17, 0.21):
        p = subprocess.Popen([str(a) for a in offline.argv("recover")], env=offline.env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        p.kill()
        p.wait()
        check(offline, dict(list(crashed.items())[:3]))
    offline("recover").ok()
    check(offline, crashed)


def test_full_disk(volume, offline, crashed, workdir):
    """Replay needs no more room than the unclean volume has already."""
    point = workdir / "small"
    point.mkdir()
    size = sum(p.stat().st_blocks * 512 for p in volume.path.rglob("*")) + (1 << 20)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", point], check=True)
    try:
        copy = point / "v"
        subprocess.run(["cp", "-a", "--sparse=never", volume.path, copy], check=True)
        with open(point / "filler", "wb") as f:
            try:
                while True:
                    f.write(bytes(1 << 16))
                    f.flush()
            except OSError:
                pass
        result = offline.at(copy)("recover")
        assert result.returncode in (0, IO), result.err
        check(offline.at(copy), crashed)
        os.unlink(point / "filler")
        offline.at(copy)("recover").ok()
        check(offline.at(copy), crashed)
    finally:
        subprocess.run(["umount", point], check=True)
