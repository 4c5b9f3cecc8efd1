#include "keystore_fields.h"

#include "latchfs/aead.h"
#include "latchfs/name.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

bool keystore_number(const char *s, uint64_t most, uint64_t *out)
{
    uint64_t v = 0;
    size_t n = strspn(s, "0123456789");
    if (n < 1 || n > 18 || s[n])
        return false;
    for (; *s; s++)
        v = v * 10 + (uint64_t)(*s - '0');
    *out = v;
    return v <= most;
}

static bool set_number(const struct keystore_field *f, uint8_t *at, const char *value)
{
    uint64_t v;
    if (!keystore_number(value, f->type == F_U32 ? UINT32_MAX : UINT64_MAX, &v))
        return false;
    uint32_t v32 = (uint32_t)v;
    memcpy(at, f->type == F_U32 ? (const void *)&v32 : (const void *)&v,
           f->type == F_U32 ? sizeof v32 : sizeof v);
    return true;
}

static bool set_hex(const struct keystore_field *f, uint8_t *at, const char *value)
{
    size_t got;
    const char *end;
    return strlen(value) == 2 * f->size &&
           sodium_hex2bin(at, f->size, value, 2 * f->size, NULL, &got, &end) == 0 && got == f->size && !*end;
}

static bool set_piece(const struct keystore_field *f, uint8_t *at, const char *index, const char *value)
{
    uint64_t piece;
    size_t got, text = strlen(value);
    uint8_t bytes[KEYSTORE_LINE_MAX];
    if (!keystore_number(index, 16, &piece) || piece < 1 || text > 128 ||
        b64_decode(value, text, bytes, &got))
        return false;
    size_t from = (piece - 1) * KEYSTORE_PIECE_BYTES;
    if (from >= f->size || got > f->size - from)
        return false;
    memcpy(at + from, bytes, got);
    return true;
}

/* Pieces stand in order, each but the last full. */
static bool set_slot_blob(struct keystore_slot *s, const char *index, const char *value)
{
    uint64_t piece;
    size_t got, text = strlen(value);
    uint8_t bytes[KEYSTORE_LINE_MAX];
    if (!keystore_number(index, KEYSTORE_BLOB_MAX / KEYSTORE_PIECE_BYTES, &piece) || text > 128 ||
        b64_decode(value, text, bytes, &got) || got == 0)
        return false;
    if (s->blob_len != (piece - 1) * KEYSTORE_PIECE_BYTES)
        return false;
    if (!s->blob)
        s->blob = malloc(KEYSTORE_BLOB_MAX);
    if (!s->blob)
        return false;
    memcpy(s->blob + s->blob_len, bytes, got);
    s->blob_len += (uint32_t)got;
    return true;
}

static bool set_name(uint8_t *at, const char *value, const char *(*name_of)(unsigned))
{
    for (uint8_t i = 1; i < 8; i++) {
        if (name_of(i) && strcmp(name_of(i), value) == 0) {
            *at = i;
            return true;
        }
    }
    return false;
}

static bool set_field(const struct keystore_field *f, void *into, const char *index, const char *value)
{
    uint8_t *at = (uint8_t *)into + f->offset;
    enum suite suite;
    switch (f->type) {
    case F_U32:
    case F_U64:
        return set_number(f, at, value);
    case F_HEX:
        return set_hex(f, at, value);
    case F_BLOB:
        return set_piece(f, at, index, value);
    case F_SLOT_BLOB:
        return set_slot_blob(into, index, value);
    case F_SUITE:
        if (strcmp(value, "auto") == 0 || suite_by_name(value, &suite))
            return false;
        *at = (uint8_t)suite;
        return true;
    case F_SLOT_TYPE:
        return set_name(at, value, keystore_slot_type_name);
    case F_STATE:
        return set_name(at, value, key_state_name);
    case F_LABEL:
        if (!keystore_label_ok(value))
            return false;
        strcpy((char *)at, value); /* keystore_label_ok bounds it */
        return true;
    case F_COMMAND:
        if (!keystore_command_ok(value))
            return false;
        strcpy((char *)at, value); /* keystore_command_ok bounds it */
        return true;
    case F_YES:
        *at = strcmp(value, "yes") == 0;
        return *at;
    }
    return false;
}

bool keystore_set(enum keystore_section s, void *into, const char *name, const char *value)
{
    for (const struct keystore_field *f = keystore_fields(s); f->name; f++) {
        size_t n = strlen(f->name);
        if (strncmp(name, f->name, n) != 0)
            continue;
        bool pieces = f->type == F_BLOB || f->type == F_SLOT_BLOB;
        if (name[n] == (pieces ? '.' : '\0'))
            return set_field(f, into, pieces ? name + n + 1 : "", value);
    }
    return false;
}
