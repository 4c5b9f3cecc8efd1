#include "fresh_slot.h"

#include "cli.h"
#include "command_slot.h"
#include "identity.h"
#include "keyd_conn.h"

#include "latchfs/buf.h"

#include <stdio.h>
#include <string.h>

bool fresh_given(const struct fresh_source *s)
{
    return s->recovery || s->recipient || s->command || cred_source_given(&s->from);
}

int fresh_check(const struct fresh_source *s)
{
    int kinds = s->recovery + !!s->recipient + !!s->command + cred_source_given(&s->from);
    if (kinds > 1)
        return cli_fail(LFS_EXIT_USAGE, "give one kind of new slot, not several");
    if (s->command_args && s->command_args[0] && !s->command)
        return cli_fail(LFS_EXIT_USAGE, "arguments behind -- are for the command of a new command slot");
    if (command_seconds(s->command_timeout) < 0)
        return cli_fail(LFS_EXIT_USAGE, "--command-timeout wants 1 to %d seconds", COMMAND_SECONDS_MAX);
    return cred_source_check(&s->from);
}

int label_check(const char *label)
{
    if (keystore_label_ok(label))
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_USAGE, "a label has 1 to %u of A-Z a-z 0-9 . _ @ + - and inner blanks",
                    KEYSTORE_LABEL_MAX);
}

/* ---- a command's ---- */

/* A blob that does not unwrap must never be kept: it would be found out when it is needed. */
static int check_unwrap(const struct fresh_source *s, const struct cred *c, struct command_why *why)
{
    AUTO_SECRET struct secret *back = NULL;
    int code =
        command_unwrap(s->command, c->blob, c->c.blob_len, command_seconds(s->command_timeout), &back, why);
    if (code != LFS_EXIT_OK || secret_equal(back, c->secret))
        return code;
    snprintf(why->text, sizeof why->text, "command %s unwraps other bytes than it wrapped", s->command);
    return LFS_EXIT_FAILURE;
}

static int load_command(const struct fresh_source *s, struct cred *out)
{
    struct command_why why = {0};
    int seconds = command_seconds(s->command_timeout);
    out->secret = secret_new_random(COMMAND_SECRET_BYTES);
    if (!out->secret)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    out->c = (struct credential){.type = CRED_COMMAND, .secret = out->secret};
    int code =
        command_wrap(s->command, s->command_args, seconds, out->secret, &out->blob, &out->c.blob_len, &why);
    if (code == LFS_EXIT_OK)
        code = check_unwrap(s, out, &why);
    if (code != LFS_EXIT_OK)
        return cli_fail(code, "%s; no slot was made", why.text);
    snprintf(out->command, sizeof out->command, "%s", s->command);
    out->c.command = out->command;
    out->c.blob = out->blob;
    return LFS_EXIT_OK;
}

/* ---- all of them ---- */

static int load_recipient(const struct fresh_source *s, struct cred *out)
{
    int code = recipient_read(s->recipient, out->public_key);
    if (code == LFS_EXIT_OK)
        out->c = (struct credential){.type = CRED_RECIPIENT, .public_key = out->public_key};
    return code;
}

int fresh_load(const struct fresh_source *s, const char *what, struct cred *out)
{
    if (s->command)
        return load_command(s, out);
    if (s->recipient)
        return load_recipient(s, out);
    if (s->recovery) {
        out->c = (struct credential){.type = CRED_RECOVERY};
        return LFS_EXIT_OK;
    }
    enum credential_type type;
    int code = passphrase_load(&s->from, what, true, &type, &out->secret);
    if (code == LFS_EXIT_OK)
        out->c = (struct credential){.type = type, .secret = out->secret};
    return code;
}
