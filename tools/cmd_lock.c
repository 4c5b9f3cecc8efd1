/* latch lock, latch unlock. */
#include "cli.h"
#include "keyd_conn.h"
#include "mount_table.h"
#include "target.h"
#include "unlock.h"

#include "latchfs/err.h"
#include "latchfs/mountctl.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One may be in the middle of a lock, which syncs, and looks for open files for seconds. */
#define MOUNTS_WAIT_MS 10000
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

/* True if the mount has keys of the directory. */
static bool dir_is_open(const struct target *t)
{
    struct pd_status st;
    return target_dir_in_mount(t, &st) && !st.locked;
}

struct locking {
    struct keyclient *kc;
    const uint8_t *volume_id;
    const struct target *dir; /* NULL: the whole volume */
    bool force;               /* of a directory */
    unsigned held;
};

static int ask_lock(struct locking *l)
{
    return l->dir ? keyclient_lock_dir(l->kc, l->volume_id, l->dir->pd_id, l->force, &l->held)
                  : keyclient_lock(l->kc, l->volume_id, &l->held);
}

static bool is_open_somewhere(const struct locking *l)
{
    return l->dir ? dir_is_open(l->dir) : any_mount(l->volume_id, false);
}

/* A mount may hold keys from a latch-keyd that has ended, and not know the present one yet. So the mounts are
 * asked afterwards, and the lock is repeated until none has keys. The present one may have none itself: that
 * is no error where a mount had some. */
static int lock_until_none(struct locking *l)
{
    bool was_open = is_open_somewhere(l);
    int r = ask_lock(l);
    for (int waited = 0; (!r || r == LFS_ERR_NOKEY) && is_open_somewhere(l); waited += 500) {
        if (waited >= LOCK_WAIT_MS)
            return LFS_ERR_TIMEOUT;
        was_open = true;
        pause_ms(500);
        r = ask_lock(l);
    }
    return r == LFS_ERR_NOKEY && was_open ? 0 : r;
}

/* Who has files open there; nothing is locked without --force, since their unsaved work would be lost. */
static int held_by(const char *path, unsigned held)
{
    char holders[2048], quoted[PATH_MAX];
    cli_quote(path, quoted, sizeof quoted);
    if (mount_holders(path, holders, sizeof holders))
        return cli_fail(LFS_EXIT_BUSY, "%s: not locked: %s; --force locks all the same", quoted, holders);
    return cli_fail(
        LFS_EXIT_BUSY,
        "%s: not locked: %u file%s open, of programs that you cannot see; --force locks all the same", quoted,
        held, held == 1 ? " is" : "s are");
}

struct open_files {
    const uint8_t *volume_id;
    uint64_t count;
    char mountpoint[PATH_MAX];
};

static int count_open(const char *socket_path, const struct mount_status *st, void *arg)
{
    struct open_files *o = arg;
    (void)socket_path;
    if (memcmp(st->volume_id, o->volume_id, ID_BYTES) != 0 || st->open_files == 0)
        return 0;
    o->count += st->open_files;
    snprintf(o->mountpoint, sizeof o->mountpoint, "%s", st->mountpoint);
    return 0;
}

static int lock_volume(const struct target *t, bool force)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    const uint8_t *id = t->v.ks->volume_id;
    struct open_files open = {.volume_id = id};
    char quoted[PATH_MAX];
    struct locking l = {.volume_id = id};
    mountctl_each(count_open, &open);
    if (open.count && !force)
        return held_by(open.mountpoint, (unsigned)open.count);
    int code = keyd_conn_open(any_mount(id, false), &kc);
    if (code != LFS_EXIT_OK)
        return code;
    l.kc = kc;
    int r = lock_until_none(&l);
    unsigned held = l.held;
    if (r)
        return keyd_conn_fail(kc, r, t->volume);
    cli_quote(t->path, quoted, sizeof quoted);
    if (held)
        printf("%s: locked; %u mount%s had files open, whose programs keep what they read\n", quoted, held,
               held == 1 ? "" : "s");
    else
        printf("%s: locked\n", quoted);
    return LFS_EXIT_OK;
}

static int lock_dir(struct target *t, bool force)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    char quoted[PATH_MAX];
    int code = keyd_conn_open(true, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    target_to_top(t);
    struct locking l = {.kc = kc, .volume_id = t->v.ks->volume_id, .dir = t, .force = force};
    int r = lock_until_none(&l);
    unsigned held = l.held;
    if (r == LFS_ERR_BUSY)
        return held_by(t->path, held);
    if (r)
        return keyd_conn_fail(kc, r, t->path);
    cli_quote(t->path, quoted, sizeof quoted);
    if (held)
        printf("%s: locked; %u file%s open, whose programs keep what they read\n", quoted, held,
               held == 1 ? " was" : "s were");
    else
        printf("%s: locked\n", quoted);
    return LFS_EXIT_OK;
}

/* VOLUMEID or VOLUMEID/DIRECTORYID, as 'latch status' shows them: for who may lock and not read the volume,
 * and for a volume whose latchfs.ini is gone. */
static bool parse_ids(const char *text, uint8_t volume_id[static ID_BYTES], uint8_t pd_id[static ID_BYTES],
                      bool *dir)
{
    char hex[2 * ID_BYTES + 1] = "";
    size_t n = strlen(text);
    *dir = n == 4 * ID_BYTES + 1 && text[2 * ID_BYTES] == '/';
    if (n != 2 * ID_BYTES && !*dir)
        return false;
    memcpy(hex, text, 2 * ID_BYTES);
    return id_from_hex(hex, volume_id) && (!*dir || id_from_hex(text + 2 * ID_BYTES + 1, pd_id));
}

static int lock_by_id(const char *text, bool force, bool *is_id)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    uint8_t volume_id[ID_BYTES], pd_id[ID_BYTES];
    struct locking l = {.volume_id = volume_id};
    unsigned held = 0;
    bool dir;
    *is_id = access(text, F_OK) != 0 && parse_ids(text, volume_id, pd_id, &dir);
    if (!*is_id)
        return LFS_EXIT_OK;
    int code = keyd_conn_open(false, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    l.kc = kc;
    int r = dir ? keyclient_lock_dir(kc, volume_id, pd_id, force, &held) : lock_until_none(&l);
    if (r == LFS_ERR_BUSY)
        return cli_fail(LFS_EXIT_BUSY, "%s: not locked: %u file%s open; --force locks all the same", text,
                        held, held == 1 ? " is" : "s are");
    if (r)
        return keyd_conn_fail(kc, r, text);
    printf("%s: locked\n", text);
    return LFS_EXIT_OK;
}

static int run_lock(int argc, char **argv)
{
    enum { OPT_FORCE = 1 };
    static const struct option options[] = {{"force", no_argument, NULL, OPT_FORCE}, {0}};
    AUTO_TARGET struct target t = {.v.dirfd = -1};
    bool force = false;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c != OPT_FORCE)
            return cli_bad_option(&cmd_lock, c, argv);
        force = true;
    }
    bool is_id = false;
    int code = cli_want_args(&cmd_lock, argc, 1, 1);
    if (code == LFS_EXIT_OK)
        code = lock_by_id(argv[optind], force, &is_id);
    if (is_id)
        return code;
    if (code == LFS_EXIT_OK)
        code = target_find(argv[optind], &t);
    if (code != LFS_EXIT_OK)
        return code;
    if (!target_is_root(&t))
        return lock_dir(&t, force);
    if (t.rel && *t.rel)
        return cli_fail(LFS_EXIT_USAGE,
                        "%s: not in a protected directory; lock the whole volume with its path",
                        argv[optind]);
    return lock_volume(&t, force);
}

const struct command cmd_lock = {
    .name = "lock",
    .synopsis = "[--force] VOLUME|PATH|VOLUMEID[/DIRECTORYID]",
    .summary = "take the keys of a volume, or of a protected directory, from its mounts",
    .help =
        "What was written before reaches the disk. The mounts stay and answer 'Required key not available'\n"
        "until 'latch unlock'. If programs have files open there, they are listed and nothing is locked.\n"
        "Ids, as 'latch status' shows them, serve who may not read the volume, or when its files are gone.\n"
        "  --force                   lock all the same: what they write later fails\n",
    .run = run_lock,
};

/* ---- unlock ---- */

/* False if the mount does not get the keys in time. */
static bool wait_for_dir(const struct target *t)
{
    for (int waited = 0; waited < MOUNTS_WAIT_MS; waited += MOUNTS_POLL_MS) {
        if (dir_is_open(t))
            return true;
        pause_ms(MOUNTS_POLL_MS);
    }
    return false;
}

static int unlock_dir(const struct target *t)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    char quoted[PATH_MAX];
    int code = keyd_conn_open(true, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_unlock_dir(kc, t->v.ks->volume_id, t->pd_id);
    if (r == LFS_ERR_NOKEY)
        return cli_fail(LFS_EXIT_NOKEY, "%s: the volume itself is locked; unlock %s first", t->path,
                        t->volume);
    if (r)
        return keyd_conn_fail(kc, r, t->path);
    cli_quote(t->path, quoted, sizeof quoted);
    if (!wait_for_dir(t))
        return cli_fail(LFS_EXIT_NOKEY,
                        "%s: still locked: the mount did not get the keys; see 'latch status'", quoted);
    printf("%s: unlocked\n", quoted);
    return LFS_EXIT_OK;
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
    AUTO_TARGET struct target t = {.v.dirfd = -1};
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
        code = target_find(argv[optind], &t);
    if (code != LFS_EXIT_OK)
        return code;
    if (!target_is_root(&t))
        return unlock_dir(&t);
    code = volume_unlock_with(&t.v, &source, older);
    if (code == LFS_EXIT_OK)
        printf("%s: unlocked%s\n", cli_quote(t.path, quoted, sizeof quoted),
               wait_for_mounts(t.v.ks->volume_id) ? ""
                                                  : "; a mount of it is still locked, see 'latch status'");
    return code;
}

const struct command cmd_unlock = {
    .name = "unlock",
    .synopsis = "[OPTION]... VOLUME|PATH",
    .summary = "give the keys of a volume, or of a protected directory, back to its mounts",
    .help = OPENING_HELP "\n"
                         "  --accept-older            take a " KEYSTORE_NAME
                         " older than the one last seen (a restored backup)\n",
    .run = run_unlock,
};
