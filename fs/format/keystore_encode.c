#include "keystore_fields.h"

#include "latchfs/aead.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/name.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
    char *p;
    size_t used, cap;
    bool full;
};

static void put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->p + t->used, t->cap - t->used, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= t->cap - t->used)
        t->full = true;
    else
        t->used += (size_t)n;
}

static void put_blob(struct text *t, const char *name, const uint8_t *data, size_t size)
{
    char line[KEYSTORE_LINE_MAX];
    for (size_t at = 0, piece = 1; at < size; at += KEYSTORE_PIECE_BYTES, piece++) {
        size_t n = size - at < KEYSTORE_PIECE_BYTES ? size - at : KEYSTORE_PIECE_BYTES;
        b64_encode(data + at, n, line);
        put(t, "%s.%zu = %s\n", name, piece, line);
    }
}

static void put_field(struct text *t, const struct keystore_field *f, const void *from)
{
    const uint8_t *at = (const uint8_t *)from + f->offset;
    const struct keystore_slot *slot;
    char hex[2 * KEYSTORE_PUBLIC_BYTES + 1];
    uint32_t u32 = 0;
    uint64_t u64 = 0;
    switch (f->type) {
    case F_U32:
        memcpy(&u32, at, sizeof u32);
        if (u32 || !f->optional)
            put(t, "%s = %" PRIu32 "\n", f->name, u32);
        break;
    case F_U64:
        memcpy(&u64, at, sizeof u64);
        put(t, "%s = %" PRIu64 "\n", f->name, u64);
        break;
    case F_HEX:
        sodium_bin2hex(hex, sizeof hex, at, f->size);
        if (!f->optional || !sodium_is_zero(at, f->size))
            put(t, "%s = %s\n", f->name, hex);
        break;
    case F_BLOB:
        if (!f->optional || !sodium_is_zero(at, f->size))
            put_blob(t, f->name, at, f->size);
        break;
    case F_SLOT_BLOB:
        slot = from;
        put_blob(t, f->name, slot->blob, slot->blob_len);
        break;
    case F_SUITE:
        put(t, "%s = %s\n", f->name, suite_name(*at));
        break;
    case F_SLOT_TYPE:
        put(t, "%s = %s\n", f->name, keystore_slot_type_name(*at));
        break;
    case F_STATE:
        put(t, "%s = %s\n", f->name, key_state_name(*at));
        break;
    case F_LABEL:
    case F_COMMAND:
        if (*at)
            put(t, "%s = %s\n", f->name, (const char *)at);
        break;
    case F_YES:
        if (*at)
            put(t, "%s = yes\n", f->name);
        break;
    }
}

static void put_section(struct text *t, enum keystore_section s, const void *from)
{
    for (const struct keystore_field *f = keystore_fields(s); f->name; f++)
        put_field(t, f, from);
}

static void put_dir(struct text *t, const struct keystore_dir *d)
{
    char hex[2 * ID_BYTES + 1];
    id_to_hex(d->id, hex);
    put(t, "[dir %s]\n", hex);
    put_section(t, SEC_DIR, d);
    for (uint32_t i = 0; i < d->count; i++) {
        put(t, "[key %s %" PRIu32 "]\n", hex, d->keys[i].version);
        put_section(t, SEC_KEY, &d->keys[i]);
    }
}

static void put_backup(struct text *t, const struct keystore_backup *b)
{
    char hex[2 * ID_BYTES + 1];
    put(t, "[backup %" PRIu32 "]\n", b->id);
    put_section(t, SEC_BACKUP, b);
    for (uint32_t i = 0; i < b->need_count; i++) {
        id_to_hex(b->needs[i].pd, hex);
        put(t, "[need %" PRIu32 " %s]\n", b->id, hex);
        put_section(t, SEC_NEED, &b->needs[i]);
    }
}

static int encode(const struct keystore *ks, struct text *t)
{
    int r = keystore_check(ks);
    if (r)
        return r;
    t->cap = KEYSTORE_MAX_BYTES + 1;
    t->p = malloc(t->cap);
    if (!t->p)
        return -ENOMEM;
    put(t, "[volume]\n");
    put_section(t, SEC_VOLUME, ks);
    for (uint32_t i = 0; i < ks->slot_count; i++) {
        put(t, "[slot %u]\n", ks->slots[i].id);
        put_section(t, SEC_SLOT, &ks->slots[i]);
    }
    for (uint32_t i = 0; i < ks->master_count; i++) {
        put(t, "[master %" PRIu32 "]\n", ks->masters[i].version);
        put_section(t, SEC_MASTER, &ks->masters[i]);
    }
    put(t, "[journal]\n");
    put_section(t, SEC_JOURNAL, ks);
    for (uint32_t i = 0; i < ks->dir_count; i++)
        put_dir(t, &ks->dirs[i]);
    for (uint32_t i = 0; i < ks->backup_count; i++)
        put_backup(t, &ks->backups[i]);
    return t->full ? -E2BIG : 0;
}

int keystore_encode(const struct keystore *ks, char **text, size_t *len)
{
    struct text t = {0};
    int r = encode(ks, &t);
    if (r) {
        free(t.p);
        return r;
    }
    *text = t.p;
    *len = t.used;
    return 0;
}

int keystore_encode_signed(const struct keystore *ks, const uint8_t secret_key[static 64], char **ini,
                           size_t *len)
{
    struct text t = {0};
    struct keystore with; /* shares what ks owns, which SEC_SIGNATURE does not touch */
    int r = encode(ks, &t);
    if (!r) {
        memcpy(&with, ks, sizeof with);
        crypto_sign_detached(with.signature, NULL, (const uint8_t *)t.p, t.used, secret_key);
        put(&t, "[signature]\n");
        put_section(&t, SEC_SIGNATURE, &with);
        r = t.full ? -E2BIG : 0;
    }
    if (r) {
        free(t.p);
        return r;
    }
    *ini = t.p;
    *len = t.used;
    return 0;
}
