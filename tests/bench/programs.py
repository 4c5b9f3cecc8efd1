"""Real programs: tar, grep, git, make and sqlite on a made-up source tree, the same in every run."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import tarfile
import time
from pathlib import Path

import harness

# The pipe tells the moment when the program has ended. With a timeout and no pipe, subprocess would look for that at growing
# intervals, up to 50 ms.
QUIET = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "timeout": 300}
GIT = {"GIT_AUTHOR_NAME": "b", "GIT_AUTHOR_EMAIL": "b@example.org", "GIT_COMMITTER_NAME": "b", "GIT_COMMITTER_EMAIL": "b@example.org",
       "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "LC_ALL": "C.UTF-8",
       "PATH": "/usr/local/bin:/usr/bin:/bin"}
SOURCES = 24

SUPPLY = None  # set by supply(): the directory with what is unpacked, cloned and built


def words(rng, size):
    text = []
    while size > 0:
        word = rng.choice(VOCABULARY)
        text.append(word)
        size -= len(word) + 1
    return " ".join(text) + "\n"


VOCABULARY = ["".join(random.Random(i).choices("etaoinshrdlu_", k=2 + i % 9)) for i in range(400)]


def make_tree(top, files, seed=1):
    """Files of a source tree: 30 to a directory, most of them of a few KiB, some of 100 KiB."""
    rng = random.Random(seed)
    for i in range(files):
        directory = top / f"part{i // 300}" / f"module{i // 30}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"source{i}.txt").write_text(words(rng, min(int(rng.lognormvariate(8.3, 1.1)), 100000)))


def make_project(top):
    """A project in C: short sources, so that the compiler does not hide the filesystem."""
    top.mkdir()
    for i in range(SOURCES):
        (top / f"unit{i}.h").write_text(f"int unit{i}(int x);\n")
        others = "".join(f'#include "unit{j}.h"\n' for j in range(SOURCES))
        (top / f"unit{i}.c").write_text(f"{others}int unit{i}(int x)\n{{\n    return x * {i} + 1;\n}}\n")
    (top / "main.c").write_text('#include "unit0.h"\nint main(void)\n{\n    return unit0(0);\n}\n')
    objects = " ".join(f"unit{i}.o" for i in range(SOURCES))
    (top / "Makefile").write_text(f"CFLAGS = -O0\nmain: main.o {objects}\n\tcc -o $@ $^\n")


def git(directory, *args):
    subprocess.run(["git", "-C", directory, *args], env=GIT, **QUIET)


@contextlib.contextmanager
def supply(top, files):
    """Makes everything once, outside of what is timed."""
    global SUPPLY
    SUPPLY = Path(top) / "supply"
    tree = SUPPLY / "tree"
    make_tree(tree, files)
    make_project(SUPPLY / "project")
    with tarfile.open(SUPPLY / "tree.tar", "w") as tar:
        tar.add(tree, "tree")
    git(SUPPLY, "init", "-q", "-b", "main", "tree")
    for branch, seed in (("main", None), ("other", 2)):
        if seed:
            git(tree, "checkout", "-q", "-b", branch)
            make_tree(tree, files // 2, seed)
        git(tree, "add", "-A")
        git(tree, "commit", "-q", "-m", branch)
    git(tree, "gc", "-q")
    try:
        yield
    finally:
        shutil.rmtree(SUPPLY, ignore_errors=True)


def untar(place, scale):
    subprocess.run(["tar", "-xf", SUPPLY / "tree.tar", "-C", place.dir], **QUIET)


def tar_out(place, scale):
    """Into a pipe: tar does not read what it would write to /dev/null."""
    subprocess.run("tar -cf - tree | cat > /dev/null", shell=True, cwd=place.dir, **QUIET)


def grep(place, scale):
    p = subprocess.run(["grep", "-r", "--", "not_to_be_found", place.dir / "tree"], **QUIET | {"check": False})
    if p.returncode != 1:
        raise harness.HarnessError(f"grep ended with {p.returncode}")


def git_clone(place, scale):
    subprocess.run(["git", "clone", "-q", "--no-local", "-b", "main", SUPPLY / "tree", place.dir / "git"], env=GIT, **QUIET)


def git_checkout(place, scale):
    git(place.dir / "git", "checkout", "-q", "-b", "other", "origin/other")
    git(place.dir / "git", "status")


def make_ready(place, scale):
    shutil.copytree(SUPPLY / "project", place.dir / "project")


def make_build(place, scale):
    subprocess.run(["make", "-s", "-j2", "-C", place.dir / "project"], **QUIET)


def sqlite(mode):
    """Transactions of one inserted row each."""

    def run(place, scale):
        path = place.dir / f"sqlite-{mode}"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(f"pragma journal_mode={mode}")
            db.execute("pragma synchronous=full")
            db.execute("create table t (id integer primary key, text text)")
            begun, done = time.perf_counter(), 0
            while time.perf_counter() < begun + scale.seconds:
                db.execute("insert into t (text) values (?)", ("x" * 100,))
                done += 1
            seconds = time.perf_counter() - begun
        for left in place.dir.glob(f"sqlite-{mode}*"):
            os.unlink(left)
        return done, seconds

    return run
