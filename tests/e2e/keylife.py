"""What the tests of keys share: commands with the volume's passphrase, headers of ciphertext files, load."""

import json
import os
import struct
import subprocess
import threading
from contextlib import contextmanager

import harness
from syscalls import pattern, read_file, write_file


def admin(volume, *args, **more):
    """latch COMMAND with the passphrase; the options stand behind the command's first words."""
    return volume.latch(*args, "--passphrase-file", volume.passfile, **more)


def protect(volume, path, *options):
    os.makedirs(path, exist_ok=True)
    admin(volume, "protect", *options, path).ok()


def keys(volume):
    """latch key list --json: {"masters": [...], "directories": [...]}"""
    return json.loads(volume.latch("key", "list", "--json", volume.path).ok().out)


def directory(volume, name):
    return next(d for d in keys(volume)["directories"] if d["name"] == name)


def states(versions):
    return {v["version"]: v["state"] for v in versions}


def headers(volume):
    """(path, protected directory, key version, epochs) of every ciphertext file with a header."""
    found = []
    for place, _, files in os.walk(volume.path):
        for name in files:
            if name.startswith("latchfs."):
                continue
            path = os.path.join(place, name)
            if not os.path.isfile(path) or os.path.islink(path):
                continue
            with open(path, "rb") as f:
                raw = f.read(512)
            if len(raw) == 512 and any(raw):
                pd, version = raw[32:48].hex(), struct.unpack_from("<I", raw, 48)[0]
                found.append((path, pd, version, struct.unpack_from("<H", raw, 56)[0], struct.unpack_from("<H", raw, 136)[0]))
    return found


def fill_tree(top, files=60, seed=0):
    """Small, inline, paged and larger files in nested directories; returns what they hold."""
    held = {}
    for i in range(files):
        place = os.path.join(top, f"d{i % 5}", f"e{i % 3}")
        os.makedirs(place, exist_ok=True)
        path = os.path.join(place, f"file{i}")
        held[path] = pattern(seed + i, (i * 977) % 9000 if i % 10 else 700000 + i)
        write_file(path, held[path])
    return held


def check_tree(held):
    for path, data in held.items():
        assert read_file(path) == data, path


@contextmanager
def load(top):
    """A thread that writes, reads back, renames, removes in top until the block ends; raises what went wrong."""
    os.makedirs(top, exist_ok=True)
    stop, wrong = threading.Event(), []

    def work():
        n = 0
        try:
            while not stop.is_set():
                path = os.path.join(top, f"load{n % 20}")
                data = pattern(n, (n * 3571) % 60000)
                write_file(path, data)
                assert read_file(path) == data
                if n % 3 == 0:
                    os.rename(path, path + "r")
                    assert read_file(path + "r") == data
                if n % 7 == 0:
                    for name in os.listdir(top):
                        os.unlink(os.path.join(top, name))
                n += 1
        except BaseException as e:  # noqa: BLE001
            wrong.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive(), "the load hangs"
    if wrong:
        raise wrong[0]


def start(volume, *args):
    """A latch command in the background."""
    return subprocess.Popen([volume.bins.latch, *map(str, args), "--passphrase-file", str(volume.passfile)], env=volume.keyd.env,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", start_new_session=True)


def kill(process):
    process.kill()
    process.communicate()


def user_home(workdir, name="home"):
    """A place where an ordinary user may make things."""
    entry = harness.ordinary_user()
    path = workdir / name
    path.mkdir(mode=0o755)
    os.chown(path, entry.pw_uid, entry.pw_gid)
    return path, entry
