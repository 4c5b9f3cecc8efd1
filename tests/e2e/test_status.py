"""What latch status says about the journal: fill, last replay, a failed sync, seals, a freeze."""

import errno
import os
import time

import pytest

import harness
from fsbox import PLAIN
from keylife import user_home
from syscalls import errno_of, in_child, opened, read_file, write_file
from volumes import mounts_of

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")


def shown(volume):
    one, = mounts_of(volume)
    return one


def table(volume):
    """The lines below the mount's own."""
    lines = volume.latch("status").ok().out.splitlines()
    at = next(i for i, line in enumerate(lines) if str(volume.path) in line)
    return [line.strip() for line in lines[at + 1:]]


def overwrite(path, data, at=0):
    with opened(path, os.O_WRONLY) as fd:
        os.pwrite(fd, data, at)
        os.fsync(fd)


def test_a_sound_mount(volume):
    with volume.mount() as m:
        one = shown(volume)
        assert one["journal_bytes"] == 64 << 20 and one["failed_sync"] is None and one["frozen_until"] == 0
        assert one["replay"] == {"unclean": False, "entries": 0, "files": 0, "skipped": 0, "torn": 0}
        write_file(m / "f", bytes(100000))
        overwrite(m / "f", b"x" * 50000)
        one = shown(volume)
        assert one["journal_used"] > 50000 or one["checkpoint_at"] > 0
        lines = table(volume)
        assert any(line.startswith("journal: ") and "of 65536 KiB in use" in line for line in lines), lines
        assert any(line.startswith("seals: ") for line in lines)
        assert not any("replayed" in line or "failed" in line for line in lines)
        harness.wait_until(lambda: shown(volume)["checkpoint_at"] > 0, what="a checkpoint")
        assert abs(shown(volume)["checkpoint_at"] - time.time()) < 600
        assert any("last put in place" in line for line in table(volume))


def test_last_replay(volume):
    with volume.mount() as m:
        write_file(m / "f", bytes(100000))
        write_file(m / "g", bytes(9000))
        overwrite(m / "f", b"x" * 9000)
        overwrite(m / "g", b"y" * 9000)
        m.crash()
    with volume.mount() as m:
        replay = shown(volume)["replay"]
        assert replay["unclean"] and replay["files"] == 2 and replay["entries"] >= 2
        assert f"replayed at its start, after an unclean end: {replay['entries']} changes of 2 files" in table(volume)
        assert read_file(m / "g") == b"y" * 9000


@pytest.mark.heavy  # a library before the sanitizers' own does not start
def test_failed_sync(volume, workdir):
    """The mount says why it takes no more changes, and the next one is whole."""
    marker = workdir / "broken"
    library = harness.build_dir() / "tests/e2e/failsync.so"
    if not library.exists():
        pytest.skip("failsync.so is not built")

    class Below(harness.Volume):
        def latch(self, *args, **more):
            if args[0] == "mount":
                more["env"] = dict(self.keyd.env, LD_PRELOAD=str(library), FAILSYNC=str(marker))
            return super().latch(*args, **more)

    with harness.Mount(Below(volume.keyd, volume.path), workdir / "broken.mnt", check_umount=False) as m:
        write_file(m / "f", b"good" * 5000)
        overwrite(m / "f", b"x" * 5000)
        marker.touch()
        assert errno_of(overwrite, m / "f", b"y" * 5000) in (errno.EIO, errno.EROFS)
        one = shown(volume)
        assert one["failed"] and one["read_only"] and "nput/output error" in one["failed_sync"]
        assert any(line.startswith("read-only since a sync failed") and "nput/output error" in line for line in table(volume))
        marker.unlink()
        assert errno_of(os.mkdir, m / "new") == errno.EROFS
        assert read_file(m / "f")[10000:] == (b"good" * 5000)[10000:]
        refused = volume.latch("freeze", m.path)
        assert refused.returncode == harness.IO and "read-only" in refused.err
    with volume.mount() as m:
        assert shown(volume)["failed_sync"] is None
        assert read_file(m / "f")[:5000] in (b"x" * 5000, b"y" * 5000)
        write_file(m / "new", b"z")


def test_frozen(volume):
    with volume.mount() as m:
        volume.latch("freeze", "--for", "300", m.path).ok()
        assert 0 < shown(volume)["frozen_until"] - time.time() <= 300
        assert any(line.startswith("frozen until ") for line in table(volume))
        assert " frozen " in volume.latch("status").ok().out
        volume.latch("thaw", m.path).ok()
        assert not any("frozen" in line for line in table(volume))


def test_seals(volume):
    with volume.mount() as m:
        write_file(m / "f", os.urandom(200000))
        with opened(m / "f", os.O_RDONLY) as fd:
            os.fsync(fd)
        assert shown(volume)["seals"] >= 0
        harness.wait_until(lambda: shown(volume)["seals"] + shown(volume)["seals_waiting"] > 0, what="a file to wait for a seal")


def test_a_long_path_to_the_socket(bins, workdir, user):
    """A user's run directory may be longer than the address of a socket can be."""
    home, entry = user_home(workdir)
    run = home / ("d" * 120) / "run"

    class Deep(harness.Keyd):
        @property
        def env(self):
            return super().env | {"XDG_RUNTIME_DIR": str(run)}

    in_child(lambda: os.makedirs(run), uid=entry.pw_uid, gid=entry.pw_gid)
    with Deep(bins, home / "keyd", user=entry) as own:
        volume = harness.Volume(own, home / "vol", user=entry).create()
        with volume.mount() as m:
            assert shown(volume)["pid"] == m.pid
            volume.latch("freeze", m.path).ok()
            volume.latch("thaw", m.path).ok()
            names = os.listdir(run / "latchfs/mounts")
            assert len(names) == 1 and names[0].endswith(f".{m.pid}.sock")
        assert os.listdir(run / "latchfs/mounts") == []
