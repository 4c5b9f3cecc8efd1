"""Rotations of keys: of the store alone, so without the other systems."""

import json
import shutil
import statistics
import subprocess
import tempfile

import harness

ROTATIONS = {
    "headers_s": "rotate: headers rewrapped, /s",
    "small_reencrypted_s": "rotate: small files re-encrypted, /s",
    "write_mib_s": "rotate: sequential write for comparison, MiB/s",
    "overwrite_mib_s": "rotate: overwrite for comparison, MiB/s",
    "reencrypt_mib_s": "rotate: large file re-encrypted, MiB/s",
}


def measure(directory, rounds, quick):
    """Figures of each round by name. Every one runs until all is durable and in place."""
    rates = {name: [] for name in ROTATIONS}
    program = harness.build_dir() / "tests" / "bench" / "bench_rotate"
    files, mib = (10000, 100) if quick else (100000, 1000)
    for _ in range(rounds):
        top = tempfile.mkdtemp(prefix="latchfs-bench-", dir=directory)
        try:
            p = subprocess.run([program, top, str(files), str(mib)], check=True, stdout=subprocess.PIPE)
            for name, rate in json.loads(p.stdout).items():
                rates[name].append(rate)
        finally:
            shutil.rmtree(top, ignore_errors=True)
    return rates


def shown(rates):
    lines = [f"{text:50} {statistics.median(r):10,.0f} ({min(r):,.0f}..{max(r):,.0f})" for text, r in
             ((text, rates[name]) for name, text in ROTATIONS.items())]
    ratio = statistics.median(a / b for a, b in zip(rates["reencrypt_mib_s"], rates["write_mib_s"]))
    return "\n".join([*lines, f"{'rotate: re-encryption / sequential write':50} {ratio:10.2f}"])
