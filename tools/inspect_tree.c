/* Files, directories, links and names of the encrypted tree. */
#include "inspect.h"

#include "latchfs/aead.h"
#include "latchfs/buf.h"
#include "latchfs/dirrec.h"
#include "latchfs/header.h"
#include "latchfs/io.h"
#include "latchfs/layout.h"
#include "latchfs/name.h"
#include "latchfs/symlink.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- files ---- */

static void print_places(const struct file_header *h)
{
    for (int i = 0; i < 2; i++)
        if (h->place[i].epoch)
            inspect_line(i ? "file key, place 1" : "file key, place 0", "epoch %u%s", h->place[i].epoch,
                         i == header_newest(h) ? ", newest" : "");
}

static void print_header(const struct file_header *h)
{
    inspect_line("suite", "%s", suite_name(h->suite));
    inspect_line("state", "%s", h->state == FILE_INLINE ? "inline" : "paged");
    inspect_id("file id", h->file_id);
    inspect_id("protected directory", h->pd_id);
    inspect_line("key version", "%" PRIu32, h->key_version);
    print_places(h);
    inspect_line("committed size", "%" PRIu64, h->size);
    inspect_line("chunk writes", "%" PRIu64, h->chunk_writes);
    inspect_line("generation", "%" PRIu64, h->generation);
    if (h->seal_state == SEAL_SEALED) {
        inspect_line("seal", "sealed, generation %" PRIu64, h->seal_generation);
        inspect_hex("seal root", h->seal_root, sizeof h->seal_root);
    } else {
        inspect_line("seal", "open, generation %" PRIu64, h->seal_generation);
    }
}

/* Header and length at odds are what a cut leaves behind; the next mount mends it from the journal. */
static void print_size(const struct inspected *f, const struct file_header *h)
{
    uint64_t size = 0;
    enum length_kind kind = layout_size(f->length, &size);
    bool fits = (kind == LENGTH_INLINE) == (h->state == FILE_INLINE) && kind != LENGTH_CORRUPT;
    if (fits && size == h->size)
        inspect_line("size", "%" PRIu64, size);
    else
        inspect_line("size", "%" PRIu64 " by length; header and length differ: changes may be in the journal",
                     size);
}

int inspect_file(const struct inspected *f)
{
    struct file_header h;
    uint64_t size;
    inspect_line("kind", "encrypted file%s",
                 name_stored_kind(f->name) == STORED_LONG ? " with a long name" : "");
    inspect_line("length", "%" PRIu64, f->length);
    switch (layout_size(f->length, &size)) {
    case LENGTH_EMPTY:
        inspect_line("size", "0, it never had content");
        return LFS_EXIT_OK;
    case LENGTH_CORRUPT:
        return inspect_corrupt(f, "corrupt: too short for its header");
    case LENGTH_INLINE:
    case LENGTH_PAGED:
        break;
    }
    if (sodium_is_zero(f->head, sizeof f->head) && f->length > PAGE_BYTES) {
        inspect_line("state", "header is zero: content that never reached the disk, reads as empty");
        return LFS_EXIT_OK;
    }
    int r = header_decode(f->head, &h);
    if (r)
        return inspect_fail(f, r);
    print_size(f, &h);
    print_header(&h);
    return LFS_EXIT_OK;
}

/* ---- directories ---- */

int inspect_dirrec(const struct inspected *f)
{
    static const uint8_t none[ID_BYTES];
    struct dirrec d;
    inspect_line("kind", "directory record");
    if (f->length != DIRREC_BYTES)
        return inspect_corrupt(f, "corrupt: a directory record has 512 bytes");
    int r = dirrec_parse(f->head, &d);
    if (r)
        return inspect_fail(f, r);
    inspect_id("directory id", d.id);
    inspect_id("parent id", d.parent[0]);
    if (memcmp(d.parent[0], d.id, ID_BYTES) == 0)
        inspect_line("place", "root of the volume");
    if (memcmp(d.parent[1], none, ID_BYTES) != 0)
        inspect_id(memcmp(d.parent[0], d.parent[1], ID_BYTES) ? "moving to" : "renamed in", d.parent[1]);
    inspect_id("protected directory", d.pd_id);
    return LFS_EXIT_OK;
}

/* ---- names and links ---- */

static int read_text(const struct inspected *f, size_t max, char **text, size_t *len)
{
    int r = io_read_file(f->dirfd, f->name, max, text, len);
    return r ? inspect_fail(f, r) : LFS_EXIT_OK;
}

static bool is_b64url(const char *text, size_t len)
{
    size_t out_len;
    AUTO_FREE uint8_t *out = malloc(len + 1);
    return out && b64_decode(text, len, out, &out_len) == 0;
}

int inspect_sidecar(const struct inspected *f)
{
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    char stored[NAME_CIPHER_MAX + 1];
    inspect_line("kind", "long name, encoded");
    int code = read_text(f, NAME_ENCODED_MAX, &text, &len);
    if (code != LFS_EXIT_OK)
        return code;
    if (len <= NAME_CIPHER_MAX || !is_b64url(text, len))
        return inspect_corrupt(f, "corrupt: not an encoded long name");
    name_long_stored(text, len, stored);
    size_t stored_len = strlen(stored);
    if (strncmp(f->name, stored, stored_len) != 0 || strcmp(f->name + stored_len, LONG_NAME_SUFFIX) != 0)
        return inspect_corrupt(f, "corrupt: its name is not the hash of its content");
    inspect_line("belongs to", "%s", stored);
    inspect_line("name's length", "%zu", len * 3 / 4 - TAG_BYTES);
    return LFS_EXIT_OK;
}

static int show_target(const struct inspected *f, const char *text, size_t len)
{
    int plain = symlink_plain_len(len);
    if (plain < 0 || !is_b64url(text, len))
        return inspect_corrupt(f, "corrupt: not an encrypted link target");
    inspect_line("target's length", "%d", plain);
    return LFS_EXIT_OK;
}

int inspect_link_sidecar(const struct inspected *f)
{
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    inspect_line("kind", "long target of a symbolic link");
    int code = read_text(f, SYMLINK_ENCODED_MAX, &text, &len);
    return code == LFS_EXIT_OK ? show_target(f, text, len) : code;
}

int inspect_symlink(const struct inspected *f)
{
    char target[SYMLINK_STORED_MAX + 1];
    inspect_line("kind", "encrypted symbolic link");
    ssize_t n = readlinkat(f->dirfd, f->name, target, sizeof target);
    if (n < 0)
        return inspect_fail(f, -errno);
    if ((size_t)n == sizeof target)
        return inspect_corrupt(f, "corrupt: target too long");
    if (!symlink_is_sidecar(target, (size_t)n))
        return show_target(f, target, (size_t)n);
    inspect_line("target in", "%.*s", (int)n, target);
    return LFS_EXIT_OK;
}
