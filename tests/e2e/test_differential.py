"""Random operations on a plain ext4 directory and on latchfs side by side: every result is the same.

LATCHFS_E2E_SEED chooses the seed (printed when a run fails), LATCHFS_E2E_STEPS the length of a run.
"""

import errno
import os
import random
import re
import stat

import pytest

import fsx
import harness
from syscalls import (FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, RENAME_EXCHANGE,
                      RENAME_NOREPLACE, fallocate, in_child, opened, pattern, renameat2, syncfs)

pytest_plugins = ["fsbox"]

SEED = os.environ.get("LATCHFS_E2E_SEED")
SEEDS = [int(SEED)] if SEED else [1, 2, 3]
STEPS = int(os.environ.get("LATCHFS_E2E_STEPS", "2500"))
FSX_STEPS = STEPS // 5
PAST = 1_500_000_000 * 10**9  # only utimensat sets times before this
CHUNK = 4096
SIZES = [0, 1, 100, 3583, 3584, 3585, 4095, 4096, 4097, 8192, 112 * CHUNK - 1, 112 * CHUNK, 112 * CHUNK + 1,
         241 * CHUNK]
NAMES = ["a", "b", "c", "dd", "Ü", "long" * 50, "x" * 255, "latchfs.dir"]
XATTRS = ["user.one", "user.two", "user." + "n" * 60, "trusted.three", "nonsense.four"]
MODES = [0o644, 0o600, 0o755, 0o4755, 0o2770, 0o1777, 0o000, 0o444]
# Not (-1, -1): it clears set-user-id on ext4, but is nothing by the time it reaches a FUSE daemon.
OWNERS = [(-1, 0), (-1, 1000), (0, -1), (0, 0), (0, 1000), (1000, -1), (1000, 1000)]
FALLOCS = [0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
           FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE]


class Side:
    """One of the two directories. Every operation returns what can be compared."""

    def __init__(self, root):
        self.root = root
        self.fds = {}

    def path(self, rel):
        return os.path.join(self.root, rel)

    def close_all(self):
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}

    # Each op_ method: plain arguments in, a comparable value out. OSError becomes its errno.

    def do(self, name, *args):
        try:
            return getattr(self, "op_" + name)(*args)
        except OSError as e:
            return "errno " + errno.errorcode.get(e.errno, str(e.errno))

    def op_open(self, slot, rel, flags, mode):
        fd = os.open(self.path(rel), flags | os.O_CLOEXEC, mode)
        if slot in self.fds:
            os.close(self.fds[slot])
        self.fds[slot] = fd
        return look_fd(fd)

    def op_close(self, slot):
        os.close(self.fds.pop(slot))

    def op_pwrite(self, slot, seed, size, offset):
        return os.pwrite(self.fds[slot], pattern(seed, size), offset), look_fd(self.fds[slot])

    def op_write(self, slot, seed, size):
        return os.write(self.fds[slot], pattern(seed, size)), os.lseek(self.fds[slot], 0, os.SEEK_CUR)

    def op_pread(self, slot, size, offset):
        return os.pread(self.fds[slot], size, offset)

    def op_seek(self, slot, offset, whence):
        if stat.S_ISDIR(os.fstat(self.fds[slot]).st_mode):
            return "left out"  # positions in a directory mean what the filesystem likes
        return os.lseek(self.fds[slot], offset, whence)

    def op_ftruncate(self, slot, size):
        os.ftruncate(self.fds[slot], size)
        return look_fd(self.fds[slot])

    def op_fallocate(self, slot, mode, offset, length):
        fallocate(self.fds[slot], mode, offset, length)
        return look_fd(self.fds[slot])

    def op_fsync(self, slot, data):
        (os.fdatasync if data else os.fsync)(self.fds[slot])

    def op_copy_range(self, a, b, size, offset_a, offset_b):
        done = 0
        while done < size:
            n = os.copy_file_range(self.fds[a], self.fds[b], size - done, offset_a + done, offset_b + done)
            if n == 0:
                break
            done += n
        return done, look_fd(self.fds[b])

    def op_fchmod(self, slot, mode):
        os.fchmod(self.fds[slot], mode)
        return look_fd(self.fds[slot])

    def op_truncate(self, rel, size):
        os.truncate(self.path(rel), size)

    def op_read(self, rel):
        with opened(self.path(rel), os.O_RDONLY | os.O_NONBLOCK) as fd:
            return os.read(fd, 2 << 20)

    def op_stat(self, rel):
        return look(os.lstat(self.path(rel)))

    def op_mkdir(self, rel, mode):
        os.mkdir(self.path(rel), mode)

    def op_rmdir(self, rel):
        os.rmdir(self.path(rel))

    def op_unlink(self, rel):
        os.unlink(self.path(rel))

    def op_rename(self, old, new, flags):
        renameat2(self.path(old), self.path(new), flags)

    def op_link(self, old, new):
        if stat.S_ISLNK(os.lstat(self.path(old)).st_mode):
            return "left out"  # a target is bound to its directory; test_ops_names.py has what happens
        os.link(self.path(old), self.path(new), follow_symlinks=False)
        return look(os.lstat(self.path(new)))

    def op_symlink(self, target, rel):
        os.symlink(target, self.path(rel))

    def op_readlink(self, rel):
        return os.readlink(self.path(rel))

    def op_mknod(self, rel, mode):
        os.mknod(self.path(rel), mode, os.makedev(1, 3))

    def op_chmod(self, rel, mode):
        # Not through symlinks: ext4 would follow one to a name outside.
        if stat.S_ISLNK(os.lstat(self.path(rel)).st_mode):
            return "link"
        return os.chmod(self.path(rel), mode)

    def op_chown(self, rel, uid, gid):
        os.chown(self.path(rel), uid, gid, follow_symlinks=False)
        return look(os.lstat(self.path(rel)))

    def op_utime(self, rel, ns):
        os.utime(self.path(rel), ns=(ns, ns + 1), follow_symlinks=False)
        return os.lstat(self.path(rel)).st_mtime_ns

    def op_list(self, rel):
        return sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in os.scandir(self.path(rel)))

    def no_trusted(self, rel, name):
        """The backing filesystem keeps no user.* attribute for a symlink or a special file, so a volume keeps
        no trusted.* there."""
        mode = os.lstat(self.path(rel)).st_mode
        return name.startswith("trusted.") and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))

    def op_setxattr(self, rel, name, seed, size, flags):
        if self.no_trusted(rel, name):
            return "left out"
        os.setxattr(self.path(rel), name, pattern(seed, size), flags, follow_symlinks=False)

    def op_getxattr(self, rel, name):
        return os.getxattr(self.path(rel), name, follow_symlinks=False)

    def op_removexattr(self, rel, name):
        if self.no_trusted(rel, name):
            return "left out"
        os.removexattr(self.path(rel), name, follow_symlinks=False)

    def op_listxattr(self, rel):
        return sorted(n for n in os.listxattr(self.path(rel), follow_symlinks=False) if n != "security.selinux")

    def op_access(self, rel, mode):
        return os.access(self.path(rel), mode)


def look(st):
    """What must be the same. Not so: inode number, ctime, blocks, the time now, a directory's size; what goes
    through a FIFO moves its mtime on ext4 only."""
    mtime = st.st_mtime_ns if st.st_mtime_ns < PAST else "now"
    if stat.S_ISFIFO(st.st_mode):
        mtime = None
    size = None if stat.S_ISDIR(st.st_mode) else st.st_size
    return oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, size, st.st_rdev, mtime


def look_fd(fd):
    return look(os.fstat(fd))


def whole_tree(side):
    """Every name with its attributes, xattrs and content."""
    out = {}
    for top, dirs, files in os.walk(side.root):
        for name in sorted(dirs + files):
            rel = os.path.relpath(os.path.join(top, name), side.root)
            st = os.lstat(side.path(rel))
            attrs = {n: side.do("getxattr", rel, n) for n in side.do("listxattr", rel)}
            content = None
            if stat.S_ISREG(st.st_mode):
                content = side.do("read", rel)
            elif stat.S_ISLNK(st.st_mode):
                content = side.do("readlink", rel)
            out[rel] = look(st), attrs, content
    return out


class Dice:
    """Draws operations. Names come from a small set, so that they collide often."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def name(self):
        depth = self.r.choice([0, 0, 1, 1, 2])
        return "/".join(self.r.choice(NAMES) for _ in range(depth + 1))

    def size(self):
        return self.r.choice([self.r.choice(SIZES), self.r.randrange(6000), self.r.randrange(300000)])

    def flags(self):
        flags = self.r.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
        for flag, chance in ((os.O_CREAT, 0.7), (os.O_EXCL, 0.15), (os.O_TRUNC, 0.15), (os.O_APPEND, 0.1),
                             (os.O_NOFOLLOW, 0.1), (os.O_DIRECTORY, 0.03), (os.O_SYNC, 0.03)):
            if self.r.random() < chance:
                flags |= flag
        if flags & os.O_DIRECTORY:
            flags &= ~os.O_CREAT  # what both together mean differs between kernel versions
        return flags | os.O_NONBLOCK

    def draw(self, open_slots):
        r = self.r
        slot = r.choice(sorted(open_slots)) if open_slots else None
        seed = r.randrange(1 << 30)
        if slot is not None and r.random() < 0.5:
            return r.choice([
                lambda: ("pwrite", slot, seed, self.size() % 70000, self.size()),
                lambda: ("pwrite", slot, seed, r.randrange(1, 9000), self.size()),
                lambda: ("write", slot, seed, r.randrange(1, 9000)),
                lambda: ("pread", slot, self.size(), self.size()),
                lambda: ("seek", slot, self.size(), r.choice([os.SEEK_SET, os.SEEK_END])),
                lambda: ("ftruncate", slot, self.size()),
                lambda: ("fallocate", slot, r.choice(FALLOCS), self.size(), 1 + self.size()),
                lambda: ("fsync", slot, r.random() < 0.5),
                lambda: ("copy_range", slot, r.choice(sorted(open_slots)), self.size(), self.size(), self.size()),
                lambda: ("fchmod", slot, r.choice(MODES)),
                lambda: ("close", slot),
            ])()
        return r.choice([
            lambda: ("open", r.randrange(8), self.name(), self.flags(), r.choice(MODES)),
            lambda: ("open", r.randrange(8), self.name(), self.flags(), r.choice(MODES)),
            lambda: ("truncate", self.name(), self.size()),
            lambda: ("read", self.name()),
            lambda: ("stat", self.name()),
            lambda: ("mkdir", self.name(), r.choice(MODES)),
            lambda: ("mkdir", self.name(), 0o755),
            lambda: ("rmdir", self.name()),
            lambda: ("unlink", self.name()),
            lambda: ("rename", self.name(), self.name(), 0),
            lambda: ("rename", self.name(), self.name(), r.choice([0, RENAME_NOREPLACE, RENAME_EXCHANGE])),
            lambda: ("link", self.name(), self.name()),
            lambda: ("symlink", r.choice([self.name(), "t" * r.choice([10, 2000, 3100, 4095])]), self.name()),
            lambda: ("readlink", self.name()),
            lambda: ("mknod", self.name(), r.choice([stat.S_IFIFO, stat.S_IFCHR, stat.S_IFREG]) | 0o644),
            lambda: ("chmod", self.name(), r.choice(MODES)),
            lambda: ("chown", self.name(), *r.choice(OWNERS)),
            lambda: ("utime", self.name(), r.randrange(PAST)),
            lambda: ("list", r.choice([".", self.name()])),
            lambda: ("setxattr", self.name(), r.choice(XATTRS), seed, r.choice([0, 1, 50, 600]), r.choice([0, 0, 1, 2])),
            lambda: ("getxattr", self.name(), r.choice(XATTRS)),
            lambda: ("removexattr", self.name(), r.choice(XATTRS)),
            lambda: ("listxattr", self.name()),
            lambda: ("access", self.name(), r.choice([os.F_OK, os.R_OK, os.W_OK, os.X_OK])),
        ])()


def short(value):
    text = re.sub(r"(.{1,4}?)\1{10,}", r"\1…", repr(value))
    return text if len(text) < 400 else f"{text[:200]} … {text[-100:]} ({len(text)} characters, hash {hash(text):x})"


def refuse(seed, log, what, expected, got):
    history = "\n".join(f"  {i}: {short(s)}" for i, s in log[-25:])
    pytest.fail(f"seed {seed} (LATCHFS_E2E_SEED={seed}), {what}\n ext4:    {short(expected)}\n latchfs: {short(got)}\n"
                f"last steps:\n{history}")


def compare_trees(seed, log, plain, other, when):
    want, got = whole_tree(plain), whole_tree(other)
    for rel in sorted(want.keys() | got.keys()):
        if want.get(rel) != got.get(rel):
            refuse(seed, log, f"{rel!r} differs {when}", want.get(rel), got.get(rel))


@pytest.fixture
def control():
    """A directory beside the volume, on the same filesystem."""
    work = harness.Workdir()
    yield str(work.path)
    work.remove()


@pytest.mark.parametrize("seed", SEEDS)
def test_same_as_ext4(fs, control, seed):
    plain, other = Side(control), Side(str(fs.dir))
    dice, log = Dice(seed), []
    os.umask(0o022)
    try:
        for step in range(STEPS):
            if step % 250 == 249:
                compare_trees(seed, log, plain, other, f"after step {step}")
                if step % 500 == 499:
                    plain.close_all()
                    other.close_all()
                    fs.remount()
                    compare_trees(seed, log, plain, other, f"after the remount at step {step}")
                else:
                    syncfs(fs.dir)
            call = dice.draw(plain.fds.keys())
            log.append((step, call))
            expected, got = plain.do(*call), other.do(*call)
            if expected != got:
                refuse(seed, log, f"step {step}: {short(call)}", expected, got)
        compare_trees(seed, log, plain, other, "at the end")
    finally:
        plain.close_all()
        other.close_all()


@pytest.mark.parametrize("seed", SEEDS)
def test_fsx(fs, seed):
    """Reads, writes, mappings, truncations and holes in one file, against a copy in memory."""
    runner = fsx.Runner(fs / "f", seed)
    for leg in range(4):
        runner.model = in_child(lambda n=leg: runner.run(n, FSX_STEPS), timeout=300)
        fs.remount()
        runner.check_whole(f"after remount {leg}")
