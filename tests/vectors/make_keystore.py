#!/usr/bin/python3
"""Writes keystore_full_vector.h: a key store with every kind of section, and the keys in it.

An independent implementation of the key store of docs/FORMAT.md, with PyNaCl. All keys and nonces are fixed, those
of the sealed boxes too, so the output is always the same. Run by hand after a change of the format:
/usr/bin/python3 make_keystore.py > keystore_full_vector.h
"""

import hashlib
import struct

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as xchacha_encrypt
from nacl.bindings import crypto_box, crypto_scalarmult_base
from nacl.pwhash import argon2id
from nacl.signing import SigningKey

from make_vectors import b64, fixed, subkey

VOLUME, ROOT, TEAM, HELD, GONE = (fixed("store id " + x, 16) for x in ("volume", "root", "team", "held", "gone"))
STORE_KEY, JOURNAL = fixed("store key", 32), fixed("store journal", 32)
SIGNER = SigningKey(fixed("store signing seed", 32))
MASTERS = {2: fixed("store master 2", 32), 3: fixed("store master 3", 32)}
WORD, KEY_FILE, COMMAND = b"a passphrase", fixed("store key file", 100), fixed("store command secret", 32)
RECIPIENT = fixed("store recipient", 32)
ZERO = bytes(16)
TIME = 1795319608


def wrap(kind, kek, directory, version, by, plain):
    ad = kind.encode().ljust(16, b"\0") + VOLUME + directory + struct.pack("<II", version, by)
    nonce = fixed(f"store nonce {kind} {directory.hex()} {version} {by}", 24)
    return nonce + xchacha_encrypt(plain, ad, nonce, kek)


def sealed_box(public, label, plain):
    """crypto_box_seal, with a key pair that is not random."""
    ephemeral = fixed("store ephemeral " + label, 32)
    own = crypto_scalarmult_base(ephemeral)
    nonce = hashlib.blake2b(own + public, digest_size=24).digest()
    return own + crypto_box(plain, nonce, public, ephemeral)


def dir_key(pd, version):
    return fixed(f"store directory key {pd.hex()} {version}", 32)


def name_key(pd):
    return fixed("store name key " + pd.hex(), 32)


class Text:
    def __init__(self):
        self.lines = []

    def section(self, name):
        self.lines.append(f"[{name}]")

    def field(self, name, value):
        self.lines.append(f"{name} = {value}")

    def blob(self, name, data):
        for i in range(0, len(data), 96):
            self.field(f"{name}.{i // 96 + 1}", b64(data[i : i + 96]))

    def raw(self):
        return ("\n".join(self.lines) + "\n").encode()


def slot(text, number, kind, key, label="", first=(), blob=b""):
    """key: the slot key, or of a recipient the private key itself. blob: what a command gets."""
    kinds = {"passphrase": 1, "keyfile": 2, "recipient": 4, "command": 5}
    text.section(f"slot {number}")
    text.field("type", kind)
    if label:
        text.field("label", label)
    text.field("created", TIME + number)
    for name, value in first:
        text.field(name, value)
    private = key if kind == "recipient" else fixed(f"store slot pair {number}", 32)
    public = crypto_scalarmult_base(private)
    if kind != "recipient":
        text.field("salt", salt(number).hex())
    text.field("public", public.hex())
    if kind != "recipient":
        plain = private + bytes(SIGNER.verify_key)
        text.blob("sealed", wrap("slot-key", key, ZERO, number, kinds[kind], plain))
    text.blob("blob", blob)
    text.blob("store-key", sealed_box(public, str(number), STORE_KEY))


def salt(number):
    return fixed(f"store salt {number}", 16)


def strong(number, person, secret):
    return hashlib.blake2b(secret, digest_size=32, salt=salt(number), person=person.ljust(16, b"\0")).digest()


def command_blob():
    return fixed("store command blob", 250)


def slots(text):
    key = argon2id.kdf(32, WORD, salt(1), 3, 65536 * 1024)
    slot(text, 1, "passphrase", key, "laptop", [("passes", 3), ("memory-kib", 65536), ("fast", "yes")])
    slot(text, 3, "keyfile", strong(3, b"latchfs-keyfile", KEY_FILE))
    slot(text, 4, "recipient", RECIPIENT, "recovery officer")
    key = strong(6, b"latchfs-command", COMMAND)
    slot(text, 6, "command", key, first=[("command", "tang-2")], blob=command_blob())


def directory(text, pd, versions, least, data=0, name="", held=False):
    """versions: {version: (state, master)}; the last wraps the name key."""
    newest = max(versions)
    text.section("dir " + pd.hex())
    text.field("created", TIME)
    if held:
        text.field("held", "yes")
    text.field("least", least)
    if data:
        text.field("data-version", data)
    text.field("name-version", newest)
    text.blob("name-key", wrap("name-key", dir_key(pd, newest), pd, 1, newest, name_key(pd)))
    if name:
        plain = bytes([len(name)]) + name.encode().ljust(64, b"\0")
        text.blob("name", wrap("directory-name", subkey(name_key(pd), b"latchfsN", 5), pd, 1, 1, plain))
    for version, (state, master) in versions.items():
        text.section(f"key {pd.hex()} {version}")
        text.field("state", state)
        text.field("created", TIME + version)
        if state != "destroyed":
            text.field("master", master)
            kind, key = ("held-key", opening_key(pd, version)) if held else ("directory-key", dir_key(pd, version))
            text.blob("key", wrap(kind, MASTERS[master], pd, version, master, key))


def opening_key(pd, version):
    return fixed(f"store opening key {pd.hex()} {version}", 32)


def held_blob(pd, version):
    return wrap("held-blob", opening_key(pd, version), pd, version, version, dir_key(pd, version))


def shredded(text, pd):
    text.section("dir " + pd.hex())
    text.field("created", TIME)
    text.field("shredded", "yes")
    text.section(f"key {pd.hex()} 1")
    text.field("state", "destroyed")
    text.field("created", TIME)


def volume(text):
    text.section("volume")
    for name, value in (("format", 1), ("id", VOLUME.hex()), ("root", ROOT.hex()), ("suite", "chacha20-poly1305"),
                        ("environment", "production"), ("created", TIME), ("generation", 77), ("next-slot", 9),
                        ("next-backup", 3), ("signing-public", bytes(SIGNER.verify_key).hex())):
        text.field(name, value)
    text.blob("signing-key", wrap("signing-key", STORE_KEY, ZERO, 1, 0, bytes(SIGNER)))


def masters(text):
    for version, state in ((1, "destroyed"), (2, "decrypt-only"), (3, "active")):
        text.section(f"master {version}")
        text.field("state", state)
        text.field("created", TIME + version)
        if version in MASTERS:
            text.blob("key", wrap("master-key", STORE_KEY, ZERO, version, 0, MASTERS[version]))


def backups(text):
    text.section("backup 2")
    text.field("label", "tape 7")
    text.field("created", TIME + 9)
    text.field("master-least", 2)
    text.field("master-most", 3)
    for pd, least, most in ((ROOT, 1, 1), (TEAM, 2, 3)):
        text.section(f"need 2 {pd.hex()}")
        text.field("least", least)
        text.field("most", most)


def keystore():
    text = Text()
    volume(text)
    slots(text)
    masters(text)
    text.section("journal")
    text.field("master", 3)
    text.blob("key", wrap("journal-key", MASTERS[3], ZERO, 1, 3, JOURNAL))
    directory(text, ROOT, {1: ("active", 2)}, 1)
    shredded(text, GONE)
    directory(text, TEAM, {1: ("destroyed", 0), 2: ("decrypt-only", 2), 3: ("active", 3)}, 2, 3, "board papers")
    directory(text, HELD, {1: ("active", 3)}, 1, name="held", held=True)
    backups(text)
    signature = SIGNER.sign(text.raw()).signature
    text.section("signature")
    text.blob("ed25519", signature)
    return text.raw()


def c_bytes(name, data):
    rows = [data[i : i + 16] for i in range(0, len(data), 16)]
    body = "\n".join("    " + " ".join(f"0x{b:02x}," for b in row) for row in rows)
    return f"static const uint8_t {name}[{len(data)}] = {{\n{body}\n}};"


def c_text(name, raw):
    parts = [line[i : i + 90] + (r"\n" if i + 90 >= len(line) else "")
             for line in raw.decode().split("\n")[:-1] for i in range(0, len(line), 90)]
    return f"static const char {name}[] =\n" + "\n".join(f'    "{p}"' for p in parts) + ";"


def main():
    print("/* Written by make_keystore.py; do not edit. */\n#ifndef KEYSTORE_FULL_VECTOR_H")
    print("#define KEYSTORE_FULL_VECTOR_H\n\n#include <stdint.h>\n")
    print(c_text("full_keystore", keystore()) + "\n")
    print(f'#define FULL_PASSPHRASE "{WORD.decode()}"')
    for name, data in (
        ("signing_seed", bytes(SIGNER)), ("key_file", KEY_FILE), ("recipient", RECIPIENT), ("command_secret", COMMAND),
        ("command_blob", command_blob()), ("store_key", STORE_KEY), ("journal_key", JOURNAL), ("master_3", MASTERS[3]),
        ("root_key_1", dir_key(ROOT, 1)), ("root_name_key", name_key(ROOT)), ("team_id", TEAM),
        ("team_key_2", dir_key(TEAM, 2)), ("team_key_3", dir_key(TEAM, 3)), ("team_name_key", name_key(TEAM)),
        ("held_id", HELD), ("held_key_1", dir_key(HELD, 1)), ("held_name_key", name_key(HELD)),
        ("held_blob_1", held_blob(HELD, 1)), ("gone_id", GONE),
    ):
        print(c_bytes("full_" + name, data))
    print("\n#endif")


if __name__ == "__main__":
    main()
