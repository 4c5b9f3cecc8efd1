#!/usr/bin/python3
"""Writes the seeds of the targets that go through the store: seeds/file, seeds/journal, seeds/tree.

The seeds of the other targets are bytes of tests/vectors and of the programs. Nothing here is authentic: the targets make
it so. Run by hand after a change of an input's form:  /usr/bin/python3 make_seeds.py
"""

import os
import struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds")


def put(target, name, data):
    os.makedirs(os.path.join(HERE, target), exist_ok=True)
    with open(os.path.join(HERE, target, name), "wb") as f:
        f.write(data)


# ---- file: length u32 | header 512 | 8 records | units (page u16 | place u8 | 128 bytes) ----


def record(length, epoch=1):
    return bytes(range(12)) + bytes(16) + struct.pack("<HH", length, epoch)


def header(state, size, epochs=(1, 0), sealed=False):
    def place(epoch):
        return struct.pack("<H6x", epoch) + (b"\x11" * 72 if epoch else bytes(72))

    inline = record(size, max(epochs)) if state == 1 else bytes(32)
    h = b"LATCHFIL" + struct.pack("<HBBHH", 1, 2, state, 0, 0) + b"\x0a" * 16 + b"\x02" * 16 + struct.pack("<II", 1, 0)
    h += place(epochs[0]) + place(epochs[1]) + struct.pack("<QQQ", size, 10, 1)
    h += struct.pack("<B7xQ", sealed, sealed) + (b"\x01" * 32 if sealed else bytes(32)) + inline
    return h.ljust(512, b"\0")


def length_of(size):
    chunk = (size - 1) // 4096
    page = 1 + chunk if chunk < 112 else 114 + 129 * ((chunk - 112) // 128) + (chunk - 112) % 128
    return 4096 * page + size - 4096 * chunk


def unit(page, place, data):
    return struct.pack("<HB", page, place) + data.ljust(128, b"\0")[:128]


def file_seed(name, length, head, records=(), units=(), change=False):
    put("file", name, struct.pack("<I", length | change << 31) + head + b"".join(records).ljust(256, b"\0")[:256] + b"".join(units))


def files():
    file_seed("empty", 0, bytes(512))
    file_seed("zero-page", 5000, bytes(512))
    file_seed("inline", 512 + 100, header(1, 100))
    file_seed("inline-changed", 512 + 100, header(1, 100), change=True)
    file_seed("header-alone", 512, header(2, 0), change=True)
    five = [record(4096) for _ in range(4)] + [record(100)]
    size = 4 * 4096 + 100
    pages = [unit(1 + i, i, b"page %d" % i) for i in range(5)]
    file_seed("paged", length_of(size), header(2, size), five, pages)
    file_seed("sealed", length_of(size), header(2, size, sealed=True), five, pages)
    file_seed("changed", length_of(size), header(2, size, sealed=True), five, pages, change=True)
    file_seed("two-keys", length_of(size), header(2, size, (1, 2)), [record(4096, 1), record(4096, 2)], pages, change=True)
    file_seed("holes", length_of(size), header(2, size), [bytes(32), record(4096), bytes(32), record(50)], change=True)
    size = 200 * 4096
    tags = [unit(113, 0, record(4096) * 4), unit(113, 21, record(4096) * 4), unit(114, 0, b"chunk 112")]
    file_seed("two-tag-pages", length_of(size), header(2, size), five, tags, change=True)
    file_seed("too-short", length_of(size) - 5000, header(2, size), five, tags)
    file_seed("too-long", length_of(size) + 5000, header(2, size), five, tags, change=True)


# ---- journal: mode u8 | generation u8 | tail u32 | steps ----


def entry(which):
    return bytes([0, which])


def head(size, paged=True):
    return bytes([1, (2 if paged else 0) | 0x80]) + struct.pack("<H", size)


def chunks(first, count, fresh=False):
    return bytes([2, first, count, fresh])


CUT, PUNCH, INLINE, MARK, PATH, REMOVED, RAW, REST = 3, 4, 5, 6, 7, 8, 9, 10


def path(which):
    return bytes([PATH, which, 0])


def journal_seed(name, *steps, mode=0, generation=8, tail=0x100):
    put("journal", name, struct.pack("<BBI", mode, generation, tail) + b"".join(steps))


def journals():
    journal_seed("nothing")
    journal_seed("overwrite", entry(1), head(20497), chunks(1, 2), path(1), entry(1), head(20497), chunks(2, 1))
    journal_seed("inline", entry(0), head(80, paged=False), bytes([INLINE]) + struct.pack("<H", 80), path(0))
    journal_seed("to-paged", entry(0), head(5000), chunks(0, 2), path(0))
    journal_seed("cut", entry(1), head(5000), bytes([CUT]) + struct.pack("<I", 8192 + 904), path(1))
    journal_seed("grow", entry(2), head(65000), chunks(0, 14), path(2), entry(2), head(65000), bytes([PUNCH, 3, 5]))
    journal_seed("fresh", entry(2), head(65000), chunks(20, 3, fresh=True), entry(3), bytes([MARK, 2, 9]))
    journal_seed("fresh-unmarked", entry(2), head(65000), chunks(20, 3, fresh=True), path(2))
    journal_seed("removed", entry(1), bytes([REMOVED]), entry(3), head(10))
    journal_seed("raw", entry(1), bytes([RAW, 8]) + b"\x02" + bytes(7), bytes([REST]))
    journal_seed("wrapped", entry(1), head(20497), chunks(1, 2), path(1), mode=2, tail=3)
    journal_seed("older", entry(1), head(20497), chunks(1, 2), path(1), generation=0)
    journal_seed("two-files", entry(1), head(20497), chunks(0, 1), path(1), entry(2), head(60000), chunks(3, 1), path(2),
                 entry(1), head(20497), chunks(3, 1), entry(0), head(10, paged=False), bytes([INLINE, 10, 0]))
    journal_seed("read-only", entry(1), head(20497), chunks(1, 2), mode=4)


# ---- tree: what u8 | text; the highest bit: made authentic ----


def trees():
    base = b"LATCHDIR" + struct.pack("<HHI", 1, 0, 0) + b"\x07".ljust(16, b"\0") + b"\x06".ljust(16, b"\0") + bytes(16) + b"\x02" * 16
    for name, what, text in [
            ("record", 0, base), ("record-moving", 0, base[:48] + b"\x06".ljust(16, b"\0") + base[64:] + bytes(48) + b"n" * 32),
            ("name", 1, b"plain"), ("name-slash", 1, b"a/b"), ("name-nul", 1, b"a\0b"), ("name-dots", 1, b".."), ("sidecar", 2, b"n" * 200),
            ("sidecar-too-long", 2, b"n" * 260), ("link", 3, b"target"), ("link-nul", 3, b"tar\0get"), ("link-empty", 3, b""),
            ("link-sidecar", 4, b"t" * 3500), ("value", 5, b"value"), ("dir-value", 6, b"value"), ("attribute", 7, b"user.comment"),
            ("attribute-nul", 7, b"user.a\0b"), ("attribute-trusted", 7, b"trusted.x"), ("attribute-system", 7, b"system.posix_acl_access")]:
        put("tree", name, bytes([what | 0x80]) + text)
        put("tree", name + "-raw", bytes([what]) + text)


files()
journals()
trees()
