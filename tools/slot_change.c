#include "slot_change.h"

#include "cli.h"
#include "keyd_conn.h"
#include "recovery.h"
#include "terminal.h"

#include "latchfs/buf.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

/* Whoever can write a volume can make slots for a recipient or a command, too. What tells his store from the
 * true one is the key that signs it. */
static void say_signing_key(const struct admin *a, const struct credential *c)
{
    char hex[2 * KEYSTORE_PUBLIC_BYTES + 1];
    if (c->type != CRED_RECIPIENT && c->type != CRED_COMMAND)
        return;
    sodium_bin2hex(hex, sizeof hex, a->v->ks->signing_public, KEYSTORE_PUBLIC_BYTES);
    printf("to open it where the volume was not seen before: --signing-key %s\n", hex);
}

/* A recovery key that nobody has must not stand in the key store: it is handed out first. */
static int make_with(struct admin *a, const struct fresh_source *fresh, unsigned slot,
                     const struct credential *c, int recovery_fd)
{
    AUTO_CHANGE struct admin_change change = {0};
    struct key_edit e = {.op = slot ? EDIT_SLOT_REPLACE : EDIT_SLOT_ADD,
                         .number = slot,
                         .fast_kdf = fresh->fast_kdf,
                         .label = fresh->label,
                         .fresh = *c};
    int code = admin_ask(a, &e, &change);
    if (code == LFS_EXIT_OK && fresh->recovery)
        code = recovery_hand_out(fresh->recovery_out, recovery_fd, change.result.recovery);
    if (code == LFS_EXIT_OK)
        code = admin_put(a, &change);
    if (code != LFS_EXIT_OK)
        return code;
    printf("slot %u %s\n", change.result.number, slot ? "replaced" : "added");
    say_signing_key(a, c);
    return LFS_EXIT_OK;
}

static int load_fresh(struct admin *a, const struct fresh_source *fresh, struct cred *out)
{
    if (fresh_given(fresh) && !fresh->command)
        return fresh_load(fresh, "for the new slot", out);
    admin_pause(a); /* a person, or a server far away: latch-keyd does not wait for those */
    int code = fresh_load(fresh, "for the new slot", out);
    return code == LFS_EXIT_OK ? admin_resume(a) : code;
}

int slot_make(struct admin *a, const struct fresh_source *fresh, unsigned slot)
{
    AUTO_CRED struct cred c = {0};
    AUTO_CLOSE int recovery_fd = -1;
    int code = load_fresh(a, fresh, &c);
    if (code == LFS_EXIT_OK && fresh->recovery)
        code = recovery_prepare(fresh->recovery_out, &recovery_fd);
    if (code != LFS_EXIT_OK)
        return code;
    code = make_with(a, fresh, slot, &c.c, recovery_fd);
    if (code != LFS_EXIT_OK)
        recovery_abandon(fresh->recovery_out, recovery_fd);
    return code;
}

/* ---- remove, label ---- */

static int may_remove_last(struct admin *a)
{
    AUTO_CLOSE int tty = terminal_open();
    char answer[8];
    if (tty < 0)
        return cli_fail(LFS_EXIT_USAGE, "this is the last slot: without it nothing opens the volume any "
                                        "more; --force removes it");
    admin_pause(a);
    ssize_t n = terminal_ask(tty,
                             "This is the last slot. Without it nothing opens the volume any more.\n"
                             "Type yes to remove it: ",
                             answer, sizeof answer);
    if (n != 3 || memcmp(answer, "yes", 3) != 0)
        return cli_fail(LFS_EXIT_USAGE, "the slot stays");
    return admin_resume(a);
}

int slot_remove(struct admin *a, unsigned slot, bool force)
{
    struct key_edit e = {.op = EDIT_SLOT_REMOVE, .number = slot, .force = force};
    int code = LFS_EXIT_OK;
    if (a->v->ks->slot_count == 1 && !force) {
        code = may_remove_last(a);
        e.force = true;
    }
    if (code == LFS_EXIT_OK)
        code = admin_edit(a, &e, NULL);
    if (code == LFS_EXIT_OK)
        printf("slot %u removed\n", slot);
    return code;
}

int slot_label(struct admin *a, unsigned slot, const char *label)
{
    struct key_edit e = {.op = EDIT_SLOT_LABEL, .number = slot, .label = label};
    int code = admin_edit(a, &e, NULL);
    if (code == LFS_EXIT_OK)
        printf("slot %u %s\n", slot, label[0] ? "labelled" : "has no label any more");
    return code;
}
