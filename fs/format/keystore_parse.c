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

/* ---- sections ---- */

static struct keystore_slot *slot_section(struct keystore *ks, const char *arg)
{
    uint64_t id;
    if (!keystore_number(arg, KEYSTORE_SLOT_ID_MAX, &id))
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
    if (!keystore_number(arg, KEYSTORE_VERSION_MAX, &version))
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
        !keystore_number(arg + sizeof hex, KEYSTORE_VERSION_MAX, &version))
        return NULL;
    if (d->count && d->keys[d->count - 1].version == version)
        return &d->keys[d->count - 1];
    if (d->count == KEYSET_VERSIONS_MAX)
        return NULL;
    d->keys[d->count].version = (uint32_t)version;
    return &d->keys[d->count++];
}

static struct keystore_backup *backup_section(struct keystore *ks, const char *arg)
{
    uint64_t id;
    if (!keystore_number(arg, KEYSTORE_VERSION_MAX, &id))
        return NULL;
    if (ks->backup_count && ks->backups[ks->backup_count - 1].id == id)
        return &ks->backups[ks->backup_count - 1];
    if (ks->backup_count == KEYSTORE_BACKUPS_MAX)
        return NULL;
    ks->backups[ks->backup_count].id = (uint32_t)id;
    return &ks->backups[ks->backup_count++];
}

/* "<backup> <id>": needs stand behind their backup. */
static struct keystore_need *need_section(struct keystore *ks, const char *arg)
{
    char number[20];
    uint8_t pd[ID_BYTES];
    uint64_t id;
    const char *space = strchr(arg, ' ');
    if (!space || (size_t)(space - arg) >= sizeof number || ks->backup_count == 0)
        return NULL;
    memcpy(number, arg, (size_t)(space - arg));
    number[space - arg] = '\0';
    struct keystore_backup *b = &ks->backups[ks->backup_count - 1];
    if (!keystore_number(number, KEYSTORE_VERSION_MAX, &id) || b->id != id || !id_from_hex(space + 1, pd))
        return NULL;
    struct keystore_need *last = b->need_count ? &b->needs[b->need_count - 1] : NULL;
    if (last && memcmp(last->pd, pd, ID_BYTES) == 0)
        return last;
    struct keystore_need *n = keystore_add_need(ks, b);
    if (n)
        memcpy(n->pd, pd, ID_BYTES);
    return n;
}

static void *section_struct(struct keystore *ks, enum keystore_section s, const char *arg)
{
    switch (s) {
    case SEC_SLOT:
        return slot_section(ks, arg);
    case SEC_MASTER:
        return master_section(ks, arg);
    case SEC_DIR:
        return dir_section(ks, arg);
    case SEC_KEY:
        return key_section(ks, arg);
    case SEC_BACKUP:
        return backup_section(ks, arg);
    case SEC_NEED:
        return need_section(ks, arg);
    default:
        return ks;
    }
}

static void *find_section(struct keystore *ks, const char *section, enum keystore_section *s)
{
    static const char *const names[SEC_COUNT] = {
        [SEC_VOLUME] = "volume",   [SEC_SLOT] = "slot ", [SEC_MASTER] = "master ",
        [SEC_JOURNAL] = "journal", [SEC_DIR] = "dir ",   [SEC_KEY] = "key ",
        [SEC_BACKUP] = "backup ",  [SEC_NEED] = "need ", [SEC_SIGNATURE] = "signature",
    };
    for (int i = 0; i < SEC_COUNT; i++) {
        size_t n = strlen(names[i]);
        bool takes_arg = names[i][n - 1] == ' ';
        if (strncmp(section, names[i], n) != 0 || (!takes_arg && section[n]))
            continue;
        *s = (enum keystore_section)i;
        return section_struct(ks, *s, section + n);
    }
    return NULL;
}

static int on_field(void *arg, const char *section, const char *name, const char *value)
{
    enum keystore_section s;
    void *into = find_section(arg, section, &s);
    return into && keystore_set(s, into, name, value);
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
    for (uint32_t i = 0; i < ks->dir_count; i++)
        ks->dirs[i].named = !sodium_is_zero(ks->dirs[i].label_wrapped, KEYSTORE_NAME_WRAPPED_BYTES);
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
    const char *at = len <= KEYSTORE_MAX_BYTES ? find_signature(ini, len) : NULL;
    char value[KEYSTORE_LINE_MAX];
    size_t lead = sizeof "[signature]\ned25519.1 = " - 1, n = at ? len - (size_t)(at - ini) : 0;
    if (n <= lead + 1 || n - lead - 1 >= sizeof value)
        return false;
    memcpy(value, at + lead, n - lead - 1);
    value[n - lead - 1] = '\0';
    if (!keystore_set(SEC_SIGNATURE, &sig, "ed25519.1", value))
        return false;
    return crypto_sign_verify_detached(sig.signature, (const uint8_t *)ini, (size_t)(at - ini),
                                       signing_public) == 0;
}
