"""kill -9 of latchfs and latch-keyd: nothing synced is lost, every file reads."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress

import pytest

import harness
from fsbox import PLAIN, check_volume
from syscalls import opened, pattern, read_file, syncfs, write_file
from tracked import Load, Tracked, look_after
from volumes import MODES, check, copied, every_file_reads, fill, mounts_of

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

# ---- kill -9 of the daemon ----


WORKER = """
import os, random, sys
top, seed = sys.argv[1], int(sys.argv[2])
r = random.Random(seed)
os.mkdir(f"{top}/w{seed}")
i = 0
while True:
    name = f"{top}/w{seed}/f{i % 40}"
    data = random.Random(seed * 100000 + i).randbytes(r.choice([10, 3000, 5000, 100000]))
    try:
        fd = os.open(name + ".new", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.write(fd, data)
        if i % 3 == 0:
            os.pwrite(fd, data[:7], len(data) // 2)
        os.fsync(fd)
        os.close(fd)
        os.rename(name + ".new", name)
        d = os.open(f"{top}/w{seed}", os.O_RDONLY)
        os.fsync(d)
        os.close(d)
    except OSError:
        break
    print(i, len(data), flush=True)
    # Not synced: may be lost, must be readable.
    try:
        fd = os.open(f"{top}/w{seed}/loose{i % 10}", os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, data, r.randrange(300000))
        os.ftruncate(fd, r.randrange(300000))
        os.close(fd)
    except OSError:
        break
    i += 1
"""


def expected_data(seed, i, size):
    data = bytearray(random.Random(seed * 100000 + i).randbytes(size))
    if i % 3 == 0:
        data[size // 2:size // 2 + 7] = data[:7]
    return bytes(data)


def load_then_crash(m, seconds, seeds=(1, 2)):
    """kill -9 under load; returns for each worker what it said was synced: {file: (i, size)}."""
    logs = [m.volume.path.with_name(f"log{seed}") for seed in seeds]
    workers = []
    for seed, log in zip(seeds, logs):
        with open(log, "wb") as out:
            workers.append(subprocess.Popen(["/usr/bin/python3", "-c", WORKER, str(m.path), str(seed)], stdout=out))
    time.sleep(seconds)
    os.kill(m.pid, signal.SIGKILL)
    try:
        for w in workers:
            w.wait(timeout=60)
    finally:
        for w in workers:
            w.kill()
            w.wait()
    m.force_away()
    synced = {}
    for seed, log in zip(seeds, logs):
        done = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
        for i, size in done[-40:]:
            synced[f"w{seed}/f{i % 40}"] = (seed, i, size)
    return synced


def check_synced(top, synced):
    assert len(synced) > 10, "the load was too small to say anything"
    for name, (seed, i, size) in synced.items():
        got = read_file(top / name)
        # The next version may have been renamed over it without its writer hearing of it.
        later = [expected_data(seed, i + 40, s) for s in (10, 3000, 5000, 100000)]
        assert got == expected_data(seed, i, size) or got in later, f"{name}: version {i} is lost"


@MODES
@pytest.mark.parametrize("seconds", [1.0, 2.5])
def test_kill_9_under_load(volume, options, seconds):
    m = volume.mount(options=options)
    with m:
        fill(m.path)
        syncfs(m.path)
        synced = load_then_crash(m, seconds)
        m.mount().ok()
        replay = mounts_of(volume)[0]["replay"]
        # Skipped are entries of files that the load had replaced by then.
        assert replay["unclean"] and replay["entries"] > 0 and replay["torn"] == 0, replay
        check_synced(m.path, synced)
        every_file_reads(m.path)
        shutil.rmtree(m / "w1")
        shutil.rmtree(m / "w2")
        check(m.path)
        m.umount().ok()
        m.mount().ok()
        assert not mounts_of(volume)[0]["replay"]["unclean"]
        check(m.path)
    check_volume(volume)


@pytest.mark.heavy
def test_kill_9_again_and_again(volume):
    """Also while replaying: nothing synced is ever lost."""
    m = volume.mount()
    with m:
        fill(m.path)
        syncfs(m.path)
        known = {}
        for turn in range(6):
            seeds = (10 + 2 * turn, 11 + 2 * turn)
            known.update(load_then_crash(m, 0.8, seeds))
            killed_mount(m, 0.005 * turn)
            m.mount().ok()
            check_synced(m.path, known)
            every_file_reads(m.path)
        for entry in os.scandir(m.path):
            if entry.name.startswith("w"):
                shutil.rmtree(entry.path)
        check(m.path)
    check_volume(volume)


def kill_daemons(m):
    for pid in harness.daemon_pids(m.path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def killed_mount(m, after):
    """Starts a mount, and kills its daemon somewhere on its way."""
    starting = subprocess.Popen([m.volume.bins.latch, "mount", "--passphrase-file", m.volume.passfile, m.volume.path,
                                 m.path], env=m.volume.keyd.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                cwd="/")
    harness.wait_until(lambda: harness.daemon_pids(m.path) or starting.poll() is not None, what="latchfs to start")
    time.sleep(after)
    kill_daemons(m)
    starting.wait(timeout=60)
    kill_daemons(m)  # one that was forked while the first was killed
    m.force_away()


def test_kill_9_keeps_what_reached_the_daemon(volume):
    """Without the writeback cache no write that returned is lost, synced or not."""
    m = volume.mount(options="writethrough")
    with m:
        for i in range(60):
            write_file(m / f"f{i}", pattern(i, i * 700))
            if i % 3 == 0:
                with opened(m / f"f{i}", os.O_RDWR) as fd:
                    os.pwrite(fd, b"changed", i * 10)
            if i % 5 == 0:
                os.truncate(m / f"f{i}", i * 300)
        os.rename(m / "f7", m / "renamed")
        os.unlink(m / "f8")
        os.symlink("target", m / "link")
        m.crash()
        m.mount().ok()
        assert not (m / "f8").exists()
        assert os.readlink(m / "link") == "target"
        for i in range(60):
            want = bytearray(pattern(i, i * 700))
            if i % 3 == 0:
                want[i * 10:i * 10 + 7] = b"changed"
            if i % 5 == 0:
                del want[i * 300:]
            if i != 8:
                assert read_file(m / ("renamed" if i == 7 else f"f{i}")) == want, i
    check_volume(volume)


def test_replay_is_reported(volume):
    m = volume.mount()
    with m:
        for i in range(10):
            write_file(m / f"f{i}", pattern(i, 20000))
        syncfs(m.path)
        for i in range(10):
            with opened(m / f"f{i}", os.O_RDWR) as fd:
                os.pwrite(fd, b"over", 5000)
                os.fsync(fd)
        m.crash()
        m.mount().ok()
        replay = mounts_of(volume)[0]["replay"]
        assert replay["unclean"] and replay["entries"] >= 10 and replay["files"] == 10
        assert replay["torn"] == replay["skipped"] == 0
        assert "could not be put in place" not in volume.latch("status").ok().out


def test_crash_leaves_no_half_made_things(volume):
    m = volume.mount()
    with m:
        load_then_crash(m, 1.0)
        m.mount().ok()
    left = [p.name for p in volume.path.rglob("latchfs.tmp*")]
    assert left == []


def test_a_copy_of_an_unclean_volume(volume, workdir):
    m = volume.mount()
    with m:
        synced = load_then_crash(m, 1.0)
        shutil.copytree(volume.path, workdir / "copy", symlinks=True)
        with copied(volume, workdir / "copy").mount(workdir / "m2") as other:
            check_synced(other.path, synced)
            every_file_reads(other.path)
        m.mount().ok()
        check_synced(m.path, synced)
    check_volume(volume)
    check_volume(copied(volume, workdir / "copy"))


def test_a_lost_journal_is_not_an_empty_one(volume):
    m = volume.mount()
    with m:
        write_file(m / "f", pattern(1, 9000))
        m.umount().ok()
        journal = volume.path / "latchfs.journal"
        journal.rename(journal.with_name("aside"))
        result = m.mount()
        assert result.returncode != 0 and not m.is_mounted()
        journal.write_bytes(os.urandom(8192))
        result = m.mount()
        assert result.returncode != 0 and not m.is_mounted()
        journal.unlink()
        m.options = "ignore-journal"
        m.mount().ok()
        assert read_file(m / "f") == pattern(1, 9000)


# ---- a hundred times ----

CYCLES = int(os.environ.get("LATCHFS_KILL_CYCLES", "100"))
FILES = 8


def kill_under(m, loads):
    """kill -9; the dead mount goes when nobody writes any more. How much was done."""
    os.kill(m.pid, signal.SIGKILL)
    for load in loads:
        load.join(timeout=60)
        assert not load.is_alive() and load.wrong is None, load.wrong
    m.force_away()
    return sum(load.done for load in loads)


@pytest.mark.heavy
def test_kill_9_of_latchfs_a_hundred_times(volume):
    """In turn with and without the kernel's writeback cache; some of the daemons while they replay."""
    files = [{f"{w}-{i}": Tracked() for i in range(FILES)} for w in range(2)]
    m = volume.mount()
    steps = 0
    with m:
        m.umount().ok()
        for turn in range(CYCLES):
            through = turn % 2 == 1
            m.options = "writethrough" if through else None
            if turn % 10 == 9:
                killed_mount(m, 0.003 * (turn % 7))
            m.mount().ok()
            for f in files:
                look_after(m.path, f)
            loads = [Load(m.path, turn * 2 + w, f, through) for w, f in enumerate(files)]
            for load in loads:
                load.start()
            time.sleep(random.Random(turn).uniform(0.02, 0.25))
            steps += kill_under(m, loads)
        m.options = None
        m.mount().ok()
        for f in files:
            look_after(m.path, f)
        every_file_reads(m.path)
    assert steps > CYCLES, "the load was too small to say anything"
    check_volume(volume)


@pytest.mark.heavy
def test_kill_9_of_keyd_a_hundred_times(volume, keyd):
    """A mount has its keys: it goes on under load, and asks the next latch-keyd for them."""
    files = {f"f{i}": Tracked() for i in range(FILES)}
    with volume.mount() as m:
        load = Load(m.path, 1, files, False)
        load.start()
        for turn in range(CYCLES):
            time.sleep(random.Random(turn).uniform(0.01, 0.08))
            keyd.kill()
            if turn % 3 == 0:
                time.sleep(0.02)
            keyd.start()
            if turn % 10 == 5:
                volume.unlock().ok()
            assert load.is_alive(), load.wrong
        volume.unlock().ok()
        harness.wait_until(lambda: any(not s["locked"] for s in mounts_of(volume)), what="the mount to be known")
        before = load.done
        harness.wait_until(lambda: load.done > before, what="the load to go on")
        assert kill_under(m, [load]) > CYCLES
        m.mount().ok()
        look_after(m.path, files)
    check_volume(volume)


# ---- keyd ----


def test_kill_9_of_keyd(volume, keyd):
    """The mount goes on; latch status starts keyd again (or says that none runs); a mount asks anew."""
    with volume.mount() as m:
        fill(m.path)
        keyd.kill()
        check(m.path)
        write_file(m / "later", b"still writable")
        syncfs(m.path)
        volume.latch("status", "--json").ok()
        assert mounts_of(volume)[0]["locked"] is False
        keyd.start()
        check_without(m, "later")
        m.umount().ok()
        m.mount().ok()
        check_without(m, "later")


def check_without(m, name):
    content = read_file(m / name)
    os.unlink(m / name)
    check(m.path)
    write_file(m / name, content)


def test_keyd_is_started_by_need(volume, keyd):
    """A command that needs one starts it; it ends with the test."""
    keyd.stop()
    m = volume.mount()
    with m:
        write_file(m / "f", b"x")
        shown = json.loads(volume.latch("status", "--json").ok().out)
        assert shown["keyd"] is not None
        pid = shown["keyd"]["pid"]
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: not keyd.answers(), what="keyd to die")
        assert read_file(m / "f") == b"x"
        volume.unlock().ok()
        shown = json.loads(volume.latch("status", "--json").ok().out)
        assert shown["keyd"]["pid"] != pid
    os.kill(shown["keyd"]["pid"], signal.SIGTERM)
    harness.wait_until(lambda: not keyd.answers(), what="keyd to end")
