"""Records a workload, makes states of it, has each checked."""

import collections
import os
import random
import re
import shutil
import subprocess
import tempfile

import disk
import faults
import oracle
import trace as t

# How a state comes about, and how many of twenty do.
MODES = {
    "power": 10,       # a power cut
    "kill": 3,         # kill -9: the kernel goes on
    "replay": 3,       # a power cut, and another one while the replay of the first runs
    "kill-power": 2,   # kill -9, and a power cut while the replay runs
    "kill-kill": 1,    # kill -9, and again while the replay runs
    "tear": 1,         # a power cut that tears pages into sectors
}
TEARS = 3
TIMEOUT = 120


class State:
    def __init__(self, workload, seed, number, records, start, mode=None):
        rnd = self.rnd = random.Random("%s %s %d" % (workload, seed, number))
        self.number = number
        self.mode = rnd.choices(list(MODES), MODES.values())[0]
        self.mode = mode or self.mode
        syncs = [i for i in range(start, len(records)) if records[i][0] in (t.SYNC_BEGIN, t.SYNC_END)]
        if syncs and rnd.random() < 0.5:
            self.cut = max(start, min(len(records), rnd.choice(syncs) + rnd.randint(-2, 4)))
        else:
            self.cut = rnd.randint(start, len(records))


class Lab:
    def __init__(self, driver, recorder, fault=None, mode=None):
        self.driver, self.recorder, self.fault, self.mode = driver, recorder, fault, mode

    def call(self, root, *args, trace=None, inodes=None):
        """Runs the driver; what it said on standard error when it did not end with 0."""
        env = dict(os.environ, LD_PRELOAD=self.recorder, CRASH_ROOT=root)
        env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        plant = self.fault if self.fault in faults.PLANTED else None
        for key, value in (("CRASH_TRACE", trace), ("CRASH_INODES", inodes), ("CRASH_PLANT", plant)):
            if value:
                env[key] = value
        try:
            p = subprocess.run([self.driver, *args], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return "the driver hangs"
        if p.returncode in (0, 1):
            return "" if p.returncode == 0 else "1"
        return "the driver ended with %d: %s" % (p.returncode, p.stderr.decode(errors="replace")[-2000:])

    def record(self, workload, seed, tmp):
        root, trace = os.path.join(tmp, "recorded"), os.path.join(tmp, "trace")
        os.mkdir(root)
        said = self.call(root, "run", workload, str(seed), root, trace=trace)
        if said:
            raise t.Broken("workload %s: %s" % (workload, said))
        records = t.read(trace)
        shutil.rmtree(root)
        os.unlink(trace)
        return faults.transform(self.fault, records)


class Run:
    """One workload's states."""

    def __init__(self, lab, workload, seed, tmp, keep):
        self.lab, self.workload, self.seed, self.keep = lab, workload, seed, keep
        self.tmp = tempfile.mkdtemp(prefix="crash-", dir=tmp)
        self.counts = collections.Counter()  # (mode, passed)
        self.reports = []

    def go(self, numbers, until=None):
        """until: stop at the first report that this pattern fits."""
        try:
            self.records = self.lab.record(self.workload, self.seed, self.tmp)
            start = 1 + next(i for i, r in enumerate(self.records) if r[0] == t.MARK and r[2] == b"created\n")
            states = [State(self.workload, self.seed, n, self.records, start, self.lab.mode) for n in numbers]
            states.sort(key=lambda s: s.cut)
            self.disk, self.oracle, at = disk.Disk(), oracle.Oracle(), 0
            for s in states:
                while at < s.cut:
                    self.feed(at)
                    at += 1
                self.state(s)
                if until and self.reports and re.search(until, self.reports[-1]):
                    break
        finally:
            shutil.rmtree(self.tmp)
        return self

    def feed(self, at):
        kind, _, body = self.records[at]
        if kind == t.MARK:
            self.oracle.feed(at, body)
        else:
            self.disk.feed(at, self.records[at])

    # ---- one state ----

    def state(self, s):
        killed = s.mode in ("kill", "kill-kill")
        where = os.path.join(self.tmp, "state")
        try:
            image, wrong = self.image(s, where), []
        except Unrecovered as e:
            image, wrong = e.image, [str(e)]
        if not wrong:
            faults.spoil(self.lab.fault, image, s.rnd)
            wrong = self.check(image, where, killed)
        self.counts[s.mode, not wrong] += 1
        if wrong:
            self.report(s, image, wrong)

    def image(self, s, where):
        if s.mode.startswith("kill"):
            image = self.disk.alive()
            self.half_written(s, image)
        else:
            image = self.disk.cut(s.rnd, TEARS if s.mode == "tear" else 0)
        if s.mode in ("power", "kill", "tear"):
            return image
        if s.mode == "replay":
            again = disk.Disk.from_image(image)
        else:
            again = self.disk.clone()
        records = self.recovery(image, where)
        for i in range(s.rnd.randint(0, len(records))):
            again.feed(len(self.records) + i, records[i])
        return again.alive() if s.mode == "kill-kill" else again.cut(s.rnd)

    def half_written(self, s, image):
        """A signal ends a long write between two pages."""
        if s.mode != "kill" or s.cut >= len(self.records) or self.records[s.cut][0] != t.WRITE or s.rnd.random() < 0.5:
            return
        _, (ino, at), body = self.records[s.cut]
        keep = s.rnd.randint(0, len(body) // disk.PAGE) * disk.PAGE - at % disk.PAGE
        if keep <= 0:
            return
        spare = self.disk.clone()
        spare.feed(s.cut, (t.WRITE, (ino, at), body[:keep]))
        twin = spare.alive()
        by_ino = {i.ino: c for i, c in twin.content.items()}
        for inode in image.content:
            image.content[inode] = by_ino[inode.ino]

    def versions(self):
        """Of the directory key, what there is after the cut: those below the last whole rotation are destroyed."""
        return str(self.oracle.least), str(faults.newest_version(self.lab.fault, self.oracle))

    def recovery(self, image, where):
        """The changes that a mount of the image makes."""
        trace = os.path.join(self.tmp, "recovery")
        try:
            root, inodes = build(image, where)
            said = self.lab.call(root, "recover", root, *self.versions(), trace=trace, inodes=inodes)
            if said:
                raise Unrecovered(image, said)
            return faults.transform_replay(self.lab.fault, t.read(trace))
        finally:
            shutil.rmtree(where)
            if os.path.exists(trace):
                os.unlink(trace)

    def check(self, image, where, killed):
        out, trace = os.path.join(self.tmp, "dump"), os.path.join(self.tmp, "check")
        try:
            root, inodes = build(image, where)
            said = self.lab.call(root, "check", root, out, *self.versions(), trace=trace, inodes=inodes)
            if len(said) > 1:
                return [said]
            dumps, errors, self.remarks = oracle.read_dump(out)
            wrong = errors[:]
            if any(o[0] == "protect" for o in self.oracle.open.values()):  # both sets of attributes may stand
                wrong = [w for w in wrong if not re.search(r"^\S+: \d+ authentication failures$", w)]
            if not wrong and not dumps[0].same(dumps[1]):
                wrong.append("the read-only view differs from what the replay made")
            if len(dumps) > 1:
                wrong += self.oracle.judge(dumps[1], killed)
            if self.oracle.frozen and not any(" unclean 0 " in r for r in self.remarks[:2]):
                wrong.append("unclean while it was frozen")
            changed = [r for r in before_mark(t.read(trace)) if r[0] not in (t.SYNC_BEGIN, t.SYNC_END)]
            if changed:
                wrong.append("opening read-only changed the volume: record type %d" % changed[0][0])
            return wrong
        finally:
            shutil.rmtree(where)
            for f in (out, trace):
                if os.path.exists(f):
                    os.unlink(f)

    def report(self, s, image, wrong):
        text = ["%s, seed %s, state %d (%s), cut before record %d of %d" %
                (self.workload, self.seed, s.number, s.mode, s.cut, len(self.records))]
        text += ["  " + w for w in wrong[:12]] + (["  and %d more" % (len(wrong) - 12)] if len(wrong) > 12 else [])
        last = [oracle.readable(r[2]) for r in self.records[:s.cut] if r[0] == t.MARK][-6:]
        text += ["  last marks: " + " | ".join(last)]
        if hasattr(self, "remarks"):
            text += ["  " + r for r in self.remarks if " done" in r]
        if self.keep:
            kept = os.path.join(self.keep, "%s-%s-%d" % (self.workload, self.seed, s.number))
            shutil.rmtree(kept, ignore_errors=True)
            os.makedirs(kept)
            build(image, kept)
            with open(os.path.join(kept, "violations"), "w", encoding="utf-8") as f:
                f.write("\n".join(text + wrong) + "\n")
            text += ["  kept: " + kept,
                     "  again: CRASH_ROOT=%s/volume CRASH_INODES=%s/inodes LD_PRELOAD=%s %s check %s/volume /dev/stdout %s %s" %
                     (kept, kept, self.lab.recorder, self.lab.driver, kept, *self.versions())]
        text += ["  again, from the start: tests/crash/run --workload %s --seed %s --state %d" %
                 (self.workload, self.seed, s.number)]
        self.reports.append("\n".join(text))


class Unrecovered(Exception):
    """The first mount after a cut failed."""

    def __init__(self, image, said):
        super().__init__("recovery: " + said)
        self.image = image


def build(image, where):
    root, inodes = os.path.join(where, "volume"), os.path.join(where, "inodes")
    os.makedirs(root)
    image.write(root, inodes)
    return root, inodes


def before_mark(records):
    for r in records:
        if r[0] == t.MARK:
            return
        yield r
