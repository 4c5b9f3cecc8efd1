"""The cases: what somebody with the ciphertext may do to it. Each is a function of a box."""

import collections
import os

import verdict
from box import HEADER_FIELDS, RECORD_FIELDS, tag_pages

Row = collections.namedtuple("Row", "section title allow removes volume writes")
Case = collections.namedtuple("Case", "row label do")


class Map:
    """The ciphertext of one copy of the volume."""

    def __init__(self, top, look):
        self.top, self.look = top, look
        by_inode = collections.defaultdict(list)
        for place, dirs, files in os.walk(top):
            for name in dirs + files:
                path = os.path.join(place, name)
                by_inode[os.lstat(path).st_ino].append(os.path.relpath(path, top))
        self.cipher = {"": ""}
        taken = set()
        for path in sorted(look.items, key=lambda p: p.count("/")):
            if not path:
                continue
            above = self.cipher[os.path.dirname(path)]
            found = sorted(c for c in by_inode[look.inodes[path]] if os.path.dirname(c) == above and c not in taken)
            taken.add(found[0])
            self.cipher[path] = found[0]

    def __getitem__(self, path):
        return self.cipher[path]

    def sidecar(self, path):
        """Of a long name, or of a link with a long target."""
        stored = self[path]
        if os.path.islink(os.path.join(self.top, stored)):
            target = os.readlink(os.path.join(self.top, stored))
            if target.startswith("latchfs.link."):
                return os.path.join(os.path.dirname(stored), target)
        return stored + ".name"

    def record(self, path):
        return os.path.join(self[path], "latchfs.dir")

    def chunks(self, path):
        return [i for i in self.look.chunks[path]]

    def length(self, path):
        return os.lstat(os.path.join(self.top, self[path])).st_size


class Cases:
    """Collects the cases of all rows, in the order of the table."""

    def __init__(self, stages):
        self.stages = stages  # name -> Map
        self.rows, self.all = [], []

    def row(self, section, title, allow=(), removes=False, volume="clean", writes=False):
        self.rows.append(Row(section, title, tuple(allow), removes, volume, writes))

    def case(self, label, method, *args):
        self.all.append(Case(len(self.rows) - 1, label, lambda box: getattr(box, method)(*args)))

    def steps(self, label, *calls):
        self.all.append(Case(len(self.rows) - 1, label, lambda box: [getattr(box, c[0])(*c[1:]) for c in calls]))

    def own(self, label, do):
        self.all.append(Case(len(self.rows) - 1, label, do))

    def from_stage(self, stage, name):
        return os.path.join(self.stages[stage].top, name)

    def bytes_of(self, stage, name, offset=0, size=-1):
        with open(self.from_stage(stage, name), "rb") as f:
            f.seek(offset)
            return f.read(size)


def ends(start, length):
    """First, middle and last byte."""
    return sorted({start, start + length // 2, start + length - 1})


def header_bytes():
    return sorted({o for _, start, length in HEADER_FIELDS for o in ends(start, length)})


def record_bytes():
    return sorted({o for _, start, length in RECORD_FIELDS for o in ends(start, length)})


PARTS = verdict.PARTS

# Of every sort of file; the tag pages in the names.
PAGED = ["paged", "two-pages", "many-pages", "sparse", "one/paged"]
INLINE = ["inline", "byte", "inline-full", "one/inline"]


def sample(m, path):
    """Chunks with content: all of a small file, the ends of each group of a large one."""
    chunks = m.chunks(path)
    return chunks if len(chunks) <= 8 else sorted({0, 1, 20, 111, 112, 113, 120, 149} & set(chunks) | set(chunks[-2:]))


def holes(m, path):
    content = set(m.chunks(path))
    size = int(m.look.sizes[path])
    return [c for c in range((size + 4095) // 4096) if c not in content]


def last_chunk(m, path):
    return (int(m.look.sizes[path]) - 1) // 4096


def page_ends(m, path):
    length = m.length(path)
    pages = range(4096, length, 4096)
    if len(pages) > 400:
        near = {p + d * 4096 for p in tag_pages(length) for d in (0, 1, 2, 128)}
        pages = [p for p in pages if p in near or p // 4096 % 61 == 0]
    return pages
