/* latch rotate: new keys in place of old ones, while people work. */
#include "admin.h"
#include "cli.h"
#include "keyd_conn.h"
#include "rotate_job.h"
#include "target.h"

#include "latchfs/keyedit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rotate_args {
    struct cred_source open;
    const char *dir; /* --dir */
    uint64_t rate;
    bool json;
};

/* One line of a step that is done, for people or as JSON. */
static void say(const struct rotate_args *a, const char *what, const uint8_t *pd_id, uint32_t version)
{
    char hex[2 * ID_BYTES + 1] = "";
    if (pd_id)
        id_to_hex(pd_id, hex);
    if (a->json)
        printf("{\"act\":\"%s\",\"directory\":%s%s%s,\"version\":%" PRIu32 ",\"done\":true}\n", what,
               pd_id ? "\"" : "", pd_id ? hex : "null", pd_id ? "\"" : "", version);
    else
        printf("%s%s%s: version %" PRIu32 " is active\n", what, pd_id ? " " : "", hex, version);
    fflush(stdout);
}

/* ---- master ---- */

static int rotate_master(const struct rotate_args *a, struct admin *admin)
{
    CLEANUP(key_edit_result_clear) struct key_edit_result made = {0};
    int code = admin_edit(admin, &(struct key_edit){.op = EDIT_MASTER_ROTATE}, &made);
    if (code == LFS_EXIT_OK)
        say(a, "master key", NULL, made.number);
    return code;
}

/* ---- directory, data ---- */

static struct key_edit edit_of(enum key_edit_op op, const struct target *t, uint32_t number)
{
    struct key_edit e = {.op = (uint8_t)op, .number = number};
    memcpy(e.pd, t->pd_id, ID_BYTES);
    return e;
}

/* The new version is in the key store: no mount may make a header below it any more before the walk begins,
 * or the walk would prove nothing. */
static int wait_for_mounts(struct target *t, struct admin *admin, uint32_t version)
{
    int r = keyclient_wait_rekeyed(admin->kc, t->v.ks->volume_id, t->pd_id, version);
    if (r == LFS_ERR_TIMEOUT)
        return cli_fail(LFS_EXIT_BUSY,
                        "%s: a mount did not take the new key in time; run the same command again",
                        t->volume);
    return r ? keyd_conn_fail(admin->kc, r, t->volume) : LFS_EXIT_OK;
}

/* Not mounted, this process walks with a lease of its own: better refused before anything is changed. */
static int check_lease(struct target *t)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    CLEANUP(keyset_freep) struct keyset *set = NULL;
    unsigned lease_s;
    int code = t->mounted ? LFS_EXIT_OK : keyd_conn_open(false, &kc);
    if (code != LFS_EXIT_OK || t->mounted)
        return code;
    int r = keyclient_lease(kc, t->v.ks->volume_id, t->pd_id, &set, &lease_s);
    return r ? keyd_conn_fail(kc, r, t->volume) : LFS_EXIT_OK;
}

static int rotate_dir(const struct rotate_args *a, struct target *t, struct admin *admin, bool data)
{
    CLEANUP(key_edit_result_clear) struct key_edit_result made = {0};
    struct rotate_job job = {.job = data ? MOUNT_JOB_REENCRYPT : MOUNT_JOB_REWRAP,
                             .bytes_per_second = a->rate,
                             .json = a->json,
                             .what = data ? "re-encrypting" : "rewrapping"};
    struct rotate_progress progress;
    struct key_edit begin = edit_of(EDIT_DIR_ROTATE, t, data);
    int code = check_lease(t);
    if (code == LFS_EXIT_OK)
        code = admin_edit(admin, &begin, &made);
    if (code == LFS_EXIT_OK)
        code = wait_for_mounts(t, admin, made.number);
    if (code != LFS_EXIT_OK)
        return code;
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    code = keyd_conn_open(false, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    admin_pause(admin);
    job.version = made.number;
    code = rotate_job_run(t, kc, &job, &progress);
    /* What the walk has seen must be what the key store will say. */
    if (code == LFS_EXIT_OK && progress.least_found && progress.least_found < made.number)
        code = cli_fail(LFS_EXIT_BUSY,
                        "%s: the mount does not have the new key yet; run the same command again", t->volume);
    if (code == LFS_EXIT_OK)
        code = admin_resume(admin);
    if (code != LFS_EXIT_OK)
        return code;
    struct key_edit finish = edit_of(EDIT_DIR_FINISH, t, made.number);
    code = admin_edit(admin, &finish, NULL);
    if (code == LFS_EXIT_OK)
        say(a, data ? "data of directory" : "directory", t->pd_id, made.number);
    return code;
}

/* ---- all ---- */

/* The list is taken first: the store changes under way. */
static int rotate_all(const struct rotate_args *a, struct target *t, struct admin *admin)
{
    uint8_t ids[KEYSTORE_DIRS_MAX][ID_BYTES];
    uint32_t count = 0;
    int code = rotate_master(a, admin);
    for (uint32_t i = 0; i < t->v.ks->dir_count; i++)
        if (!t->v.ks->dirs[i].shredded)
            memcpy(ids[count++], t->v.ks->dirs[i].id, ID_BYTES);
    for (uint32_t i = 0; i < count && code == LFS_EXIT_OK; i++) {
        memcpy(t->pd_id, ids[i], ID_BYTES);
        code = rotate_dir(a, t, admin, true);
    }
    return code;
}

/* ---- command line ---- */

enum what { WHAT_SLOT, WHAT_MASTER, WHAT_DIRECTORY, WHAT_DATA, WHAT_ALL, WHATS };
static const char *const names[WHATS] = {"slot", "master", "directory", "data", "all"};

static enum what find_what(const char *name)
{
    enum what w = 0;
    while (w < WHATS && strcmp(names[w], name) != 0)
        w++;
    return w;
}

static int rotate(const struct rotate_args *a, enum what what, struct target *t)
{
    AUTO_ADMIN struct admin admin = {0};
    char quoted[PATH_MAX];
    if (what != WHAT_MASTER && volume_files_is_view(&t->v))
        return cli_fail(
            LFS_EXIT_USAGE,
            "%s: the key store of a view, which has no files to rewrap; 'latch view --init' makes a new one "
            "with new keys for everything",
            cli_quote(t->path, quoted, sizeof quoted));
    int code = admin_begin(&t->v, &a->open, &admin);
    if (code != LFS_EXIT_OK)
        return code;
    switch (what) {
    case WHAT_MASTER:
        return rotate_master(a, &admin);
    case WHAT_DIRECTORY:
    case WHAT_DATA:
        return rotate_dir(a, t, &admin, what == WHAT_DATA);
    default:
        return rotate_all(a, t, &admin);
    }
}

static int run(int argc, char **argv)
{
    enum { OPT_DIR = OPT_NEXT, OPT_RATE, OPT_JSON };
    static const struct option options[] = {
        OPENING_OPTIONS,
        {"dir", required_argument, NULL, OPT_DIR},
        {"limit-rate", required_argument, NULL, OPT_RATE},
        {"json", no_argument, NULL, OPT_JSON},
        {0},
    };
    struct rotate_args a = {0};
    AUTO_TARGET struct target t = {.v.dirfd = -1};
    if (argc > 1 && strcmp(argv[1], names[WHAT_SLOT]) == 0) { /* the same as slot replace */
        static char slot[] = "slot", replace[] = "replace";
        argv[0] = slot;
        argv[1] = replace;
        return cmd_slot.run(argc, argv);
    }
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == OPT_DIR)
            a.dir = optarg;
        else if (c == OPT_JSON)
            a.json = true;
        else if (c == OPT_RATE && !rate_parse(optarg, &a.rate))
            return cli_fail(LFS_EXIT_USAGE, "a rate is bytes a second, such as 500K, 20M or 1G");
        else if (c != OPT_RATE && !cred_source_option(&a.open, c, optarg))
            return cli_bad_option(&cmd_rotate, c, argv);
    }
    int code = cli_want_args(&cmd_rotate, argc, 2, 2);
    if (code != LFS_EXIT_OK)
        return code;
    enum what what = find_what(argv[optind]);
    if (what == WHATS)
        return cli_fail(LFS_EXIT_USAGE,
                        "rotate what? slot, master, directory, data or all; see 'latch help rotate'");
    code = target_find(argv[optind + 1], &t);
    if (code == LFS_EXIT_OK && a.dir)
        code = target_choose(&t, a.dir);
    return code == LFS_EXIT_OK ? rotate(&a, what, &t) : code;
}

const struct command cmd_rotate = {
    .name = "rotate",
    .synopsis = "slot|master|directory|data|all [OPTION]... VOLUME|PATH [SLOT]",
    .summary = "replace keys while people work",
    .help =
        "  latch rotate slot VOLUME SLOT     a new passphrase or token in a slot (as 'latch slot replace')\n"
        "  latch rotate master VOLUME        a new master key and key store key; one small file\n"
        "  latch rotate directory PATH       a new directory key; rewraps one header of each file\n"
        "  latch rotate data PATH            new file keys: encrypts every file anew\n"
        "  latch rotate all VOLUME           master, then the data of every protected directory\n"
        "PATH is in a mount, or a volume (then the directory of its root, or --dir). A command that was cut "
        "is\n"
        "run again and goes on. The volume must be unlocked for directory, data and all.\n"
        "  --dir NAME|ID             a protected directory of the volume\n"
        "  --limit-rate RATE         bytes a second: 500K, 20M, 1G\n"
        "  --json                    progress and results as JSON lines\n"
        "\n" OPENING_HELP,
    .run = run,
};
