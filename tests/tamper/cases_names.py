"""Changes of what stands where: files, directories, links, attributes exchanged, moved, removed."""

import os

from cases import PAGED, INLINE
from cases_content import all_attributes, long_names
from verdict import ACROSS, EMPTIED, EXCHANGED, GONE


def exchanged(c):
    m = c.stages["clean"]
    c.row("exchanged", "two files of one directory", allow=[EXCHANGED])
    for a, b in [("paged", "twin"), ("inline", "paged"), ("one/paged", "one/twin"),
                 ("two-pages", "many-pages"), (long_names(m)[0], "sparse")]:
        c.case(f"{a} {b}", "exchange", m[a], m[b])
    c.row("exchanged", "a file and an empty one of its directory", allow=[EXCHANGED, EMPTIED])
    for a, b in [("inline", "empty"), ("emptied", "two-pages")]:
        c.case(f"{a} {b}", "exchange", m[a], m[b])
    c.row("exchanged", "two files of different directories")
    for a, b in [("sparse", "left/paged"), ("two-pages", "left/inline"), ("inline", "left/inline"), ("left/inner/deep/below", "right/inner/below"),
                 ("two-pages", "left/twin")]:
        c.case(f"{a} {b}", "exchange", m[a], m[b])
    c.row("exchanged", "file with a file of the directory that it was moved from")
    c.case("right/moved", "exchange", m["right/moved"], m["left/twin"])
    c.case("moved back", "move", m["right/moved"], m["left/twin"])
    c.row("exchanged", "hard links in nine directories: the file with one of a tenth", allow=[ACROSS])
    c.case("everywhere", "exchange", m["everywhere"], m["left/inner/deep/below"])
    c.row("exchanged", "two files of different protected directories")
    for a, b in [("paged", "one/paged"), ("one/inline", "two/inline"), ("two/twin", "twin")]:
        c.case(f"{a} {b}", "exchange", m[a], m[b])
    c.row("exchanged", "two directories of one directory")
    for a, b in [("left", "right"), ("one", "two"), ("left", "one"), (long_directory(m), "right")]:
        c.case(f"{a} {b}"[:20], "exchange", m[a], m[b])
    c.row("exchanged", "two directories of different ones")
    for a, b in [("left/inner", "right/inner"), ("left/inner/deep", "right"), ("one/inner", "left/inner"), ("one", "left/inner")]:
        c.case(f"{a} {b}", "exchange", m[a], m[b])
    c.row("exchanged", "records of two directories")
    for a, b in [("left", "right"), ("one", "two"), ("left", "one"), ("left", ""), ("left/inner", "right/inner"),
                 ("one/inner", "one")]:
        c.case(f"{a} {b}", "exchange", m.record(a), m.record(b))
    links(c, m)
    attributes(c, m)
    c.row("exchanged", "a file, link or directory and a thing of another type of its directory", allow=[EXCHANGED])
    for a, b in [("inline", "link"), ("paged", "left"), ("link", "left"), ("link", "inline"), ("left", "two-pages")]:
        c.case(f"{a} {b}", "exchange", m[a], m[b])


def long_directory(m):
    return next(p for p in long_names(m) if m.look.items[p] == "D")


def links(c, m):
    c.row("exchanged", "targets of two symbolic links of one directory", allow=[EXCHANGED])
    for a, b in [("link", "twin-link"), ("long-link", "twin-long-link"), ("link", "long-link"), ("one/link", "one/twin-link")]:
        c.case(f"{a} {b}", "exchange", m[a], m[b])
    c.case("sidecars", "exchange", m.sidecar("long-link"), m.sidecar("twin-long-link"))
    c.row("exchanged", "targets of symbolic links of different directories")
    for a, b in [("link", "left/link"), ("left/link", "left/../link"), ("link", "one/link"), ("one/link", "two/link")]:
        b = os.path.normpath(b)
        c.case(f"{a} {b}", "exchange", m[a], m[b])
    c.row("exchanged", "target of a symbolic link by one of our making")
    for target in ("latchfs.link." + "0" * 32, "/etc/passwd", "AAAA", "latchfs.dir", "latchfs.ini", "A" * 4095):
        c.case(target[:20], "symlink", m["link"], target)


def attributes(c, m):
    c.row("exchanged", "values of two attributes of a file or directory")
    for path in ("inline", "paged", "left", "one"):
        (n1, v1), (n2, v2) = all_attributes(m, path)[:2]
        c.steps(path, ("set_attribute", m[path], n1, v2), ("set_attribute", m[path], n2, v1))
    c.row("exchanged", "values of attributes of two files or directories")
    pairs = [("inline", "paged"), ("paged", "left/paged"), ("paged", "one/paged"), ("left", "one"), ("inline", "left")]
    for a, b in pairs:
        (n1, v1), (n2, v2) = all_attributes(m, a)[0], all_attributes(m, b)[0]
        c.steps(f"{a} {b}", ("set_attribute", m[a], n1, v2), ("set_attribute", m[b], n2, v1))
    c.row("moved", "attribute with its value to another file or directory")
    for a, b in pairs:
        n1, v1 = all_attributes(m, a)[0]
        c.steps(f"{a} {b}", ("set_attribute", m[b], n1, v1), ("set_attribute", m[a], n1, None))


def moved(c):
    m = c.stages["clean"]
    c.row("moved", "file, with its name, to another directory")
    for path, to in [("paged", "right"), ("left/inline", "right"), ("left/inner/deep/below", "left"), ("sparse", "left/inner")]:
        c.case(f"{path} {to}", "move", m[path], os.path.join(m[to], os.path.basename(m[path])))
    c.row("moved", "file, with its name, to another protected directory")
    for path, to in [("paged", "one"), ("one/inline", "two"), ("two/twin", "left"), ("inline", "two")]:
        c.case(f"{path} {to}", "move", m[path], os.path.join(m[to], os.path.basename(m[path])))
    c.row("moved", "directory, with its name, to another directory")
    for path, to in [("left/inner", "right"), ("left/inner/deep", ""), ("right", "left"), ("one/inner", "")]:
        c.case(f"{path} {to}", "move", m[path], os.path.join(m[to], os.path.basename(m[path])))
    c.row("moved", "directory, with its name, to another protected directory")
    for path, to in [("left/inner", "one"), ("one/inner", "two"), ("one", "two"), ("right", "two")]:
        c.case(f"{path} {to}", "move", m[path], os.path.join(m[to], os.path.basename(m[path])))
    c.row("moved", "symbolic link, with its name, to another directory")
    for path, to in [("link", "right"), ("left/link", "right"), ("one/link", "right"), ("link", "two")]:
        c.case(f"{path} {to}", "move", m[path], os.path.join(m[to], os.path.basename(m[path])))
    for to in ("right", "one"):
        c.steps(f"long-link {to}",
                ("move", m.sidecar("long-link"), os.path.join(m[to], os.path.basename(m.sidecar("long-link")))),
                ("move", m["long-link"], os.path.join(m[to], os.path.basename(m["long-link"]))))
    c.row("moved", "long name with its sidecar to another directory")
    for path in long_names(m):
        to = os.path.join(m["right"], m[path])
        c.steps(path[:6], ("move", m[path], to), ("move", m[path] + ".name", to + ".name"))
    c.row("moved", "directory of an older time under its older name, beside the present one")
    c.case("left", "copy_in", c.from_stage("older", m["left"]), os.path.join(m["right"], m["left"]))
    records(c, m)


def records(c, m):
    c.row("put back", "older record of a directory, or one of another")
    for path, stage in [("renamed-dir", "older"), ("protected-since", "ancient")]:
        theirs = c.stages[stage].record({"renamed-dir": "dir-renamed-since"}.get(path, path))
        c.case(f"{path} {stage}", "copy_in", c.from_stage(stage, theirs), m.record(path))
    for path, other in [("left", "right"), ("left/inner", "left"), ("one", "two"), ("one", ""), ("left", "one")]:
        c.case(f"{path} {other}", "copy_in", c.from_stage("clean", m.record(other)), m.record(path))


def removed(c):
    m = c.stages["clean"]
    c.row("removed", "directory record")
    for path in ("left", "one", "", "left/inner/deep"):
        c.case(path, "remove", m.record(path))
    c.row("removed", "sidecar of a long name or of a long target")
    for path in long_names(m) + ["long-link"]:
        c.case(path[:6], "remove", m.sidecar(path))
    c.row("removed", "file, and an empty one put in its place", allow=[EMPTIED])
    for path in PAGED + INLINE:
        c.case(path, "make", m[path])
    c.row("removed", "file, link or directory, and one of our making in its place")
    for path in ("paged", "inline", "left/inline", "one/inline"):
        c.case(f"{path} text", "make", m[path], b"x" * 5000)
        c.case(f"{path} short", "make", m[path], b"x" * 100)
        c.case(f"{path} directory", "mkdir", m[path])
        c.case(f"{path} link", "symlink", m[path], "/etc/passwd")
    for path in ("link", "left", "one"):
        c.case(f"{path} text", "make", m[path], b"x" * 1000)
        c.case(f"{path} directory", "mkdir", m[path])
    c.row("added", "names that nobody encrypted")
    for name in ("hello", "latchfs.tmp.1", "latchfs.long.x", "latchfs.long." + "A" * 43, "latchfs.dir.new", "A" * 30):
        c.case(name[:20], "make", name, b"x")
        c.case(f"left {name[:20]}", "mkdir", os.path.join(m["left"], name))


def taken_away(c):
    """Not in the table: the text below it says that these are not detected."""
    m = c.stages["clean"]
    c.row("", "entry or attribute taken away", allow=[GONE], removes=True)
    for path in ("paged", "link", "left", "one", "pipe", "empty"):
        c.case(path, "remove", m[path])
    for path in ("inline", "left"):
        c.case(f"attribute of {path}", "set_attribute", m[path], all_attributes(m, path)[0][0], None)
