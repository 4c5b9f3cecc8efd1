#include "admin.h"

#include "cli.h"
#include "keyd_conn.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/file.h>

void admin_pause(struct admin *a)
{
    keyclient_freep(&a->kc);
    if (a->v && a->v->dirfd >= 0)
        flock(a->v->dirfd, LOCK_UN);
}

void admin_clear(struct admin *a)
{
    admin_pause(a);
    cred_clear(&a->cred);
}

void admin_change_clear(struct admin_change *c)
{
    free(c->ini);
    key_edit_result_clear(&c->result);
    *c = (struct admin_change){0};
}

/* latch-keyd does not wait for people: the connection comes after the secret, and one is made for each try.
 */
static int begin_session(struct admin *a, bool last, bool *again)
{
    struct volume_files *v = a->v;
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    int code = keyd_conn_open(true, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_admin(kc, v->ini, v->ini_len, &a->cred.c, false, &a->slot_id);
    *again = r == LFS_ERR_PASSPHRASE && !last;
    if (r)
        return keyd_conn_fail(kc, r, v->path);
    cred_say_first(&a->cred, v, kc);
    a->kc = kc;
    kc = NULL;
    return LFS_EXIT_OK;
}

int admin_begin(struct volume_files *v, const struct cred_source *source, struct admin *a)
{
    *a = (struct admin){.v = v};
    bool again = true;
    int code = LFS_EXIT_OK;
    for (int left = cred_tries(source); again && left > 0; left--) {
        again = false;
        cred_clear(&a->cred);
        code = cred_open(source, v, &a->cred);
        if (code == LFS_EXIT_OK)
            code = volume_files_lock(v);
        if (code == LFS_EXIT_OK)
            code = begin_session(a, left == 1, &again);
        if (code != LFS_EXIT_OK)
            admin_pause(a); /* nobody else need wait while a person types */
    }
    return code;
}

int admin_resume(struct admin *a)
{
    bool again;
    int code = volume_files_lock(a->v);
    if (code == LFS_EXIT_OK)
        code = begin_session(a, true, &again);
    if (code != LFS_EXIT_OK)
        admin_pause(a);
    return code;
}

int admin_ask(struct admin *a, const struct key_edit *e, struct admin_change *out)
{
    int r = keyclient_edit(a->kc, e, &out->ini, &out->len, &out->result);
    return r ? keyd_conn_fail(a->kc, r, a->v->path) : LFS_EXIT_OK;
}

/* The change is made and durable; only latch-keyd has not taken note. It does so the next time that it opens
 * these bytes. */
static int pin_fail(const struct admin *a, int err)
{
    const char *words = keyclient_message(a->kc);
    char quoted[PATH_MAX];
    return cli_fail(lfs_exit_code(err),
                    "%s: " KEYSTORE_NAME " has the change, but latch-keyd did not take it up (%s); 'latch "
                    "unlock' makes it do so",
                    cli_quote(a->v->path, quoted, sizeof quoted), words[0] ? words : lfs_strerror(err));
}

int admin_put(struct admin *a, const struct admin_change *c)
{
    int code = volume_files_replace(a->v, c->ini, c->len);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_pin(a->kc, a->v->ini, a->v->ini_len);
    return r ? pin_fail(a, r) : LFS_EXIT_OK;
}

int admin_edit(struct admin *a, const struct key_edit *e, struct key_edit_result *out)
{
    AUTO_CHANGE struct admin_change change = {0};
    int code = admin_ask(a, e, &change);
    if (code == LFS_EXIT_OK)
        code = admin_put(a, &change);
    if (code == LFS_EXIT_OK && out) {
        *out = change.result;
        change.result = (struct key_edit_result){0};
    }
    return code;
}
