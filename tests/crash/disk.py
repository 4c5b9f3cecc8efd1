"""A backing filesystem in memory: what of the recorded changes a power cut leaves.

The model: metadata (names, truncations, allocations, attributes) reaches the disk in order, up to some point. Of
the 4 KiB pages of a file written since its last sync any subset is there, each as it was after any one of the
writes. The length follows writes by delayed allocation: it may or may not include what they appended, and pages
that never came read as zeros. A sync is a barrier for what it covers: fsync and fdatasync for the file's pages,
length and attributes; fsync of a directory for its entries; syncfs for all."""

import os
import stat as statmod

import trace as t

PAGE = 4096
SECTOR = 512
ZERO = bytes(PAGE)

PUNCH_HOLE, ZERO_RANGE, KEEP_SIZE = 2, 16, 1


class Inode:
    def __init__(self, ino, kind, mode=0):
        self.ino, self.kind, self.mode = ino, kind, mode
        self.target = b""
        self.base = {}       # pages known to be on disk
        self.base_len = 0
        self.events = []     # since then, see Disk.file_event
        self.pages = {}      # as programs read them
        self.length = 0


class Names:
    """Directories, attributes: what metadata operations change."""

    def __init__(self):
        self.dirs, self.xattrs, self.modes, self.owners, self.times = {}, {}, {}, {}, {}

    def copy(self):
        n = Names()
        n.dirs = {d: dict(e) for d, e in self.dirs.items()}
        n.xattrs = {i: dict(x) for i, x in self.xattrs.items()}
        n.modes, n.owners, n.times = dict(self.modes), dict(self.owners), dict(self.times)
        return n

    def apply(self, op):
        kind = op[0]
        if kind == "add":
            _, d, name, inode = op
            self.dirs[d][name] = inode
            if inode.kind == "d":
                self.dirs.setdefault(inode, {})
        elif kind == "remove":
            _, d, name = op
            self.dirs[d].pop(name, None)
        elif kind == "rename":
            _, d, name, nd, newname, exchange = op
            moved = self.dirs[d].pop(name)
            if exchange:
                self.dirs[d][name] = self.dirs[nd].pop(newname)
            self.dirs[nd][newname] = moved
        elif kind == "xattr":
            _, inode, name, value = op
            self.xattrs.setdefault(inode, {})[name] = value
        elif kind == "mode":
            _, inode, mode = op
            self.modes[inode] = mode
        elif kind == "owner":
            _, inode, *owner = op
            before = self.owners.get(inode, (-1, -1))
            self.owners[inode] = tuple(b if o == 0xffffffff else o for o, b in zip(owner, before))
        elif kind == "time":
            _, inode, when = op
            self.times[inode] = when

    def inodes(self, root):
        """Every reachable inode with its first path, directories before what is in them."""
        seen, todo = {root: b""}, [root]
        while todo:
            d = todo.pop()
            for name, inode in sorted(self.dirs[d].items()):
                if inode not in seen:
                    seen[inode] = os.path.join(seen[d], name)
                    if inode.kind == "d":
                        todo.append(inode)
        return seen


class Image:
    """What the disk holds after a cut."""

    def __init__(self, root, names):
        self.root, self.names = root, names
        self.content = {}    # inode -> (pages, length)

    def write(self, path, inode_map):
        """Makes the files. inode_map gets the inode numbers to show."""
        shown = []
        for inode, name in self.names.inodes(self.root).items():
            full = os.path.join(os.fsencode(path), name)
            if inode.kind == "d":
                os.makedirs(full, exist_ok=True)
            elif inode.kind == "l":
                os.symlink(inode.target, full)
            elif inode.kind == "s":
                os.mknod(full, inode.mode)
            else:
                self.write_file(full, inode)
            if inode in self.names.owners:
                os.chown(full, *self.names.owners[inode], follow_symlinks=False)
            if inode.kind != "l":
                for key, value in self.names.xattrs.get(inode, {}).items():
                    if value is not None:
                        os.setxattr(full, key, value)
                mode = self.names.modes.get(inode, inode.mode)
                os.chmod(full, statmod.S_IMODE(mode) or 0o755)
            shown.append(b"%d %s\n" % (inode.ino or 0, name))
        for d, entries in self.names.dirs.items():
            self.write_links(path, d, entries)
        for inode, name in self.names.inodes(self.root).items():
            if inode in self.names.times:
                when = self.names.times[inode]
                os.utime(os.path.join(os.fsencode(path), name), ns=(when, when), follow_symlinks=False)
        with open(inode_map, "wb") as f:
            f.writelines(shown)

    def write_file(self, full, inode):
        pages, length = self.content[inode]
        fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.ftruncate(fd, length)
        run, start = [], 0
        for p in sorted(pages):
            if pages[p] is ZERO or p * PAGE >= length:
                continue
            if run and p != start + len(run):
                os.pwritev(fd, run[:1000], start * PAGE)
                run = []
            if len(run) == 1000:
                os.pwritev(fd, run, start * PAGE)
                run = []
            if not run:
                start = p
            run.append(pages[p])
        if run:
            os.pwritev(fd, run, start * PAGE)
        os.ftruncate(fd, length)
        os.close(fd)

    def write_links(self, path, d, entries):
        first = self.names.inodes(self.root)
        if d not in first:
            return
        for name, inode in entries.items():
            full = os.path.join(first[d], name)
            if inode.kind in "fs" and first[inode] != full:
                os.link(os.path.join(os.fsencode(path), first[inode]), os.path.join(os.fsencode(path), full))


class Disk:
    def __init__(self, root_ino=None):
        self.root = Inode(root_ino, "d")
        self.by_ino = {root_ino: self.root} if root_ino is not None else {}
        self.now = Names()      # as programs see it
        self.durable = Names()  # what every cut leaves: metadata up to floor
        self.now.dirs[self.root] = {}
        self.durable.dirs[self.root] = {}
        self.meta = []          # pending: (index, sequence, inodes that it belongs to, operation)
        self.count = 0          # of metadata operations
        self.floor = 0          # those below are on disk
        self.syncs = {}         # under way: number -> (sequence, kind, inode)

    @classmethod
    def from_image(cls, image):
        """The disk as it is when the next mount begins: all of it is known to be there."""
        d = cls(image.root.ino)
        twin = {image.root: d.root}
        for inode in image.names.inodes(image.root):
            if inode is not image.root:
                twin[inode] = Inode(inode.ino, inode.kind, inode.mode)
                twin[inode].target = inode.target
            new = twin[inode]
            d.by_ino[new.ino] = new
            if inode.kind == "f":
                pages, new.length = image.content[inode]
                new.pages, new.base, new.base_len = dict(pages), dict(pages), new.length
        for side in (d.now, d.durable):
            side.dirs = {twin[k]: {n: twin[i] for n, i in e.items()} for k, e in image.names.dirs.items() if k in twin}
            side.xattrs = {twin[k]: dict(x) for k, x in image.names.xattrs.items() if k in twin}
            for kept in ("modes", "owners", "times"):
                setattr(side, kept, {twin[k]: m for k, m in getattr(image.names, kept).items() if k in twin})
        return d

    def clone(self):
        """A copy to feed with another continuation."""
        d = Disk(self.root.ino)
        twin = {}

        def same(inode):
            if inode not in twin:
                n = twin[inode] = Inode(inode.ino, inode.kind, inode.mode)
                n.target, n.base, n.base_len = inode.target, dict(inode.base), inode.base_len
                n.events, n.pages, n.length = list(inode.events), dict(inode.pages), inode.length
            return twin[inode]

        def move(names):
            n = Names()
            n.dirs = {same(k): {a: same(i) for a, i in e.items()} for k, e in names.dirs.items()}
            n.xattrs = {same(k): dict(x) for k, x in names.xattrs.items()}
            for kept in ("modes", "owners", "times"):
                setattr(n, kept, {same(k): m for k, m in getattr(names, kept).items()})
            return n

        def moved(op):
            return tuple(same(x) if isinstance(x, Inode) else x for x in op)

        d.root = same(self.root)
        d.by_ino = {i: same(x) for i, x in self.by_ino.items()}
        d.now, d.durable = move(self.now), move(self.durable)
        d.meta = [(i, s, {same(x) for x in of}, moved(op)) for i, s, of, op in self.meta]
        d.count, d.floor = self.count, self.floor
        return d

    # ---- feeding ----

    def feed(self, seq, record):
        kind, n, body = record
        if kind == t.WRITE:
            self.write(seq, self.inode(n[0]), n[1], body)
        elif kind == t.TRUNCATE:
            self.truncate(seq, self.inode(n[0]), n[1])
        elif kind == t.FALLOCATE:
            self.fallocate(seq, self.inode(n[0]), *n[1:])
        elif kind == t.SYNC_BEGIN:
            self.syncs[n[0]] = (seq, n[1], self.inode(n[2]))
        elif kind == t.SYNC_END:
            began = self.syncs.pop(n[0], None)
            if began:
                self.synced(*began)
        elif kind == t.SETXATTR:
            inode = self.inode(n[0])
            self.change(seq, {inode}, ("xattr", inode, *t.split_name(body, n[1])))
        elif kind == t.REMOVEXATTR:
            inode = self.inode(n[0])
            self.change(seq, {inode}, ("xattr", inode, body, None))
        elif kind == t.CHMOD:
            inode = self.inode(n[0])
            self.change(seq, {inode}, ("mode", inode, n[1]))
        elif kind == t.CHOWN:
            inode = self.inode(n[0])
            self.change(seq, {inode}, ("owner", inode, n[1] & 0xffffffff, n[2] & 0xffffffff))
        elif kind == t.UTIMENS:
            inode = self.inode(n[0])
            self.change(seq, {inode}, ("time", inode, n[1] * 10**9 + n[2]))
        elif kind != t.MARK:
            self.name_change(seq, kind, n, body)

    def inode(self, ino):
        if ino not in self.by_ino:
            if self.root.ino is not None:
                raise t.Broken("unknown inode %d" % ino)
            self.root.ino = ino  # the first that is named
            self.by_ino[ino] = self.root
        return self.by_ino[ino]

    def name_change(self, seq, kind, n, body):
        d = self.inode(n[0])
        if kind in (t.CREATE, t.MKDIR, t.SYMLINK):
            name, target = t.split_name(body, n[2]) if kind == t.SYMLINK else (body, b"")
            special = kind == t.CREATE and statmod.S_IFMT(n[2]) not in (0, statmod.S_IFREG)
            inode = Inode(n[1], "s" if special else {t.CREATE: "f", t.MKDIR: "d", t.SYMLINK: "l"}[kind], n[2])
            inode.target = target
            self.by_ino[n[1]] = inode
            self.change(seq, {d}, ("add", d, name, inode))
        elif kind == t.LINK:
            self.change(seq, {d}, ("add", d, body, self.inode(n[1])))
        elif kind in (t.UNLINK, t.RMDIR):
            self.change(seq, {d}, ("remove", d, body))
        elif kind == t.RENAME:
            name, newname = t.split_name(body, n[3])
            nd = self.inode(n[1])
            self.change(seq, {d, nd}, ("rename", d, name, nd, newname, bool(n[2] & 2)))
        else:
            raise t.Broken("record type %d" % kind)

    def change(self, seq, belongs, op):
        self.now.apply(op)
        self.meta.append((self.count, seq, belongs, op))
        self.count += 1
        return self.count - 1

    def write(self, seq, inode, at, data):
        view, end = memoryview(data), at + len(data)
        pos = at
        while pos < end:
            page, skip = divmod(pos, PAGE)
            n = min(PAGE - skip, end - pos)
            old = inode.pages.get(page, ZERO)
            piece = bytes(view[pos - at:pos - at + n])
            new = piece if n == PAGE else old[:skip] + piece + old[skip + n:]
            new = ZERO if new == ZERO else new
            inode.pages[page] = new
            inode.events.append(("w", seq, page, new))
            pos += n
        if end > inode.length:
            inode.length = end
            inode.events.append(("x", seq, end))

    def zero_part(self, seq, inode, lo, hi):
        """Zeros within one page, by the page cache."""
        hi = min(hi, inode.length)
        if hi > lo and lo // PAGE in inode.pages:
            self.write(seq, inode, lo, bytes(hi - lo))

    def truncate(self, seq, inode, length):
        if length % PAGE and length < inode.length:
            self.zero_part(seq, inode, length, (length // PAGE + 1) * PAGE)
        first = (length + PAGE - 1) // PAGE
        for p in [p for p in inode.pages if p >= first]:
            del inode.pages[p]
        inode.length = length
        inode.events.append(("t", seq, self.change(seq, {inode}, ("length",)), length))

    def fallocate(self, seq, inode, mode, at, length):
        end = at + length
        index = self.change(seq, {inode}, ("allocate",))
        if mode & (PUNCH_HOLE | ZERO_RANGE):
            lo, hi = (at + PAGE - 1) // PAGE, end // PAGE
            if lo > hi:
                self.zero_part(seq, inode, at, end)
            else:
                self.zero_part(seq, inode, at, lo * PAGE)
                self.zero_part(seq, inode, hi * PAGE, end)
            for p in [p for p in inode.pages if lo <= p < hi]:
                del inode.pages[p]
            inode.events.append(("p", seq, index, lo, hi))
        if not mode & KEEP_SIZE and end > inode.length:
            inode.length = end
            inode.events.append(("g", seq, index, end))

    # ---- syncs ----

    def synced(self, seq, kind, inode):
        """A sync that began at seq has returned."""
        if kind == t.SYNC_ALL:
            for i in set(self.by_ino.values()):
                self.settle(i, seq)
            self.raise_floor(max((m[0] + 1 for m in self.meta if m[1] < seq), default=0))
            return
        self.settle(inode, seq)
        self.raise_floor(max((m[0] + 1 for m in self.meta if m[1] < seq and inode in m[2]), default=0))

    def settle(self, inode, seq):
        rest = 0
        for e in inode.events:
            if e[1] >= seq:
                break
            rest += 1
            if e[0] == "w":
                inode.base[e[2]] = e[3]
            elif e[0] == "x":
                inode.base_len = e[2]
            elif e[0] == "t":
                inode.base_len = e[3]
                first = (e[3] + PAGE - 1) // PAGE
                for p in [p for p in inode.base if p >= first]:
                    del inode.base[p]
            elif e[0] == "g":
                inode.base_len = max(inode.base_len, e[3])
            else:
                for p in [p for p in inode.base if e[3] <= p < e[4]]:
                    del inode.base[p]
        del inode.events[:rest]

    def raise_floor(self, floor):
        while self.meta and self.meta[0][0] < floor:
            self.durable.apply(self.meta.pop(0)[3])
        self.floor = max(self.floor, floor)

    # ---- states ----

    def alive(self):
        """Everything as programs see it: after kill -9."""
        image = Image(self.root, self.now.copy())
        for inode in image.names.inodes(self.root):
            if inode.kind == "f":
                image.content[inode] = (dict(inode.pages), inode.length)
        return image

    def cut(self, rnd, tears=0):
        """One of the states that a power cut may leave now."""
        upto = rnd.choice([self.floor, self.count, rnd.randint(self.floor, self.count)])
        names = self.durable.copy()
        for index, _, _, op in self.meta:
            if index < upto:
                names.apply(op)
        image = Image(self.root, names)
        torn = []
        for inode in sorted(names.inodes(self.root), key=lambda i: i.ino):  # names differ from run to run
            if inode.kind == "f":
                image.content[inode] = Sampler(inode, upto, rnd).result(torn)
        rnd.shuffle(torn)
        for pages, page, old, new in torn[:tears]:
            mix = bytearray(old)
            for s in range(0, PAGE, SECTOR):
                if rnd.random() < 0.5:
                    mix[s:s + SECTOR] = new[s:s + SECTOR]
            pages[page] = bytes(mix)
        return image


class Sampler:
    """Chooses pages and length of one file among what may be on disk."""

    def __init__(self, inode, upto, rnd):
        self.inode, self.rnd, self.upto = inode, rnd, upto
        self.choice = {}         # page -> what it may hold, oldest first
        self.lengths = [inode.base_len]
        self.no_length = False   # a truncation is not on disk, so no later length is
        self.beyond = None       # pages from here on have no blocks that later writes could reach
        self.punched = []
        for e in inode.events:
            getattr(self, {"w": "written", "x": "extended", "t": "truncated", "p": "punch", "g": "grown"}[e[0]])(e)

    def options(self, page):
        if page not in self.choice:
            self.choice[page] = [self.inode.base.get(page, ZERO)]
        return self.choice[page]

    def written(self, e):
        page = e[2]
        if self.beyond is not None and page >= self.beyond or any(lo <= page < hi for lo, hi in self.punched):
            return
        self.options(page).append(e[3])

    def extended(self, e):
        if not self.no_length:
            self.lengths.append(e[2])

    def wipe(self, lo, hi):
        for page in set(self.choice) | set(self.inode.base):
            if lo <= page and (hi is None or page < hi):
                self.choice[page] = [ZERO]

    def truncated(self, e):
        first = (e[3] + PAGE - 1) // PAGE
        if e[2] >= self.upto:
            self.no_length = True
            self.beyond = first if self.beyond is None else min(first, self.beyond)
            return
        self.lengths = [e[3]]
        self.wipe(first, None)
        if e[3] % PAGE:
            last = self.options(first - 1)
            last[:] = [p[:e[3] % PAGE] + bytes(PAGE - e[3] % PAGE) for p in last]

    def punch(self, e):
        if e[2] >= self.upto:
            self.punched.append((e[3], e[4]))
        else:
            self.wipe(e[3], e[4])

    def grown(self, e):
        if e[2] >= self.upto:
            self.no_length = True
        else:
            self.lengths = [max(self.lengths[-1], e[3])]

    def result(self, torn):
        rnd = self.rnd
        newest = rnd.choice([0, 0.1, 0.5, 0.9, 1])  # how much of this file came through
        pages = dict(self.inode.base)
        for page, options in self.choice.items():
            pages[page] = options[-1] if rnd.random() < newest else rnd.choice(options[:-1] or options)
        length = self.lengths[-1] if rnd.random() < newest else rnd.choice(self.lengths)
        for page, options in self.choice.items():
            if len(options) > 1:
                i = rnd.randrange(len(options) - 1)
                if (page + 1) * PAGE <= length:
                    torn.append((pages, page, options[i], options[i + 1]))
        for page in [p for p in pages if p * PAGE >= length]:
            del pages[page]
        return pages, length
