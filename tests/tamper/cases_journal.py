"""The journal: of a clean volume, and of one that was not unmounted."""

import os
import struct

from box import PAGE
from verdict import OLDER

JOURNAL = "latchfs.journal"
RING_AT = 2 * PAGE
SUPER_FIELDS = [(0, 8), (8, 2), (10, 6), (16, 16), (32, 8), (40, 8), (48, 16), (64, 8), (72, 8), (80, 8), (88, 32),
                (120, 8), (128, 352), (480, 32)]
HEAD_FIELDS = [(0, 4), (4, 4), (8, 8), (16, 16), (32, 8), (40, 4), (44, 4), (48, 48)]


def newest_super(data):
    """The slot that counts: its offset, and its fields by offset."""
    slots = [at for at in (0, PAGE) if data[at:at + 8] == b"LATCHJNL"]
    return max(slots, key=lambda at: struct.unpack_from("<Q", data, at + 32)[0])


def entries(data):
    """(offset, total, items, data bytes) of each entry from the tail on."""
    at = newest_super(data)
    ring, tail, seq = struct.unpack_from("<QQQ", data, at + 64)
    found = []
    while ring:
        place = RING_AT + tail % ring
        magic, total, number = struct.unpack_from("<IIQ", data, place)
        if magic != 0x31454A4C or number != seq:
            break
        items, size = struct.unpack_from("<II", data, place + 40)
        found.append((place, total, items, size))
        tail, seq = tail + total, seq + 1
    return found


def journal(c):
    clean(c)
    unclean(c)
    replaced(c)


def clean(c):
    data = c.bytes_of("clean", JOURNAL)
    c.row("journal, clean", "byte of the superblocks flipped", writes=True)
    for slot in (0, PAGE):
        for start, length in SUPER_FIELDS:
            for offset in {start, start + length - 1}:
                c.case(f"{slot + offset}", "flip", JOURNAL, slot + offset)
    c.row("journal, clean", "cut, zeroed, extended", writes=True)
    for length in (0, 1, 511, 512, PAGE, PAGE + 100, PAGE + 512):
        c.case(f"cut {length}", "cut", JOURNAL, length)
    at = newest_super(data)
    c.case("newest zeroed", "zero", JOURNAL, at, PAGE)
    c.case("other zeroed", "zero", JOURNAL, PAGE - at, PAGE)
    c.case("all zeroed", "zero", JOURNAL, 0, 2 * PAGE)
    for size in (1, PAGE, 1 << 20):
        c.case(f"extended {size}", "extend", JOURNAL, b"x" * size)
    c.row("journal, clean", "removed, or another thing in its place", writes=True)
    c.case("removed", "remove", JOURNAL)
    c.case("empty", "make", JOURNAL)
    c.case("directory", "mkdir", JOURNAL)
    c.case("link", "symlink", JOURNAL, "latchfs.dir")


def unclean(c):
    data = c.bytes_of("unclean", JOURNAL)
    at, found = newest_super(data), entries(data)
    assert len(found) >= 8
    c.row("journal, unclean", "byte of the superblock that counts flipped", allow=[OLDER], volume="unclean", writes=True)
    for start, length in SUPER_FIELDS:
        for offset in {start, start + length - 1}:
            c.case(f"{at + offset}", "flip", JOURNAL, at + offset)
    c.row("journal, unclean", "byte of an entry flipped: head, items, MAC, data", allow=[OLDER], volume="unclean")
    for n, (place, total, items, size) in enumerate(found):
        offsets = {o for start, length in HEAD_FIELDS for o in (start, start + length - 1)}
        offsets |= {96, 96 + items // 2, 96 + items - 1, 96 + items, 96 + items + 31}
        if size:
            begin = (96 + items + 32 + 7) // 8 * 8
            offsets |= {begin, begin + size // 2, begin + size - 1}
        for offset in sorted(o for o in offsets if o < total):
            c.case(f"{n} {offset}", "flip", JOURNAL, place + offset)
    c.row("journal, unclean", "cut", allow=[OLDER], volume="unclean", writes=True)
    for place, total, _, _ in found:
        for length in (place, place + 100, place + total - 1):
            c.case(f"{length}", "cut", JOURNAL, length)
    for length in (0, 511, 512, PAGE, RING_AT):
        c.case(f"{length}", "cut", JOURNAL, length)
    c.row("journal, unclean", "entry zeroed", allow=[OLDER], volume="unclean", writes=True)
    for place, total, _, _ in found:
        c.case(f"{place}", "zero", JOURNAL, place, total)
    c.row("journal, unclean", "entries exchanged or repeated", allow=[OLDER], volume="unclean", writes=True)
    for (a, size, _, _), (b, other, _, _) in zip(found, found[1:]):
        if size == other:
            c.case(f"{a} {b}", "swap", JOURNAL, a, JOURNAL, b, size)
        c.own(f"{a} over {b}", lambda box, a=a, b=b, n=min(size, other): box.patch(JOURNAL, b, box.read(JOURNAL, a, n)))
    c.row("journal, unclean", "removed, or another thing in its place", volume="unclean", writes=True)
    c.case("removed", "remove", JOURNAL)
    c.case("empty", "make", JOURNAL)
    c.case("directory", "mkdir", JOURNAL)


def replaced(c):
    c.row("journal, exchanged", "by one of another volume", writes=True)
    c.case("clean", "copy_in", c.from_stage("other", JOURNAL), JOURNAL)
    c.row("journal, exchanged", "of an unclean volume, by one of another volume", volume="unclean", writes=True)
    c.case("unclean", "copy_in", c.from_stage("other", JOURNAL), JOURNAL)
    c.row("journal, exchanged", "of a clean volume, by its journal of an earlier time", writes=True)
    for stage in ("ancient", "older"):
        c.case(stage, "copy_in", c.from_stage(stage, JOURNAL), JOURNAL)
    c.row("journal, exchanged", "of a clean volume, by its journal while it was last in use", writes=True)
    for stage in ("busy", "used"):
        c.case(stage, "copy_in", c.from_stage(stage, JOURNAL), JOURNAL)
    c.row("journal, exchanged", "of a clean volume, by its journal of an earlier use, with entries", writes=True)
    c.case("early", "copy_in", c.from_stage("early", JOURNAL), JOURNAL)
    c.row("journal, exchanged", "of an unclean volume, by an earlier one", allow=[OLDER], volume="unclean", writes=True)
    for stage in ("ancient", "older", "busy", "used", "early", "clean"):
        c.case(stage, "copy_in", c.from_stage(stage, JOURNAL), JOURNAL)
    assert os.path.exists(c.from_stage("other", JOURNAL))
