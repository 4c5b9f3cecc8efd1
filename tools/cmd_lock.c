/* latch lock, latch unlock. */
#include "cli.h"
#include "keyd_conn.h"
#include "unlock.h"

#include "latchfs/err.h"
#include "latchfs/mountctl.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MOUNTS_WAIT_MS 3000
#define LOCK_WAIT_MS 40000 /* a mount whose latch-keyd ended looks for another every 30 s at the longest */
#define MOUNTS_POLL_MS 50

struct wanted {
    const uint8_t *volume_id;
    bool locked;
};

static int is_wanted(const char *socket_path, const struct mount_status *st, void *arg)
{
    const struct wanted *w = arg;
    (void)socket_path;
    return st->locked == w->locked && memcmp(st->volume_id, w->volume_id, ID_BYTES) == 0;
}

/* True if a mount of the volume is locked, or is not. */
static bool any_mount(const uint8_t *volume_id, bool locked)
{
    struct wanted w = {volume_id, locked};
    return mountctl_each(is_wanted, &w) > 0;
}

static void pause_ms(int ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* latch-keyd tells the mounts and does not wait for them; a script that goes on to use one must not find it
 * locked. False if one stays so. */
static bool wait_for_mounts(const uint8_t volume_id[static ID_BYTES])
{
    for (int waited = 0; waited < MOUNTS_WAIT_MS; waited += MOUNTS_POLL_MS) {
        if (!any_mount(volume_id, true))
            return true;
        pause_ms(MOUNTS_POLL_MS);
    }
    return false;
}

/* A mount may hold keys from a latch-keyd that has ended, and not know the present one yet. So the mounts are
 * asked afterwards, and the lock is repeated until none has keys. */
static int lock_all(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], unsigned *held)
{
    int r = keyclient_lock(kc, volume_id, held);
    for (int waited = 0; (!r || r == LFS_ERR_NOKEY) && any_mount(volume_id, false); waited += 500) {
        if (waited >= LOCK_WAIT_MS)
            return LFS_ERR_TIMEOUT;
        pause_ms(500);
        r = keyclient_lock(kc, volume_id, held);
        if (r == LFS_ERR_NOKEY && !any_mount(volume_id, false))
            return 0;
    }
    return r;
}

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
        code = keyd_conn_open(any_mount(v.ks->volume_id, false), &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = lock_all(kc, v.ks->volume_id, &held);
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
