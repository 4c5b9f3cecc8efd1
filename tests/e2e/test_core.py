"""Nothing of what is locked stays in the memory of the daemon: no content, no name, no key.

The keys are derived from the volume by the independent reader (tests/reader), so that a copy of any of them is
found wherever it lies: /proc/PID/mem is read whole."""

import mmap
import os
import sys
from pathlib import Path

import pytest

import keylife
from fsbox import PLAIN
from keylife import protect
from syscalls import errno_of, opened, write_file
from volumes import unlock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reader"))
latchread = pytest.importorskip("latchread")

pytest_plugins = ["fsbox"]
pytestmark = [
    pytest.mark.skipif(PLAIN, reason="about volumes"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of the daemon"),
]

BIG = 3 << 20


class Marks:
    """Plaintext that stands in one directory and nowhere else. The marks are long and random, and reach the
    kernel by the mount alone."""

    def __init__(self, top):
        self.top = top
        self.content, self.name, self.target, self.xattr, self.attr_name = (os.urandom(12).hex() for _ in range(5))
        self.places = {"content": self.content, "name": self.name, "target of a link": self.target,
                       "attribute": self.xattr, "name of an attribute": self.attr_name}

    def text(self, size):
        return (self.content.encode() * (size // len(self.content) + 1))[:size]

    def path(self, *more):
        return os.path.join(self.top, self.name + "-dir", *more)

    def write(self):
        """Every way by which plaintext gets into the daemon: small and large, cached and direct, in place and by the
        journal; names short and long."""
        os.makedirs(self.path("inner"))
        for size in (100, 3584, 5000, BIG):
            write_file(self.path(f"{self.name}-{size}"), self.text(size))
        write_file(self.path("inner", (self.name * 10)[:240]), self.text(9000))
        os.symlink(self.target * 3, self.path("link"))
        os.symlink(self.target * 100, self.path("long-link"))
        big = self.path(f"{self.name}-{BIG}")
        os.setxattr(big, f"user.{self.attr_name}", self.xattr.encode() * 20)
        os.setxattr(self.path("inner"), f"user.{self.attr_name}", self.xattr.encode() * 20)
        with opened(big, os.O_RDWR) as fd:
            for at in range(0, BIG, 300001):
                os.pwrite(fd, self.text(10000), at)
            os.fsync(fd)
            os.copy_file_range(fd, fd, 20000, 5000, 900000)
            os.ftruncate(fd, BIG - 4097)
            with mmap.mmap(fd, 100000) as m:
                m[50000:50000 + 3000] = self.text(3000)
        os.rename(self.path(f"{self.name}-100"), self.path(f"{self.name}-renamed"))
        os.link(self.path(f"{self.name}-5000"), self.path(f"{self.name}-hard"))
        os.unlink(self.path(f"{self.name}-hard"))

    def read(self):
        for place, _, files in os.walk(self.top):
            for name in files:
                path = os.path.join(place, name)
                if os.path.islink(path):
                    os.readlink(path)
                    continue
                os.listxattr(path)
                with opened(path, os.O_RDONLY) as fd:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    while os.read(fd, 1 << 20):
                        pass
        os.getxattr(self.path("inner"), f"user.{self.attr_name}")
        os.rename(self.path("inner"), self.path(f"{self.name}-inner"))
        os.rename(self.path(f"{self.name}-inner"), self.path("inner"))

    def found_in(self, memory):
        return {what for what, text in self.places.items() if memory.has(text.encode())}


class Memory:
    """All that a process can read of its own."""

    def __init__(self, pid):
        self.pieces = []
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                span, mode = line.split()[:2]
                low, high = (int(x, 16) for x in span.split("-"))
                if high - low > 1 << 36:
                    pytest.skip("a sanitizer keeps freed memory, and has terabytes of its own")
                if mode[0] == "r" and not line.endswith(("[vvar]", "[vvar_vclock]", "[vsyscall]")):
                    mem.seek(low)
                    self.pieces.append((line, self.without_zeros(mem.read(high - low))))

    @staticmethod
    def without_zeros(data):
        """Without the pages that were never touched."""
        page, zeros = 4096, bytes(4096)
        return b"".join(data[i:i + page] for i in range(0, len(data), page) if data[i:i + page] != zeros)

    def has(self, needle):
        return any(needle in data for _, data in self.pieces)

    def where(self, needle):
        return [line for line, data in self.pieces if needle in data]


def halves(key):
    return [key[i:i + 16] for i in range(0, len(key), 16)]


class Keys:
    """Every key of a volume by name, in pieces of 16 bytes: a piece is as telling as the whole, and is found where a
    key was overwritten in part."""

    def __init__(self, volume):
        with open(volume.path / "latchfs.ini", "rb") as f:
            self.store = latchread.Keys(f.read(), "passphrase", volume.passphrase.encode())
        self.volume = volume

    def journal(self):
        return {"journal": self.store.journal, "journal's subkey": latchread.subkey(self.store.journal, b"latchfsJ", 1)}

    def directory(self, pd):
        p = self.store.directories[pd]
        found = {f"directory key {v}": k for v, k in p.keys.items()}
        found.update({"names": p.siv, "records": p.record, "links": p.symlink, "attributes": p.xattr})
        return found

    def files(self, pd):
        found = {}
        for place, _, names in os.walk(self.volume.path):
            for name in names:
                path = os.path.join(place, name)
                try:
                    with opened(path, os.O_RDONLY | os.O_NOFOLLOW) as fd:
                        if os.pread(fd, 512, 0)[32:48] != pd:
                            continue
                        keys = latchread.File(fd, self.store, self.store.directories[pd]).file_keys
                except (latchread.Bad, OSError):  # not a file of ours, a link, or removed meanwhile
                    continue
                for epoch, key in keys.items():
                    found[f"{path} {epoch}"] = key
                    for n in range(1, 5):
                        found[f"{path} {epoch}/{n}"] = latchread.subkey(key, b"latchfsF", n)
        return found

    @staticmethod
    def found_in(memory, keys):
        return {name: memory.where(piece) for name, key in keys.items() for piece in halves(key) if memory.has(piece)}


def pd_of(volume, name):
    """The id of the protected directory of that name."""
    return bytes.fromhex(keylife.directory(volume, name)["id"])


def is_in_use(memory, keys, pd):
    """The scan finds what must be there: else it proves nothing."""
    return bool(Keys.found_in(memory, {n: k for n, k in keys.directory(pd).items() if n.startswith("directory")}))


def assert_clean(m, marks, keys):
    memory = Memory(m.pid)
    assert marks.found_in(memory) == set()
    assert Keys.found_in(memory, keys) == {}


def test_lock_of_the_volume_leaves_nothing(volume):
    with volume.mount() as m:
        marks = Marks(m.path)
        marks.write()
        marks.read()
        before = Memory(m.pid)
        assert "content" in marks.found_in(before) and "name" in marks.found_in(before)
        volume.lock().ok()
        keys = Keys(volume)
        assert is_in_use(before, keys, keys.store.root)
        everything = {**keys.journal(), **keys.directory(keys.store.root), **keys.files(keys.store.root)}
        assert len(everything) > 30
        assert_clean(m, marks, everything)
        unlock(volume)
        marks.read()
        volume.lock().ok()
        assert_clean(m, marks, everything)


def test_what_is_refused_while_locked_is_forgotten(volume):
    """Names that are looked up, and what a program goes on writing, reach the daemon after the lock."""
    with volume.mount() as m:
        marks = Marks(m.path)
        marks.write()
        with opened(marks.path(f"{marks.name}-5000"), os.O_RDWR) as fd:
            volume.lock("--force").ok()
            assert errno_of(os.pwrite, fd, marks.text(8192), 0) or errno_of(os.fsync, fd)
            assert_clean(m, marks, {})
            assert errno_of(os.stat, marks.path("inner"))
            assert_clean(m, marks, {})
        unlock(volume)


@pytest.fixture
def two(volume):
    """A mount with two protected directories and what marks them."""
    with volume.mount() as m:
        marks = {}
        for name in ("one", "other"):
            protect(volume, m / name)
            marks[name] = Marks(str(m / name))
            marks[name].write()
            marks[name].read()
        yield m, marks


def test_lock_of_a_directory_leaves_nothing_of_it(volume, two):
    m, marks = two
    keys = Keys(volume)
    pds = {name: pd_of(volume, name) for name in marks}
    before = Memory(m.pid)
    assert all(is_in_use(before, keys, pd) for pd in pds.values())
    volume.latch("lock", m / "one").ok()
    locked = {**keys.directory(pds["one"]), **keys.files(pds["one"])}
    assert len(locked) > 20
    assert_clean(m, marks["one"], locked)
    marks["other"].read()
    assert is_in_use(Memory(m.pid), keys, pds["other"])
    assert_clean(m, marks["one"], locked)
    volume.latch("unlock", m / "one").ok()
    marks["one"].read()
    assert is_in_use(Memory(m.pid), keys, pds["one"])
    volume.lock().ok()
    for name, pd in pds.items():
        assert_clean(m, marks[name], {**keys.directory(pd), **keys.files(pd), **keys.journal()})


def test_lock_under_way_of_work_leaves_nothing(volume, two):
    """Workers that are busy elsewhere wipe as well."""
    m, marks = two
    keys = Keys(volume)
    pd = pd_of(volume, "one")
    with keylife.load(str(m / "other" / "load")):
        for _ in range(5):
            volume.latch("lock", m / "one").ok()
            assert_clean(m, marks["one"], {**keys.directory(pd), **keys.files(pd)})
            volume.latch("unlock", m / "one").ok()
            marks["one"].read()


def test_rotation_leaves_nothing(volume, two):
    """The thread of a re-encryption has read and written everything."""
    m, marks = two
    pd = pd_of(volume, "one")
    keylife.admin(volume, "rotate", "data", m / "one").ok()
    keys = Keys(volume)
    volume.latch("lock", m / "one").ok()
    assert_clean(m, marks["one"], {**keys.directory(pd), **keys.files(pd)})
