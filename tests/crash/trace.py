"""Reads what the recorder wrote (trace.h)."""

import struct

WRITE, TRUNCATE, FALLOCATE, CREATE, MKDIR, SYMLINK, LINK, UNLINK, RMDIR, RENAME, SETXATTR, REMOVEXATTR, CHMOD, \
    SYNC_BEGIN, SYNC_END, MARK, CHOWN, UTIMENS, UNMODELLED = range(1, 20)

SYNC_FILE, SYNC_DATA, SYNC_ALL = 1, 2, 3

# Numbers at the begin of each record.
FIELDS = {WRITE: 2, TRUNCATE: 2, FALLOCATE: 4, CREATE: 3, MKDIR: 3, SYMLINK: 3, LINK: 2, UNLINK: 2, RMDIR: 2,
          RENAME: 4, SETXATTR: 2, REMOVEXATTR: 1, CHMOD: 2, SYNC_BEGIN: 3, SYNC_END: 1, MARK: 0, CHOWN: 3, UTIMENS: 3, UNMODELLED: 0}


class Broken(Exception):
    """The trace does not say what happened."""


def read(path):
    """A list of (type, numbers, bytes)."""
    with open(path, "rb") as f:
        data = f.read()
    records, at = [], 0
    while at < len(data):
        length, kind = struct.unpack_from("<II", data, at)
        n = FIELDS[kind]
        body = data[at + 8 + 8 * n:at + 8 + length]
        records.append((kind, struct.unpack_from("<%dQ" % n, data, at + 8), body))
        at += 8 + length
        if kind == UNMODELLED:
            raise Broken("the program called " + body.decode())
    return records


def split_name(body, length):
    return body[:length], body[length:]
