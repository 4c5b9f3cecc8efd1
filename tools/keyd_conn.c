#include "keyd_conn.h"

#include "cli.h"
#include "json_read.h"

#include "latchfs/buf.h"
#include "latchfs/keystore.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

bool keyd_conn_is_absent(int err)
{
    return err == -ENOENT || err == -ECONNREFUSED || err == -ENOTCONN;
}

int keyd_conn_open(bool start, struct keyclient **out)
{
    char program[PATH_MAX];
    bool found = start && cli_program("latch-keyd", "keyd", program, sizeof program) == 0;
    struct keyclient_options o = {.keyd_path = found ? program : NULL};
    int r = keyclient_connect(&o, out);
    if (r == 0)
        return LFS_EXIT_OK;
    const char *why = keyclient_connect_message();
    if (why[0])
        return cli_fail(lfs_exit_code(r), "latch-keyd: %s", why);
    if (keyd_conn_is_absent(r) && !start)
        return cli_fail(LFS_EXIT_NOKEY, "latch-keyd is not running");
    if (keyd_conn_is_absent(r) && !found)
        return cli_fail(LFS_EXIT_FAILURE, "latch-keyd is not running, and its program was not found");
    return cli_fail_err(r, "latch-keyd", "see latch-keyd(8)");
}

static const char *hint_for(int err)
{
    switch (err) {
    case LFS_ERR_PASSPHRASE:
        return "check the passphrase or key; 'latch slot list' shows the slots";
    case LFS_ERR_ROLLBACK:
        return "if " KEYSTORE_NAME " was restored from a backup, see 'latch help unlock'";
    case LFS_ERR_NOKEY:
        return "unlock it with 'latch unlock'";
    case -ENOTCONN:
        return "latch-keyd ended the connection";
    default:
        return NULL;
    }
}

int keyd_conn_fail(const struct keyclient *kc, int err, const char *what)
{
    const char *words = keyclient_message(kc);
    char quoted[PATH_MAX];
    if (!words[0])
        return cli_fail_err(err, what, hint_for(err));
    const char *more = err == LFS_ERR_ROLLBACK ? "; if you know why it is older, see 'latch help unlock'"
                       : err == LFS_ERR_APPROVAL
                           ? "; others sign it with 'latch approve sign ID', then run the same "
                             "command again"
                           : "";
    return cli_fail(lfs_exit_code(err), "%s: %s%s", cli_quote(what, quoted, sizeof quoted), words, more);
}

struct json_value keyd_status_volume(const char *status, const uint8_t volume_id[static ID_BYTES])
{
    struct json_value volumes = json_read_get(json_read(status, strlen(status)), "volumes");
    char want[2 * ID_BYTES + 1], id[2 * ID_BYTES + 1];
    id_to_hex(volume_id, want);
    for (struct json_value v = json_read_next(volumes, (struct json_value){0}); json_value_there(v);
         v = json_read_next(volumes, v))
        if (strcmp(json_value_string(json_read_get(v, "id"), id, sizeof id), want) == 0)
            return v;
    return (struct json_value){0};
}

int keyd_conn_is_unlocked(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], bool *unlocked)
{
    AUTO_FREE char *text = NULL;
    int r = keyclient_status(kc, &text);
    if (!r)
        *unlocked = json_value_is_true(json_read_get(keyd_status_volume(text, volume_id), "unlocked"));
    return r;
}
