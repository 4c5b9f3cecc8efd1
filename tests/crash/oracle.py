"""What the program was promised, and whether what is left keeps to it.

The marks in the trace say which operations began and ended. From them follow, for every moment, the contents
each file may have (the last that fsync returned for, and every later one) and the trees of names that may stand
(the one after the last operation on names that was synced, and every later one)."""

import struct

PAGE = 4096
ZERO = bytes(PAGE)

EXCHANGE = 2
ATTRIBUTE_CHANGES = ("setxattr", "removexattr", "chmod")
MODE = b"(mode)"  # among the attributes of a dump


class Node:
    """A file, directory or symlink as the program knows it."""

    def __init__(self, kind, target=b""):
        self.kind, self.target = kind, target
        self.entries = {}       # of a directory
        self.last_op = -1       # of a directory: the last operation on its entries
        self.entry_op = {}      # of a directory: name -> the operation that set it
        self.size = 0           # now
        self.chunks = {}        # now; keys are chunk numbers, or ("x", name) for an attribute
        self.base_size = 0      # durable
        self.base = {}
        self.history = []       # changes since: Change


class Change:
    def __init__(self, number, size, chunks):
        self.number, self.size, self.chunks = number, size, chunks
        self.began = self.ended = None
        self.replaces = None    # a rename over a file: index of the tree since which this counts as synced


KINDS = {"create": "f", "mkdir": "d", "symlink": "l", "mkfifo": "s"}
MODES = {"create": b"644", "mkdir": b"755", "mkfifo": b"644"}  # as ops.c makes them


def hexed(word):
    return bytes.fromhex(word[1:])


class Oracle:
    def __init__(self):
        self.root = Node("d")
        self.trees = [self.flatten()]  # after 0, 1, 2 ... operations on names
        self.tree_floor = 0            # index of the oldest that a cut may leave
        self.between = {}              # index of a tree -> (number of its operation, the tree half-way)
        self.name_ops = 0
        self.open = {}                 # number -> (kind, began, whatever the end needs)
        self.open_trees = 0            # operations on names that have begun and not ended
        self.created = self.closed = self.frozen = False
        self.least = self.newest = 1   # versions of the directory key: a whole rotation has left none below

    # ---- feeding ----

    def feed(self, seq, body):
        line, _, data = body.partition(b"\n")
        words = line.split(b" ")
        if words[0] == b"begin":
            self.begin(seq, int(words[1]), words[2].decode(), hexed(words[3].decode()), hexed(words[4].decode()),
                       int(words[5]), int(words[6]), data)
        elif words[0] == b"end":
            self.end(seq, int(words[1]))
        elif words[0] == b"created":
            self.created = True
        elif words[0] == b"closed":
            self.closed = True
        elif words[0] in (b"frozen", b"thawed"):
            self.frozen = words[0] == b"frozen"

    def begin(self, seq, number, kind, path, other, a, b, data):
        if kind in ("write", "truncate", "zero-keep", "zero-grow", "allocate", "grow", *ATTRIBUTE_CHANGES):
            node = self.find(path)
            if kind in ATTRIBUTE_CHANGES:
                value = {"setxattr": data, "removexattr": None, "chmod": b"%o" % a}[kind]
                change = Change(number, node.size, {("x", other or MODE): value})
            else:
                change = Change(number, *self.changed(node, kind, a, b, data))
            change.began = seq
            self.publish(node, change)
            self.open[number] = (kind, seq, change)
        elif kind in ("fsync", "fdatasync", "dirsync", "checkpoint"):
            self.open[number] = (kind, seq, (path, self.path_floor(path), len(self.trees) - 1))
        elif kind in ("round", "protect"):
            self.open[number] = (kind, seq, None)
        elif kind in ("rewrap", "reencrypt", "rotate-part"):
            self.newest = a
            self.open[number] = (kind, seq, a)
        else:
            self.rename_tree(seq, number, kind, path, other, a)
            self.open[number] = (kind, seq, None)
            self.open_trees += 1

    def end(self, seq, number):
        kind, began, what = self.open.pop(number)
        if isinstance(what, Change):
            what.ended = seq
        elif kind in ("fsync", "fdatasync", "dirsync"):
            path, floor, _ = what
            self.tree_floor = max(self.tree_floor, floor)
            self.settle(self.find(path), began, attributes=kind != "fdatasync")
        elif kind == "checkpoint":
            self.tree_floor = max(self.tree_floor, what[2])
            for node in self.nodes():
                self.settle(node, began)
        elif kind in ("rewrap", "reencrypt"):
            self.least = what
        elif kind not in ("round", "protect", "rotate-part"):
            self.open_trees -= 1

    # ---- contents ----

    @staticmethod
    def changed(node, kind, a, b, data):
        """Size and chunks that an operation leaves different."""
        chunks, size = {}, node.size
        if kind == "write":
            lo, hi, size = a, a + b, max(size, a + b)
        elif kind == "truncate":
            lo, hi, size = min(a, size), size, a
        elif kind == "zero-keep":
            lo, hi = min(a, size), min(a + b, size)
        elif kind == "zero-grow":
            lo, hi, size = min(a, size), min(a + b, size), max(size, a + b)
        else:
            lo, hi, size = 0, 0, max(size, a + b) if kind == "grow" else size
        if kind != "write":
            data = memoryview(bytes(hi - lo))
        pos = lo
        while pos < hi:
            c, skip = divmod(pos, PAGE)
            n = min(PAGE - skip, hi - pos)
            old = node.chunks.get(c, ZERO)
            new = old[:skip] + bytes(data[pos - lo:pos - lo + n]) + old[skip + n:]
            chunks[c] = ZERO if new == ZERO else new
            pos += n
        return size, chunks

    @staticmethod
    def publish(node, change):
        node.history.append(change)
        node.chunks.update(change.chunks)
        node.size = change.size

    @staticmethod
    def settle(node, seq, attributes=True):
        """What had ended before seq is durable; attributes are not after fdatasync."""
        done, open_still = 0, []
        for c in node.history:
            if c.replaces is None and (c.ended is None or c.ended >= seq):
                break
            done += 1
            if c.replaces is None and not attributes and any(isinstance(k, tuple) for k in c.chunks):
                open_still.append(c)
            elif c.replaces is None:
                node.base.update(c.chunks)
                node.base_size = c.size
        for c in open_still:
            c.size = node.base_size
        node.history[:done] = open_still

    def nodes(self):
        seen, todo = set(), [self.root]
        while todo:
            n = todo.pop()
            if n not in seen:
                seen.add(n)
                todo.extend(n.entries.values())
        return seen

    # ---- names ----

    def walk(self, path):
        """The nodes along a path, the root first, and the names between."""
        along, names = [self.root], [n for n in path.split(b"/") if n]
        for name in names[:-1] if names else []:
            along.append(along[-1].entries[name])
        return along, names

    def find(self, path):
        along, names = self.walk(path)
        return along[-1].entries[names[-1]] if names else self.root

    def path_floor(self, path):
        """The tree that is durable when a sync of this path returns."""
        along, names = self.walk(path)
        floor = max((d.entry_op[n] for d, n in zip(along, names)), default=0)
        node = self.find(path)
        return max(floor, node.last_op) if node.kind == "d" else floor

    def rename_tree(self, seq, number, kind, path, other, flags):
        self.name_ops += 1
        if kind == "rename":
            node, old = self.move(path, other, flags)
            half = self.half_way(path, other, node, old, flags)
            if half:
                self.between[self.name_ops] = (number, {**self.flatten(), **half})
            if old and old.kind == "f" and not flags & EXCHANGE:
                barrier = Change(number, node.size, {})
                barrier.began, barrier.replaces = seq, self.name_ops
                node.history.append(barrier)
        elif kind in ("unlink", "rmdir"):
            along, names = self.walk(path)
            self.set_entry(along[-1], names[-1], None)
        else:
            node = self.find(path) if kind == "link" else Node(KINDS[kind], other)
            node.base.setdefault(("x", MODE), MODES.get(kind))
            along, names = self.walk(other if kind == "link" else path)
            self.set_entry(along[-1], names[-1], node)
        self.trees.append(self.flatten())

    @staticmethod
    def half_way(path, other, node, old, flags):
        """What a cut within a rename may leave at the names, as docs/DECISIONS.md says; None: nothing of its own."""
        if node.kind == "d" and old and old.kind == "d" and not flags & EXCHANGE:
            return {path: Node("d")}  # the two change places, then the old one goes
        if node.kind == "l" and path.rpartition(b"/")[0] != other.rpartition(b"/")[0] and \
                (not flags & EXCHANGE or old.kind == "l"):
            return {path: node, other: node}  # made anew there, then the old one goes or is made anew too
        return None

    def set_entry(self, d, name, node):
        if node is None:
            del d.entries[name]
        else:
            d.entries[name] = node
        d.entry_op[name] = d.last_op = self.name_ops

    def move(self, path, other, flags):
        (along, names), (to, newnames) = self.walk(path), self.walk(other)
        node = along[-1].entries[names[-1]]
        old = to[-1].entries.get(newnames[-1])
        self.set_entry(along[-1], names[-1], old if flags & EXCHANGE else None)
        self.set_entry(to[-1], newnames[-1], node)
        return node, old

    def flatten(self):
        flat, todo = {}, [(b"", self.root)]
        while todo:
            prefix, d = todo.pop()
            for name, n in d.entries.items():
                path = prefix + b"/" + name if prefix else name
                flat[path] = n
                if n.kind == "d":
                    todo.append((path, n))
        return flat

    # ---- judging ----

    def judge(self, dump, killed):
        """What is wrong with the contents of a volume after a cut at this moment. killed: nothing may be lost
        but what the operations under way would have done."""
        last = len(self.trees) - 1
        least = last - self.open_trees if killed else self.tree_floor
        wrong = None
        for index, tree in self.candidates(least, last, killed):
            found = missed = same_tree(tree, dump)
            if not missed:
                found = []
                for path, n in tree.items():
                    if n.kind == "f":
                        found += self.judge_file(path, n, dump.files[path], index, killed)
                    if n.kind in "fd":
                        found += self.judge_attributes(path, n, dump, index, killed)
                if not found:
                    return []
            rank = (bool(missed), len(found))
            if wrong is None or rank < best_rank:
                wrong, best, best_rank = found, index, rank
        return ["against the names after operation %d of %d..%d:" % (best, least, last)] + wrong

    def candidates(self, least, last, killed):
        for index in range(last, least - 1, -1):
            yield index, self.trees[index]
            number, tree = self.between.get(index, (None, None))
            if tree is not None and (not killed or number in self.open):
                yield index, tree

    @staticmethod
    def possible(node, index, killed):
        """Durable size and chunks, and the changes since then that may have come through."""
        size, chunks, changes = node.base_size, node.base, []
        start = 0
        for i, c in enumerate(node.history):
            if c.replaces is not None and c.replaces <= index or killed and c.ended is not None:
                start = i + 1
        if start:
            chunks = dict(chunks)
        for i, c in enumerate(node.history):
            if c.replaces is not None:
                continue
            if i < start:
                chunks.update(c.chunks)
                size = c.size
            else:
                changes.append(c)
        return size, chunks, changes

    def judge_file(self, path, node, held, index, killed):
        size, chunks, changes = self.possible(node, index, killed)
        sizes = [size] + [c.size for c in changes]
        wrong = []
        if not min(sizes) <= held.size <= max(sizes):
            wrong.append("%r has %d bytes, it should be one of %s" % (path, held.size, sorted(set(sizes))))
        for c, data in enumerate(held.chunks):
            options = [chunks.get(c, ZERO)] + [x.chunks[c] for x in changes if c in x.chunks]
            if not any(fits(data, o, min(sizes) - c * PAGE) for o in options):
                wrong.append("%r chunk %d holds %s, it should hold %s" %
                             (path, c, describe(data), " or ".join(sorted({describe(o) for o in options}))))
        return wrong

    def judge_attributes(self, path, node, dump, index, killed):
        _, chunks, changes = self.possible(node, index, killed)
        wrong = []
        for key in {k for x in [chunks] + [c.chunks for c in changes] for k in x if isinstance(k, tuple)}:
            options = [chunks.get(key)] + [x.chunks[key] for x in changes if key in x.chunks]
            held = dump.attributes.get((path, key[1]))
            if held not in options:
                wrong.append("%r attribute %r is %r" % (path, key[1], held))
        return wrong


def fits(data, option, synced):
    """True if data is the option, or that with zeros where nothing was ever synced."""
    n = len(data)
    if data == option[:n]:
        return True
    m = max(0, min(synced, n))
    return data[:m] == option[:m] and not any(data[m:])


def describe(chunk):
    """Runs of cells by what wrote them: file:operation@offset."""
    runs, last = [], None
    for at in range(0, len(chunk), 16):
        cell = chunk[at:at + 16]
        if not any(cell):
            what = "zeros"
        elif len(cell) == 16:
            file, op, off = struct.unpack("<IIQ", cell)
            what = "op%d" % op if off % PAGE == at and op < 1 << 24 else "garbage"
        else:
            what = last or "op?"
        if what != last:
            runs.append("%s@%d" % (what, at))
        last = what
    return " ".join(runs[:6]) + (" ..." if len(runs) > 6 else "") + " (%d)" % len(chunk)


def readable(body):
    """A mark for people."""
    words = body.partition(b"\n")[0].decode().split(" ")
    return " ".join(repr(hexed(w))[1:40] if w[:1] == "x" else w for w in words)


def same_tree(tree, dump):
    wrong = []
    for path, n in tree.items():
        if path not in dump.kinds:
            wrong.append("%r is missing" % path)
        elif dump.kinds[path] != n.kind:
            wrong.append("%r is a %s, not a %s" % (path, dump.kinds[path], n.kind))
        elif n.kind == "l" and dump.targets[path] != n.target:
            wrong.append("%r points to %r" % (path, dump.targets[path]))
    return wrong + ["%r should not be there" % path for path in dump.kinds if path not in tree]


# ---- dumps (check.c) ----

class Held:
    def __init__(self, size, chunks):
        self.size, self.chunks = size, chunks


class Dump:
    def __init__(self):
        self.kinds, self.files, self.targets, self.attributes = {}, {}, {}, {}

    def same(self, other):
        return self.kinds == other.kinds and self.targets == other.targets and \
            self.attributes == other.attributes and \
            {p: (f.size, f.chunks) for p, f in self.files.items()} == \
            {p: (f.size, f.chunks) for p, f in other.files.items()}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def string(self):
        n, = struct.unpack_from("<I", self.data, self.at)
        self.at += 4 + n
        return self.data[self.at - n:self.at]

    def number(self):
        self.at += 8
        return struct.unpack_from("<Q", self.data, self.at - 8)[0]


def read_dump(path):
    """(dump of each section, errors, remarks)"""
    with open(path, "rb") as f:
        r = Reader(f.read())
    dumps, errors, remarks, current = [], [], [], None
    while r.at < len(r.data):
        tag = r.data[r.at:r.at + 1]
        r.at += 1
        name = r.string()
        if tag == b"S":
            remarks.append(name.decode())
            if " done" not in remarks[-1] and remarks[-1] != "end":
                current = Dump()
                dumps.append(current)
        elif tag == b"E":
            errors.append(name.decode(errors="backslashreplace"))
        elif tag == b"X":
            key = r.string()
            current.attributes[name, key] = r.string()
        elif tag == b"L":
            current.kinds[name], current.targets[name] = "l", r.string()
        elif tag in b"DP":
            current.kinds[name] = {b"D": "d", b"P": "s"}[tag]
        else:
            held = current.files[name] = Held(r.number(), [])
            current.kinds[name] = "f"
            for c in range(r.number()):
                error = r.number()
                held.chunks.append(r.string())
                if error:
                    errors.append("%r chunk %d does not read: error %d" % (name, c, error))
    return dumps, errors, remarks
