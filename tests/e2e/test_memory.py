"""Memory of the daemon: idle, with 100,000 cached inodes, and with a stream of data."""

import os
from pathlib import Path

import pytest

MIB = 1 << 20


def resident(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


@pytest.mark.heavy
def test_idle(volume):
    with volume.mount() as m:
        assert os.listdir(m.path) == []
        peak = resident(m.pid)
    assert peak < 16 * MIB, f"{peak / MIB:.1f} MiB"


@pytest.mark.heavy
def test_hundred_thousand_inodes(volume):
    with volume.mount() as m:
        for d in range(100):
            os.mkdir(m / f"d{d}")
            for i in range(1000):
                os.close(os.open(m / f"d{d}/file {i}", os.O_CREAT | os.O_WRONLY, 0o600))
        held = [os.open(m / f"d{d}", os.O_PATH) for d in range(100)]
        for d in range(100):
            with os.scandir(m / f"d{d}") as entries:
                assert sum(1 for e in entries if e.stat().st_ino) == 1000
        peak = resident(m.pid)
        for fd in held:
            os.close(fd)
    assert peak < 64 * MIB, f"{peak / MIB:.1f} MiB"


@pytest.mark.heavy
def test_streaming(volume):
    block = os.urandom(MIB)
    with volume.mount() as m:
        fd = os.open(m / "stream", os.O_CREAT | os.O_RDWR, 0o600)
        for _ in range(1500):
            os.write(fd, block)
        os.fsync(fd)
        os.lseek(fd, 0, os.SEEK_SET)
        while os.read(fd, MIB):
            pass
        os.close(fd)
        peak = resident(m.pid)
    assert peak < 96 * MIB, f"{peak / MIB:.1f} MiB"
