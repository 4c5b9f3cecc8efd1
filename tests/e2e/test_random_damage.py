"""Random damage below: errors for what was hit, but the daemon lives, answers, and unmounts."""

import errno
import os
import random
import shutil
import stat

import pytest

from fsbox import PLAIN
from harness import CORRUPT, IO, OK
from syscalls import in_child, pattern, read_file, write_file
from volumes import fill

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

ROUNDS = 12
WOUNDS = 6  # in each round

# What a damaged volume may answer. ENOTCONN and ECONNABORTED would say that the daemon is gone.
EXPECTED = {errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ENODATA, errno.ESTALE,
            errno.EINVAL, errno.ENXIO, errno.ENOKEY, errno.ELOOP, errno.EPERM, errno.EFBIG, errno.EOPNOTSUPP, errno.ENAMETOOLONG}


# ---- wounds ----


def entries(top, kind):
    """Paths of a kind below top, the key store left out: that is latch's to refuse."""
    found = []
    for place, dirs, files in os.walk(top):
        for name in sorted(dirs + files):
            path = os.path.join(place, name)
            if kind(os.lstat(path).st_mode) and not name.startswith("latchfs.ini"):
                found.append(path)
    return sorted(found)


def patch(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def wound_bytes(r, files, dirs):
    path = r.choice(files)
    size = os.path.getsize(path)
    if size:
        at = r.choice([r.randrange(size), r.randrange(min(size, 512)), r.randrange(min(size, 4096))])
        patch(path, at, r.choice([r.randbytes(1), bytes(32), r.randbytes(r.randrange(1, 5000))]))


def wound_length(r, files, dirs):
    path = r.choice(files)
    size = os.path.getsize(path)
    os.truncate(path, r.choice([0, 1, 511, 512, 4096, r.randrange(size + 1), size + r.randrange(10000), size + (1 << 40)]))


def wound_swap(r, files, dirs):
    a, b = r.choice(files + dirs), r.choice(files + dirs)
    if not a.startswith(b) and not b.startswith(a):
        for x, y in ((a, a + ".x"), (b, a), (a + ".x", b)):
            os.rename(x, y)


def wound_pages(r, files, dirs):
    a, b = r.choice(files), r.choice(files)
    if min(os.path.getsize(a), os.path.getsize(b)) > 8192:
        with open(a, "rb") as f:
            f.seek(4096)
            patch(b, 4096, f.read(4096))


def wound_gone(r, files, dirs):
    path = r.choice(files)
    os.unlink(path)
    r.choice([lambda: None, lambda: os.mkdir(path), lambda: os.symlink("latchfs.dir", path), lambda: os.mkfifo(path),
              lambda: write_file(path, r.randbytes(3000))])()


def wound_name(r, files, dirs):
    path = r.choice(files + dirs)
    name = os.path.basename(path)
    at = r.randrange(len(name))
    os.rename(path, os.path.join(os.path.dirname(path), name[:at] + r.choice("Ax._-") + name[at + 1:]))


def wound_attribute(r, files, dirs):
    for path in files:
        for name in os.listxattr(path):
            os.setxattr(path, name, r.randbytes(r.choice([0, 5, 40])))


WOUND_KINDS = [wound_bytes, wound_bytes, wound_bytes, wound_length, wound_swap, wound_pages, wound_gone, wound_name, wound_attribute]


def damage(top, r, count):
    for _ in range(count):
        files, dirs = entries(top, stat.S_ISREG), entries(top, stat.S_ISDIR)
        try:
            r.choice(WOUND_KINDS)(r, files, dirs)
        except OSError as e:
            if e.errno not in EXPECTED:
                raise


# ---- use ----


class Refusals(list):
    """Errors seen; unexpected ones stay as they are."""

    def of(self, call, *args):
        try:
            return call(*args)
        except OSError as e:
            if e.errno not in EXPECTED:
                raise
            self.append(e.errno)
            return None


def use(top, seed):
    """Lists, reads and changes everything; returns how many calls were refused."""
    refused = Refusals()
    paths = []
    for place, dirs, files in os.walk(os.fsencode(top), onerror=lambda e: refused.of(raise_it, e)):
        paths += [os.path.join(place, n) for n in dirs + files]
    for path in paths:
        st = refused.of(os.lstat, path)
        if st and stat.S_ISREG(st.st_mode) and st.st_size < 1 << 30:
            refused.of(read_file, path)
        elif st and stat.S_ISLNK(st.st_mode):
            refused.of(os.readlink, path)
        for name in refused.of(os.listxattr, path) or [] if st and not stat.S_ISLNK(st.st_mode) else []:
            refused.of(os.getxattr, path, name)
    change(refused, paths, random.Random(seed))
    refused.of(write_file, os.path.join(top, f"new{seed}"), pattern(1, 100000), os.O_NONBLOCK)  # it may be a named pipe by now
    return len(refused)


def raise_it(error):
    raise error


def overwrite(path, offset):
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.pwrite(fd, pattern(2, 5000), offset)
        os.fsync(fd)
    finally:
        os.close(fd)


def change(refused, paths, r):
    for path in paths:
        st = refused.of(os.lstat, path)
        if st and stat.S_ISREG(st.st_mode):
            refused.of(r.choice([lambda p: overwrite(p, 100), lambda p: overwrite(p, 5000), lambda p: os.truncate(p, 1000),
                                 lambda p: os.truncate(p, 9000), lambda p: os.setxattr(p, "user.x", b"y"), os.unlink,
                                 lambda p: os.rename(p, p + b"2"), lambda p: os.link(p, p + b"3")]), path)
        elif st and stat.S_ISDIR(st.st_mode):
            refused.of(os.mkdir, os.path.join(path, b"sub"))
            refused.of(r.choice([os.rmdir, lambda p: os.rename(p, p + b"2"), os.listdir]), path)


def still_alive(m):
    """The daemon answers, be it with an error."""
    assert m.is_mounted()
    try:
        os.statvfs(m.path)
    except OSError as e:
        assert e.errno in EXPECTED, e


@pytest.fixture(scope="module")
def filled(bins, _watchdog):
    """A volume with everything, unmounted, and a copy of it."""
    import harness

    work = harness.Workdir()
    keyd = harness.Keyd(bins, work.path / "keyd").start()
    try:
        volume = harness.Volume(keyd, work.path / "vol").create()
        with volume.mount() as m:
            fill(m.path)
        shutil.copytree(volume.path, work.path / "kept", symlinks=True, ignore=lambda d, names: [n for n in names if is_fifo(d, n)])
        yield volume, work.path / "kept"
    finally:
        keyd.stop()
        work.remove()


def is_fifo(place, name):
    return stat.S_ISFIFO(os.lstat(os.path.join(place, name)).st_mode)


def restore(volume, kept):
    shutil.rmtree(volume.path)
    shutil.copytree(kept, volume.path, symlinks=True)


def put_back(path, kept):
    """As it was, whatever stands there now: a directory, a link, a named pipe, nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    shutil.copy2(kept, path)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_damaged_while_unmounted(filled, seed):
    volume, kept = filled
    restore(volume, kept)
    damage(volume.path, random.Random(seed), WOUNDS)
    mount = volume.mount(check_umount=False)
    try:
        result = mount.mount()
        assert result.returncode in (OK, CORRUPT, IO), result
        if result.returncode == OK:
            in_child(lambda: use(mount.path, seed), timeout=60)
            still_alive(mount)
            mount.umount()
            assert not mount.is_mounted()
    finally:
        mount.force_away()


@pytest.mark.parametrize("seed", range(100, 100 + ROUNDS))
def test_damaged_while_mounted(filled, seed):
    volume, kept = filled
    restore(volume, kept)
    r = random.Random(seed)
    mount = volume.mount(options=r.choice([None, "writethrough"]), check_umount=False)
    try:
        mount.mount().ok()
        for _ in range(3):
            damage(volume.path, r, WOUNDS // 2)
            in_child(lambda: use(mount.path, seed), timeout=60)
            still_alive(mount)
        mount.umount()
        assert not mount.is_mounted()
    finally:
        mount.force_away()


def test_a_named_pipe_for_a_journal(filled):
    """Nothing waits for its other end."""
    volume, kept = filled
    restore(volume, kept)
    mount = volume.mount(check_umount=False)
    try:
        mount.mount().ok()
        write_file(mount / "new", pattern(1, 9000))
        os.unlink(volume.path / "latchfs.journal")
        os.mkfifo(volume.path / "latchfs.journal")
        mount.umount()
        assert not mount.is_mounted()
        assert mount.mount().returncode == CORRUPT
        assert volume.latch("verify", "--passphrase-file", volume.passfile, volume.path).returncode == CORRUPT
    finally:
        mount.force_away()


def test_the_damage_is_seen(filled):
    """The wounds are no scratches: most rounds have something refused."""
    volume, kept = filled
    restore(volume, kept)
    damage(volume.path, random.Random(7), 40)
    for name in ("latchfs.dir", "latchfs.journal"):
        put_back(volume.path / name, kept / name)
    mount = volume.mount(check_umount=False)
    try:
        mount.mount().ok()
        assert in_child(lambda: use(mount.path, 7), timeout=60) > 3
    finally:
        mount.force_away()
