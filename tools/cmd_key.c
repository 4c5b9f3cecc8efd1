/* latch key: the versions of a volume's keys and their states. */
#include "admin.h"
#include "cli.h"
#include "json_read.h"
#include "keyd_conn.h"
#include "rotate_job.h"
#include "target.h"

#include "latchfs/keyedit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct key_args {
    struct cred_source open;
    const char *dir;
    bool master, json;
};

/* ---- list ---- */

/* The names are sealed; latch-keyd tells them while the volume is unlocked. */
static char *ask_status(void)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    const struct keyclient_options o = {0};
    char *json = NULL;
    if (keyclient_connect(&o, &kc) == 0)
        keyclient_status(kc, &json);
    return json;
}

static void print_version(const char *what, uint32_t version, uint8_t state, uint64_t created,
                          uint32_t master)
{
    char day[32], by[32] = "";
    if (master)
        snprintf(by, sizeof by, "master %" PRIu32, master);
    printf("%-34s %8" PRIu32 "  %-13s %-20s %s\n", what, version, key_state_name(state),
           cli_time((long long)created, day, sizeof day), by);
}

static void print_dir(const struct keystore_dir *d, const char *name)
{
    char words[80];
    if (d->shredded)
        snprintf(words, sizeof words, "%s (shredded)", name);
    else
        snprintf(words, sizeof words, "%s%s", name, d->held ? " (held)" : "");
    for (uint32_t i = 0; i < d->count; i++)
        print_version(words, d->keys[i].version, d->keys[i].state, d->keys[i].created, d->keys[i].master);
    if (d->count && !d->shredded && keystore_active_dirkey(d)->version > d->least)
        printf("  a rotation of %s is under way: headers from version %" PRIu32 " on may be there\n",
               d->data_version == keystore_active_dirkey(d)->version ? "data" : "headers", d->least);
}

static void dir_words(const struct keystore *ks, const struct keystore_dir *d, const char *status,
                      char out[64])
{
    char hex[2 * ID_BYTES + 1], name[KEYSTORE_LABEL_MAX + 1] = "";
    id_to_hex(d->id, hex);
    if (status)
        json_value_string(
            json_read_get(target_status_dir(keyd_status_volume(status, ks->volume_id), d->id), "name"), name,
            sizeof name);
    if (memcmp(d->id, ks->root_id, ID_BYTES) == 0)
        snprintf(out, 64, "(root)");
    else
        snprintf(out, 64, "%s", name[0] ? name : hex);
}

static void json_versions(const struct keystore_dir *d)
{
    for (uint32_t i = 0; i < d->count; i++)
        printf("%s{\"version\":%" PRIu32 ",\"state\":\"%s\",\"created\":%" PRIu64 ",\"master\":%" PRIu32 "}",
               i ? "," : "", d->keys[i].version, key_state_name(d->keys[i].state), d->keys[i].created,
               d->keys[i].master);
}

static void print_json(const struct keystore *ks, const char *status)
{
    char hex[2 * ID_BYTES + 1], words[64];
    id_to_hex(ks->volume_id, hex);
    printf("{\"volume\":\"%s\",\"generation\":%" PRIu64 ",\"environment\":\"%s\",\"masters\":[", hex,
           ks->generation, ks->environment);
    for (uint32_t i = 0; i < ks->master_count; i++)
        printf("%s{\"version\":%" PRIu32 ",\"state\":\"%s\",\"created\":%" PRIu64 "}", i ? "," : "",
               ks->masters[i].version, key_state_name(ks->masters[i].state), ks->masters[i].created);
    printf("],\"directories\":[");
    for (uint32_t i = 0; i < ks->dir_count; i++) {
        const struct keystore_dir *d = &ks->dirs[i];
        id_to_hex(d->id, hex);
        dir_words(ks, d, status, words);
        printf("%s{\"id\":\"%s\",\"name\":\"%s\",\"least\":%" PRIu32
               ",\"held\":%s,\"shredded\":%s,\"versions\":[",
               i ? "," : "", hex, words, d->least, d->held ? "true" : "false",
               d->shredded ? "true" : "false");
        json_versions(d);
        printf("]}");
    }
    puts("]}");
}

static int run_list(const struct key_args *a, struct target *t, char **argv)
{
    AUTO_FREE char *status = ask_status();
    const struct keystore *ks = t->v.ks;
    char words[64];
    (void)argv;
    if (a->json) {
        print_json(ks, status);
        return LFS_EXIT_OK;
    }
    printf("%-34s %8s  %-13s %-20s %s\n", "KEY", "VERSION", "STATE", "MADE", "WRAPPED BY");
    for (uint32_t i = 0; i < ks->master_count; i++)
        print_version("(master)", ks->masters[i].version, ks->masters[i].state, ks->masters[i].created, 0);
    for (uint32_t i = 0; i < ks->dir_count; i++) {
        dir_words(ks, &ks->dirs[i], status, words);
        print_dir(&ks->dirs[i], words);
    }
    return LFS_EXIT_OK;
}

/* ---- retire, destroy ---- */

static int parse_version(const char *text, uint32_t *version)
{
    char *end, quoted[64];
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (errno || *end || end == text || v < 1 || v > KEYSTORE_VERSION_MAX)
        return cli_fail(LFS_EXIT_USAGE, "'%s' is no version of a key; 'latch key list' shows them",
                        cli_quote(text, quoted, sizeof quoted));
    *version = (uint32_t)v;
    return LFS_EXIT_OK;
}

/* The key store's least version comes from the walk that ended the rotation. Files may have been put back
 * from a backup since, so before a key goes for good the tree is walked once more. */
static int check_unused(struct target *t, uint32_t version)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    const struct rotate_job look = {.job = MOUNT_JOB_SCAN, .what = "looking for headers"};
    struct rotate_progress p;
    int code = keyd_conn_open(false, &kc);
    if (code == LFS_EXIT_OK)
        code = rotate_job_run(t, kc, &look, &p);
    if (code != LFS_EXIT_OK)
        return code;
    if (p.files == 0 || p.least_found == 0 || p.least_found > version)
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_BUSY,
                    "not destroyed: a file still has a header of version %" PRIu32
                    "; 'latch rotate directory' rewraps it",
                    p.least_found);
}

static int check_retired(const struct target *t, uint32_t version)
{
    const struct keystore_dir *d = keystore_dir(t->v.ks, t->pd_id);
    const struct keystore_dirkey *k = d ? keystore_dirkey(d, version) : NULL;
    if (!k)
        return cli_fail(LFS_EXIT_USAGE, "there is no version %" PRIu32 "; 'latch key list' shows them",
                        version);
    if (k->state == KEY_RETIRED)
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_USAGE, "version %" PRIu32 " is %s: only a retired one can be destroyed%s",
                    version, key_state_name(k->state),
                    k->state == KEY_DESTROYED ? "" : "; 'latch rotate directory' retires older ones");
}

static int change(const struct key_args *a, struct target *t, enum key_edit_op op, const char *text)
{
    AUTO_ADMIN struct admin admin = {0};
    struct key_edit e = {.op = (uint8_t)op};
    memcpy(e.pd, t->pd_id, ID_BYTES);
    int code = parse_version(text, &e.number);
    if (code == LFS_EXIT_OK && op == EDIT_DIR_DESTROY)
        code = check_retired(t, e.number);
    if (code == LFS_EXIT_OK && op == EDIT_DIR_DESTROY)
        code = check_unused(t, e.number);
    if (code == LFS_EXIT_OK)
        code = admin_begin(&t->v, &a->open, &admin);
    if (code == LFS_EXIT_OK)
        code = admin_edit(&admin, &e, NULL);
    if (code == LFS_EXIT_OK && op != EDIT_MASTER_RETIRE)
        code = volume_files_drop_bak(&t->v);
    if (code == LFS_EXIT_OK)
        printf("%s key version %" PRIu32 " %s\n", a->master ? "master" : "directory", e.number,
               op == EDIT_MASTER_RETIRE ? "retired" : "destroyed");
    return code;
}

static int run_retire(const struct key_args *a, struct target *t, char **argv)
{
    if (!a->master)
        return cli_fail(LFS_EXIT_USAGE,
                        "versions of directory keys retire when 'latch rotate directory' ends; "
                        "--master retires one of the master key");
    return change(a, t, EDIT_MASTER_RETIRE, argv[0]);
}

static int run_destroy(const struct key_args *a, struct target *t, char **argv)
{
    return change(a, t, a->master ? EDIT_MASTER_DESTROY : EDIT_DIR_DESTROY, argv[0]);
}

/* latch-keyd tells the mounts and does not wait for them. */
static void wait_for_least(const struct target *t, uint32_t version)
{
    struct pd_status st;
    const struct timespec pause = {.tv_nsec = 20000000};
    for (int tries = 0; tries < 150; tries++) {
        if (!target_dir_in_mount(t, &st) || st.locked || st.least <= version)
            return;
        nanosleep(&pause, NULL);
    }
}

static int run_accept(const struct key_args *a, struct target *t, char **argv)
{
    AUTO_ADMIN struct admin admin = {0};
    struct key_edit e = {.op = EDIT_DIR_ACCEPT};
    memcpy(e.pd, t->pd_id, ID_BYTES);
    int code = parse_version(argv[0], &e.number);
    if (code == LFS_EXIT_OK)
        code = admin_begin(&t->v, &a->open, &admin);
    if (code == LFS_EXIT_OK)
        code = admin_edit(&admin, &e, NULL);
    if (code == LFS_EXIT_OK)
        wait_for_least(t, e.number);
    if (code == LFS_EXIT_OK)
        printf("headers from version %" PRIu32
               " on are taken until the next 'latch rotate directory' or 'data'\n",
               e.number);
    return code;
}

/* ---- labels ---- */

static int run_label(const struct key_args *a, struct target *t, enum key_edit_op op, const char *label)
{
    AUTO_ADMIN struct admin admin = {0};
    struct key_edit e = {.op = (uint8_t)op, .label = label};
    memcpy(e.pd, t->pd_id, ID_BYTES);
    if (label[0] && !keystore_label_ok(label))
        return cli_fail(LFS_EXIT_USAGE, "a name has 1 to %u of A-Z a-z 0-9 . _ @ + - and inner blanks",
                        KEYSTORE_LABEL_MAX);
    int code = admin_begin(&t->v, &a->open, &admin);
    return code == LFS_EXIT_OK ? admin_edit(&admin, &e, NULL) : code;
}

static int run_name(const struct key_args *a, struct target *t, char **argv)
{
    if (target_is_root(t))
        return cli_fail(LFS_EXIT_USAGE, "name which? give a path in a protected directory, or --dir");
    return run_label(a, t, EDIT_DIR_NAME, argv[0]);
}

static int run_environment(const struct key_args *a, struct target *t, char **argv)
{
    return run_label(a, t, EDIT_ENVIRONMENT, argv[0]);
}

/* ---- command line ---- */

static const struct verb {
    const char *name;
    int args; /* behind the path */
    int (*run)(const struct key_args *a, struct target *t, char **argv);
} verbs[] = {
    {"list", 0, run_list},     {"retire", 1, run_retire}, {"destroy", 1, run_destroy},
    {"accept", 1, run_accept}, {"name", 1, run_name},     {"environment", 1, run_environment},
};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; name && i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

static int run(int argc, char **argv)
{
    enum { OPT_DIR = OPT_NEXT, OPT_MASTER, OPT_JSON };
    static const struct option options[] = {
        OPENING_OPTIONS,
        {"dir", required_argument, NULL, OPT_DIR},
        {"master", no_argument, NULL, OPT_MASTER},
        {"json", no_argument, NULL, OPT_JSON},
        {0},
    };
    struct key_args a = {0};
    AUTO_TARGET struct target t = {.v.dirfd = -1};
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == OPT_DIR)
            a.dir = optarg;
        else if (c == OPT_MASTER)
            a.master = true;
        else if (c == OPT_JSON)
            a.json = true;
        else if (!cred_source_option(&a.open, c, optarg))
            return cli_bad_option(&cmd_key, c, argv);
    }
    const struct verb *verb = find_verb(argv[optind]);
    if (!verb || argc - optind - 2 != verb->args)
        return cli_fail(LFS_EXIT_USAGE, "usage: latch key %s", cmd_key.synopsis);
    if (a.master && a.dir)
        return cli_fail(LFS_EXIT_USAGE, "give --master or --dir, not both");
    int code = target_find(argv[optind + 1], &t);
    if (code == LFS_EXIT_OK && a.dir)
        code = target_choose(&t, a.dir);
    return code == LFS_EXIT_OK ? verb->run(&a, &t, argv + optind + 2) : code;
}

const struct command cmd_key = {
    .name = "key",
    .synopsis = "list|retire|destroy|accept|name|environment [OPTION]... VOLUME|PATH [VERSION|NAME]",
    .summary = "list key versions, retire and destroy them",
    .help =
        "  latch key list VOLUME                     versions, states, dates; needs no key. Names are shown "
        "while\n"
        "                                            the volume is unlocked\n"
        "  latch key retire --master VOLUME N        nothing new will be opened with it\n"
        "  latch key destroy [--master] PATH N       a retired version goes for good, unless something found "
        "or\n"
        "                                            a registered backup still needs it\n"
        "  latch key accept PATH N                   takes files with headers of version N again, which were "
        "put back\n"
        "                                            from a backup; the next rotation ends that\n"
        "  latch key name PATH NAME                  another name for a protected directory\n"
        "  latch key environment VOLUME NAME         a label such as production: a latch-keyd of another\n"
        "                                            environment refuses the volume; '' takes it away\n"
        "  --dir NAME|ID                             a protected directory, instead of a path in it\n"
        "  --json                                    list as one JSON object\n"
        "\n" OPENING_HELP,
    .run = run,
};
