"""Makes the volume, runs the cases on copies of it, and counts."""

import collections
import os
import shutil
import subprocess
import tempfile

import verdict
from box import Box, Broken, Driver, copy
from cases import Cases, Map

NAMES = ("ancient", "early", "older", "busy", "used", "clean", "unclean", "other")
BASES = ("clean", "unclean", "used")  # what is tampered with
ROOM = 1 << 29

Result = collections.namedtuple("Result", "row label kind undetected note verified")


def room():
    """A place with extended attributes, in memory where there is one."""
    for place in ("/dev/shm", tempfile.gettempdir()):
        if os.path.isdir(place) and os.statvfs(place).f_bavail * os.statvfs(place).f_frsize >= ROOM:
            with tempfile.NamedTemporaryFile(dir=place) as f:
                try:
                    os.setxattr(f.name, "user.latchfs.try", b"x" * 200)
                    return place
                except OSError:
                    continue
    raise SystemExit("tamper: no directory with extended attributes and room")


class Stages:
    """The volume at each stage of its life, and every state that its paths had."""

    def __init__(self, driver_path, top):
        self.top, self.driver = top, Driver(driver_path)
        self.history = verdict.History()
        self._make(driver_path)
        self.maps, self.bases = {}, {}
        for name in NAMES:
            if name == "other":
                self.maps[name] = Map(self.dir(name), verdict.Look([]))
                continue
            look = verdict.Look(self.driver.look(self.dir(name), inodes=True, verify=name in BASES))
            if look.open and name not in ("ancient", "early"):
                raise RuntimeError(f"the stage {name} does not open: {look.open}")
            self.maps[name] = Map(self.dir(name), look)
            self.bases[name] = look
            if name != "ancient":
                self.history.add(look)
        for name in BASES:
            self.bases[name] = verdict.Look(self.driver.look(self.dir(name), verify=True))

    def dir(self, name):
        return os.path.join(self.top, name)

    def _make(self, driver_path):
        """Copies each stage, and takes the states that the driver reports between them."""
        with subprocess.Popen([driver_path, "make", self.top], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as p:
            block = []
            for line in p.stdout:
                if line != ".\n":
                    block.append(line.rstrip("\n").split("\t"))
                    continue
                if block[0][0] == "stage":
                    name = block[0][1]
                    copy(os.path.join(self.top, "other-volume" if name == "other" else "volume"), self.dir(name))
                    p.stdin.write("\n")
                    p.stdin.flush()
                else:
                    self.history.add(verdict.Look(block[1:]))
                block = []
        if p.returncode:
            raise RuntimeError("the driver could not make the volume")


def all_cases(stages):
    import cases_content
    import cases_journal
    import cases_names
    c = Cases(stages.maps)
    cases_content.flips(c)
    cases_content.lengths(c)
    cases_content.zeros(c)
    cases_content.swapped(c)
    cases_names.exchanged(c)
    cases_names.moved(c)
    cases_content.edited(c)
    cases_content.older(c)
    cases_content.unsealed(c)
    cases_names.removed(c)
    cases_journal.journal(c)
    cases_names.taken_away(c)
    return c


class Worker:
    """Runs cases one by one on copies of its own."""

    changed = {"many-pages": ("many-pages", "1"), "two-pages": ("two-pages", "1")}  # name, chunk

    def __init__(self, stages, cases, driver_path, top):
        self.stages, self.cases, self.top = stages, cases, top
        self.driver = Driver(driver_path)
        self.boxes = {}
        for name in BASES:
            os.makedirs(top, exist_ok=True)
            copy(stages.dir(name), os.path.join(top, name))
            self.boxes[name] = Box(os.path.join(top, name), os.path.join(top, "aside-" + name))
        self.judges = {n: verdict.Judge(stages.bases[n], stages.history, stages.maps[n].look.inodes) for n in BASES}

    def run(self, number, write):
        """write: opens a copy for writing too."""
        case = self.cases.all[number]
        row = self.cases.rows[case.row]
        box, judge = self.boxes[row.volume], self.judges[row.volume]
        try:
            case.do(box)
            v = self._look_changed(box.top, row) if row.writes in self.changed else self._look(judge, box.top)
            if (write or row.writes) and row.writes not in self.changed and not v.broken:
                self._write(judge, box.top, row, v)
        finally:
            box.undo()
        undetected = sorted({category for _, category in v.undetected})
        verified = v.damage_found
        return Result(case.row, case.label, v.kind, undetected, v.broken or self._note(v), verified)

    def _note(self, v):
        return ", ".join(f"{path[:40]}: {category}" for path, category in v.undetected[:4])

    def _look_changed(self, top, row):
        """What is left to see after the file has been changed through a mount, against the same without the case."""
        looks = []
        for source in (self.stages.dir(row.volume), top):
            twin = os.path.join(self.top, "twin")
            copy(source, twin)
            try:
                self.driver.ask("change", twin, *self.changed[row.writes])
                looks.append(verdict.Look(self.driver.look(twin, verify=True)))
            finally:
                shutil.rmtree(twin)
        return verdict.Judge(looks[0], self.stages.history, self.stages.maps[row.volume].look.inodes).judge(looks[1])

    def _look(self, judge, top):
        try:
            return judge.judge(verdict.Look(self.driver.look(top, verify=True)))
        except Broken as e:
            v = verdict.Verdict()
            v.broken = str(e)
            return v

    def _write(self, judge, top, row, v):
        """Opened for writing, and again afterwards, the volume must show nothing that is not permitted."""
        twin = os.path.join(self.top, "twin")
        copy(top, twin)
        try:
            seen = [verdict.Look(self.driver.look(twin, read_only=False)), verdict.Look(self.driver.look(twin, verify=True))]
        except Broken as e:
            v.broken = "opened for writing: " + str(e)
            return
        finally:
            shutil.rmtree(twin)
        for look in seen:
            again = judge.judge(look)
            again.findings = v.findings | seen[1].findings - judge.base.findings
            new = {category for _, category in again.undetected} - set(row.allow)
            if new and not v.undetected:
                v.broken = "opened for writing: " + ", ".join(sorted(new))

    def restored(self):
        """Nothing of any case is left."""
        return all(not self.judges[n].judge(verdict.Look(self.driver.look(b.top, verify=True))).differs
                   for n, b in self.boxes.items())

    def close(self):
        self.driver.close()
