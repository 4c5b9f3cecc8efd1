"""latchfs.ini, every byte and line of it, as latch-keyd opens it."""

import os

FLIPPED = "byte of `latchfs.ini` flipped"
CUT = "`latchfs.ini` cut, extended"
LINES = "line of `latchfs.ini` left out, repeated, or taken from an older one or from another volume"


def changes(data, sources):
    """(title, label, text of the changed file)."""
    for i in range(len(data)):
        yield FLIPPED, str(i), data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1:]
    for i in range(0, len(data), 7):
        yield CUT, str(i), data[:i]
    yield CUT, "text", data + b"x = 1\n"
    yield CUT, "zeros", data + bytes(4096)
    lines = data.split(b"\n")[:-1]
    for i, line in enumerate(lines):
        yield LINES, f"without {i}", b"\n".join(lines[:i] + lines[i + 1:]) + b"\n"
        yield LINES, f"twice {i}", b"\n".join(lines[:i + 1] + lines[i:]) + b"\n"
        for name, source in sources.items():
            theirs = source.split(b"\n")
            if i < len(theirs) and theirs[i] != line:
                yield LINES, f"{name} {i}", b"\n".join(lines[:i] + [theirs[i]] + lines[i + 1:]) + b"\n"


def read(path):
    with open(path, "rb") as f:
        return f.read()


def run(driver, top):
    """(title, label, kind) of each."""
    path = os.path.join(top, "changed.ini")

    def error(name):
        return int(driver.ask("ini", os.path.join(top, name))[0][1])

    if error("now.ini"):
        raise RuntimeError("the unchanged key store does not open")
    now, others = read(os.path.join(top, "now.ini")), {n: read(os.path.join(top, n + ".ini")) for n in ("older", "other")}
    for title, label, text in changes(now, others):
        with open(path, "wb") as f:
            f.write(text)
        yield title, label, "refused" if error("changed.ini") else "silent"
