/* The files of the volume itself: key store and journal. */
#include "inspect.h"

#include "latchfs/aead.h"
#include "latchfs/buf.h"
#include "latchfs/io.h"
#include "latchfs/jentry.h"
#include "latchfs/keystore.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- latchfs.ini ---- */

static void print_slot(const struct keystore_slot *s)
{
    char label[32];
    snprintf(label, sizeof label, "slot %u", s->id);
    if (s->type == SLOT_PASSPHRASE)
        inspect_line(label, "%s, argon2id %" PRIu32 " passes %" PRIu32 " MiB%s%s%s",
                     keystore_slot_type_name(s->type), s->kdf_ops, s->kdf_kib / 1024,
                     s->fast ? ", fast KDF: for tests only" : "", s->label[0] ? ", label " : "", s->label);
    else
        inspect_line(label, "%s%s%s%s%s", keystore_slot_type_name(s->type), s->command[0] ? " " : "",
                     s->command, s->label[0] ? ", label " : "", s->label);
}

static void print_dir(const struct keystore *ks, const struct keystore_dir *d)
{
    char hex[2 * ID_BYTES + 1];
    id_to_hex(d->id, hex);
    inspect_line("protected directory", "%s%s, least version %" PRIu32, hex,
                 d == keystore_dir(ks, NULL) ? " (root)" : "", d->least);
    for (uint32_t i = 0; i < d->count; i++)
        inspect_line("  key version", "%" PRIu32 ", %s, wrapped by master key %" PRIu32, d->keys[i].version,
                     key_state_name(d->keys[i].state), d->keys[i].master);
}

static void print_keystore(const struct keystore *ks)
{
    inspect_id("volume id", ks->volume_id);
    inspect_line("format", "%u", ks->format);
    inspect_line("suite", "%s", suite_name(ks->suite));
    inspect_time("made", ks->created);
    inspect_line("generation", "%" PRIu64, ks->generation);
    inspect_hex("signing key", ks->signing_public, sizeof ks->signing_public);
    for (uint32_t i = 0; i < ks->slot_count; i++)
        print_slot(&ks->slots[i]);
    for (uint32_t i = 0; i < ks->master_count; i++)
        inspect_line("master key", "version %" PRIu32 ", %s", ks->masters[i].version,
                     key_state_name(ks->masters[i].state));
    for (uint32_t i = 0; i < ks->dir_count; i++)
        print_dir(ks, &ks->dirs[i]);
}

int inspect_keystore(const struct inspected *f)
{
    AUTO_FREE char *ini = NULL;
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    size_t len = 0;
    unsigned line = 0;
    inspect_line("kind", "key store");
    int r = io_read_file(f->dirfd, f->name, KEYSTORE_MAX_BYTES, &ini, &len);
    if (!r)
        r = keystore_parse(ini, len, &ks, &line);
    if (r && line)
        return inspect_fail_line(f, r, line);
    if (r)
        return inspect_fail(f, r);
    print_keystore(ks);
    if (!keystore_signed_by(ini, len, ks->signing_public))
        return inspect_corrupt(f, "the signature does not fit: the file was changed");
    inspect_line("signature", "fits the key in the file; only opening a slot tells whose key that is");
    return LFS_EXIT_OK;
}

/* ---- latchfs.journal ---- */

static void print_super(const struct journal_super *s)
{
    inspect_id("volume id", s->volume_id);
    inspect_line("writes of this block", "%" PRIu64, s->counter);
    inspect_line("generation", "%" PRIu64, s->generation);
    inspect_hex("incarnation", s->incarnation, sizeof s->incarnation);
    if (s->ring_bytes) {
        inspect_line("ring", "%" PRIu64 " MiB", s->ring_bytes >> 20);
        inspect_line("first live entry", "sequence %" PRIu64 " at position %" PRIu64, s->tail_seq,
                     s->tail_pos);
    }
    inspect_line("state", "%s", s->ring_bytes ? "in use, or not cleanly unmounted" : "clean");
}

static int read_slot(const struct inspected *f, int slot, struct journal_super *out)
{
    uint8_t bytes[JOURNAL_SUPER_BYTES];
    ssize_t n = io_pread(f->fd, bytes, sizeof bytes, (uint64_t)slot * JOURNAL_SLOT_BYTES);
    if (n < 0)
        return (int)n;
    return n == sizeof bytes ? journal_super_decode(bytes, NULL, out) : LFS_ERR_CORRUPT;
}

int inspect_journal(const struct inspected *f)
{
    struct journal_super s[2];
    inspect_line("kind", "journal");
    inspect_line("length", "%" PRIu64, f->length);
    int a = read_slot(f, 0, &s[0]), b = read_slot(f, 1, &s[1]);
    if (a && b)
        return inspect_fail(f, a);
    int best = a ? 1 : b ? 0 : s[1].counter > s[0].counter;
    if (a || b)
        inspect_line("superblock", "only the one in page %d is readable", best);
    print_super(&s[best]);
    return LFS_EXIT_OK;
}
