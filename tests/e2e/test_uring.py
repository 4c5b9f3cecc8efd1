"""A mount whose requests come by io_uring (-o uring): it does what any mount does, and ends as any mount does."""

import contextlib
import errno
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

import harness
import uring
from fsbox import PLAIN
from requestbox import workers
from syscalls import errno_of, opened, pattern, read_file, write_file
from volumes import check, fill, mounts_of, unlock

pytest_plugins = ["fsbox"]
pytestmark = [pytest.mark.skipif(PLAIN, reason="about a mount"),
              pytest.mark.skipif(not uring.can_switch(), reason="no FUSE over io_uring here, or it cannot be switched"),
              pytest.mark.skipif(uring.BY_DEFAULT, reason="switches it itself; all others have it on")]

SOURCES = Path(__file__).resolve().parents[2] / "fs"
MIB = 1 << 20


@contextlib.contextmanager
def ring_mount(volume, more=None, on=True):
    m = volume.mount(options=",".join(filter(None, ["uring", more])))
    with uring.switched(on):
        m.__enter__()
    try:
        yield m
    except BaseException as e:
        m.__exit__(type(e), e, None)
        raise
    m.__exit__(None, None, None)


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def rings(pid):
    return sum("io_uring" in os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.parametrize("more", [None, "writethrough", "shared"])
def test_real_work(volume, more):
    with ring_mount(volume, more) as m:
        assert rings(m.pid) >= os.cpu_count()
        shutil.copytree(SOURCES, m / "tree")
        assert subprocess.run(["diff", "-r", SOURCES, m / "tree"], check=False).returncode == 0
        write_file(m / "big", pattern(1, 20 * MIB + 17))
        os.mkdir(m / "d")
        fill(m / "d")
    with ring_mount(volume, more) as m:
        assert subprocess.run(["diff", "-r", SOURCES, m / "tree"], check=False).returncode == 0
        assert read_file(m / "big") == pattern(1, 20 * MIB + 17)
        check(m / "d")
        shutil.rmtree(m / "tree")
        assert sorted(os.listdir(m)) == ["big", "d"]


def test_needs_option_and_host(volume):
    with ring_mount(volume, on=False) as m:
        assert rings(m.pid) == 0
        write_file(m / "f", b"x")
    with uring.switched(True):
        m = volume.mount()
        m.__enter__()
    assert rings(m.pid) == 0
    assert read_file(m / "f") == b"x"
    m.__exit__(None, None, None)


def test_threads_of_every_processor(volume):
    with ring_mount(volume) as m:
        write_file(m / "f", b"x")
        homes = [os.sched_getaffinity(w) for w in workers(m.pid)]
        for cpu in os.sched_getaffinity(0):
            assert sum(home == {cpu} for home in homes) >= 2


def test_many_clients(volume):
    """Each its own files, at once, and each finds what it wrote."""
    wrong = []

    def client(top, i):
        try:
            for k in range(8):
                with opened(top / f"{i}-{k}", os.O_CREAT | os.O_RDWR, 0o600) as fd:
                    os.pwrite(fd, pattern(i * 8 + k, 9000), 0)
                    os.fsync(fd)
                    assert os.pread(fd, 9000, 0) == pattern(i * 8 + k, 9000)
                os.rename(top / f"{i}-{k}", top / f"done-{i}-{k}")
        except BaseException as e:
            wrong.append(e)

    with ring_mount(volume) as m:
        threads = [threading.Thread(target=client, args=(m.path, i)) for i in range(64)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong
        assert len(os.listdir(m)) == 64 * 8


def keep_writing(top):
    def call():
        with contextlib.suppress(OSError):
            for i in range(100000):
                write_file(top / f"n{i}", pattern(i, 3000))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_killed_under_load(volume):
    with ring_mount(volume) as m:
        write_file(m / "kept", pattern(3, 5000))
        os.sync()
        busy = keep_writing(m.path)
        time.sleep(0.3)
        m.crash()
        busy.join(20)
        assert not busy.is_alive()
    with ring_mount(volume) as m:
        assert read_file(m / "kept") == pattern(3, 5000)
        assert mounts_of(volume)[0]["auth_failures"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_aborted_under_load(volume):
    with ring_mount(volume) as m:
        pid = m.pid
        busy = keep_writing(m.path)
        time.sleep(0.3)
        harness.abort_connection(harness.mount_device(m.path))
        busy.join(20)
        assert not busy.is_alive()
        harness.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the daemon to end")
        m.force_away()


def at_once(calls):
    """Threads that begin their calls together, running."""
    ready = threading.Barrier(len(calls))
    threads = [threading.Thread(target=lambda call=call: (ready.wait(), call()), daemon=True) for call in calls]
    for t in threads:
        t.start()
    return threads


def freeze_and_thaw(volume, m, calls=()):
    volume.latch("freeze", "--for", 60, os.fspath(m)).ok()
    waiting = at_once(calls) if calls else []
    time.sleep(0.2 if calls else 0)
    volume.latch("thaw", os.fspath(m)).ok()
    for t in waiting:
        t.join(20)
        assert not t.is_alive()


def test_changes_wait_and_reads_go_on(volume):
    """Many more than there are threads, and all in one moment; as many as one processor has entries for."""
    data, many = pattern(1, 30000), 32 * max(2, min(8, 16 // os.cpu_count())) - 16
    with ring_mount(volume) as m:
        os.mkdir(m / "d")
        for i in range(many):
            write_file(m / "d" / f"{i}", b"")
        write_file(m / "f", data)
        os.sync()
        with opened(m / "f", os.O_RDONLY) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        volume.latch("freeze", "--for", 60, os.fspath(m)).ok()
        waiting = at_once([lambda i=i: os.chmod(m / "d" / f"{i}", 0o600) for i in range(many)])
        time.sleep(0.5)
        assert all(t.is_alive() for t in waiting)
        read = []
        reader = threading.Thread(target=lambda: read.append(read_file(m / "f")), daemon=True)
        reader.start()
        reader.join(20)
        went_on = read == [data]
        volume.latch("thaw", os.fspath(m)).ok()
        assert went_on
        for t in waiting:
            t.join(20)
        assert {os.stat(m / "d" / f"{i}").st_mode & 0o777 for i in range(many)} == {0o600}


def test_a_change_at_the_thaw_goes_on(volume):
    """One that comes while a freeze ends, of one program alone, when threads have more entries than others."""
    stop, count = threading.Event(), [0]

    def change():
        while not stop.is_set():
            os.chmod(m / "0", 0o600 + count[0] % 8)
            count[0] += 1

    with ring_mount(volume) as m:
        for i in range(200):
            write_file(m / f"{i}", b"")
        os.sync()
        freeze_and_thaw(volume, m, [lambda i=i: os.chmod(m / f"{i}", 0o640) for i in range(200)])
        thread = threading.Thread(target=change, daemon=True)
        thread.start()
        for _ in range(25):
            freeze_and_thaw(volume, m)
            before = count[0]
            harness.wait_until(lambda before=before: count[0] > before + 1, what="the change to go on")
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def address_space(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.heavy
def test_room_for_what_waits_is_made_once(volume):
    with ring_mount(volume) as m:
        files = [m / f"{i}" for i in range(100)]
        for path in files:
            write_file(path, b"")
        os.sync()
        sizes = [(resident(m.pid), address_space(m.pid))]
        for i in range(4):
            freeze_and_thaw(volume, m, [lambda path=path, i=i: os.chmod(path, 0o600 + i) for path in files])
            sizes.append((resident(m.pid), address_space(m.pid)))
        assert sizes[1][1] - sizes[0][1] > 100 * MIB, "the room is not seen"
        assert sizes[-1][1] - sizes[1][1] < 150 * MIB  # one MiB each, for as many as waited at a time
        assert max(kept for kept, _ in sizes) - sizes[0][0] < 8 * MIB


def test_lock_wipes(volume):
    """session_wipe reaches every thread, or the lock fails."""
    with ring_mount(volume) as m:
        for i in range(20):
            write_file(m / f"f{i}", pattern(i, 100000))
        volume.lock("--force").ok()
        assert mounts_of(volume)[0]["locked"]
        assert errno_of(read_file, m / "f1") in (errno.ENOKEY, errno.EACCES, errno.ENOENT)
        unlock(volume)
        assert read_file(m / "f1") == pattern(1, 100000)


@pytest.mark.heavy
def test_memory_of_a_stream_is_given_back(volume):
    """Threads that had data by the megabyte keep none of it once they have nothing to do."""
    with ring_mount(volume) as m:
        before = resident(m.pid)
        write_file(m / "f", pattern(1, 200 * MIB))
        assert read_file(m / "f") == pattern(1, 200 * MIB)
        harness.wait_until(lambda: resident(m.pid) < before + 28 * MIB, what="memory to be given back")


def test_idle_sleeps(volume):
    with ring_mount(volume) as m:
        write_file(m / "f", b"x")
        os.sync()
        time.sleep(1)

        def switches():
            return sum(int((Path(f"/proc/{m.pid}/task/{w}/status").read_text().split("\nvoluntary_ctxt_switches:")[1]).split()[0])
                       for w in workers(m.pid))

        before = switches()
        time.sleep(3)
        assert switches() - before < 20
