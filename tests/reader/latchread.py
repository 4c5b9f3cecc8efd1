#!/usr/bin/python3
"""A second reader of latchfs volumes, written from docs/FORMAT.md alone, to prove that document.

    latchread.py VOLUME --passphrase-file FILE OUTDIR [--xattrs]

Decrypts a clean volume into OUTDIR, which must not exist or be empty. --key-file, --recovery-file, --identity (a
recipient's private key) and --command-secret-file (the 32 bytes that a slot's command answers) name another secret
than a passphrase. --held-dir names the folder with the blobs of held directories; directories whose keys are not
there are reported and skipped. --names prints the names of the protected directories as one JSON object: id -> name.
--xattrs prints the extended attributes as one JSON object: path -> name -> value in hexadecimal. What can't be read
is reported on standard error and skipped; the exit status is then 1.
"""

import argparse
import base64
import errno
import hashlib
import json
import os
import re
import stat
import struct
import sys

import nacl.exceptions
import nacl.pwhash.argon2id
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV, ChaCha20Poly1305
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_scalarmult_base
from nacl.public import PrivateKey, SealedBox
from nacl.signing import SigningKey, VerifyKey

PAGE = 4096
HEADER = 512
SUITES = {"aes-256-gcm": 1, "chacha20-poly1305": 2}
KIND_INLINE, KIND_CHUNK, KIND_XATTR, KIND_SYMLINK, KIND_DIR_XATTR = 1, 2, 3, 4, 5
SIZE_MAX = 1 << 46


class Bad(Exception):
    """Bytes that the format does not allow, or that do not fit their key."""


def need(condition, text):
    if not condition:
        raise Bad(text)


# ---- primitives ----


def unbase64(text):
    need(re.fullmatch(rb"[A-Za-z0-9_-]*", text) and len(text) % 4 != 1, "not base64url")
    data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    need(base64.urlsafe_b64encode(data).rstrip(b"=") == text, "base64url with bits left over")
    return data


def blake(data, key=b"", salt=b"", person=b"", size=32):
    return hashlib.blake2b(data, digest_size=size, key=key, salt=salt, person=person).digest()


def subkey(key, context, number, size=32):
    return blake(b"", key, struct.pack("<QQ", number, 0), context + bytes(8), size)


def aead_open(suite, key, nonce, ad, cipher, tag):
    try:
        return {1: AESGCM, 2: ChaCha20Poly1305}[suite](key).decrypt(nonce, cipher + tag, ad)
    except InvalidTag:
        raise Bad("authentication failed") from None


def siv_open(key, ad, data):
    need(len(data) > 16, "too short for a SIV")
    try:
        return AESSIV(key).decrypt(data, [ad])
    except InvalidTag:
        raise Bad("authentication of a name failed") from None


def unwrap(kek, blob, ad):
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(blob[24:], ad, blob[:24], kek)
    except nacl.exceptions.CryptoError:
        raise Bad("a wrapped key does not open") from None


# ---- key store ----

STATES = "pending|active|decrypt-only|retired|destroyed"
TIME, VERSION = "0|[1-9][0-9]{0,17}", "[1-9][0-9]{0,5}"
LABEL = r"(?! )[A-Za-z0-9 ._@+-]{1,64}(?<! )"
FIELDS = {  # section -> (field, pattern or least and greatest length of the blob, optional)
    "volume": [("format", "1", 0), ("id", "[0-9a-f]{32}", 0), ("root", "[0-9a-f]{32}", 0),
               ("suite", "|".join(SUITES), 0), ("environment", LABEL, 1), ("created", TIME, 0),
               ("generation", "[1-9][0-9]{0,17}", 0), ("next-slot", "[1-9][0-9]*", 0), ("next-backup", VERSION, 1),
               ("signing-public", "[0-9a-f]{64}", 0), ("signing-key", (72, 72), 0)],
    "slot": [("type", "passphrase|keyfile|recovery|recipient|command", 0), ("label", LABEL, 1), ("created", TIME, 0),
             ("passes", "[1-9][0-9]*", 1), ("memory-kib", "[1-9][0-9]*", 1), ("fast", "yes", 1),
             ("command", "[a-z][a-z0-9-]{0,31}", 1), ("salt", "[0-9a-f]{32}", 1), ("public", "[0-9a-f]{64}", 0),
             ("sealed", (104, 104), 1), ("blob", (1, 12288), 1), ("store-key", (80, 80), 0)],
    "master": [("state", STATES, 0), ("created", TIME, 0), ("key", (72, 72), 1)],
    "journal": [("master", VERSION, 0), ("key", (72, 72), 0)],
    "dir": [("created", TIME, 0), ("shredded", "yes", 1), ("held", "yes", 1), ("least", VERSION, 1),
            ("data-version", VERSION, 1), ("name-version", VERSION, 1), ("name-key", (72, 72), 1),
            ("name", (105, 105), 1)],
    "key": [("state", STATES, 0), ("created", TIME, 0), ("master", VERSION, 1), ("key", (72, 72), 1)],
    "backup": [("label", LABEL, 1), ("created", TIME, 0), ("master-least", VERSION, 0), ("master-most", VERSION, 0)],
    "need": [("least", VERSION, 0), ("most", VERSION, 0)],
    "signature": [("ed25519", (64, 64), 0)],
}
ARGUMENTS = {"volume": "", "slot": " [1-9][0-9]{0,3}", "master": " " + VERSION, "journal": "", "dir": " [0-9a-f]{32}",
             "key": " [0-9a-f]{32} " + VERSION, "backup": " " + VERSION, "need": f" {VERSION} [0-9a-f]{{32}}",
             "signature": ""}


def parse_blob(lines, name, least, most):
    data, piece, part = b"", 1, bytes(96)
    while lines and lines[0].startswith(f"{name}.{piece} = ") and len(part) == 96:
        part = unbase64(lines.pop(0).split(" = ")[1].encode())
        need(0 < len(part) <= 96, f"{name} has a piece of wrong length")
        data, piece = data + part, piece + 1
    need(least <= len(data) <= most, f"{name} is missing or cut")
    return data


def parse_fields(lines, section):
    fields = {}
    for name, what, optional in FIELDS[section]:
        blob = isinstance(what, tuple)
        if not lines or not lines[0].startswith(name + (".1 = " if blob else " = ")):
            need(optional, f"key store: {name} is missing")
        elif blob:
            fields[name] = parse_blob(lines, name, *what)
            need(any(fields[name]) or not optional, f"key store: {name} is empty")
        else:
            fields[name] = lines.pop(0)[len(name) + 3 :]
            need(re.fullmatch(what, fields[name]), f"key store: {name} is not possible")
    return fields


def check_fields(section, f):
    """What may stand together."""
    names = set(f)
    if section == "slot":
        need(("passes" in f) == ("memory-kib" in f) == (f["type"] == "passphrase"), "a slot's parameters")
        need("fast" not in f or f["type"] == "passphrase", "a slot's parameters")
        need(("command" in f) == ("blob" in f) == (f["type"] == "command"), "a slot's command")
        need(("salt" in f) == ("sealed" in f) == (f["type"] != "recipient"), "a slot's secret")
        need(int(f.get("salt", "1"), 16), "a slot's salt")
    elif section in ("master", "key"):
        need(("key" in f) == (f["state"] != "destroyed"), "a destroyed key")
        need(section == "master" or ("key" in f) == ("master" in f), "a destroyed key")
    elif section == "dir" and "shredded" in f:
        need(names <= {"created", "shredded", "held"}, "a shredded directory")
    elif section == "dir":
        need({"least", "name-version", "name-key"} <= names, "a directory lacks its keys")
    elif section in ("backup", "need"):
        least, most = [int(f[x]) for x in f if x.endswith(("least", "most"))]
        need(least <= most, "a backup's versions")


def parse_keystore(raw):
    """[(section, [arguments], {field: value})] in the order of the file."""
    need(len(raw) <= 262144 and raw.endswith(b"\n") and re.fullmatch(rb"[\n -~]*", raw), "key store is not text")
    lines, sections = raw.decode().split("\n")[:-1], []
    need(all(0 < len(line) < 200 for line in lines), "key store has an empty or overlong line")
    while lines:
        m = re.fullmatch(r"\[([a-z]+)((?: [0-9a-f]+)*)\]", lines.pop(0))
        need(m and m[1] in FIELDS and re.fullmatch(ARGUMENTS[m[1]], m[2]), "key store has an unknown section")
        fields = parse_fields(lines, m[1])
        check_fields(m[1], fields)
        sections.append((m[1], m[2].split(), fields))
    order = "".join("S" if name == "signature" else name[0] for name, _, _ in sections)
    need(re.fullmatch("vs{0,16}m{1,64}j(dk{1,16}){1,256}(bn*){0,32}S", order) and order.count("n") <= 1024,
         "key store: sections are missing or out of order")
    return sections


def check_numbers(sections):
    """Numbers ascend, and what is named is there. {directory: {version: fields}}"""
    volume, last, keys = sections[0][2], {}, {}
    for name, arguments, f in sections:
        if name in ("slot", "master", "backup"):
            need(int(arguments[0]) > last.get(name, 0), "key store: numbers out of order")
            last[name] = int(arguments[0])
        elif name == "dir":
            need(arguments[0] not in keys, "key store: a protected directory stands twice")
            pd, keys[arguments[0]] = arguments[0], {}
        elif name == "key":
            in_place = arguments[0] == pd and all(int(arguments[1]) > v for v in keys[pd])
            need(in_place, "key store: a key in the wrong place")
            keys[pd][int(arguments[1])] = f
        elif name == "need":
            pair = (int(arguments[0]), arguments[1])
            need(pair[0] == last["backup"] and pair not in last and pair[1] in keys, "key store: a need of nothing")
            last[pair] = 1
    need(last.get("slot", 0) < int(volume["next-slot"]) <= 10000, "key store: the number of the next slot")
    need(last.get("backup", 0) < int(volume.get("next-backup", 1)), "key store: the number of the next backup")
    return keys


def check_versions(f, keys):
    """Of one protected directory."""
    active = [v for v, k in keys.items() if k["state"] == "active"]
    if "shredded" in f:
        need(all(k["state"] == "destroyed" for k in keys.values()), "key store: a shredded directory has keys")
        return
    need(len(active) == 1 and int(f["least"]) <= active[0], "key store: a directory's versions")
    need(int(f.get("data-version", 0)) <= active[0], "key store: a directory's data version")
    need(keys.get(int(f["name-version"]), {}).get("key"), "key store: the name key's version")


def parse_recovery(text):
    """32 bytes of a printed recovery key, its check characters checked."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    text = re.sub(r"[\s-]", "", text).upper().translate(str.maketrans("OIL", "011"))
    need(len(text) == 65 and all(c in alphabet for c in text), "not a recovery key")
    digits, bits = [alphabet.index(c) for c in text], 0

    def times(factor, value):
        out = 0
        for k in range(5):
            out ^= value << k if factor >> k & 1 else 0
        for k in range(9, 4, -1):
            out ^= 0x25 << (k - 5) if out >> k & 1 else 0
        return out

    for i in range(13):
        *group, check = digits[5 * i : 5 * i + 5]
        want = i + 1
        for factor, value in zip((16, 8, 4, 2), group):
            want ^= times(factor, value)
        need(want == check, f"recovery key: group {i + 1} has a typing error")
        for value in group:
            bits = bits << 5 | value
    need(bits & 15 == 0, "recovery key: the last group is not possible")
    return (bits >> 4).to_bytes(32, "big")


def parse_identity(text):
    """32 bytes of a recipient's private key."""
    lines = [line[15:].strip() for line in text.splitlines() if line.startswith("latch-identity-")]
    digits = re.sub("[ -]", "", lines[0]).lower() if lines else ""
    need(re.fullmatch("[0-9a-f]{80}", digits), "not an identity file")
    key = ""
    for i in range(16):
        group, want = digits[5 * i : 5 * i + 5], i
        for k, digit in zip((4, 3, 2, 1), group):
            value = int(digit, 16) << k
            for bit in range(7, 3, -1):
                value ^= 0x13 << (bit - 4) if value >> bit & 1 else 0
            want ^= value
        need(want == int(group[4], 16), f"identity: group {i + 1} has a typing error")
        key += group[:4]
    return bytes.fromhex(key)


def slot_key(slot, secret):
    salt = bytes.fromhex(slot["salt"])
    if slot["type"] == "passphrase":
        passes, kib = int(slot["passes"]), int(slot["memory-kib"])
        need(3 <= passes <= 64 and 65536 <= kib <= 1048576 and passes * kib <= 8388608, "Argon2id out of bounds")
        return nacl.pwhash.argon2id.kdf(32, secret, salt, passes, kib * 1024)
    return blake(secret, salt=salt, person=f"latchfs-{slot['type']}".encode().ljust(16, b"\0"))


class Keys:
    """What the key store gives: suite, journal key, and for each protected directory its keys."""

    def __init__(self, raw, kind, secret, signer=None, held=None):
        sections = parse_keystore(raw)
        keys = check_numbers(sections)
        self.volume, self.held = sections[0][2], held
        self.volume_id, self.suite = bytes.fromhex(self.volume["id"]), SUITES[self.volume["suite"]]
        self.root = bytes.fromhex(self.volume["root"])
        self.public = bytes.fromhex(self.volume["signing-public"])
        need(signer in (None, self.public), "the key store is signed with another key than expected")
        self.check_signature(raw, sections[-1][2]["ed25519"])
        store_key = self.open_slots(sections, kind, secret)
        seed = self.unwrap("signing-key", store_key, self.volume["signing-key"], bytes(16), 1, 0)
        need(bytes(SigningKey(seed).verify_key) == self.public, "the signing key is not the signer's")
        states = [f["state"] for name, _, f in sections if name == "master"]
        need(states.count("active") == 1, "key store: no active master key")
        masters = {
            int(a[0]): self.unwrap("master-key", store_key, f["key"], bytes(16), int(a[0]), 0)
            for name, a, f in sections
            if name == "master" and "key" in f
        }
        journal = next(f for name, _, f in sections if name == "journal")
        by = int(journal["master"])
        need(by in masters, "key store: the journal key's master key is missing")
        self.journal = self.unwrap("journal-key", masters[by], journal["key"], bytes(16), 1, by)
        self.directories = {}
        for name, (pd, *_), f in (s for s in sections if s[0] == "dir"):
            check_versions(f, keys[pd])
            self.open_directory(bytes.fromhex(pd), f, keys[pd], masters)
        need(isinstance(self.directories.get(self.root), Protected), "key store: the keys of the root are missing")

    def check_signature(self, raw, signature):
        try:
            VerifyKey(self.public).verify(raw[: raw.rindex(b"[signature]\n")], signature)
        except nacl.exceptions.BadSignatureError:
            raise Bad("the key store's signature does not fit") from None

    def unwrap(self, kind, kek, blob, directory, version, by):
        ad = kind.encode().ljust(16, b"\0") + self.volume_id + directory + struct.pack("<II", version, by)
        return unwrap(kek, blob, ad)

    def open_slots(self, sections, kind, secret):
        """The key store key, by the first slot that the secret opens."""
        number = {"passphrase": 1, "keyfile": 2, "recovery": 3, "recipient": 4, "command": 5}[kind]
        for name, arguments, slot in sections:
            if name != "slot" or slot["type"] != kind:
                continue
            try:
                private = secret
                if kind != "recipient":
                    key = slot_key(slot, secret)
                    plain = self.unwrap("slot-key", key, slot["sealed"], bytes(16), int(arguments[0]), number)
                    private = plain[:32]
                need(crypto_scalarmult_base(private).hex() == slot["public"], "a slot's key pair does not fit")
            except Bad:
                continue
            if kind != "recipient":
                need(plain[32:] == self.public, "the key store is signed by somebody who could not open it")
            try:
                return SealedBox(PrivateKey(private)).decrypt(slot["store-key"])
            except nacl.exceptions.CryptoError:
                raise Bad("the key store key in a slot does not open") from None
        raise Bad("no slot opens with this secret")

    def open_held(self, pd, version, opening):
        name = f"{self.volume_id.hex()}.{pd.hex()}.{version}"
        with open(os.path.join(self.held, name), "rb") as f:
            return self.unwrap("held-blob", opening, f.read(73), pd, version, version)

    def open_directory(self, pd, f, keys, masters):
        """A Protected, or in its place the reason why there is none."""
        if "shredded" in f or ("held" in f and not self.held):
            self.directories[pd] = "its keys were destroyed" if "shredded" in f else "its keys are held elsewhere"
            return
        opened = {}
        for version, k in keys.items():
            if "key" not in k:
                continue
            by, kind = int(k["master"]), "held-key" if "held" in f else "directory-key"
            need(by in masters, "key store: a key's master key is missing")
            opened[version] = self.unwrap(kind, masters[by], k["key"], pd, version, by)
            if "held" in f:
                opened[version] = self.open_held(pd, version, opened[version])
        by = int(f["name-version"])
        name_key = self.unwrap("name-key", opened[by], f["name-key"], pd, 1, by)
        name = self.open_name(pd, f["name"], name_key) if "name" in f else ""
        self.directories[pd] = Protected(pd, opened, name_key, int(f["least"]), name)

    def open_name(self, pd, blob, name_key):
        plain = self.unwrap("directory-name", subkey(name_key, b"latchfsN", 5), blob, pd, 1, 1)
        name, zeros = plain[1 : 1 + plain[0]], plain[1 + plain[0] :]
        need(plain[0] <= 64 and not any(zeros) and re.fullmatch(LABEL.encode(), name), "a directory's name")
        return name.decode()


class Protected:
    """The keys of a protected directory."""

    def __init__(self, pd, keys, name_key, least, name):
        self.id, self.keys, self.least, self.name = pd, keys, least, name
        self.siv = subkey(name_key, b"latchfsN", 1, 64)
        self.record, self.symlink, self.xattr = (subkey(name_key, b"latchfsN", i) for i in (2, 3, 4))


def check_journal(volume, keys):
    """A clean journal has two pages, and its newer superblock says that there is no ring."""
    with open(os.path.join(volume, b"latchfs.journal"), "rb") as f:
        raw = f.read(2 * PAGE + 1)
    key, best = subkey(keys.journal, b"latchfsJ", 1), None
    for slot in (raw[:512], raw[PAGE : PAGE + 512]):
        if len(slot) == 512 and slot[:8] == b"LATCHJNL" and blake(slot[:480], key) == slot[480:]:
            counter, ring = struct.unpack_from("<Q", slot, 32)[0], struct.unpack_from("<Q", slot, 64)[0]
            need(slot[16:32] == keys.volume_id, "the journal is of another volume")
            best = max(best or (counter, ring), (counter, ring))
    need(best, "the journal is unreadable")
    need(best[1] == 0 and len(raw) == 2 * PAGE, "the volume is not clean: mount and unmount it first")


# ---- files ----


def parse_record(raw):
    """(nonce, tag, length, epoch), or None for a hole."""
    length, epoch = struct.unpack_from("<HH", raw, 28)
    if raw == bytes(32):
        return None
    need(length <= PAGE and epoch, "impossible record")
    return raw[:12], raw[12:28], length, epoch


def record_offset(chunk):
    if chunk < 112:
        return HEADER + 32 * chunk
    group, place = divmod(chunk - 112, 128)
    return PAGE * (113 + 129 * group) + 32 * place


def data_offset(chunk):
    if chunk < 112:
        return PAGE * (1 + chunk)
    group, place = divmod(chunk - 112, 128)
    return PAGE * (114 + 129 * group + place)


def backing_length(size):
    last = (size - 1) // PAGE
    return data_offset(last) + size - PAGE * last


class File:
    """An opened backing file: its header believed, its keys unwrapped. empty: it has no header."""

    def __init__(self, fd, keys, protected, place=None):
        """place: the id of the directory it stands in; None: not to be checked."""
        self.fd, self.keys, self.length = fd, keys, os.fstat(fd).st_size
        head = os.pread(fd, PAGE, 0)
        self.empty, self.size = True, 0
        self.lost = self.length > 0 and not any(head)
        if self.length == 0 or self.lost:
            return
        self.empty = False
        need(len(head) >= HEADER, "shorter than a header")
        self.head = head[:HEADER]
        self.parse()
        need(self.pd == protected.id, "of another protected directory than where it stands")
        self.open_keys(protected)
        need(not (place and self.homes) or place in self.homes, "of another directory than where it stands")
        self.check_length()

    def parse(self):
        h = self.head
        magic, version, self.suite, self.state, flags = struct.unpack_from("<8sHBBH", h, 0)
        need(magic == b"LATCHFIL" and version == 1 and flags == 0, "no header of this version")
        need(self.suite in (1, 2) and self.state in (1, 2), "unknown suite or state")
        self.id, self.pd, self.version = h[16:32], h[32:48], struct.unpack_from("<I", h, 48)[0]
        self.places = [(struct.unpack_from("<H", h, at)[0], h[at + 8 : at + 80]) for at in (56, 136)]
        self.size = struct.unpack_from("<Q", h, 216)[0]
        self.sealed, self.root = h[240], h[256:288]
        self.inline = parse_record(h[288:320])
        homes = [h[at : at + 16] for at in range(320, 448, 16)]
        self.homes = [home for home in homes if any(home)]
        need(self.homes == homes[: len(self.homes)], "the header's directories")
        zero = h[14:16] + h[52:56] + h[58:64] + h[138:144] + h[241:248] + h[448:480]
        need(not any(zero) and self.version, "reserved bytes of the header")
        need(self.places[0][0] != self.places[1][0], "the header's epochs")
        need(all(epoch or not any(blob) for epoch, blob in self.places), "an empty key place is not empty")
        need(self.sealed == 1 or (self.sealed == 0 and not any(self.root)), "the header's seal")
        if self.state == 2:
            need(self.size <= SIZE_MAX and self.inline is None, "impossible paged header")
            return
        length, epoch = self.inline[2:] if self.inline else (0, 0)
        need(self.size <= PAGE - HEADER and length == self.size, "impossible inline header")
        need(not epoch or epoch in (self.places[0][0], self.places[1][0]), "an inline record of no key")

    def open_keys(self, protected):
        need(self.version >= protected.least, "an older directory key than allowed")
        need(self.version in protected.keys, "unknown version of the directory key")
        self.file_keys = {}
        for place, (epoch, blob) in enumerate(self.places):
            if epoch:
                ad = b"LATCHFIL" + struct.pack("<HB", 1, self.suite) + self.id + self.pd
                ad += struct.pack("<IBH", self.version, place, epoch)
                self.file_keys[epoch] = unwrap(protected.keys[self.version], blob, ad)
        self.newest = self.file_keys[max(self.file_keys)]
        need(blake(self.head[:480], subkey(self.newest, b"latchfsF", 3)) == self.head[480:], "the header's MAC")

    def check_length(self):
        if self.state == 1:
            need(self.length >= HEADER + self.size, "shorter than its header says")
        elif self.size:
            need(self.length >= backing_length(self.size), "shorter than its header says")
        if self.sealed and self.state == 2:
            self.check_seal()

    def check_seal(self):
        chunks, at, data = -(-self.size // PAGE), 0, struct.pack("<Q", self.size)
        while at < chunks:
            count = 112 if at == 0 else 128
            records = os.pread(self.fd, 32 * count, record_offset(at))
            data += blake(records.ljust(32 * count, b"\0"))
            at += count
        need(blake(data, subkey(self.newest, b"latchfsF", 4)) == self.root, "the seal is broken")

    def message(self, kind, index, record, offset):
        nonce, tag, length, epoch = record
        need(epoch in self.file_keys, "a record of an unknown epoch")
        cipher = os.pread(self.fd, length, offset)
        need(len(cipher) == length, "a chunk is cut")
        ad = struct.pack("<BBH", kind, self.suite, epoch) + self.id + struct.pack("<Q", index)
        return aead_open(self.suite, subkey(self.file_keys[epoch], b"latchfsF", 1), nonce, ad, cipher, tag)

    def pieces(self):
        """(offset, bytes) of everything that is not a hole."""
        if self.empty or self.state == 1:
            if not self.empty and self.inline:
                yield 0, self.message(KIND_INLINE, 0, self.inline, HEADER)
            return
        for chunk in range(-(-self.size // PAGE)):
            raw = os.pread(self.fd, 32, record_offset(chunk))
            need(len(raw) == 32, "a record is cut")
            record = parse_record(raw)
            if record:
                need(record[2], "a chunk of length 0")
                plain = self.message(KIND_CHUNK, chunk, record, data_offset(chunk))
                yield chunk * PAGE, plain[: self.size - chunk * PAGE]

    def xattr_key(self, epoch):
        need(not self.empty and epoch in self.file_keys, "an attribute of an unknown epoch")
        return subkey(self.file_keys[epoch], b"latchfsF", 2)


# ---- the tree ----


def check_name(name):
    need(0 < len(name) <= 255 and b"/" not in name and b"\0" not in name, "impossible name")
    need(name not in (b".", b".."), "impossible name")
    return name


def read_small(path, limit):
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as f:
        data = f.read(limit + 1)
    need(len(data) <= limit, "a sidecar is too long")
    return data


class Directory:
    def __init__(self, path, keys, parent):
        """parent: the id of the directory it stands in, None for the root of the volume."""
        self.path, self.parent = path, parent
        try:
            self.read(read_small(os.path.join(path, b"latchfs.dir"), 512), keys)
        except Bad as e:
            try:
                copy = os.getxattr(path, b"user.latchfs-record", follow_symlinks=False)
            except OSError:
                raise e from None
            self.read(copy, keys)

    def read(self, raw, keys):
        need(len(raw) == 512 and raw[:8] == b"LATCHDIR", "no directory record")
        need(struct.unpack_from("<HH", raw, 8) == (1, 0), "directory record of another version")
        need(not any(raw[12:16] + raw[80:128] + raw[160:480]), "reserved bytes of a directory record")
        self.id, parents, pd = raw[16:32], (raw[32:48], raw[48:64]), raw[64:80]
        places = tuple(zip(parents, (raw[128:144], raw[144:160])))
        need(any(self.id) and any(parents[0]), "impossible directory record")
        need(all(any(p) == any(n) for p, n in places[(parents[0] == self.id):]), "impossible directory record")
        need(pd in keys.directories, "unknown protected directory")
        self.protected = keys.directories[pd]
        need(isinstance(self.protected, Protected), self.protected)
        need(blake(raw[:480], self.protected.record) == raw[480:], "the directory record's MAC")
        here = (self.parent, blake(os.path.basename(self.path), size=16)) if self.parent else (self.id, bytes(16))
        need(here in places, "the directory stands at another place than its record says")

    def decrypt_name(self, stored):
        """The plaintext name, or None for what is no entry."""
        encoded = stored
        if stored.startswith(b"latchfs.long."):
            if stored.endswith(b".name"):
                return None
            encoded = read_small(os.path.join(self.path, stored + b".name"), 362)
            want = base64.urlsafe_b64encode(blake(encoded)).rstrip(b"=")
            need(stored == b"latchfs.long." + want and len(encoded) > 255, "a long name does not fit its sidecar")
        elif stored.startswith(b"latchfs."):
            return None
        return check_name(siv_open(self.protected.siv, self.id, unbase64(encoded)))


class Reader:
    def __init__(self, volume, keys, want_xattrs):
        self.volume, self.keys = volume, keys
        self.xattrs = {} if want_xattrs else None
        self.problems, self.links = 0, {}

    def report(self, path, error):
        self.problems += 1
        print(f"latchread: {os.fsdecode(path)}: {error}", file=sys.stderr)

    def walk(self, source, target, shown, parent):
        directory = Directory(source, self.keys, parent)
        os.mkdir(target, 0o700)
        self.read_xattrs(source, shown or b".", directory, None)
        for stored in sorted(os.listdir(source)):
            inner = os.path.join(source, stored)
            try:
                name = directory.decrypt_name(stored)
                if name is not None:
                    self.entry(inner, os.path.join(target, name), os.path.join(shown, name), directory)
            except (Bad, OSError) as e:
                self.report(inner, e)
        self.copy_metadata(os.lstat(source), target)

    def entry(self, source, target, shown, directory):
        st = os.lstat(source)
        if stat.S_ISDIR(st.st_mode):
            self.walk(source, target, shown, directory.id)
        elif stat.S_ISLNK(st.st_mode):
            os.symlink(self.read_link(source, directory), target)
        elif not stat.S_ISREG(st.st_mode):
            raise Bad("neither file, directory nor symbolic link")
        elif (st.st_dev, st.st_ino) in self.links:
            os.link(self.links[st.st_dev, st.st_ino], target)
        else:
            self.read_file(source, target, shown, directory)
            self.links[st.st_dev, st.st_ino] = target
            self.copy_metadata(st, target)

    @staticmethod
    def copy_metadata(st, target):
        os.chmod(target, stat.S_IMODE(st.st_mode))
        os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns))

    def read_file(self, source, target, shown, directory):
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            f = File(fd, self.keys, directory.protected, directory.id)
            if f.lost:
                self.report(source, "its content never reached the disk")
            with open(target, "xb") as out:
                for offset, data in f.pieces():
                    out.seek(offset)
                    out.write(data)
                out.truncate(f.size)
            self.read_xattrs(source, shown, directory, f)
        except Bad:
            if os.path.exists(target):
                os.unlink(target)
            raise
        finally:
            os.close(fd)

    def read_link(self, source, directory):
        text = os.fsencode(os.readlink(source))
        if re.fullmatch(rb"latchfs\.link\.[0-9a-f]{32}", text):
            text = read_small(os.path.join(directory.path, text), 5519)
        blob, suite = unbase64(text), self.keys.suite
        need(44 < len(blob) <= 4095 + 44, "impossible length of a symbolic link")
        ad = struct.pack("<BB", KIND_SYMLINK, suite) + directory.id + blob[:16]
        target = aead_open(suite, directory.protected.symlink, blob[16:28], ad, blob[28:-16], blob[-16:])
        need(b"\0" not in target, "NUL in a symbolic link")
        return target

    def read_xattrs(self, source, shown, directory, f):
        if self.xattrs is None:
            return
        try:
            names = os.listxattr(source, follow_symlinks=False)
        except OSError as e:
            if e.errno != errno.ENOTSUP:
                raise
            return
        found = {}
        for stored in map(os.fsencode, names):
            if stored.startswith(b"user.latchfs."):
                value = os.getxattr(source, stored, follow_symlinks=False)
                try:
                    name, plain = self.read_xattr(stored, value, directory, f)
                    found[os.fsdecode(name)] = plain.hex()
                except Bad as e:
                    self.report(source, e)
        if found:
            self.xattrs[os.fsdecode(shown)] = found

    def read_xattr(self, stored, value, directory, f):
        need(f is None or not f.empty, "an attribute of a file without header")
        owner = f.id if f else directory.id
        name = siv_open(directory.protected.siv, bytes([KIND_XATTR]) + owner, unbase64(stored[13:]))
        need(len(value) >= 30 and len(name) <= 165 and b"\0" not in name, "impossible attribute")
        epoch = struct.unpack("<H", value[-2:])[0]
        if f:
            kind, suite, key = KIND_XATTR, f.suite, f.xattr_key(epoch)
        else:
            need(epoch == 1, "impossible epoch of a directory's attribute")
            kind, suite, key = KIND_DIR_XATTR, self.keys.suite, directory.protected.xattr
        ad = struct.pack("<BBH", kind, suite, epoch) + owner + name
        return name, aead_open(suite, key, value[:12], ad, value[12:-18], value[-18:-2])


def read_secret(args):
    """(kind of slot, secret)"""
    files = {"passphrase": args.passphrase_file, "keyfile": args.key_file, "recovery": args.recovery_file,
             "recipient": args.identity, "command": args.command_secret_file}
    kind, path = next((kind, path) for kind, path in files.items() if path)
    with open(path, "rb") as f:
        raw = f.read(65536)
    if kind == "passphrase":
        return kind, raw[:-1] if raw.endswith(b"\n") else raw
    need(kind != "command" or len(raw) == 32, "a command answers 32 bytes")
    readers = {"recovery": parse_recovery, "recipient": parse_identity}
    return kind, readers[kind](raw.decode()) if kind in readers else raw


def parse_arguments():
    parser = argparse.ArgumentParser(description="Decrypts a clean latchfs volume.")
    parser.add_argument("volume")
    parser.add_argument("outdir")
    secrets = parser.add_mutually_exclusive_group(required=True)
    for name in ("passphrase-file", "key-file", "recovery-file", "identity", "command-secret-file"):
        secrets.add_argument("--" + name, metavar="FILE")
    parser.add_argument("--signing-key", metavar="HEX", type=bytes.fromhex, help="who must have signed the key store")
    parser.add_argument("--held-dir", metavar="DIR", help="folder with the blobs of held directories")
    parser.add_argument("--xattrs", action="store_true", help="print extended attributes as JSON")
    parser.add_argument("--names", action="store_true", help="print names of protected directories as JSON")
    return parser.parse_args()


def main():
    args = parse_arguments()
    volume, outdir = os.fsencode(args.volume), os.fsencode(args.outdir)
    try:
        with open(os.path.join(volume, b"latchfs.ini"), "rb") as f:
            keys = Keys(f.read(262145), *read_secret(args), args.signing_key, args.held_dir)
        check_journal(volume, keys)
        if os.path.isdir(outdir):
            os.rmdir(outdir)
        reader = Reader(volume, keys, args.xattrs)
        reader.walk(volume, outdir, b"", None)
    except (Bad, OSError) as e:
        print(f"latchread: {e}", file=sys.stderr)
        return 1
    if args.xattrs:
        print(json.dumps(reader.xattrs, indent=1, sort_keys=True))
    if args.names:
        known = {pd.hex(): d.name for pd, d in keys.directories.items() if isinstance(d, Protected)}
        print(json.dumps(known, indent=1, sort_keys=True))
    return 1 if reader.problems else 0


if __name__ == "__main__":
    sys.exit(main())
