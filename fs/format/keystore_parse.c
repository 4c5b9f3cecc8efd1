#include "keystore_fields.h"

#include "latchfs/aead.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/name.h"

#include <errno.h>
#include <ini.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static const char signature_line[] = "[signature]\n";

/* ---- the raw bytes, before inih sees them ---- */

static bool section_line(const char *s, size_t len)
{
    if (len < 3 || len > 48 || s[0] != '[' || s[len - 1] != ']')
        return false;
    for (size_t i = 1; i < len - 1; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == ' '))
            return false;
    return true;
}

static bool value_char(char c)
{
    return c >= ' ' && c <= '~' && !strchr(";#\"=[]", c);
}

static bool field_line(const char *s, size_t len)
{
    size_t n = 0;
    while (n < len &&
           ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= '0' && s[n] <= '9') || s[n] == '-' || s[n] == '.'))
        n++;
    if (n < 1 || n > 32 || len < n + 4 || memcmp(s + n, " = ", 3) != 0)
        return false;
    const char *value = s + n + 3;
    size_t value_len = len - n - 3;
    for (size_t i = 0; i < value_len; i++)
        if (!value_char(value[i]))
            return false;
    return value[0] != ' ' && value[value_len - 1] != ' ';
}

static bool grammar_ok(const char *ini, size_t len, unsigned *line)
{
    *line = 1;
    if (len == 0 || len > KEYSTORE_MAX_BYTES)
        return false;
    for (size_t at = 0; at < len; (*line)++) {
        const char *nl = memchr(ini + at, '\n', len - at);
        size_t n = nl ? (size_t)(nl - (ini + at)) : 0;
        if (!nl || n > KEYSTORE_LINE_MAX || !(section_line(ini + at, n) || field_line(ini + at, n)))
            return false;
        at += n + 1;
    }
    *line = 0;
    return true;
}

/* ---- values ---- */

static bool number(const char *s, uint64_t most, uint64_t *out)
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
    if (!number(value, f->type == F_U32 ? UINT32_MAX : UINT64_MAX, &v))
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
    if (!number(index, 16, &piece) || piece < 1 || text > 128 || b64_decode(value, text, bytes, &got))
        return false;
    size_t from = (piece - 1) * KEYSTORE_PIECE_BYTES;
    if (from >= f->size || got > f->size - from)
        return false;
    memcpy(at + from, bytes, got);
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
    case F_YES:
        *at = strcmp(value, "yes") == 0;
        return *at;
    }
    return false;
}

/* name is "field" or, for blobs, "field.1". */
static bool set_named(enum keystore_section s, void *into, const char *name, const char *value)
{
    for (const struct keystore_field *f = keystore_fields(s); f->name; f++) {
        size_t n = strlen(f->name);
        if (strncmp(name, f->name, n) != 0)
            continue;
        if (f->type == F_BLOB ? name[n] == '.' : name[n] == '\0')
            return set_field(f, into, name + n + 1, value);
    }
    return false;
}

/* ---- sections ---- */

static struct keystore_slot *slot_section(struct keystore *ks, const char *arg)
{
    uint64_t id;
    if (!number(arg, KEYSTORE_SLOT_ID_MAX, &id))
        return NULL;
    if (ks->slot_count && ks->slots[ks->slot_count - 1].id == id)
        return &ks->slots[ks->slot_count - 1];
    if (ks->slot_count == KEYSTORE_SLOTS_MAX)
        return NULL;
    ks->slots[ks->slot_count].id = (unsigned)id;
    return &ks->slots[ks->slot_count++];
}

static struct keystore_master *master_section(struct keystore *ks, const char *arg)
{
    uint64_t version;
    if (!number(arg, KEYSTORE_VERSION_MAX, &version))
        return NULL;
    if (ks->master_count && ks->masters[ks->master_count - 1].version == version)
        return &ks->masters[ks->master_count - 1];
    if (ks->master_count == KEYSTORE_MASTERS_MAX)
        return NULL;
    ks->masters[ks->master_count].version = (uint32_t)version;
    return &ks->masters[ks->master_count++];
}

static struct keystore_dir *dir_section(struct keystore *ks, const char *arg)
{
    uint8_t id[ID_BYTES];
    if (!id_from_hex(arg, id))
        return NULL;
    struct keystore_dir *last = ks->dir_count ? &ks->dirs[ks->dir_count - 1] : NULL;
    if (last && memcmp(last->id, id, ID_BYTES) == 0)
        return last;
    struct keystore_dir *d = keystore_add_dir(ks);
    if (d)
        memcpy(d->id, id, ID_BYTES);
    return d;
}

/* "<id> <version>": keys stand behind their directory. */
static struct keystore_dirkey *key_section(struct keystore *ks, const char *arg)
{
    char hex[2 * ID_BYTES + 1] = "";
    uint8_t id[ID_BYTES];
    uint64_t version;
    if (strlen(arg) < sizeof hex || arg[2 * ID_BYTES] != ' ' || ks->dir_count == 0)
        return NULL;
    memcpy(hex, arg, 2 * ID_BYTES);
    struct keystore_dir *d = &ks->dirs[ks->dir_count - 1];
    if (!id_from_hex(hex, id) || memcmp(d->id, id, ID_BYTES) != 0 ||
        !number(arg + sizeof hex, KEYSTORE_VERSION_MAX, &version))
        return NULL;
    if (d->count && d->keys[d->count - 1].version == version)
        return &d->keys[d->count - 1];
    if (d->count == KEYSET_VERSIONS_MAX)
        return NULL;
    d->keys[d->count].version = (uint32_t)version;
    return &d->keys[d->count++];
}

static void *find_section(struct keystore *ks, const char *section, enum keystore_section *s)
{
    static const char *const names[SEC_COUNT] = {
        [SEC_VOLUME] = "volume",       [SEC_SLOT] = "slot ", [SEC_MASTER] = "master ",
        [SEC_JOURNAL] = "journal",     [SEC_DIR] = "dir ",   [SEC_KEY] = "key ",
        [SEC_SIGNATURE] = "signature",
    };
    for (int i = 0; i < SEC_COUNT; i++) {
        size_t n = strlen(names[i]);
        bool takes_arg = names[i][n - 1] == ' ';
        if (strncmp(section, names[i], n) != 0 || (!takes_arg && section[n]))
            continue;
        *s = (enum keystore_section)i;
        if (i == SEC_SLOT)
            return slot_section(ks, section + n);
        if (i == SEC_MASTER)
            return master_section(ks, section + n);
        if (i == SEC_DIR)
            return dir_section(ks, section + n);
        return i == SEC_KEY ? (void *)key_section(ks, section + n) : ks;
    }
    return NULL;
}

static int on_field(void *arg, const char *section, const char *name, const char *value)
{
    enum keystore_section s;
    void *into = find_section(arg, section, &s);
    return into && set_named(s, into, name, value);
}

/* ---- the whole ---- */

static const char *find_signature(const char *ini, size_t len)
{
    const char *at = ini;
    while ((at = memmem(at, len - (size_t)(at - ini), signature_line, sizeof signature_line - 1))) {
        if (at == ini || at[-1] == '\n')
            return at;
        at++;
    }
    return NULL;
}

static unsigned line_of(const char *ini, size_t at)
{
    unsigned line = 1;
    for (size_t i = 0; i < at; i++)
        line += ini[i] == '\n';
    return line;
}

/* What inih or the setters took differently, or missed, or what came twice: the text is not ours. */
static int check_canonical(const struct keystore *ks, const char *ini, size_t len, unsigned *line)
{
    AUTO_FREE char *text = NULL;
    char sig[128];
    size_t n, i = 0;
    int r = keystore_encode(ks, &text, &n);
    if (r)
        return r == -ENOMEM ? r : LFS_ERR_CORRUPT;
    while (i < n && i < len && text[i] == ini[i])
        i++;
    static const char lead[] = "[signature]\ned25519.1 = ";
    size_t lead_len = sizeof lead - 1;
    size_t sig_len = b64_encode(ks->signature, sizeof ks->signature, sig);
    if (i == n && len == n + lead_len + sig_len + 1 && memcmp(ini + n, lead, lead_len) == 0 &&
        memcmp(ini + n + lead_len, sig, sig_len) == 0)
        return 0;
    *line = line_of(ini, i < len ? i : len);
    return LFS_ERR_CORRUPT;
}

/* Unknown versions are told apart from damage. */
static int refusal(const struct keystore *ks, const char *ini)
{
    bool other = ks->format != 0 && ks->format != FORMAT_VERSION;
    bool unknown_suite = ks->format == FORMAT_VERSION && ks->suite == 0 && strstr(ini, "\nsuite = ");
    return other || unknown_suite ? LFS_ERR_UNSUPPORTED : LFS_ERR_CORRUPT;
}

int keystore_parse(const char *ini, size_t len, struct keystore **out, unsigned *line)
{
    unsigned ignored = 0;
    line = line ? line : &ignored;
    if (!grammar_ok(ini, len, line))
        return LFS_ERR_CORRUPT;
    CLEANUP(keystore_freep) struct keystore *ks = keystore_new();
    AUTO_FREE char *text = malloc(len + 1);
    if (!ks || !text)
        return -ENOMEM;
    memcpy(text, ini, len);
    text[len] = '\0';
    int bad = ini_parse_string(text, on_field, ks);
    if (bad) {
        *line = bad > 0 ? (unsigned)bad : 0;
        return bad < 0 ? -ENOMEM : refusal(ks, text);
    }
    if (ks->format != FORMAT_VERSION)
        return refusal(ks, text);
    int r = check_canonical(ks, ini, len, line);
    if (r)
        return r;
    *out = ks;
    ks = NULL;
    return 0;
}

bool keystore_signed_by(const char *ini, size_t len,
                        const uint8_t signing_public[static KEYSTORE_PUBLIC_BYTES])
{
    struct keystore sig = {0};
    const struct keystore_field *f = keystore_fields(SEC_SIGNATURE);
    const char *at = len <= KEYSTORE_MAX_BYTES ? find_signature(ini, len) : NULL;
    char value[KEYSTORE_LINE_MAX];
    size_t lead = sizeof "[signature]\ned25519.1 = " - 1, n = at ? len - (size_t)(at - ini) : 0;
    if (n <= lead + 1 || n - lead - 1 >= sizeof value)
        return false;
    memcpy(value, at + lead, n - lead - 1);
    value[n - lead - 1] = '\0';
    if (!set_piece(f, (uint8_t *)&sig + f->offset, "1", value))
        return false;
    return crypto_sign_verify_detached(sig.signature, (const uint8_t *)ini, (size_t)(at - ini),
                                       signing_public) == 0;
}
