"""Planted faults: what the traces would be of a store, or of a machine, that breaks one rule of the journal or of
the tree (docs/FORMAT.md). The lab must notice each of them: run --self-test."""

import trace as t

PAGE = 4096
RING_AT = 2 * PAGE
CONTENT = (t.WRITE, t.TRUNCATE, t.FALLOCATE)
SYNC = (t.SYNC_BEGIN, t.SYNC_END)


class Kinds:
    """What the inodes of a trace are: the journal, directories, the store's small files, contents."""

    def __init__(self, records):
        names, self.directories, self.ours = {}, set(), set()
        self.journal = None
        for kind, n, body in records:
            if kind in (t.CREATE, t.MKDIR):
                self.directories.add(n[0])
                names[n[0], body] = n[1]
            if kind == t.MKDIR:
                self.directories.add(n[1])
            elif kind == t.CREATE and body.startswith(b"latchfs."):
                self.ours.add(n[1])
            elif kind == t.RENAME and t.split_name(body, n[3])[1] == b"latchfs.journal":
                self.journal = names[n[0], t.split_name(body, n[3])[0]]
        self.ours.discard(self.journal)

    def is_content(self, ino):
        return ino != self.journal and ino not in self.directories and ino not in self.ours


def without_syncs(records, drop):
    """drop(kind, ino): whether such a sync does nothing."""
    gone = {n[0] for kind, n, _ in records if kind == t.SYNC_BEGIN and drop(n[1], n[2])}
    return [r for r in records if r[0] not in SYNC or r[1][0] not in gone]


# ---- syncs that do nothing ----

def journal_sync(records, kinds):
    return without_syncs(records, lambda kind, ino: ino == kinds.journal)


def file_sync(records, kinds):
    """Fresh data is marked, and the tail moved, without the files having been synced."""
    return without_syncs(records, lambda kind, ino: kind != t.SYNC_ALL and kinds.is_content(ino))


def record_sync(records, kinds):
    """Directory records and sidecars of long names are not on disk before the name is."""
    return without_syncs(records, lambda kind, ino: kind != t.SYNC_ALL and ino in kinds.ours)


def directory_sync(records, kinds):
    return without_syncs(records, lambda kind, ino: kind != t.SYNC_ALL and ino in kinds.directories)


def all_sync(records, kinds):
    return without_syncs(records, lambda kind, ino: kind == t.SYNC_ALL)


def tail_sync(records, kinds):
    """A moved tail is not durable before its space is used again."""
    drop, moved = set(), False
    for kind, n, _ in records:
        if kind == t.WRITE and n[0] == kinds.journal:
            moved = n[1] < RING_AT
        elif kind == t.SYNC_BEGIN and n[2] == kinds.journal and moved:
            drop.add(n[0])
    return [r for r in records if r[0] not in SYNC or r[1][0] not in drop]


def removal_sync(records, kinds):
    """The tail passes entries of removed files whose removal is not on disk."""
    out, op = [], b""
    gone = set()
    for r in records:
        if r[0] == t.MARK and r[2].startswith(b"begin"):
            op = r[2].split(b" ")[2]
        if r[0] == t.SYNC_BEGIN and op in (b"round", b"checkpoint", b"write") and \
                (r[1][1] == t.SYNC_ALL or r[1][2] in kinds.directories):
            gone.add(r[1][0])
        if r[0] not in SYNC or r[1][0] not in gone:
            out.append(r)
    return out


# ---- the wrong order ----

def early_in_place(records, kinds):
    """Entries go in place before they are durable in the journal."""
    out, i, syncs = [], 0, set()
    while i < len(records):
        kind, n, _ = records[i]
        if kind == t.SYNC_BEGIN and n[2] == kinds.journal:
            syncs.add(n[0])
        end = i
        while end < len(records) and records[end][0] in CONTENT and records[end][1][0] != kinds.journal:
            end += 1
        k = len(out)
        while end > i and k > 0 and (
                out[k - 1][0] in SYNC and out[k - 1][1][0] in syncs or
                out[k - 1][0] == t.WRITE and out[k - 1][1][0] == kinds.journal and out[k - 1][1][1] < RING_AT):
            k -= 1
        out[k:k] = records[i:max(end, i + 1)] if end > i else []
        if end == i:
            out.append(records[i])
        i = max(end, i + 1)
    return out


def operations(records):
    """The records cut before every mark that begins an operation."""
    part = []
    for r in records:
        if r[0] == t.MARK and r[2].startswith(b"begin"):
            yield part
            part = []
        part.append(r)
    yield part


def kind_of(part):
    return part[0][2].split(b" ")[2].decode() if part and part[0][0] == t.MARK and part[0][2][:5] == b"begin" else ""


def early_replace(records, kinds):
    """A file is renamed over another one before its content is durable and in place."""
    out = []
    for part in operations(records):
        moves = [r for r in part if r[0] == t.RENAME and kind_of(part) == "rename"]
        out += part[:1] + moves + [r for r in part[1:] if r not in moves] if moves else part
    return out


def early_name(records, kinds):
    """A directory gets its name before it has its record."""
    out = []
    for part in operations(records):
        moves = [r for r in part if r[0] == t.RENAME] if kind_of(part) == "mkdir" else []
        rest = [r for r in part if r not in moves]
        at = next((i + 1 for i, r in enumerate(rest) if r[0] == t.MKDIR), len(rest))
        out += rest[:at] + moves + rest[at:]
    return out


COPY = b"user.latchfs-record"


def is_copy(r):
    """Whether a record of the trace sets or removes a directory record's copy."""
    if r[0] == t.SETXATTR:
        return t.split_name(r[2], r[1][1])[0] == COPY
    return r[0] == t.REMOVEXATTR and r[2] == COPY


def late_copy(records, kinds):
    """A directory gets its name before the copy of its record is there."""
    out = []
    for part in operations(records):
        late = [r for r in part if r[0] == t.SETXATTR and is_copy(r)]
        end = next((i for i, r in enumerate(part) if r[0] == t.MARK and r[2].startswith(b"end")), len(part))
        out += [r for r in part[:end] if r not in late] + late + [r for r in part[end:] if r not in late]
    return out


def early_drop(records, kinds):
    """The copies of directory records are removed before the records are on disk."""
    out = []
    for part in operations(records):
        drops = [r for r in part if r[0] == t.REMOVEXATTR and is_copy(r)]
        out += part[:1] + drops + [r for r in part[1:] if r not in drops]
    return out


def late_sidecar(records, kinds):
    """A long name is visible before its sidecar stands."""
    out = []
    for part in operations(records):
        late = [r for r in part if r[0] == t.RENAME and r[2].endswith(b".name")]
        end = next((i for i, r in enumerate(part) if r[0] == t.MARK and r[2].startswith(b"end")), len(part))
        out += [r for r in part[:end] if r not in late] + late + [r for r in part[end:] if r not in late]
    return out


def early_tail(records, kinds):
    """The wrong order at a checkpoint: the tail moves before the files that it passes are synced."""
    out = []
    for i, r in enumerate(records):
        if r[0] == t.WRITE and r[1][0] == kinds.journal and r[1][1] < RING_AT:
            k = len(out)
            while k > 0 and out[k - 1][0] in SYNC:
                k -= 1
            moved = [r, (t.SYNC_BEGIN, (1 << 40 | i, t.SYNC_DATA, kinds.journal), b""), (t.SYNC_END, (1 << 40 | i,), b"")]
            out[k:k] = moved
        else:
            out.append(r)
    return out


def attribute_sync(records, kinds):
    """fsync of a file whose attributes changed syncs nothing."""
    drop = {r[1][0] for r, under_way in within(records)
            if r[0] == t.SYNC_BEGIN and under_way and under_way[-1] in (b"fsync", b"dirsync")}
    return [r for r in records if r[0] not in SYNC or r[1][0] not in drop]


def early_seal(records, kinds):
    """A file is sealed before what it was made of is on disk."""
    drop = {r[1][0] for r, under_way in within(records) if r[0] == t.SYNC_BEGIN and under_way and
            under_way[-1] == b"checkpoint" and r[1][2] != kinds.journal}
    return [r for r in records if r[0] not in SYNC or r[1][0] not in drop]


def late_record(records, kinds):
    """A directory gets another name before its record says so."""
    out = []
    for part in operations(records):
        moves = [r for r in part if r[0] == t.RENAME and b"latchfs." not in r[2]] if kind_of(part) == "rename" else []
        rest = [r for r in part if r not in moves]
        out += rest[:1] + moves + rest[1:] if moves and part[:1] else part
    return out


def early_freeze(records, kinds):
    """A freeze says that it is there before everything is on disk."""
    out = []
    for r in records:
        if r[0] == t.MARK and r[2] == b"frozen\n":
            k = max((i for i, x in enumerate(out) if x[0] == t.MARK and x[2].startswith(b"begin")), default=len(out))
            out.insert(k + 1, r)
            continue
        out.append(r)
    return out


# ---- changes that get lost ----

def lost_truncation(records, kinds):
    return [r for r in records if r[0] != t.TRUNCATE or r[1][0] == kinds.journal]


def lost_entry(records, kinds):
    """Every twentieth entry of the journal does not reach it."""
    out, n = [], 0
    for r in records:
        if r[0] == t.WRITE and r[1][0] == kinds.journal and r[1][1] >= RING_AT:
            n += 1
            if n % 20 == 0:
                continue
        out.append(r)
    return out


def lost_rename(records, kinds):
    return [r for r in records if r[0] != t.RENAME or r[1][2] & 2 or b"latchfs." in r[2]]


# ---- what a recovery does ----

def nth_sync(kind_wanted, nth):
    """The nth sync of that kind does nothing; counts from the end when negative."""
    def drop(records):
        numbers = [n[0] for kind, n, _ in records if kind == t.SYNC_BEGIN and n[1] in kind_wanted]
        gone = set(numbers[nth:][:1])
        return [r for r in records if r[0] not in SYNC or r[1][0] not in gone]
    return drop


def no_sync(records):
    return without_syncs(records, lambda kind, ino: True)


# ---- keys ----

ROTATIONS = (b"rewrap", b"reencrypt", b"rotate-part")


def within(records):
    """Each record with the kinds of the operations that are under way, the innermost last."""
    under_way = []
    for r in records:
        words = r[2].split(b" ") if r[0] == t.MARK else [b""]
        if words[0] == b"begin":
            under_way.append((words[1], words[2]))
        elif words[0] == b"end":
            under_way = [o for o in under_way if o[0] != words[1].strip()]
        yield r, [kind for _, kind in under_way]


def rotates(kinds):
    return any(k in ROTATIONS for k in kinds)


def early_attribute(records, kinds):
    """An attribute is sealed under a new file key before that is on disk."""
    drop, last = set(), None
    for (kind, n, _), under_way in within(records):
        if kind == t.SYNC_BEGIN:
            last = n[0] if n[2] == kinds.journal else None
        elif kind == t.SETXATTR and last is not None and rotates(under_way):
            drop.add(last)
            last = None
        elif kind not in SYNC:
            last = None
    return [r for r in records if r[0] not in SYNC or r[1][0] not in drop]


def early_end(records, kinds):
    """The old file key is dropped before what took its data's place is on disk."""
    drop = {r[1][0] for r, under_way in within(records)
            if r[0] == t.SYNC_BEGIN and r[1][2] != kinds.journal and under_way and under_way[-1] in ROTATIONS}
    return [r for r in records if r[0] not in SYNC or r[1][0] not in drop]


def early_return(records, kinds):
    """A rotation says that it is done before the headers are on disk."""
    drop, syncs = set(), []
    for r, under_way in within(records):
        if r[0] == t.SYNC_BEGIN and under_way and under_way[-1] in ROTATIONS:
            syncs.append(r[1][0])
        elif not rotates(under_way):
            drop.update(syncs[-12:])  # of the last checkpoint
            syncs = []
    return [r for r in records if r[0] not in SYNC or r[1][0] not in drop]


def newest_version(fault, oracle):
    """Of the directory key. Planted: the key store has lost the version that headers bear already."""
    return max(oracle.least, oracle.newest - 1) if fault == "lost-version" else oracle.newest


# ---- bits that flip ----

def journal_of(image):
    return image.names.dirs[image.root].get(b"latchfs.journal")


def flip(data, rnd, end=PAGE):
    data = bytearray(data)
    data[rnd.randrange(end)] ^= 1 << rnd.randrange(8)
    return bytes(data)


def flip_data(image, rnd):
    """One bit of one page of a file that is neither the journal nor one of the store's small files."""
    files = [(i, p) for i, (pages, length) in sorted(image.content.items(), key=lambda x: x[0].ino)
             for p in sorted(pages) if i is not journal_of(image) and length > PAGE]
    if files:
        inode, page = rnd.choice(files)
        pages, length = image.content[inode]
        pages[page] = flip(pages[page], rnd, min(PAGE, length - page * PAGE))


def flip_journal(image, rnd):
    """One bit in each page of the ring."""
    pages, _ = image.content[journal_of(image)]
    for p in sorted(pages):
        if p * PAGE >= RING_AT and any(pages[p]):
            pages[p] = flip(pages[p], rnd)


TRACE = {f.__name__.replace("_", "-"): f for f in (
    journal_sync, file_sync, record_sync, directory_sync, all_sync, tail_sync, removal_sync, early_in_place,
    early_replace, early_name, late_copy, early_drop, late_sidecar, lost_truncation, lost_entry, lost_rename, early_attribute, early_end,
    early_return, early_tail, attribute_sync, early_seal, late_record, early_freeze)}
STATE = {"flip-data": flip_data, "flip-journal": flip_journal}
REPLAY = {"replay-sync": no_sync, "replay-first-sync": nth_sync((t.SYNC_ALL,), 0),
          "replay-last-sync": nth_sync((t.SYNC_ALL,), 1)}
PLANTED = ("no-mark", "broken-entry", "no-copy")  # in the store itself: plants.c
NAMES = sorted([*TRACE, *STATE, *REPLAY, *PLANTED, "lost-version"])

CONTENT_HURT = r"chunk \d+ (holds|does not read)|has \d+ bytes"
KEYS_HURT = r"xattr|authentication|too old|corrupt"
NAMES_HURT = r"is missing|should not be there|lookup|opendir|is a [dfl], not|authentication"

# The fault, the workload that must catch it, what must be said, and the only kind of states to try, if any.
CAUGHT_BY = [
    ("journal-sync", "overwrite", CONTENT_HURT, None),
    ("journal-sync", "append", CONTENT_HURT, None),
    ("file-sync", "append", CONTENT_HURT, None),
    ("file-sync", "fresh", CONTENT_HURT, None),
    ("file-sync", "wrap", CONTENT_HURT, None),
    ("record-sync", "names", NAMES_HURT, None),
    ("record-sync", "tree", NAMES_HURT, None),
    ("directory-sync", "small", NAMES_HURT, None),
    ("directory-sync", "saving", NAMES_HURT, None),
    ("all-sync", "small", CONTENT_HURT, None),
    ("tail-sync", "wrap", CONTENT_HURT, None),
    ("removal-sync", "remove", CONTENT_HURT, None),
    ("early-in-place", "overwrite", CONTENT_HURT, None),
    ("early-replace", "saving", CONTENT_HURT, None),
    ("early-name", "tree", NAMES_HURT, None),
    ("late-copy", "newdirs", NAMES_HURT, "power"),
    ("early-drop", "newdirs", NAMES_HURT, "power"),
    ("no-copy", "newdirs", NAMES_HURT, "power"),
    ("late-sidecar", "names", NAMES_HURT, None),
    ("lost-truncation", "truncate", CONTENT_HURT, None),
    ("lost-entry", "mixed", CONTENT_HURT, None),
    ("lost-rename", "saving", NAMES_HURT, None),
    ("early-attribute", "reencrypt", KEYS_HURT, "power"),
    ("early-end", "reencrypt", KEYS_HURT, "power"),
    ("early-return", "rewrap", KEYS_HURT, "power"),
    ("lost-version", "rewrap", KEYS_HURT, "power"),
    ("no-mark", "append", CONTENT_HURT, None),
    ("broken-entry", "overwrite", CONTENT_HURT, None),
    ("early-tail", "wrap", CONTENT_HURT, None),
    ("attribute-sync", "xattrs", r"attribute", "power"),
    ("early-seal", "seals", CONTENT_HURT, "power"),
    ("late-record", "dirnames", NAMES_HURT, None),
    ("early-freeze", "freeze", r"unclean while it was frozen|chunk \d+ holds", "power"),
    ("flip-data", "overwrite", CONTENT_HURT, None),
    ("flip-journal", "overwrite", CONTENT_HURT, None),
    ("replay-sync", "overwrite", CONTENT_HURT, "replay"),
    ("replay-first-sync", "fresh", CONTENT_HURT, "kill-power"),
    ("replay-last-sync", "overwrite", CONTENT_HURT, "replay"),
]


def transform(fault, records):
    """Plants the fault in what follows the first mount."""
    if fault not in TRACE:
        return records
    start = next((i for i, r in enumerate(records) if r[0] == t.MARK and r[2].startswith(b"begin")), len(records))
    return records[:start] + TRACE[fault](records[start:], Kinds(records))


def transform_replay(fault, records):
    return REPLAY[fault](records) if fault in REPLAY else records


def spoil(fault, image, rnd):
    if fault in STATE:
        STATE[fault](image, rnd)
