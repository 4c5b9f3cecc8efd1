/* latch lock, latch unlock. */
#include "cli.h"
#include "keyd_conn.h"
#include "unlock.h"

#include "latchfs/mountctl.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int run_lock(int argc, char **argv)
{
    static const struct option options[] = {{0}};
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    AUTO_VOLUME struct volume_files v = {.dirfd = -1};
    char quoted[PATH_MAX];
    unsigned held = 0;
    int c = getopt_long(argc, argv, ":", options, NULL);
    if (c != -1)
        return cli_bad_option(&cmd_lock, c, argv);
    int code = cli_want_args(&cmd_lock, argc, 1, 1);
    if (code == LFS_EXIT_OK)
        code = volume_files_open(argv[optind], &v);
    if (code == LFS_EXIT_OK)
        code = keyd_conn_open(false, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_lock(kc, v.ks->volume_id, &held);
    if (r)
        return keyd_conn_fail(kc, r, v.path);
    cli_quote(v.path, quoted, sizeof quoted);
    if (held)
        printf("%s: locked; %u mount%s had files open, whose programs keep what they read\n", quoted, held,
               held == 1 ? "" : "s");
    else
        printf("%s: locked\n", quoted);
    return LFS_EXIT_OK;
}

const struct command cmd_lock = {
    .name = "lock",
    .synopsis = "VOLUME",
    .summary = "take the keys from latch-keyd and from the mounts of a volume",
    .help =
        "What was written before reaches the disk. The mounts stay and answer 'Required key not available'\n"
        "until 'latch unlock'.\n",
    .run = run_lock,
};

/* ---- unlock ---- */

#define MOUNTS_WAIT_MS 3000
#define MOUNTS_POLL_MS 20

static int is_locked_mount(const char *socket_path, const struct mount_status *st, void *volume_id)
{
    (void)socket_path;
    return st->locked && memcmp(st->volume_id, volume_id, ID_BYTES) == 0;
}

/* latch-keyd tells the mounts and does not wait for them; a script that goes on to use one must not find it
 * locked. False if one stays so. */
static bool wait_for_mounts(uint8_t volume_id[static ID_BYTES])
{
    const struct timespec pause = {.tv_nsec = MOUNTS_POLL_MS * 1000000};
    for (int waited = 0; waited < MOUNTS_WAIT_MS; waited += MOUNTS_POLL_MS) {
        if (mountctl_each(is_locked_mount, volume_id) <= 0)
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

static int run_unlock(int argc, char **argv)
{
    enum { OPT_OLDER = OPT_NEXT };
    static const struct option options[] = {
        OPENING_OPTIONS,
        {"accept-older", no_argument, NULL, OPT_OLDER},
        {0},
    };
    struct cred_source source = {0};
    AUTO_VOLUME struct volume_files v = {.dirfd = -1};
    char quoted[PATH_MAX];
    bool older = false;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == OPT_OLDER)
            older = true;
        else if (!cred_source_option(&source, c, optarg))
            return cli_bad_option(&cmd_unlock, c, argv);
    }
    int code = cli_want_args(&cmd_unlock, argc, 1, 1);
    if (code == LFS_EXIT_OK)
        code = volume_files_open(argv[optind], &v);
    if (code == LFS_EXIT_OK)
        code = volume_unlock_with(&v, &source, older);
    if (code == LFS_EXIT_OK)
        printf("%s: unlocked%s\n", cli_quote(v.path, quoted, sizeof quoted),
               wait_for_mounts(v.ks->volume_id) ? "" : "; a mount of it is still locked, see 'latch status'");
    return code;
}

const struct command cmd_unlock = {
    .name = "unlock",
    .synopsis = "[OPTION]... VOLUME",
    .summary = "give latch-keyd the keys of a volume, and its mounts with it",
    .help = OPENING_HELP "\n"
                         "  --accept-older            take a " KEYSTORE_NAME
                         " older than the one last seen (a restored backup)\n",
    .run = run_unlock,
};
