#include "unlock.h"

#include "cli.h"
#include "cred.h"
#include "keyd_conn.h"

/* A connection of its own for each try: latch-keyd does not wait for people. */
static int try_unlock(const struct volume_files *v, const struct cred_source *source, bool accept_older,
                      bool last, bool *again)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    AUTO_CRED struct cred cred = {0};
    uint8_t id[ID_BYTES];
    int code = cred_open(source, v, &cred);
    if (code == LFS_EXIT_OK)
        code = keyd_conn_open(true, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_unlock(kc, v->ini, v->ini_len, &cred.c, accept_older, id, NULL);
    *again = r == LFS_ERR_PASSPHRASE && !last;
    if (r)
        return keyd_conn_fail(kc, r, v->path);
    cred_say_first(&cred, v, kc);
    return LFS_EXIT_OK;
}

int volume_unlock_with(const struct volume_files *v, const struct cred_source *source, bool accept_older)
{
    int tries = cred_tries(source), code;
    bool again;
    do {
        again = false;
        code = try_unlock(v, source, accept_older, --tries == 0, &again);
    } while (again);
    return code;
}

int volume_is_unlocked(const struct volume_files *v, bool *unlocked)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    int code = keyd_conn_open(true, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyd_conn_is_unlocked(kc, v->ks->volume_id, unlocked);
    return r ? keyd_conn_fail(kc, r, v->path) : LFS_EXIT_OK;
}
