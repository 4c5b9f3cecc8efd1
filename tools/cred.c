#include "cred.h"

#include "cli.h"
#include "command_slot.h"
#include "identity.h"
#include "keyd_conn.h"

#include "latchfs/buf.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 3 /* of a typed passphrase */

void cred_clear(struct cred *c)
{
    secret_free(c->secret);
    free(c->blob);
    *c = (struct cred){0};
}

int cred_tries(const struct cred_source *s)
{
    return (cred_source_given(s) && !s->recovery) || s->slot ? 1 : TRIES;
}

/* ---- options that say more ---- */

static int take_signing_key(const char *hex, const struct volume_files *v, struct cred *out)
{
    char quoted[PATH_MAX];
    size_t n;
    if (sodium_hex2bin(out->signing_public, sizeof out->signing_public, hex, strlen(hex), NULL, &n, NULL) ||
        n != sizeof out->signing_public)
        return cli_fail(LFS_EXIT_USAGE, "--signing-key wants 64 hex digits; 'latch inspect' shows them");
    out->c.signing_public = out->signing_public;
    if (memcmp(v->ks->signing_public, out->signing_public, sizeof out->signing_public) == 0)
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_CORRUPT,
                    "%s: signed by another key than the one demanded: not that volume, or "
                    "not its key store",
                    cli_quote(v->path, quoted, sizeof quoted));
}

int cred_parse_slot(const char *text, const struct keystore *ks, unsigned *id)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (errno || *end || end == text || text[0] == '-' || n < 1 || n > KEYSTORE_SLOT_ID_MAX)
        return cli_fail(LFS_EXIT_USAGE, "a slot is named by its number; see 'latch slot list'");
    if (!keystore_slot(ks, (unsigned)n))
        return cli_fail(LFS_EXIT_USAGE, "there is no slot %lu; see 'latch slot list'", n);
    *id = (unsigned)n;
    return LFS_EXIT_OK;
}

static int take_slot(const char *text, const struct volume_files *v, struct cred *out)
{
    unsigned id;
    int code = cred_parse_slot(text, v->ks, &id);
    if (code != LFS_EXIT_OK)
        return code;
    if (keystore_slot(v->ks, id)->type != out->c.type)
        return cli_fail(LFS_EXIT_USAGE, "slot %u is of type %s; give the secret of that type", id,
                        keystore_slot_type_name(keystore_slot(v->ks, id)->type));
    out->c.slot = id;
    return LFS_EXIT_OK;
}

/* ---- commands ---- */

static bool is_meant(const struct cred_source *s, const struct keystore_slot *slot)
{
    char id[16];
    snprintf(id, sizeof id, "%u", slot->id);
    return slot->type == SLOT_COMMAND && (!s->slot || strcmp(s->slot, id) == 0) &&
           (!s->command || strcmp(s->command, slot->command) == 0);
}

static int none_meant(const struct cred_source *s, const struct volume_files *v)
{
    char path[PATH_MAX], name[128];
    cli_quote(v->path, path, sizeof path);
    if (!s->command)
        return cli_fail(LFS_EXIT_USAGE, "%s: there is no such command slot; see 'latch slot list'", path);
    return cli_fail(LFS_EXIT_USAGE, "%s: there is no slot of a command '%s'; see 'latch slot list'", path,
                    cli_quote(s->command, name, sizeof name));
}

/* The first of them whose program answers: one server or token of several may be out of reach. */
static int ask_commands(const struct cred_source *s, const struct volume_files *v, struct cred *out)
{
    struct command_why why = {0};
    char path[PATH_MAX];
    unsigned tried = 0;
    int seconds = command_seconds(s->command_timeout);
    if (seconds < 0)
        return cli_fail(LFS_EXIT_USAGE, "--command-timeout wants 1 to %d seconds", COMMAND_SECONDS_MAX);
    for (uint32_t i = 0; i < v->ks->slot_count; i++) {
        const struct keystore_slot *slot = &v->ks->slots[i];
        if (!is_meant(s, slot))
            continue;
        tried++;
        if (command_unwrap(slot->command, slot->blob, slot->blob_len, seconds, &out->secret, &why))
            continue;
        out->c = (struct credential){.type = CRED_COMMAND, .secret = out->secret, .slot = slot->id};
        return LFS_EXIT_OK;
    }
    if (!tried)
        return none_meant(s, v);
    return cli_fail(why.code, "%s: %s%s", cli_quote(v->path, path, sizeof path), why.text,
                    tried > 1 ? "; nor does another slot of a command open" : "");
}

/* ---- all of them ---- */

static int load(const struct cred_source *s, const struct volume_files *v, struct cred *out)
{
    if (s->command || s->any_command)
        return ask_commands(s, v, out);
    enum credential_type type = CRED_RECIPIENT;
    int code = s->identity ? identity_read(s->identity, &out->secret)
                           : passphrase_load(s, v->path, false, &type, &out->secret);
    if (code == LFS_EXIT_OK)
        out->c = (struct credential){.type = type, .secret = out->secret};
    return code == LFS_EXIT_OK && s->slot ? take_slot(s->slot, v, out) : code;
}

/* A slot that is named is opened as its type wants, where no option says otherwise. */
static int by_slot(const struct cred_source *s, const struct volume_files *v, struct cred_source *use)
{
    unsigned id;
    *use = *s;
    if (!s->slot)
        return LFS_EXIT_OK;
    int code = cred_parse_slot(s->slot, v->ks, &id);
    if (code != LFS_EXIT_OK || cred_source_given(s))
        return code;
    unsigned type = keystore_slot(v->ks, id)->type;
    use->any_command = type == SLOT_COMMAND;
    use->recovery = type == SLOT_RECOVERY;
    if (type == SLOT_KEYFILE || type == SLOT_RECIPIENT)
        return cli_fail(LFS_EXIT_USAGE, "slot %u needs %s FILE", id,
                        type == SLOT_KEYFILE ? "--keyfile" : "--identity");
    return LFS_EXIT_OK;
}

int cred_open(const struct cred_source *s, const struct volume_files *v, struct cred *out)
{
    struct cred_source use;
    int code = cred_source_check(s);
    if (code == LFS_EXIT_OK)
        code = by_slot(s, v, &use);
    /* Before any secret is asked for: the wrong volume is known without it. */
    if (code == LFS_EXIT_OK && s->signing_key)
        code = take_signing_key(s->signing_key, v, out);
    if (code == LFS_EXIT_OK)
        code = load(&use, v, out);
    if (code == LFS_EXIT_OK && s->signing_key)
        out->c.signing_public = out->signing_public;
    return code;
}

void cred_say_first(const struct cred *c, const struct volume_files *v, const struct keyclient *kc)
{
    char hex[2 * KEYSTORE_PUBLIC_BYTES + 1], quoted[PATH_MAX];
    if (c->c.type != CRED_RECIPIENT && c->c.type != CRED_COMMAND)
        return;
    if (c->c.signing_public || !keyclient_first_opening(kc))
        return;
    sodium_bin2hex(hex, sizeof hex, v->ks->signing_public, KEYSTORE_PUBLIC_BYTES);
    fprintf(stderr,
            "latch: %s: opened here for the first time; its signing key is %s: compare it with what the "
            "volume's administrator says\n",
            cli_quote(v->path, quoted, sizeof quoted), hex);
}
