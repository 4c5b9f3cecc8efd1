"""A runner that can't fail shows nothing: each check of the store is taken away once, and what comes of a row's
cases must then be another thing. Rows that a second check stands behind show that one."""

import os
import tempfile

import cases_store
import lab

# What faults.c takes away, and a row that must notice.
FAULTS = [
    ("content", "a byte flipped: content"),
    ("content", "a byte flipped: value of an extended attribute"),
    ("header", "edited: header"),
    ("record", "edited: directory record"),
    ("place", "exchanged: two directories of one directory"),
    ("directory", "exchanged: two files of different directories"),
    ("seal", "put back: older chunk: data and record"),
    ("seal", "zeroed: record of a chunk"),
]


def kinds(args, measure, fault, row):
    """What came of each case of a row."""
    os.environ["TAMPER_FAULT"] = fault
    args.row = row
    return {(r.row, r.label): r.kind for r in measure(args)[1]}


def signature(driver_path):
    """Changed key stores that are taken."""
    os.environ["TAMPER_FAULT"] = "signature"
    with tempfile.TemporaryDirectory(dir=lab.room()) as top:
        stages = lab.Stages(driver_path, top)
        taken = sum(kind == "silent" for _, _, kind in cases_store.run(stages.driver, top))
        stages.driver.close()
        return taken


def run(args, measure):
    args.driver = os.path.join(os.path.abspath(args.build), "tests", "tamper", "tamper_driver_faulty")
    seen = {}
    for fault, row in FAULTS:
        whole, broken = kinds(args, measure, "", row), kinds(args, measure, fault, row)
        seen[fault, row] = sum(broken[case] != whole[case] for case in whole)
    seen["signature", "key store"] = signature(args.driver)
    del os.environ["TAMPER_FAULT"]
    for (fault, row), n in seen.items():
        print(f"without the check of the {fault}, {row}: {n} cases end otherwise")
    missed = sum(n == 0 for n in seen.values())
    print(f"{len(seen) - missed} passed, {missed} failed, 0 skipped")
    return 1 if missed else 0
