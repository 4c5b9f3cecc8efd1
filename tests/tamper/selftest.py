"""A runner that can't fail shows nothing: each check of the store is taken away once, and cases must then go
undetected that are detected else."""

import os
import tempfile

import cases_store
import lab
from box import Driver

# What faults.c takes away, and a row that must notice.
FAULTS = [
    ("content", "a byte flipped: content"),
    ("content", "a byte flipped: value of an extended attribute"),
    ("content", "a byte flipped: target of a symbolic link"),
    ("content", "exchanged: chunks of two files: data and record"),
    ("header", "edited: header"),
    ("record", "edited: directory record"),
    ("place", "exchanged: two directories of one directory"),
    ("directory", "exchanged: two files of different directories"),
    ("seal", "put back: older chunk: data and record"),
    ("seal", "zeroed: record of a chunk"),
]


def signature(driver_path):
    """Cases of the key store that are taken although its signature does not fit."""
    with tempfile.TemporaryDirectory(dir=lab.room()) as top:
        stages = lab.Stages(driver_path, top)
        taken = sum(kind == "silent" for _, _, kind in cases_store.run(stages.driver, top))
        stages.driver.close()
        return taken


def run(args, measure, judge):
    faulty = os.path.join(os.path.abspath(args.build), "tests", "tamper", "tamper_driver_faulty")
    passed = failed = 0
    for fault, row in FAULTS + [("signature", "")]:
        os.environ["TAMPER_FAULT"] = fault
        args.row, args.driver = row, faulty
        if row:
            cases, results, _ = measure(args)
            seen = len(list(judge(cases, results)))
        else:
            seen = signature(faulty)
        print(f"without the check of {fault}, {row or 'key store'}: {seen} cases not detected", flush=True)
        passed, failed = passed + (seen > 0), failed + (seen == 0)
    del os.environ["TAMPER_FAULT"]
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0
