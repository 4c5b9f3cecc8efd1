#!/usr/bin/python3
"""Writes format_vectors.h: known answers for every codec of the on-disk format, version 1.

An independent implementation of docs/FORMAT.md, with python3-cryptography and python3-nacl instead of the
libraries that the C code uses. All keys, ids and nonces are fixed, so the output is always the same. Run by hand
after a change of the format:  /usr/bin/python3 make_vectors.py > format_vectors.h
"""

import base64
import hashlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV, ChaCha20Poly1305
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as xchacha_encrypt

AES, CHACHA = 1, 2
INLINE, CHUNK, XATTR, SYMLINK, DIR_XATTR = 1, 2, 3, 4, 5


def fixed(label, length):
    """Bytes that look random and depend on the label only."""
    return hashlib.shake_128(b"latchfs test vector " + label.encode()).digest(length)


def subkey(key, context, number, length=32):
    return hashlib.blake2b(
        b"", digest_size=length, key=key, salt=struct.pack("<QQ", number, 0), person=context + bytes(8)
    ).digest()


def seal(suite, key, nonce, ad, plain):
    """Ciphertext and tag."""
    out = (AESGCM if suite == AES else ChaCha20Poly1305)(key).encrypt(nonce, plain, ad)
    return out[:-16], out[-16:]


def siv(key, ad, plain):
    return AESSIV(key).encrypt(plain, [ad])


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def keyed_hash(key, data):
    return hashlib.blake2b(data, digest_size=32, key=key).digest()


def record(nonce, tag, length, epoch):
    return nonce + tag + struct.pack("<HH", length, epoch)


def content_ad(kind, suite, epoch, file_id, index):
    return struct.pack("<BBH", kind, suite, epoch) + file_id + struct.pack("<Q", index)


class Output:
    def __init__(self):
        self.lines = [
            "/* Written by make_vectors.py; do not edit. */",
            "#ifndef FORMAT_VECTORS_H",
            "#define FORMAT_VECTORS_H",
            "",
            "#include <stdint.h>",
            "",
        ]

    def data(self, name, data):
        self.lines.append(f"static const uint8_t {name}[{max(len(data), 1)}] = {{")
        for i in range(0, len(data), 16):
            self.lines.append("    " + " ".join(f"0x{b:02x}," for b in data[i : i + 16]))
        self.lines.append("};")

    def text(self, name, text):
        parts = [text[i : i + 100] for i in range(0, len(text), 100)] or [""]
        self.lines.append(f"static const char {name}[] =")
        self.lines += [f'    "{p}"' for p in parts]
        self.lines[-1] += ";"

    def table(self, kind, name, rows):
        self.lines.append(f"static const struct {kind} {name}[] = {{")
        self.lines += ["    {" + ", ".join(row) + "}," for row in rows]
        self.lines.append("};")

    def struct(self, kind, fields):
        self.lines.append(f"struct {kind} {{")
        self.lines += [f"    {f};" for f in fields]
        self.lines.append("};")

    def print(self):
        print("\n".join(self.lines + ["", "#endif"]))


def aead_vectors(out):
    out.struct(
        "aead_vector",
        ["int suite", "unsigned len", "const uint8_t *key", "const uint8_t *nonce", "const uint8_t *plain",
         "const uint8_t *cipher", "const uint8_t *tag"],
    )
    ad = fixed("aead ad", 28)
    out.data("aead_ad", ad)
    rows = []
    for suite in (AES, CHACHA):
        for length in (0, 1, 16, 31, 4096):
            name = f"aead_{suite}_{length}"
            key, nonce, plain = (fixed(f"{name} {x}", n) for x, n in (("key", 32), ("nonce", 12), ("plain", length)))
            cipher, tag = seal(suite, key, nonce, ad, plain)
            for what, data in (("key", key), ("nonce", nonce), ("plain", plain), ("cipher", cipher), ("tag", tag)):
                out.data(f"{name}_{what}", data)
            rows.append([str(suite), str(length)] + [f"{name}_{w}" for w in ("key", "nonce", "plain", "cipher", "tag")])
    out.table("aead_vector", "aead_vectors", rows)


def content_vectors(out):
    """One inline message and one chunk in each suite, under one file key."""
    out.struct(
        "content_vector",
        ["int kind", "int suite", "unsigned epoch", "uint64_t index", "unsigned len", "const uint8_t *plain",
         "const uint8_t *cipher", "const uint8_t *record"],
    )
    file_id, key = fixed("content file id", 16), fixed("content key", 32)
    out.data("content_file_id", file_id)
    out.data("content_key", key)
    rows = []
    for kind, suite, epoch, index, length in (
        (INLINE, AES, 1, 0, 3584), (INLINE, CHACHA, 7, 0, 0), (CHUNK, AES, 2, 0x123456789, 4096),
        (CHUNK, CHACHA, 65535, 111, 1),
    ):
        name = f"content_{kind}_{suite}"
        nonce, plain = fixed(name + " nonce", 12), fixed(name + " plain", length)
        cipher, tag = seal(suite, key, nonce, content_ad(kind, suite, epoch, file_id, index), plain)
        out.data(name + "_plain", plain)
        out.data(name + "_cipher", cipher)
        out.data(name + "_record", record(nonce, tag, length, epoch))
        rows.append([str(kind), str(suite), str(epoch), f"UINT64_C({index})", str(length), name + "_plain",
                     name + "_cipher", name + "_record"])
    out.table("content_vector", "content_vectors", rows)


def subkey_vectors(out):
    key = fixed("subkey root", 32)
    out.data("subkey_root", key)
    for number in (1, 2, 3, 4):
        out.data(f"subkey_file_{number}", subkey(key, b"latchfsF", number))
        out.data(f"subkey_name_{number}", subkey(key, b"latchfsN", number, 64 if number == 1 else 32))


def keywrap_vector(out):
    kek, key, nonce, ad = fixed("wrap kek", 32), fixed("wrap key", 32), fixed("wrap nonce", 24), b"associated"
    for name, data in (("kek", kek), ("key", key), ("ad", ad), ("blob", nonce + xchacha_encrypt(key, ad, nonce, kek))):
        out.data("keywrap_" + name, data)


def header(name, out, suite, state, places, size, writes, generation, seal_state, seal_gen, root, rec, homes):
    """places: epochs of the two key places, 0 for an empty one; homes: the ids of directories."""
    file_id, pd_id, dir_key = fixed(name + " file", 16), fixed(name + " pd", 16), fixed(name + " dir key", 32)
    version = 0x01020304
    head = b"LATCHFIL" + struct.pack("<HBBHH", 1, suite, state, 0, 0) + file_id + pd_id + struct.pack("<II", version, 0)
    file_keys = [fixed(f"{name} file key {e}", 32) if e else b"" for e in places]
    for i, (epoch, key) in enumerate(zip(places, file_keys)):
        ad = b"LATCHFIL" + struct.pack("<HB", 1, suite) + file_id + pd_id + struct.pack("<IBH", version, i, epoch)
        nonce = fixed(f"{name} wrap nonce {i}", 24)
        wrapped = nonce + xchacha_encrypt(key, ad, nonce, dir_key) if epoch else bytes(72)
        head += struct.pack("<H6x", epoch) + wrapped
    head += struct.pack("<QQQB7xQ", size, writes, generation, seal_state, seal_gen) + root + rec
    head += b"".join(homes) + bytes(160 - 16 * len(homes))
    newest = file_keys[places.index(max(places))]
    mac_key = subkey(newest, b"latchfsF", 3)
    head += keyed_hash(mac_key, head)
    assert len(head) == 512
    for what, data in (("bytes", head), ("file_id", file_id), ("pd_id", pd_id), ("dir_key", dir_key)):
        out.data(f"{name}_{what}", data)
    for i, key in enumerate(file_keys):
        if key:
            out.data(f"{name}_file_key_{i}", key)


def header_vectors(out):
    rec = record(fixed("header inline nonce", 12), fixed("header inline tag", 16), 1000, 3)
    out.data("header_inline_record", rec)
    header("header_inline", out, AES, 1, (3, 0), 1000, 5, 6, 0, 9, bytes(32), rec, [])
    root = fixed("header root", 32)
    out.data("header_paged_root", root)
    homes = [fixed("header home 0", 16), fixed("header home 1", 16)]
    for i, home in enumerate(homes):
        out.data(f"header_paged_home_{i}", home)
    header("header_paged", out, CHACHA, 2, (8, 9), 1 << 40, 1 << 33, (1 << 50) + 1, 1, 77, root, bytes(32), homes)


def name_vectors(out):
    out.struct("name_vector", ["const uint8_t *plain", "unsigned len", "const char *encoded", "const char *stored"])
    name_key, dir_id = fixed("names name key", 32), fixed("names dir", 16)
    out.data("names_name_key", name_key)
    out.data("names_dir_id", dir_id)
    key = subkey(name_key, b"latchfsN", 1, 64)
    plains = [b"a", b"hello world.txt", "Grüße".encode(), bytes([0xFF, 0xFE, 1]), b"x" * 175, b"x" * 176,
              bytes(range(1, 47)) + bytes(range(48, 256)) + b"\x01"]
    rows = []
    for i, plain in enumerate(plains):
        encoded = b64(siv(key, dir_id, plain))
        stored = encoded
        if len(encoded) > 255:
            stored = "latchfs.long." + b64(hashlib.blake2b(encoded.encode(), digest_size=32).digest())
        out.data(f"names_plain_{i}", plain)
        out.text(f"names_encoded_{i}", encoded)
        out.text(f"names_stored_{i}", stored)
        rows.append([f"names_plain_{i}", str(len(plain)), f"names_encoded_{i}", f"names_stored_{i}"])
    out.table("name_vector", "name_vectors", rows)
    ad = fixed("xattr owner", 16)
    out.data("xattr_owner_id", ad)
    out.text("xattr_stored_name", "user.latchfs." + b64(siv(key, bytes([XATTR]) + ad, b"user.comment")))
    longest = b"user." + b"y" * 160
    out.text("xattr_longest_plain", longest.decode())
    out.text("xattr_longest_stored", "user.latchfs." + b64(siv(key, bytes([XATTR]) + ad, longest)))


def dirrec_vectors(out):
    name_key = fixed("dirrec name key", 32)
    out.data("dirrec_name_key", name_key)
    mac_key = subkey(name_key, b"latchfsN", 2)
    ids = {x: fixed("dirrec " + x, 16) for x in ("id", "parent_0", "parent_1", "pd_id")}
    tags = {x: hashlib.blake2b(f"dirrec {x}".encode(), digest_size=16).digest() for x in ("name_0", "name_1")}
    for name, data in (ids | tags).items():
        out.data("dirrec_" + name, data)
    none = bytes(16)
    for name, second, tag in (("plain", none, none), ("moving", ids["parent_1"], tags["name_1"])):
        head = b"LATCHDIR" + struct.pack("<HHI", 1, 0, 0) + ids["id"] + ids["parent_0"] + second + ids["pd_id"]
        head += bytes(48) + tags["name_0"] + tag
        head += bytes(480 - len(head))
        out.data(f"dirrec_{name}_bytes", head + keyed_hash(mac_key, head))


def symlink_vectors(out):
    out.struct("symlink_vector", ["int suite", "const char *target", "const char *encoded"])
    name_key, dir_id = fixed("symlink name key", 32), fixed("symlink dir", 16)
    out.data("symlink_name_key", name_key)
    out.data("symlink_dir_id", dir_id)
    key = subkey(name_key, b"latchfsN", 3)
    rows = []
    for i, (suite, target) in enumerate(((AES, "../etc/motd"), (CHACHA, "z" * 4095), (AES, "x"))):
        link_id, nonce = fixed(f"symlink id {i}", 16), fixed(f"symlink nonce {i}", 12)
        cipher, tag = seal(suite, key, nonce, struct.pack("<BB", SYMLINK, suite) + dir_id + link_id, target.encode())
        out.text(f"symlink_target_{i}", target)
        out.text(f"symlink_encoded_{i}", b64(link_id + nonce + cipher + tag))
        rows.append([str(suite), f"symlink_target_{i}", f"symlink_encoded_{i}"])
    out.table("symlink_vector", "symlink_vectors", rows)


def xattr_vectors(out):
    out.struct("xattr_vector", ["int kind", "int suite", "unsigned epoch", "unsigned len", "const uint8_t *value",
                                "const uint8_t *stored"])
    key, owner = fixed("xattr key", 32), fixed("xattr owner", 16)
    out.data("xattr_key", key)
    rows = []
    for i, (kind, suite, epoch, length) in enumerate(((XATTR, AES, 300, 100), (DIR_XATTR, CHACHA, 1, 0))):
        nonce, value = fixed(f"xattr nonce {i}", 12), fixed(f"xattr value {i}", length)
        ad = struct.pack("<BBH", kind, suite, epoch) + owner + b"user.comment"
        cipher, tag = seal(suite, key, nonce, ad, value)
        out.data(f"xattr_value_{i}", value)
        out.data(f"xattr_stored_{i}", nonce + cipher + tag + struct.pack("<H", epoch))
        rows.append([str(kind), str(suite), str(epoch), str(length), f"xattr_value_{i}", f"xattr_stored_{i}"])
    out.table("xattr_vector", "xattr_vectors", rows)


def layout_vectors(out):
    """Walks the pages one by one instead of computing them."""
    out.struct("layout_vector", ["uint64_t chunk", "uint64_t data", "uint64_t record"])
    wanted = {0, 1, 111, 112, 113, 239, 240, 367, 368, 495, 496, 99999, 100000}
    page, chunk, rows = 0, 0, []
    while wanted:
        tag, first, count = page * 4096, (512 if page == 0 else 0), (112 if page == 0 else 128)
        page += 1
        for i in range(count):
            if chunk in wanted:
                wanted.remove(chunk)
                rows.append([f"{chunk}u", f"{page * 4096}u", f"{tag + first + 32 * i}u"])
            chunk += 1
            page += 1
    out.table("layout_vector", "layout_vectors", rows)


def main():
    out = Output()
    for part in (aead_vectors, content_vectors, subkey_vectors, keywrap_vector, header_vectors, name_vectors,
                 dirrec_vectors, symlink_vectors, xattr_vectors, layout_vectors):
        part(out)
    out.print()


if __name__ == "__main__":
    main()
