"""The audit log as its manual page describes it, read without a line of the project's code."""

import hashlib
import re
from pathlib import Path

RECORD = re.compile(rb'\{"seq":([1-9][0-9]*),[ -~]*,"prev":"([0-9a-f]{64})","mac":"([0-9a-f]{64})"\}')
CONTEXT = b"latchaud"


def derive(key, number):
    """crypto_kdf of libsodium."""
    return hashlib.blake2b(
        b"", digest_size=32, key=key, salt=number.to_bytes(8, "little") + bytes(8), person=CONTEXT + bytes(8)
    ).digest()


def next_key(key):
    return derive(key, 1)


def mac(key, covered):
    return hashlib.blake2b(covered, digest_size=32, key=derive(key, 2)).hexdigest()


def line_hash(line):
    return hashlib.blake2b(line, digest_size=32).hexdigest()


def make(key, seq, prev, middle):
    """One record: bytes without newline."""
    covered = b'{"seq":%d,%s,"prev":"%s"' % (seq, middle, prev.encode())
    return covered + b',"mac":"%s"}' % mac(key, covered).encode()


def read_key(path):
    """A key as latch audit enroll writes it: groups of four hex digits and a check digit."""
    groups = Path(path).read_text().strip().split("-")
    assert len(groups) == 16 and all(len(g) == 5 for g in groups)
    return bytes.fromhex("".join(g[:4] for g in groups))


def problems(text, key=None, lost=()):
    """What is wrong with a log, as a list of texts; lost: numbers that may be missing."""
    found = []
    lines = text.split(b"\n")
    if lines.pop() != b"":
        found.append("no newline at the end")
    seq, prev = 1, "0" * 64
    for number, line in enumerate(lines, 1):
        m = RECORD.fullmatch(line)
        if not m:
            found.append(f"line {number} is no record")
            continue
        while seq in lost and int(m[1]) > seq:
            seq += 1
            key = key and next_key(key)
            prev = None
        if int(m[1]) != seq:
            found.append(f"line {number} is record {int(m[1])}, not {seq}")
            return found
        if prev is not None and m[2].decode() != prev:
            found.append(f"line {number} does not follow the one before")
        if key and mac(key, line[: -len(b',"mac":""}') - 64]) != m[3].decode():
            found.append(f"line {number} has a wrong MAC")
        seq, prev, key = seq + 1, line_hash(line), key and next_key(key)
    return found
