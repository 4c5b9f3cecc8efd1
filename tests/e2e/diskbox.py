"""A filesystem of its own below a volume, in an image."""

import contextlib
import subprocess

import pytest

import harness


def make_image(image, kind, size):
    with open(image, "wb") as f:
        f.truncate(size)
    subprocess.run([f"mkfs.{kind}", "-q", "-F", image], check=True, timeout=60)


@contextlib.contextmanager
def mounted_image(image, place):
    place.mkdir()
    result = harness.run(["mount", "-o", "loop", image, place])
    if result.returncode != 0:
        pytest.skip("no loop devices here: " + result.err)
    try:
        yield place
    finally:
        harness.run(["umount", "-l", place])
