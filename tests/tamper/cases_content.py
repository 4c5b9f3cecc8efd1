"""Changes of bytes: headers, records, content, records of directories, sidecars, attributes."""

import os

from box import HEADER, HEADER_FIELDS, PAGE, RECORD, RECORD_FIELDS, data_page, record_at, tag_pages
from cases import (INLINE, PAGED, PARTS, ends, header_bytes, holes, last_chunk, page_ends, record_bytes,
                   sample)
from verdict import EMPTIED, OLDER

FLIP = "a byte flipped"


def flips(c):
    m = c.stages["clean"]
    c.row(FLIP, "header of a file")
    for path in INLINE + PAGED + ["emptied"]:
        whole = path in ("inline", "paged")
        for offset in range(HEADER) if whole else header_bytes():
            c.case(f"{path} {offset}", "flip", m[path], offset)
    c.row(FLIP, "record of a chunk")
    for path in PAGED:
        for n, chunk in enumerate(sample(m, path)):
            for offset in range(RECORD) if n == 0 else record_bytes():
                c.case(f"{path} {chunk} {offset}", "flip", m[path], record_at(chunk) + offset)
    c.row(FLIP, "record of a hole, or behind the last chunk")
    for path in PAGED:
        spare = holes(m, path)
        beyond = last_chunk(m, path) + 1
        for chunk in spare[:2] + spare[-2:] + [beyond]:
            if record_at(chunk) + RECORD <= m.length(path):
                for _, offset, _ in RECORD_FIELDS:
                    c.case(f"{path} {chunk} {offset}", "flip", m[path], record_at(chunk) + offset)
    c.row(FLIP, "content")
    for path in INLINE:
        for offset in ends(HEADER, m.length(path) - HEADER):
            c.case(f"{path} {offset}", "flip", m[path], offset)
    for path in PAGED:
        for chunk in sample(m, path):
            length = min(PAGE, int(m.look.sizes[path]) - chunk * PAGE)
            for offset in ends(data_page(chunk), length):
                c.case(f"{path} {offset}", "flip", m[path], offset)
    c.row(FLIP, "page of a hole")
    for path in ("sparse", "many-pages"):
        for chunk in holes(m, path)[:3]:
            c.case(f"{path} {chunk}", "flip", m[path], data_page(chunk) + 5)
    small_flips(c, m)


def small_flips(c, m):
    c.row(FLIP, "directory record")
    for path in ("left", "", "one", "left/inner/deep"):
        for offset in range(HEADER) if path == "left" else header_bytes():
            c.case(f"{path} {offset}", "flip", m.record(path), offset)
    c.row(FLIP, "encrypted name")
    for path in ("paged", "left/inline", "one", "left", "pipe", "link", "empty"):
        name_flips(c, m, path)
    c.row(FLIP, "long name: its hash, its sidecar")
    for path in long_names(m):
        name_flips(c, m, path, len("latchfs.long."))
        sidecar = m.sidecar(path)
        for offset in range(0, os.path.getsize(os.path.join(m.top, sidecar)), 3):
            c.case(f"{path} sidecar {offset}", "flip", sidecar, offset)
    c.row(FLIP, "target of a symbolic link")
    for path in ("link", "left/link", "one/link"):
        target = os.readlink(os.path.join(m.top, m[path]))
        for i in range(len(target)):
            c.case(f"{path} {i}", "symlink", m[path], target[:i] + other_letter(target[i]) + target[i + 1:])
    c.row(FLIP, "long target: the sidecar's name, the sidecar")
    target = os.readlink(os.path.join(m.top, m["long-link"]))
    for i in range(0, len(target), 3):
        c.case(f"name {i}", "symlink", m["long-link"], target[:i] + other_letter(target[i]) + target[i + 1:])
    for offset in list(range(0, 80)) + list(range(80, 4700, 61)):
        c.case(f"sidecar {offset}", "flip", m.sidecar("long-link"), offset)
    attribute_flips(c, m)


def attribute_flips(c, m):
    c.row(FLIP, "value of an extended attribute")
    for path in ("inline", "paged", "left", "one"):
        for name, value in all_attributes(m, path):
            for i in range(len(value)):
                c.case(f"{path} {i}", "set_attribute", m[path], name,
                       value[:i] + bytes([value[i] ^ 1 << i % 8]) + value[i + 1:])
    c.row(FLIP, "name of an extended attribute")
    for path in ("paged", "left"):
        name, value = all_attributes(m, path)[0]
        for i in range(len("user.latchfs."), len(name)):
            changed = name[:i] + other_letter(name[i]) + name[i + 1:]
            c.steps(f"{path} {i}", ("set_attribute", m[path], name, None),
                    ("set_attribute", m[path], changed, value))


def all_attributes(m, path):
    full = os.path.join(m.top, m[path])
    names = [n for n in os.listxattr(full) if n.startswith("user.latchfs.")]
    return [(n, os.getxattr(full, n)) for n in sorted(names, key=lambda n: (len(n), n))]


def long_names(m):
    return [p for p in m.look.items if os.path.basename(m[p]).startswith("latchfs.long.") and p.count("/") == 0]


def other_letter(letter):
    """Both may stand at the end too, where some bits must be zero."""
    return "Q" if letter == "A" else "A"


def name_flips(c, m, path, first=0):
    place, name = os.path.split(m[path])
    for i in range(first, len(name)):
        changed = name[:i] + other_letter(name[i]) + name[i + 1:]
        c.case(f"{path} {i}", "move", m[path], os.path.join(place, changed))


# ---- lengths ----


def lengths(c):
    m = c.stages["clean"]
    c.row("cut", "file, at the end of a page")
    for path in PAGED:
        for length in page_ends(m, path):
            c.case(f"{path} {length}", "cut", m[path], length)
    c.row("cut", "file, elsewhere")
    for path in PAGED:
        for page in page_ends(m, path):
            for length in (page - 1, page + 1, page + HEADER):
                if length < m.length(path):
                    c.case(f"{path} {length}", "cut", m[path], length)
        for length in (1, 100, HEADER - 1, HEADER, HEADER + 1, 4000):
            c.case(f"{path} {length}", "cut", m[path], length)
    for path in INLINE + ["emptied"]:
        for length in {1, 100, HEADER - 1, HEADER, HEADER + 1, m.length(path) - 1}:
            if length < m.length(path) and not (path == "byte" and length == HEADER + 1):
                c.case(f"{path} {length}", "cut", m[path], length)
    c.row("cut", "file, to nothing", allow=[EMPTIED])
    for path in PAGED + INLINE:
        c.case(path, "cut", m[path], 0)
    c.row("cut", "directory record, sidecar")
    for length in (0, 1, 100, 480, 511):
        for path in ("left", "one", ""):
            c.case(f"record of {path} {length}", "cut", m.record(path), length)
    for path in long_names(m) + ["long-link"]:
        for length in (0, 1, 100, os.path.getsize(os.path.join(m.top, m.sidecar(path))) - 1):
            c.case(f"sidecar of {path[:5]} {length}", "cut", m.sidecar(path), length)
    c.row("extended", "file")
    for path in PAGED + INLINE + ["empty", "emptied"]:
        for size in (1, HEADER, PAGE, 3 * PAGE, 130 * PAGE):
            for fill in (b"\0", b"x"):
                c.case(f"{path} {size} {fill}", "extend", m[path], fill * size)
    c.row("extended", "directory record, sidecar")
    for path in ("left", "one", ""):
        for size in (1, PAGE):
            c.case(f"record of {path}", "extend", m.record(path), b"x" * size)
    for path in long_names(m) + ["long-link"]:
        c.case(f"sidecar of {path[:5]}", "extend", m.sidecar(path), b"A")


def zeros(c):
    m = c.stages["clean"]
    c.row("zeroed", "header alone")
    for path in INLINE + PAGED:
        c.case(path, "zero", m[path], 0, HEADER)
    c.row("zeroed", "page 0 (all that a small file has)", allow=[EMPTIED])
    for path in INLINE + PAGED + ["emptied"]:
        c.case(path, "zero", m[path], 0, min(PAGE, m.length(path)))
    c.row("zeroed", "page of content")
    for path in PAGED:
        for chunk in sample(m, path):
            c.case(f"{path} {chunk}", "zero", m[path], data_page(chunk),
                   min(PAGE, int(m.look.sizes[path]) - chunk * PAGE))
    c.row("zeroed", "tag page, or the records in page 0")
    for path in PAGED:
        c.case(f"{path} 0", "zero", m[path], HEADER, PAGE - HEADER)
        for page in tag_pages(m.length(path))[1:]:
            c.case(f"{path} {page}", "zero", m[path], page, PAGE)
    c.row("zeroed", "record of a chunk")
    for path in PAGED:
        for chunk in sample(m, path):
            c.case(f"{path} {chunk}", "zero", m[path], record_at(chunk), RECORD)
    c.row("zeroed", "directory record, sidecar, value of an attribute")
    for path in ("left", "one", ""):
        c.case(f"record of {path}", "zero", m.record(path), 0, HEADER)
    for path in long_names(m) + ["long-link"]:
        c.case(f"sidecar of {path[:5]}", "zero", m.sidecar(path), 0, 200)
    for path in ("inline", "left"):
        for name, value in all_attributes(m, path):
            c.case(f"attribute of {path}", "set_attribute", m[path], name, bytes(len(value)))
            c.case(f"attribute of {path}", "set_attribute", m[path], name, b"")


# ---- chunks that change places ----

PIECES = [("data", True, False), ("record", False, True), ("data and record", True, True)]


def swapped(c):
    m = c.stages["clean"]
    within = [("paged", 0, 1), ("paged", 1, 4), ("two-pages", 0, 1), ("two-pages", 111, 112), ("two-pages", 3, 148),
              ("many-pages", 0, 117), ("many-pages", 117, 245), ("sparse", 3, 10), ("one/paged", 2, 3)]
    between = [("paged", "twin"), ("paged", "left/paged"), ("paged", "one/paged"), ("one/paged", "two/paged"),
               ("paged", "two-pages"), ("two-pages", "many-pages")]
    for what, data, record in PIECES:
        c.row("exchanged", f"chunks within a file: {what}")
        for path, a, b in within:
            c.steps(f"{path} {a} {b}", *exchange(m, path, a, path, b, data, record))
    for what, data, record in PIECES:
        c.row("exchanged", f"chunks of two files: {what}")
        for path, other in between:
            for chunk in (0, 1):
                c.steps(f"{path} {other} {chunk}", *exchange(m, path, chunk, other, chunk, data, record))
    c.row("exchanged", "tag pages, or the records in page 0, of two files")
    for path, other in between:
        c.case(f"{path} {other}", "swap", m[path], HEADER, m[other], HEADER, PAGE - HEADER)
    c.case("within", "swap", m["many-pages"], tag_pages(1 << 22)[1], m["many-pages"], tag_pages(1 << 22)[2], PAGE)
    c.row("exchanged", "headers of two files")
    for path, other in between + [("inline", "inline-full"), ("inline", "left/inline"), ("paged", "inline")]:
        c.case(f"{path} {other}", "swap", m[path], 0, m[other], 0, HEADER)
    c.row("repeated", "chunk with its record over another of the file")
    for path, a, b in within:
        c.own(f"{path} {a} {b}", lambda box, path=path, a=a, b=b: repeat(box, m, path, a, b))


def exchange(m, path, a, other, b, data, record):
    steps = []
    if data:
        steps.append(("swap", m[path], data_page(a), m[other], data_page(b), PAGE))
    if record:
        steps.append(("swap", m[path], record_at(a), m[other], record_at(b), RECORD))
    return steps


def repeat(box, m, path, a, b):
    box.patch(m[path], data_page(b), box.read(m[path], data_page(a), PAGE))
    box.patch(m[path], record_at(b), box.read(m[path], record_at(a), RECORD))


# ---- older ----


def older(c):
    m, old = c.stages["clean"], c.stages["older"]
    changed = {p: [i for i in m.chunks(p) if i in old.look.chunks[p] and m.look.chunks[p][i] != old.look.chunks[p][i]]
               for p in PAGED}
    for what, data, record in PIECES:
        c.row("put back", f"older chunk: {what}")
        for path in PAGED:
            for chunk in changed[path]:
                c.steps(f"{path} {chunk}", *put_back(c, "older", m[path], chunk, data, record))
    for path, what in (("two-pages", "up to 8"), ("many-pages", "more than 8")):
        c.row("put back", f"older chunk: data and record; file of {what} tag pages written to afterwards", writes=path)
        for chunk in [i for i in changed[path] if i > 111][:3]:
            c.steps(f"{path} {chunk}", *put_back(c, "older", m[path], chunk, True, True))
    c.row("put back", "older chunk with record and header, sealed at that time")
    for path in ("paged", "two-pages", "many-pages"):
        for chunk in changed[path][:2]:
            c.steps(f"{path} {chunk}", *put_back(c, "older", m[path], chunk, True, True),
                    ("patch", m[path], 0, c.bytes_of("older", m[path], 0, HEADER)))
    c.row("put back", "older tag page (page 0 with its header, or a later one) without its content")
    for path in PAGED:
        for page in tag_pages(m.length(path)):
            if c.bytes_of("older", m[path], page, PAGE) != c.bytes_of("clean", m[path], page, PAGE):
                c.case(f"{path} {page}", "patch", m[path], page, c.bytes_of("older", m[path], page, PAGE))
    c.row("put back", "older header alone")
    for path in PAGED + ["inline", "one/inline"]:
        for stage in ("ancient", "older", "used"):
            if c.stages[stage].look.content(path) != m.look.content(path):
                c.case(f"{path} {stage}", "patch", m[path], 0, c.bytes_of(stage, m[path], 0, HEADER))
    c.row("put back", "older chunk with its record, under a header copied while the file was not sealed", allow=[PARTS, OLDER])
    for path in ("paged", "two-pages", "many-pages"):
        for chunk in changed[path][:2]:
            c.steps(f"{path} {chunk}", *put_back(c, "older", m[path], chunk, True, True),
                    ("patch", m[path], 0, c.bytes_of("used", m[path], 0, HEADER)))
    c.row("put back", "whole file of before a rotation")
    for path in PAGED + INLINE:
        c.case(path, "copy_in", c.from_stage("ancient", m[path]), m[path])
    c.row("put back", "whole older file", allow=[OLDER])
    for path in PAGED + INLINE:
        for stage in ("older", "used"):
            if c.stages[stage].look.content(path) != m.look.content(path):
                c.case(f"{path} {stage}", "copy_in", c.from_stage(stage, m[path]), m[path])
    c.row("put back", "older value of an attribute", allow=[OLDER])
    for path in ("inline", "paged", "left"):
        name = next(n for n, v in all_attributes(m, path) if (n, v) not in all_attributes(old, path))
        c.case(path, "set_attribute", m[path], name, dict(all_attributes(old, path))[name])
    c.row("put back", "older target of a symbolic link", allow=[OLDER])
    c.case("link", "symlink", m["link"], os.readlink(os.path.join(old.top, m["link"])))
    c.steps("long-link", ("copy_in", c.from_stage("older", old.sidecar("long-link")), old.sidecar("long-link")),
            ("symlink", m["long-link"], os.path.basename(old.sidecar("long-link"))))


def put_back(c, stage, name, chunk, data, record):
    steps = []
    if data:
        steps.append(("patch", name, data_page(chunk), c.bytes_of(stage, name, data_page(chunk), PAGE)))
    if record:
        steps.append(("patch", name, record_at(chunk), c.bytes_of(stage, name, record_at(chunk), RECORD)))
    return steps


def unsealed(c):
    """What can be done to a file before it is sealed."""
    m = c.stages["used"]
    c.row("not sealed yet", "byte of header, record or content flipped", volume="used")
    for offset in (20, 100, 216, 300, 500, record_at(1) + 1, record_at(2) + 28, data_page(1) + 9):
        c.case(str(offset), "flip", m["paged"], offset)
    c.row("not sealed yet", "cut at the end of a page", volume="used")
    for length in page_ends(m, "paged"):
        c.case(str(length), "cut", m["paged"], length)
    c.row("not sealed yet", "older data, or record, alone", volume="used")
    for chunk in (1, 2):
        c.steps(f"data {chunk}", *put_back(c, "older", m["paged"], chunk, True, False))
        c.steps(f"record {chunk}", *put_back(c, "older", m["paged"], chunk, False, True))
    c.row("not sealed yet", "older chunk with its record; a record zeroed", allow=[PARTS, OLDER], volume="used")
    for chunk in (1, 2):
        c.steps(f"chunk {chunk}", *put_back(c, "older", m["paged"], chunk, True, True))
        c.case(f"record {chunk}", "zero", m["paged"], record_at(chunk), RECORD)


# ---- edits by somebody who knows the format ----


def edited(c):
    m = c.stages["clean"]
    c.row("edited", "header: seal opened, directories taken out, size made smaller, state changed")
    for path in ("paged", "two-pages"):
        seal = [("patch", m[path], 240, bytes(1)), ("patch", m[path], 256, bytes(32))]
        c.steps(f"{path} seal", *seal, *put_back(c, "older", m[path], 1 if path == "paged" else 20, True, True))
        c.steps(f"{path} hole", *seal, ("zero", m[path], record_at(0), RECORD))
        c.steps(f"{path} size", *seal, ("patch", m[path], 216, (5000).to_bytes(8, "little")))
    for path, other in (("left/paged", "twin"), ("left/inline", "inline")):
        c.steps(f"{path} homes", ("zero", m[path], 320, 128), ("zero", m[other], 320, 128), ("exchange", m[path], m[other]))
    c.steps("inline to paged", ("patch", m["inline"], 11, b"\x02"), ("zero", m["inline"], 288, 32), ("extend", m["inline"], bytes(PAGE)))
    c.row("edited", "directory record: another place, with the directory exchanged or moved there")
    for path, other in (("left", "right"), ("left/inner", "right/inner")):
        a, b = c.bytes_of("clean", m.record(path)), c.bytes_of("clean", m.record(other))
        c.steps(f"{path} {other}",
                ("patch", m.record(path), 32, b[32:64]), ("patch", m.record(path), 128, b[128:160]),
                ("patch", m.record(other), 32, a[32:64]), ("patch", m.record(other), 128, a[128:160]),
                ("exchange", m[path], m[other]))
