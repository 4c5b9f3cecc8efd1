"""Planted faults: what the traces would be of a store, or of a machine, that breaks one rule. The lab must
notice each of them (run --self-test)."""

import trace as t

PAGE = 4096
RING_AT = 2 * PAGE


def journal_inode(records):
    names = {}
    for kind, n, body in records:
        if kind == t.CREATE:
            names[n[0], body] = n[1]
        elif kind == t.RENAME and t.split_name(body, n[3])[1] == b"latchfs.journal":
            return names[n[0], t.split_name(body, n[3])[0]]
    return None


def directories(records):
    return {n[1] for kind, n, _ in records if kind == t.MKDIR} | {n[0] for kind, n, _ in records if kind == t.CREATE}


def without_syncs(records, drop):
    """drop(kind, ino): whether such a sync does nothing."""
    gone, out = set(), []
    for r in records:
        if r[0] == t.SYNC_BEGIN and drop(r[1][1], r[1][2]):
            gone.add(r[1][0])
        if not (r[0] in (t.SYNC_BEGIN, t.SYNC_END) and r[1][0] in gone):
            out.append(r)
    return out


def journal_sync(records):
    j = journal_inode(records)
    return without_syncs(records, lambda kind, ino: ino == j)


def file_sync(records):
    other = directories(records) | {journal_inode(records)}
    return without_syncs(records, lambda kind, ino: kind != t.SYNC_ALL and ino not in other)


def directory_sync(records):
    dirs = directories(records)
    return without_syncs(records, lambda kind, ino: kind != t.SYNC_ALL and ino in dirs)


def syncfs(records):
    return without_syncs(records, lambda kind, ino: kind == t.SYNC_ALL)


def early_in_place(records):
    """What is put in place after syncs of the journal is put there before them."""
    j = journal_inode(records)
    out, i, journal_syncs = [], 0, set()
    while i < len(records):
        kind, n, _ = records[i]
        if kind == t.SYNC_BEGIN and n[2] == j:
            journal_syncs.add(n[0])
        if kind in (t.WRITE, t.TRUNCATE, t.FALLOCATE) and n[0] != j:
            k = len(out)
            while k > 0 and (out[k - 1][0] == t.WRITE and out[k - 1][1][0] == j and out[k - 1][1][1] < RING_AT or
                             out[k - 1][0] in (t.SYNC_BEGIN, t.SYNC_END) and out[k - 1][1][0] in journal_syncs):
                k -= 1
            end = i
            while end < len(records) and records[end][0] in (t.WRITE, t.TRUNCATE, t.FALLOCATE) \
                    and records[end][1][0] != j:
                end += 1
            out[k:k] = records[i:end]
            i = end
        else:
            out.append(records[i])
            i += 1
    return out


def early_tail(records):
    """A moved tail counts as durable at once: its sync is dropped."""
    j = journal_inode(records)
    drop, moved = set(), False
    for kind, n, _ in records:
        if kind == t.WRITE and n[0] == j:
            moved = n[1] < RING_AT
        elif kind == t.SYNC_BEGIN and n[2] == j and moved:
            drop.add(n[0])
    return [r for r in records if not (r[0] in (t.SYNC_BEGIN, t.SYNC_END) and r[1][0] in drop)]


def lost_truncation(records):
    j = journal_inode(records)
    return [r for r in records if r[0] != t.TRUNCATE or r[1][0] == j]


def lost_entry(records):
    """Every twentieth entry of the journal does not reach it."""
    j, out, n = journal_inode(records), [], 0
    for r in records:
        if r[0] == t.WRITE and r[1][0] == j and r[1][1] >= RING_AT:
            n += 1
            if n % 20 == 0:
                continue
        out.append(r)
    return out


def lost_rename(records):
    """Renames within a directory are on disk twice: the new name, and the old one still."""
    out = []
    for r in records:
        if r[0] == t.RENAME and not r[1][2] & 2 and not t.split_name(r[2], r[1][3])[0].startswith(b"latchfs."):
            continue
        out.append(r)
    return out


def flip_data(image, rnd):
    """One bit of one page of one file, the journal apart."""
    files = [(i, p) for i, (pages, _) in sorted(image.content.items(), key=lambda x: x[0].ino) for p in sorted(pages)]
    journal = image.names.dirs[image.root].get(b"latchfs.journal")
    files = [x for x in files if x[0] is not journal]
    if files:
        inode, page = rnd.choice(files)
        data = bytearray(image.content[inode][0][page])
        end = min(len(data), image.content[inode][1] - page * PAGE)
        data[rnd.randrange(end)] ^= 1 << rnd.randrange(8)
        image.content[inode][0][page] = bytes(data)


def flip_journal(image, rnd):
    """One bit in each page of the ring."""
    journal = image.names.dirs[image.root].get(b"latchfs.journal")
    pages, _ = image.content[journal]
    for p in sorted(pages):
        if p >= 2 and any(pages[p]):
            data = bytearray(pages[p])
            data[rnd.randrange(PAGE)] ^= 1 << rnd.randrange(8)
            pages[p] = bytes(data)


TRACE = {"journal-sync": journal_sync, "file-sync": file_sync, "directory-sync": directory_sync, "syncfs": syncfs,
         "early-in-place": early_in_place, "early-tail": early_tail, "lost-truncation": lost_truncation,
         "lost-entry": lost_entry, "lost-rename": lost_rename}
STATE = {"flip-data": flip_data, "flip-journal": flip_journal}
REPLAY = {"replay-sync": lambda records: without_syncs(records, lambda kind, ino: True)}

# Where each must be caught.
CAUGHT_BY = [
    ("journal-sync", "overwrite"), ("journal-sync", "append"), ("file-sync", "append"), ("file-sync", "fresh"),
    ("file-sync", "names"), ("file-sync", "tree"), ("directory-sync", "small"), ("directory-sync", "saving"),
    ("syncfs", "small"), ("early-in-place", "overwrite"), ("early-tail", "wrap"), ("lost-truncation", "truncate"),
    ("lost-entry", "mixed"), ("lost-rename", "saving"), ("flip-data", "overwrite"), ("flip-journal", "overwrite"),
    ("replay-sync", "overwrite"),
]


def transform(fault, records):
    return TRACE[fault](records) if fault in TRACE else records


def transform_replay(fault, records):
    return REPLAY[fault](records) if fault in REPLAY else records


def spoil(fault, image, rnd):
    if fault in STATE:
        STATE[fault](image, rnd)
