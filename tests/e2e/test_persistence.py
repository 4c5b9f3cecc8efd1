"""What was written stays: elsewhere, after kill -9, through locking; and what was tampered with is refused."""

import errno
import json
import mmap
import os
import shutil
import signal
import stat
import subprocess
import time

import pytest

import harness
from fsbox import PLAIN, check_volume
from syscalls import errno_of, in_child, opened, pattern, read_file, syncfs, write_file

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

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
    assert len(os.listdir(top)) == 2 * len(SIZES) + 5


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
                     lambda: os.unlink(m / "random4096"), lambda: os.mkdir(m / "d"), lambda: os.chmod(m / "random4096", 0o600),
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
    import random
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


def every_file_reads(top):
    for place, dirs, files in os.walk(top, onerror=raise_error):
        for name in dirs + files:
            path = os.path.join(place, name)
            st = os.lstat(path)
            if stat.S_ISREG(st.st_mode):
                assert len(read_file(path)) == st.st_size


def raise_error(error):
    raise error


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


def killed_mount(m, after):
    """Starts a mount, and kills its daemon somewhere on its way."""
    starting = subprocess.Popen([m.volume.bins.latch, "mount", "--passphrase-file", m.volume.passfile, m.volume.path,
                                 m.path], env=m.volume.keyd.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                cwd="/")
    harness.wait_until(lambda: harness.daemon_pids(m.path) or starting.poll() is not None, what="latchfs to start")
    time.sleep(after)
    for pid in harness.daemon_pids(m.path):
        os.kill(pid, signal.SIGKILL)
    starting.wait(timeout=60)
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


# ---- lock and unlock ----


def test_lock_and_unlock(volume):
    with volume.mount() as m:
        fill(m.path)
        check(m.path)
        volume.lock().ok()
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
            result = volume.lock().ok()
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
        volume.lock().ok()
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
                volume.lock().ok()
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

        def resident(fd):
            import ctypes
            with mmap.mmap(fd, 4 << 20, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE) as mapped:
                pages = (ctypes.c_ubyte * 1024)()
                libc = ctypes.CDLL(None, use_errno=True)
                libc.mmap.restype = ctypes.c_void_p
                libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
                at = libc.mmap(None, 4 << 20, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
                assert libc.mincore(ctypes.c_void_p(at), ctypes.c_size_t(4 << 20), pages) == 0
                libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(4 << 20))
                assert len(mapped) == 4 << 20
                return sum(p & 1 for p in pages)

        with opened(m / "f", os.O_RDONLY) as fd:
            assert resident(fd) == 1024
            volume.lock().ok()
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
            volume.lock().ok()
            ready.unlink()
            out, _ = p.communicate(timeout=60)
        finally:
            p.kill()
            p.wait()
        assert out == b"" and p.returncode == -signal.SIGBUS
        unlock(volume)
        assert read_file(m / "f") == pattern(1, 100000)


# ---- tampering ----


def backing_of(volume, m, name):
    """The backing file of a plaintext name: inode numbers are the same."""
    ino = os.lstat(m / name).st_ino
    return next(p for p in volume.path.rglob("*") if os.lstat(p).st_ino == ino and not p.name.startswith("latchfs."))


def flipped(path, offset):
    data = bytearray(read_file(path))
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("offset", [0, 5, 9, 16, 40, 100, 300, 511])
def test_damaged_header(volume, offset):
    """EIO for that file, and for no other."""
    with volume.mount() as m:
        fill(m.path)
        backing = backing_of(volume, m, f"random{500 * CHUNK + 17}")
        m.umount().ok()
        original = read_file(backing)
        flipped(backing, offset)
        m.mount().ok()
        assert errno_of(read_file, m / f"random{500 * CHUNK + 17}") == errno.EIO
        assert errno_of(os.truncate, m / f"random{500 * CHUNK + 17}", 5) == errno.EIO
        assert read_file(m / "random4096") == pattern(4096, 4096)
        assert len(os.listdir(m.path)) == 2 * len(SIZES) + 5
        if offset > 15:  # before that: magic, version, suite, flags
            assert mounts_of(volume)[0]["auth_failures"] > 0
        m.umount().ok()
        backing.write_bytes(original)
        m.mount().ok()
        assert read_file(m / f"random{500 * CHUNK + 17}") == pattern(500 * CHUNK + 17, 500 * CHUNK + 17)


def test_damaged_header_can_be_removed(volume):
    with volume.mount() as m:
        write_file(m / "f", pattern(1, 100000))
        backing = backing_of(volume, m, "f")
        m.umount().ok()
        flipped(backing, 20)
        m.mount().ok()
        assert errno_of(read_file, m / "f") == errno.EIO
        os.stat(m / "f")
        os.rename(m / "f", m / "g")
        os.unlink(m / "g")
        assert os.listdir(m.path) == []


@pytest.mark.parametrize("chunk", [0, 60, 111, 112, 300])
def test_damaged_chunk(volume, chunk):
    """Only what lies in that chunk is lost."""
    size = 400 * CHUNK
    with volume.mount() as m:
        write_file(m / "f", pattern(1, size))
        backing = backing_of(volume, m, "f")
        m.umount().ok()
        page = 1 + chunk if chunk < 112 else 113 + (chunk - 112) // 128 * 129 + 1 + (chunk - 112) % 128
        flipped(backing, page * CHUNK + 1000)
        m.mount().ok()
        with opened(m / "f", os.O_RDONLY) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            bad = [c for c in range(400) if errno_of(os.pread, fd, CHUNK, c * CHUNK) == errno.EIO]
            assert bad == [chunk]
            for c in range(400):
                if c != chunk:
                    assert os.pread(fd, CHUNK, c * CHUNK) == pattern(1, size)[c * CHUNK:(c + 1) * CHUNK]
        with opened(m / "f", os.O_RDWR) as fd:
            os.pwrite(fd, pattern(2, CHUNK), chunk * CHUNK)
            os.fsync(fd)
            assert os.pread(fd, CHUNK, chunk * CHUNK) == pattern(2, CHUNK)


@pytest.mark.parametrize("length", [1, 100, 511, 512, 600, 4095, 5000])
def test_cut_file(volume, length):
    """A file cut below its header is corrupt; cut behind it, it never reads as other bytes than it had."""
    data = pattern(1, 50 * CHUNK)
    with volume.mount() as m:
        write_file(m / "f", data)
        write_file(m / "g", b"other")
        backing = backing_of(volume, m, "f")
        m.umount().ok()
        os.truncate(backing, length)
        m.mount().ok()
        err = errno_of(read_file, m / "f")
        if not err:
            got = read_file(m / "f")
            assert all(got[i:i + CHUNK] in (data[i:i + CHUNK], bytes(len(got[i:i + CHUNK])))
                       for i in range(0, len(got), CHUNK))
        assert err == errno.EIO if length < 512 else err in (0, errno.EIO)
        assert read_file(m / "g") == b"other"


def test_files_swapped_between_directories(volume):
    """A ciphertext name is bound to its directory: moved elsewhere by hand, it does not appear there."""
    with volume.mount() as m:
        for d in ("one", "two"):
            os.mkdir(m / d)
            write_file(m / d / "same", d.encode())
        os.symlink("target", m / "one/link")
        one, two, link = (backing_of(volume, m, n) for n in ("one/same", "two/same", "one/link"))
        sub = backing_of(volume, m, "two")
        m.umount().ok()
        assert one.name != two.name
        os.rename(one, sub / one.name)
        os.rename(link, sub / link.name)
        m.mount().ok()
        assert os.listdir(m / "two") == ["same"]
        assert read_file(m / "two/same") == b"two"
        assert os.listdir(m / "one") == []
        assert mounts_of(volume)[0]["auth_failures"] > 0


def test_symlink_blobs_swapped_between_directories(volume):
    """The same name in two directories would decrypt; the target must not."""
    with volume.mount() as m:
        for d in ("one", "two"):
            os.mkdir(m / d)
            os.symlink(f"target of {d}", m / d / "link")
        one, two = (backing_of(volume, m, f"{d}/link") for d in ("one", "two"))
        m.umount().ok()
        blobs = os.readlink(one), os.readlink(two)
        for path, blob in zip((one, two), reversed(blobs)):
            path.unlink()
            os.symlink(blob, path)
        m.mount().ok()
        for d in ("one", "two"):
            assert errno_of(os.readlink, m / d / "link") == errno.EIO


def test_directory_moved_by_hand(volume):
    """Its record names its parent: found under another, it is refused."""
    with volume.mount() as m:
        os.makedirs(m / "one/sub")
        os.makedirs(m / "two/sub")
        write_file(m / "one/sub/f", b"x")
        write_file(m / "two/sub/g", b"y")
        one, two = (backing_of(volume, m, f"{d}/sub") for d in ("one", "two"))
        m.umount().ok()
        os.rename(one, one.with_name("aside"))
        os.rename(two, one)
        os.rename(one.with_name("aside"), two)
        m.mount().ok()
        for d in ("one", "two"):
            assert errno_of(os.listdir, m / d / "sub") == errno.EIO


def test_directory_records_swapped(volume):
    with volume.mount() as m:
        os.mkdir(m / "one")
        os.mkdir(m / "two")
        write_file(m / "one/f", b"x")
        write_file(m / "keep", b"fine")
        one = backing_of(volume, m, "one") / "latchfs.dir"
        m.umount().ok()
        flipped(one, 20)
        m.mount().ok()
        assert errno_of(os.listdir, m / "one") == errno.EIO
        assert os.listdir(m / "two") == []
        assert read_file(m / "keep") == b"fine"


def test_chunks_swapped_inside_a_file(volume):
    with volume.mount() as m:
        write_file(m / "f", pattern(1, 10 * CHUNK))
        backing = backing_of(volume, m, "f")
        m.umount().ok()
        data = bytearray(read_file(backing))
        data[CHUNK:2 * CHUNK], data[2 * CHUNK:3 * CHUNK] = data[2 * CHUNK:3 * CHUNK], data[CHUNK:2 * CHUNK]
        data[512:544], data[544:576] = data[544:576], data[512:544]
        backing.write_bytes(data)
        m.mount().ok()
        with opened(m / "f", os.O_RDONLY) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            assert errno_of(os.pread, fd, 100, 0) == errno.EIO
            assert errno_of(os.pread, fd, 100, CHUNK) == errno.EIO
            assert os.pread(fd, CHUNK, 2 * CHUNK) == pattern(1, 10 * CHUNK)[2 * CHUNK:3 * CHUNK]


def test_reading_a_damaged_page_by_mapping(volume):
    with volume.mount() as m:
        write_file(m / "f", pattern(1, 10 * CHUNK))
        backing = backing_of(volume, m, "f")
        m.umount().ok()
        flipped(backing, 5 * CHUNK)
        m.mount().ok()

        def touch():
            with opened(m / "f", os.O_RDONLY) as fd, mmap.mmap(fd, 10 * CHUNK, prot=mmap.PROT_READ) as mapped:
                return len(mapped[4 * CHUNK:5 * CHUNK])

        with pytest.raises(AssertionError, match="said nothing"):
            in_child(touch)
        assert m.is_mounted()
