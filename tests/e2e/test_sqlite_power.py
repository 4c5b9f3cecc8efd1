"""Power cuts under sqlite: a real sqlite3 works in a real mount whose latchfs runs under the recorder of the crash
laboratory. In every state that a cut may leave, the database is sound and has every transaction that was committed."""

import os
import random
import shutil
import sqlite3
import struct
import sys
from pathlib import Path

import pytest

import harness
from fsbox import PLAIN
from test_key_power import RecordedKeyd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "crash"))
import disk  # noqa: E402
import trace as t  # noqa: E402

pytestmark = [pytest.mark.skipif(PLAIN, reason="about volumes"), pytest.mark.heavy]
STATES = int(os.environ.get("LATCHFS_SQLITE_STATES", "16"))
TRANSACTIONS = 40


def blob(n, version):
    return random.Random(n * 1009 + version).randbytes(200 + n % 7 * 700)


def connect(path, mode):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=%s" % mode)
    # In the rollback mode a commit is the removal of the journal: EXTRA syncs the directory after it.
    db.execute("PRAGMA synchronous=%s" % ("FULL" if mode == "wal" else "EXTRA"))
    db.execute("PRAGMA wal_autocheckpoint=20")
    return db


def transaction(db, k):
    """Number k: new rows, changed ones, removed ones, and the number itself."""
    db.execute("BEGIN IMMEDIATE")
    for n in range(4):
        db.execute("INSERT INTO t VALUES (?, ?, ?)", (k * 4 + n, k, blob(k * 4 + n, k)))
    for n in range(0, k * 4, 9):
        db.execute("UPDATE t SET version = ?, data = ? WHERE n = ?", (k, blob(n, k), n))
    if k % 5 == 4:
        db.execute("DELETE FROM t WHERE n % 11 = 3")
    db.execute("UPDATE number SET k = ?", (k,))
    db.execute("COMMIT")


def expected(last):
    """n -> version after transaction number last."""
    rows = {}
    for k in range(last + 1):
        rows.update({k * 4 + n: k for n in range(4)})
        rows.update({n: k for n in range(0, k * 4, 9) if n in rows})
        if k % 5 == 4:
            rows = {n: v for n, v in rows.items() if n % 11 != 3}
    return rows


def mark(trace, text):
    with open(trace, "ab", buffering=0) as f:
        f.write(struct.pack("<II", len(text), t.MARK) + text)


def record(bins, workdir, mode):
    top, trace = workdir / "recorded", workdir / "trace"
    top.mkdir()
    with RecordedKeyd(bins, workdir / "keyd", top, trace) as keyd:
        volume = harness.Volume(keyd, top / "vol")
        volume.passfile, volume.recovery = workdir / "pass", workdir / "recovery"
        volume.create()
        with volume.mount(workdir / "mnt") as m:
            db = connect(m / "db", mode)
            assert db.execute("PRAGMA journal_mode").fetchone()[0] == mode
            db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, version INTEGER, data BLOB)")
            db.execute("CREATE TABLE number (k INTEGER)")
            db.execute("INSERT INTO number VALUES (-1)")
            mark(trace, b"begin")
            for k in range(TRANSACTIONS):
                transaction(db, k)
                mark(trace, b"committed %d" % k)
            db.close()
        volume.lock()
    return t.read(trace), volume


def check(bins, where, n, mode, committed, recorded):
    with RecordedKeyd(bins, where / "keyd", where / "root", None) as keyd:
        volume = harness.Volume(keyd, where / "root/vol")
        volume.passfile, volume.recovery = recorded.passfile, recorded.recovery
        with volume.mount(where / "mnt") as m:
            db = connect(m / "db", mode)
            what = f"state {n}"
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], what
            last = db.execute("SELECT k FROM number").fetchone()[0]
            assert last >= committed, f"{what}: transaction {committed} was committed, {last} is there"
            rows = {k: (v, data) for k, v, data in db.execute("SELECT n, version, data FROM t")}
            assert {k: v for k, (v, _) in rows.items()} == expected(last), what
            assert all(data == blob(k, v) for k, (v, data) in rows.items()), what
            transaction(db, last + 1)
            db.close()
            with sqlite3.connect(m / "db") as again:
                assert again.execute("PRAGMA integrity_check").fetchall() == [("ok",)], what
            again.close()


def cuts(records, rnd):
    start = next(i for i, r in enumerate(records) if r[0] == t.MARK and r[2] == b"begin")
    syncs = [i for i in range(start, len(records)) if records[i][0] in (t.SYNC_BEGIN, t.SYNC_END)]
    return sorted(min(len(records), rnd.choice(syncs) + rnd.randint(-2, 4)) if n % 2 else rnd.randint(start, len(records))
                  for n in range(STATES))


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_power_cuts(bins, workdir, mode):
    records, volume = record(bins, workdir, mode)
    rnd = random.Random(mode)
    fs, at, committed, behind = disk.Disk(), 0, -1, 0
    for n, cut in enumerate(cuts(records, rnd)):
        while at < cut:
            if records[at][0] == t.MARK and records[at][2].startswith(b"committed"):
                committed = int(records[at][2].split()[1])
            fs.feed(at, records[at])
            at += 1
        image = fs.cut(rnd) if n % 4 else fs.alive()
        where = workdir / f"state{n}"
        (where / "root").mkdir(parents=True)
        image.write(where / "root", where / "inodes")
        check(bins, where, n, mode, committed, volume)
        behind += committed >= 0
        shutil.rmtree(where)
    assert behind > STATES // 2, "too few cuts behind a commit to say anything"
