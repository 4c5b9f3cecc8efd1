#!/usr/bin/python3
"""Fails when a source includes from a layer above its own (docs/ARCHITECTURE.md has the layers).

Usage: tests/layers.py [--self-test] [TOP]
"""

import re
import sys
import tempfile
from pathlib import Path

# Public headers by the folder that implements them. A new header must be added here.
HEADERS = {
    "fs/base": "aside background buf crc32c device err io log rangeset secret unmount",
    "fs/format": "aead dirrec format header jentry keyset keystore keywrap layout name record symlink xattr",
    "fs/store": "check store",
    "keyd/client": "keyclient keyedit",
    "keyd": "auditlog keyslots",
    "fs/mount": "mountctl",
}

# What a folder may include from, besides itself. fs/mount never sees keyd's slot code.
MAY_USE = {
    "fs/base": [],
    "fs/format": ["fs/base"],
    "fs/store": ["fs/base", "fs/format"],
    "keyd/client": ["fs/base", "fs/format"],
    "keyd": ["fs/base", "fs/format", "keyd/client"],
    "fs/mount": ["fs/base", "fs/format", "fs/store", "keyd/client"],
    "fs/view": ["fs/base", "fs/format", "fs/store", "keyd/client"],
    "tools": ["fs/base", "fs/format", "fs/store", "keyd/client", "keyd", "fs/mount"],
}

# Headers of libraries that one layer only may use.
LIBRARIES = {
    r"fuse": ["fs/mount", "fs/view"],
    r"keyutils\.h": ["keyd"],
    r"openssl/": ["fs/format"],
    r"systemd/": ["keyd", "fs/mount"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
OWNER = {name: folder for folder, names in HEADERS.items() for name in names.split()}


def folder_of(path):
    """The folder of the layer table that a source belongs to, or None (tests are free)."""
    parts = path.parts
    if parts[:2] == ("include", "latchfs"):
        return OWNER.get(path.stem, "?")
    for n in (2, 1):
        if "/".join(parts[:n]) in MAY_USE:
            return "/".join(parts[:n])
    return None


def private_folder(path, name, top):
    """The folder that a quoted include outside latchfs/ comes from: beside the source, else from the top."""
    beside = (path.parent / name)
    found = beside if (top / beside).is_file() else Path(name)
    return folder_of(found)


def check_include(top, path, mine, quote, name):
    """What is wrong with one include, or None."""
    if quote == "<":
        for pattern, folders in LIBRARIES.items():
            if re.match(pattern, name) and mine not in folders:
                return f"<{name}> is for {', '.join(folders)} only"
        return None
    if name == "config.h":
        return None
    if name.startswith("latchfs/"):
        theirs = OWNER.get(Path(name).stem)
        if theirs is None:
            return f"{name} is in no layer; add it to tests/layers.py"
        return None if theirs == mine or theirs in MAY_USE[mine] else f"{name} belongs to {theirs}"
    theirs = private_folder(path, name, top)
    return None if theirs == mine else f"{name} is private to {theirs}"


def check(top):
    errors = []
    sources = [p for d in ("include", "fs", "keyd", "tools") for p in sorted((top / d).rglob("*.[ch]"))]
    for source in sources:
        path = source.relative_to(top)
        mine = folder_of(path)
        if mine == "?" or mine is None:
            errors.append(f"{path}: in no layer; add it to tests/layers.py")
            continue
        for quote, name in INCLUDE.findall(source.read_text(errors="replace")):
            wrong = check_include(top, path, mine, quote, name)
            if wrong:
                errors.append(f"{path}: {wrong}")
    if not sources:
        errors.append(f"{top}: no sources found")
    return errors


# Each of these must be found.
PLANTED = {
    "fs/base/up.c": '#include "latchfs/format.h"\n',
    "fs/format/up.c": '#include "latchfs/store.h"\n',
    "fs/store/up.c": "#include <fuse_lowlevel.h>\n",
    "fs/mount/up.c": '#include "latchfs/keyslots.h"\n',
    "keyd/up.c": '#include "latchfs/store.h"\n',
    "tools/up.c": '#include "keyd/vault.h"\n',
    "include/latchfs/buf.h": '#include "latchfs/store.h"\n',
    "include/latchfs/unheard_of.h": "\n",
}


def self_test():
    for name, text in PLANTED.items():
        with tempfile.TemporaryDirectory() as place:
            target = Path(place, name)
            target.parent.mkdir(parents=True)
            target.write_text(text)
            if len(check(Path(place))) != 1:
                print(f"layers: the planted fault in {name} was not found", file=sys.stderr)
                return 1
    return 0


def main(argv):
    if argv[:1] == ["--self-test"]:
        return self_test()
    top = Path(argv[0] if argv else __file__).resolve()
    errors = check(top if argv else top.parent.parent)
    print("\n".join(errors) if errors else "layers: no upward include")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
