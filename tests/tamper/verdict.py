"""What a changed volume shows, held against what it showed before."""

import collections
import os

WARNING, DAMAGE = 1, 2  # enum check_severity


class Look:
    """One answer of the driver, as paths and what each is."""

    def __init__(self, lines):
        self.open = 0
        self.items = {}     # path -> kind: F, D, L, S
        self.sizes = {}     # of files; a text beginning with ! is an error
        self.chunks = collections.defaultdict(dict)
        self.links, self.specials, self.errors, self.inodes = {}, {}, {}, {}
        self.attributes = collections.defaultdict(dict)
        self.failures = 0
        self.replay = ["0"] * 4
        self.findings, self.checked, self.closed = set(), {}, 0
        for line in lines:
            self._take(line)

    def _take(self, f):
        kind, path = f[0], f[1] if len(f) > 1 else ""
        if kind == "C":
            self.chunks[path][int(f[2])] = f[3]
        elif kind == "X":
            self.attributes[path][f[2] if len(f) > 3 else ""] = f[-1]
        elif kind in "ER" and len(kind) == 1:
            self.errors[path] = f[2]
        elif kind == "I":
            self.inodes[path] = int(f[2])
        elif kind in ("F", "D", "L", "S"):
            self.items[path] = kind
            {"F": self.sizes, "D": {}, "L": self.links, "S": self.specials}[kind][path] = f[2]
        elif kind == "V":
            self.findings.add(tuple(f[1:]))
        elif kind == "checked":
            self.checked[f[1]] = int(f[2])
        elif kind == "failures":
            self.failures = int(f[1])
        elif kind == "replay":
            self.replay = f[1:]
        elif kind == "open":
            self.open = int(f[1])
        elif kind == "close":
            self.closed = int(f[1])

    def content(self, path):
        """A file's size and chunks; a link's target."""
        if self.items.get(path) == "F":
            return ("F", self.sizes[path], tuple(sorted(self.chunks[path].items())))
        return (self.items.get(path), self.links.get(path) or self.specials.get(path))


class History:
    """Every state that a path ever had, from the looks at the stages."""

    def __init__(self):
        self.contents = collections.defaultdict(set)
        self.chunks = collections.defaultdict(set)
        self.sizes = collections.defaultdict(set)
        self.attributes = collections.defaultdict(set)

    def add(self, look):
        for path in look.items:
            self.contents[path].add(look.content(path))
            self.sizes[path].add(look.sizes.get(path))
            for index, chunk in look.chunks[path].items():
                self.chunks[path, index].add(chunk)
        for path, values in look.attributes.items():
            for name, value in values.items():
                self.attributes[path, name].add(value)

    def of_parts(self, path, look):
        """True if every chunk is one that the file had at its place, or zeros."""
        return look.sizes[path] in self.sizes[path] and all(
            chunk in self.chunks[path, index] for index, chunk in look.chunks[path].items())


# What may differ without an error. Only the first three are permitted anywhere.
OLDER = "older version of the whole"
EMPTIED = "empty file"
EXCHANGED = "exchanged within one directory"
ACROSS = "exchanged with another directory"
PARTS = "parts of older versions"
GONE = "gone"
OTHER = "other content"


class Verdict:
    def __init__(self, inodes=None):
        self.inodes = inodes or {}  # of the base
        self.refused = False
        self.errors = set()     # paths that give an error
        self.left_out = set()
        self.silent = []        # (path, category)
        self.findings = set()   # of the check, new ones
        self.broken = None      # the driver died

    @property
    def differs(self):
        return bool(self.refused or self.errors or self.left_out or self.silent)

    def caught(self, path):
        """True if the check names the path, or another hard link of it, or what is above or below, as damaged."""
        for _, _, severity, _, plain, _ in self.findings:
            if int(severity) < DAMAGE or plain == "?":
                continue
            same = self.inodes.get(plain) is not None and self.inodes.get(plain) == self.inodes.get(path)
            if same or plain == path or path.startswith(plain + "/") or plain.startswith(path + "/") or not plain:
                return True
        return False

    @property
    def stray(self):
        """The check found a thing with no or a bad name: what is gone stands there."""
        return any(int(f[2]) >= WARNING and f[4] == "?" for f in self.findings)

    @property
    def undetected(self):
        return [(path, category) for path, category in self.silent
                if not self.caught(path) and not (category == GONE and self.stray)]

    @property
    def damage_found(self):
        return any(int(f[2]) >= DAMAGE for f in self.findings)

    @property
    def kind(self):
        """refused, error, left out, check, harmless, silent or broken."""
        if self.broken:
            return "broken"
        if self.undetected:
            return "silent"
        if self.refused:
            return "refused"
        if self.errors:
            return "error"
        if self.left_out:
            return "left out"
        return "check" if self.silent else "harmless"


def is_error(value):
    return value.startswith("!")


def parents(path):
    while path:
        path = os.path.dirname(path)
        yield path


class Judge:
    """Compares with one base."""

    def __init__(self, base, history, inodes):
        self.base, self.history, self.inodes = base, history, inodes

    def judge(self, look):
        v = Verdict(self.inodes)
        v.findings = look.findings - self.base.findings
        if look.open:
            v.refused = True
            return v
        missing = [p for p in self.base.items if not self._there(look, p)]
        top = [p for p in missing if os.path.dirname(p) not in missing]
        counted = look.failures - self.base.failures >= len(top)
        for path in missing:
            v.left_out.add(path) if counted else v.silent.append((path, GONE))
        for path in self.base.items:
            if path not in missing:
                self._compare(path, look, v)
        for path in look.items:
            if path not in self.base.items:
                v.silent.append((path, self._category(path, look)))
        return v

    def _there(self, look, path):
        """Also where something else stands in place of a directory above: that is judged there."""
        return path in look.items or path in look.errors or any(
            p in look.errors or look.items.get(p, "D") != "D" for p in parents(path))

    def _compare(self, path, look, v):
        if path in look.errors or any(p in look.errors for p in parents(path)):
            v.errors.add(path)
            return
        if path not in look.items:
            return
        if look.items[path] != self.base.items[path]:
            bad = is_error(look.links.get(path) or look.sizes.get(path) or "")
            v.errors.add(path) if bad else v.silent.append((path, self._category(path, look)))
            return
        if look.items[path] == "F":
            self._compare_file(path, look, v)
        elif look.items[path] in "LS":
            was, now = self.base.content(path), look.content(path)
            if now != was:
                v.errors.add(path) if is_error(now[1]) else v.silent.append((path, self._category(path, look)))
        if not any(changed == path for changed, _ in v.silent):
            self._compare_attributes(path, look, v)

    def _compare_file(self, path, look, v):
        """Whoever reads all of a file meets each error in it; whoever reads a chunk sees that chunk alone."""
        if is_error(look.sizes[path]):
            v.errors.add(path)
            return
        was, now, size = self.base.chunks[path], look.chunks[path], int(look.sizes[path])
        bad = {i for i, chunk in now.items() if is_error(chunk)}
        differs = any(chunk != was.get(i) for i, chunk in now.items() if i not in bad)
        differs |= any(i not in now and i * 4096 < size for i in was)
        if bad:
            v.errors.add(path)
        if differs or (not bad and look.sizes[path] != self.base.sizes[path]):
            v.silent.append((path, self._category(path, look)))

    def _compare_attributes(self, path, look, v):
        was, now = self.base.attributes.get(path, {}), look.attributes.get(path, {})
        if is_error(look.sizes.get(path, "")) or is_error(now.get("", "")):
            if was:
                v.errors.add(path)
            return
        lost = [name for name in was if name not in now]
        if lost and look.failures - self.base.failures >= len(lost):
            v.left_out.add(path)
        elif lost:
            v.silent.append((path, GONE))
        for name, value in now.items():
            if is_error(value):
                v.errors.add(path)
            elif name not in was or value != was[name]:
                older = value in self.history.attributes[path, name]
                v.silent.append((path, OLDER if older else OTHER))

    def _category(self, path, look):
        content = look.content(path)
        if content in self.history.contents[path]:
            return OLDER
        if content[0] == "F" and look.sizes[path] == "0":
            return EMPTIED
        others = [other for other, states in self.history.contents.items() if content in states]
        if any(os.path.dirname(other) == os.path.dirname(path) for other in others):
            return EXCHANGED
        if others:
            return ACROSS
        if content[0] == "F" and self.history.of_parts(path, look):
            return PARTS
        return OTHER
