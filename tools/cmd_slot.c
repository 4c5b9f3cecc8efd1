/* latch slot: the slots of a volume. Listing needs neither a key nor latch-keyd. */
#include "cli.h"
#include "keyd_conn.h"
#include "passphrase.h"
#include "recovery.h"
#include "volume_files.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct slot_args {
    struct cred_source open;  /* opens the volume */
    struct cred_source fresh; /* the new slot's secret */
    bool recovery;            /* the new slot is a recovery slot, its key made by latch-keyd ... */
    const char *recovery_out; /* ... and written there */
    const char *label;
    bool fast_kdf;
};

struct slot_verb {
    const char *name;
    int args; /* behind the options */
    int (*run)(const struct slot_args *a, struct volume_files *v, char **argv);
};

/* ---- list ---- */

static void print_kdf(const struct keystore_slot *s)
{
    if (s->type == SLOT_PASSPHRASE)
        printf("argon2id, %u passes, %u MiB%s", s->kdf_ops, s->kdf_kib / 1024,
               s->fast ? ", fast: for tests only" : "");
    else
        putchar('-');
}

static int run_list(const struct slot_args *a, struct volume_files *v, char **argv)
{
    printf("%-5s %-11s %-11s %-20s %s\n", "SLOT", "TYPE", "MADE", "LABEL", "KDF");
    for (uint32_t i = 0; i < v->ks->slot_count; i++) {
        const struct keystore_slot *s = &v->ks->slots[i];
        time_t t = (time_t)s->created;
        struct tm tm;
        char day[16] = "-";
        if (gmtime_r(&t, &tm))
            strftime(day, sizeof day, "%Y-%m-%d", &tm);
        printf("%-5u %-11s %-11s %-20s ", s->id, keystore_slot_type_name(s->type), day,
               s->label[0] ? s->label : "-");
        print_kdf(s);
        putchar('\n');
    }
    return LFS_EXIT_OK;
}

/* ---- the others ---- */

/* The credential that opens, and the connection. */
struct opened {
    struct keyclient *kc;
    struct secret *secret;
    struct credential cred;
};

static void opened_clear(struct opened *o)
{
    keyclient_free(o->kc);
    secret_free(o->secret);
}

static int open_with(const struct slot_args *a, const struct volume_files *v, struct opened *o)
{
    int code = cred_load(&a->open, v->path, false, &o->cred, &o->secret);
    return code == LFS_EXIT_OK ? keyd_conn_open(true, &o->kc) : code;
}

static int run_test(const struct slot_args *a, struct volume_files *v, char **argv)
{
    CLEANUP(opened_clear) struct opened o = {0};
    unsigned id = 0;
    int code = open_with(a, v, &o);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_slot_test(o.kc, v->ini, v->ini_len, &o.cred, &id);
    if (r)
        return keyd_conn_fail(o.kc, r, v->path);
    printf("slot %u opens\n", id);
    return LFS_EXIT_OK;
}

static int put_and_pin(struct volume_files *v, struct keyclient *kc, const char *ini, size_t len)
{
    int code = volume_files_replace(v, ini, len);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_pin(kc, v->ini, v->ini_len);
    return r ? keyd_conn_fail(kc, r, v->path) : LFS_EXIT_OK;
}

/* A recovery key that nobody has must not stand in the key store: it is handed out first. */
static int add_slot(const struct slot_args *a, struct volume_files *v, struct opened *o,
                    const struct slot_add *add, int recovery_fd)
{
    AUTO_FREE char *ini = NULL;
    AUTO_SECRET struct secret *recovery = NULL;
    size_t len = 0;
    unsigned id = 0;
    int code = volume_files_lock(v);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_slot_add(o->kc, v->ini, v->ini_len, &o->cred, add, &ini, &len, &id,
                               a->recovery ? &recovery : NULL);
    if (r)
        return keyd_conn_fail(o->kc, r, v->path);
    if (a->recovery)
        code = recovery_hand_out(a->recovery_out, recovery_fd, recovery);
    if (code == LFS_EXIT_OK)
        code = put_and_pin(v, o->kc, ini, len);
    if (code == LFS_EXIT_OK)
        printf("slot %u added\n", id);
    return code;
}

/* All that may wait for a person comes before the connection: latch-keyd does not wait for people. */
static int load_both(const struct slot_args *a, const struct volume_files *v, struct opened *o,
                     struct slot_add *add, struct secret **fresh)
{
    int code = cred_load(&a->open, v->path, false, &o->cred, &o->secret);
    if (code == LFS_EXIT_OK && !a->recovery)
        code = cred_load(&a->fresh, "for the new slot", true, &add->fresh, fresh);
    return code == LFS_EXIT_OK ? keyd_conn_open(true, &o->kc) : code;
}

static int run_add(const struct slot_args *a, struct volume_files *v, char **argv)
{
    CLEANUP(opened_clear) struct opened o = {0};
    AUTO_SECRET struct secret *fresh = NULL;
    AUTO_CLOSE int recovery_fd = -1;
    struct slot_add add = {.label = a->label, .fast_kdf = a->fast_kdf, .fresh.type = CRED_RECOVERY};
    if (a->recovery && cred_source_given(&a->fresh))
        return cli_fail(LFS_EXIT_USAGE, "give one kind of new slot, not several");
    int code = load_both(a, v, &o, &add, &fresh);
    if (code == LFS_EXIT_OK && a->recovery)
        code = recovery_prepare(a->recovery_out, &recovery_fd);
    if (code != LFS_EXIT_OK)
        return code;
    code = add_slot(a, v, &o, &add, recovery_fd);
    if (code != LFS_EXIT_OK)
        recovery_abandon(a->recovery_out, recovery_fd);
    return code;
}

static int run_remove(const struct slot_args *a, struct volume_files *v, char **argv)
{
    CLEANUP(opened_clear) struct opened o = {0};
    AUTO_FREE char *ini = NULL;
    size_t len = 0;
    char *end;
    errno = 0;
    unsigned long id = strtoul(argv[1], &end, 10);
    if (errno || *end || end == argv[1] || id < 1 || id > KEYSTORE_SLOT_ID_MAX)
        return cli_fail(LFS_EXIT_USAGE, "a slot is named by its number; see 'latch slot list'");
    if (!keystore_slot(v->ks, (unsigned)id))
        return cli_fail(LFS_EXIT_USAGE, "there is no slot %lu; see 'latch slot list'", id);
    int code = open_with(a, v, &o);
    if (code == LFS_EXIT_OK)
        code = volume_files_lock(v);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_slot_remove(o.kc, v->ini, v->ini_len, &o.cred, (unsigned)id, &ini, &len);
    if (r)
        return keyd_conn_fail(o.kc, r, v->path);
    code = put_and_pin(v, o.kc, ini, len);
    if (code == LFS_EXIT_OK)
        printf("slot %lu removed\n", id);
    return code;
}

static const struct slot_verb verbs[] = {
    {"list", 1, run_list},
    {"add", 1, run_add},
    {"remove", 2, run_remove},
    {"test", 1, run_test},
};

/* ---- command line ---- */

enum { FRESH = 0x100, OPT_NEW_RECOVERY = OPT_NEXT + FRESH, OPT_NEW_RECOVERY_FILE, OPT_LABEL, OPT_FAST };

static int take_option(struct slot_args *a, int c, char **argv)
{
    switch (c) {
    case OPT_NEW_RECOVERY_FILE:
        a->recovery_out = optarg;
        a->recovery = true;
        return LFS_EXIT_OK;
    case OPT_NEW_RECOVERY:
        a->recovery = true;
        return LFS_EXIT_OK;
    case OPT_LABEL:
        a->label = optarg;
        if (keystore_label_ok(optarg))
            return LFS_EXIT_OK;
        return cli_fail(LFS_EXIT_USAGE, "a label has 1 to %u of A-Z a-z 0-9 . _ @ + - and inner blanks",
                        KEYSTORE_LABEL_MAX);
    case OPT_FAST:
        a->fast_kdf = true;
        return LFS_EXIT_OK;
    default:
        if (cred_source_option(&a->open, c, optarg) || cred_source_option(&a->fresh, c - FRESH, optarg))
            return LFS_EXIT_OK;
        return cli_bad_option(&cmd_slot, c, argv);
    }
}

static int parse(int argc, char **argv, struct slot_args *a)
{
    static const struct option options[] = {
        OPENING_OPTIONS,
        PASSPHRASE_OPTIONS("new-", FRESH),
        {"new-recovery", no_argument, NULL, OPT_NEW_RECOVERY},
        {"new-recovery-file", required_argument, NULL, OPT_NEW_RECOVERY_FILE},
        {"label", required_argument, NULL, OPT_LABEL},
        {"fast-kdf", no_argument, NULL, OPT_FAST},
        {0},
    };
    int code = LFS_EXIT_OK;
    for (int c; code == LFS_EXIT_OK && (c = getopt_long(argc, argv, ":", options, NULL)) != -1;)
        code = take_option(a, c, argv);
    return code;
}

static const struct slot_verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (name && strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

static bool is_add_only(const struct slot_args *a)
{
    return a->recovery || a->label || a->fast_kdf || cred_source_given(&a->fresh);
}

static int run(int argc, char **argv)
{
    struct slot_args a = {0};
    AUTO_VOLUME struct volume_files v = {.dirfd = -1};
    int code = parse(argc, argv, &a);
    if (code != LFS_EXIT_OK)
        return code;
    const struct slot_verb *verb = find_verb(argv[optind]);
    if (!verb)
        return cli_fail(LFS_EXIT_USAGE, "usage: latch slot list|add|remove|test ...; see 'latch help slot'");
    if (argc - optind - 1 != verb->args)
        return cli_fail(LFS_EXIT_USAGE, "usage: latch slot %s [OPTION]... VOLUME%s", verb->name,
                        verb->args == 2 ? " SLOT" : "");
    if (is_add_only(&a) && verb->run != run_add)
        return cli_fail(LFS_EXIT_USAGE, "options for a new slot go with 'latch slot add'");
    code = volume_files_open(argv[optind + 1], &v);
    return code == LFS_EXIT_OK ? verb->run(&a, &v, argv + optind + 1) : code;
}

const struct command cmd_slot = {
    .name = "slot",
    .synopsis = "list|add|remove|test [OPTION]... VOLUME [SLOT]",
    .summary = "list, add, remove or test what opens a volume",
    .help = "  latch slot list VOLUME           needs no key\n"
            "  latch slot add VOLUME            a new slot; a passphrase is asked twice\n"
            "  latch slot remove VOLUME SLOT    takes the slot away; the last one stays\n"
            "  latch slot test VOLUME           says which slot opens\n"
            "\n"
            "add, remove and test open the volume. " OPENING_HELP "\n"
            "The new slot of add:\n"
            "  --new-passphrase-file FILE, --new-passphrase-fd N, --new-passphrase-command CMD\n"
            "  --new-keyfile FILE        a key file slot, 32 to 8192 bytes\n"
            "  --new-recovery            a recovery slot; its key is shown once\n"
            "  --new-recovery-file FILE  the same, the key written into FILE (new, mode 0600)\n"
            "  --label TEXT              a name for the slot\n"
            "  --fast-kdf                weak passphrase protection, for tests only\n",
    .run = run,
};
