/* latch slot: the slots of a volume. Listing needs neither a key nor latch-keyd. */
#include "cli.h"
#include "identity.h"
#include "keyd_conn.h"
#include "slot_change.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct slot_args {
    struct cred_source open;
    struct fresh_source fresh;
    bool force;
};

/* words: what is behind the verb and the options, VOLUME first. */
struct slot_verb {
    const char *name, *usage;
    int words;       /* how many; the command's arguments may follow where a slot is made */
    bool makes_slot; /* takes the options of a new one */
    int (*run)(const struct slot_args *a, struct volume_files *v, char **words);
};

/* ---- list ---- */

static void print_how(const struct keystore_slot *s)
{
    char recipient[RECIPIENT_CHARS + 1];
    switch (s->type) {
    case SLOT_PASSPHRASE:
        printf("argon2id, %u passes, %u MiB%s\n", s->kdf_ops, s->kdf_kib / 1024,
               s->fast ? ", fast: for tests only" : "");
        break;
    case SLOT_RECIPIENT:
        recipient_text(s->public_key, recipient);
        puts(recipient);
        break;
    case SLOT_COMMAND:
        printf("command %s, %u bytes\n", s->command, s->blob_len);
        break;
    default:
        puts("-");
    }
}

static int run_list(const struct slot_args *a, struct volume_files *v, char **words)
{
    printf("%-5s %-11s %-11s %-20s %s\n", "SLOT", "TYPE", "MADE", "LABEL", "OPENS BY");
    for (uint32_t i = 0; i < v->ks->slot_count; i++) {
        const struct keystore_slot *s = &v->ks->slots[i];
        time_t t = (time_t)s->created;
        struct tm tm;
        char day[16] = "-";
        if (gmtime_r(&t, &tm))
            strftime(day, sizeof day, "%Y-%m-%d", &tm);
        printf("%-5u %-11s %-11s %-20s ", s->id, keystore_slot_type_name(s->type), day,
               s->label[0] ? s->label : "-");
        print_how(s);
    }
    return LFS_EXIT_OK;
}

/* ---- the others ---- */

static int run_test(const struct slot_args *a, struct volume_files *v, char **words)
{
    AUTO_CRED struct cred c = {0};
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    unsigned id = 0;
    int code = cred_open(&a->open, v, &c);
    if (code == LFS_EXIT_OK)
        code = keyd_conn_open(true, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_slot_test(kc, v->ini, v->ini_len, &c.c, &id);
    if (r)
        return keyd_conn_fail(kc, r, v->path);
    printf("slot %u opens\n", id);
    return LFS_EXIT_OK;
}

static int run_add(const struct slot_args *a, struct volume_files *v, char **words)
{
    AUTO_ADMIN struct admin admin = {0};
    int code = fresh_check(&a->fresh);
    if (code == LFS_EXIT_OK)
        code = admin_begin(v, &a->open, &admin);
    return code == LFS_EXIT_OK ? slot_make(&admin, &a->fresh, 0) : code;
}

static int run_replace(const struct slot_args *a, struct volume_files *v, char **words)
{
    AUTO_ADMIN struct admin admin = {0};
    unsigned id;
    int code = cred_parse_slot(words[1], v->ks, &id);
    if (code == LFS_EXIT_OK && a->fresh.label)
        code = cli_fail(LFS_EXIT_USAGE, "the slot keeps its label; see 'latch slot label'");
    if (code == LFS_EXIT_OK)
        code = fresh_check(&a->fresh);
    if (code == LFS_EXIT_OK)
        code = admin_begin(v, &a->open, &admin);
    return code == LFS_EXIT_OK ? slot_make(&admin, &a->fresh, id) : code;
}

static int run_remove(const struct slot_args *a, struct volume_files *v, char **words)
{
    AUTO_ADMIN struct admin admin = {0};
    unsigned id;
    int code = cred_parse_slot(words[1], v->ks, &id);
    if (code == LFS_EXIT_OK)
        code = admin_begin(v, &a->open, &admin);
    return code == LFS_EXIT_OK ? slot_remove(&admin, id, a->force) : code;
}

static int run_label(const struct slot_args *a, struct volume_files *v, char **words)
{
    AUTO_ADMIN struct admin admin = {0};
    unsigned id;
    int code = cred_parse_slot(words[1], v->ks, &id);
    if (code == LFS_EXIT_OK && words[2][0])
        code = label_check(words[2]);
    if (code == LFS_EXIT_OK)
        code = admin_begin(v, &a->open, &admin);
    return code == LFS_EXIT_OK ? slot_label(&admin, id, words[2]) : code;
}

static const struct slot_verb verbs[] = {
    {"list", "VOLUME", 1, false, run_list},
    {"add", "[OPTION]... VOLUME [-- ARG...]", 1, true, run_add},
    {"replace", "[OPTION]... VOLUME SLOT [-- ARG...]", 2, true, run_replace},
    {"remove", "[OPTION]... VOLUME SLOT", 2, false, run_remove},
    {"label", "[OPTION]... VOLUME SLOT TEXT", 3, false, run_label},
    {"test", "[OPTION]... VOLUME", 1, false, run_test},
};

/* ---- command line ---- */

enum {
    FRESH = 0x100,
    OPT_NEW_RECOVERY = OPT_NEXT + FRESH,
    OPT_NEW_RECOVERY_FILE,
    OPT_NEW_RECIPIENT,
    OPT_NEW_COMMAND,
    OPT_LABEL,
    OPT_FAST,
    OPT_FORCE
};

static bool take_fresh_option(struct fresh_source *f, int c, const char *arg)
{
    switch (c) {
    case OPT_NEW_RECOVERY_FILE:
        f->recovery_out = arg;
        f->recovery = true;
        return true;
    case OPT_NEW_RECOVERY:
        f->recovery = true;
        return true;
    case OPT_NEW_RECIPIENT:
        f->recipient = arg;
        return true;
    case OPT_NEW_COMMAND:
        f->command = arg;
        return true;
    case OPT_FAST:
        f->fast_kdf = true;
        return true;
    default:
        return cred_source_option(&f->from, c - FRESH, arg);
    }
}

static int take_option(struct slot_args *a, int c, char **argv)
{
    if (c == OPT_LABEL) {
        a->fresh.label = optarg;
        return label_check(optarg);
    }
    if (c == OPT_FORCE) {
        a->force = true;
        return LFS_EXIT_OK;
    }
    if (take_fresh_option(&a->fresh, c, optarg) || cred_source_option(&a->open, c, optarg))
        return LFS_EXIT_OK;
    return cli_bad_option(&cmd_slot, c, argv);
}

static int parse(int argc, char **argv, struct slot_args *a)
{
    static const struct option options[] = {
        OPENING_OPTIONS,
        PASSPHRASE_OPTIONS("new-", FRESH),
        {"new-recovery", no_argument, NULL, OPT_NEW_RECOVERY},
        {"new-recovery-file", required_argument, NULL, OPT_NEW_RECOVERY_FILE},
        {"new-recipient", required_argument, NULL, OPT_NEW_RECIPIENT},
        {"new-command", required_argument, NULL, OPT_NEW_COMMAND},
        {"label", required_argument, NULL, OPT_LABEL},
        {"fast-kdf", no_argument, NULL, OPT_FAST},
        {"force", no_argument, NULL, OPT_FORCE},
        {0},
    };
    int code = LFS_EXIT_OK;
    for (int c; code == LFS_EXIT_OK && (c = getopt_long(argc, argv, ":", options, NULL)) != -1;)
        code = take_option(a, c, argv);
    a->fresh.command_timeout = a->open.command_timeout;
    return code;
}

static const struct slot_verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (name && strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

/* argv from optind on: verb, words, and where a command slot is made its arguments. */
static int check_line(struct slot_args *a, const struct slot_verb *verb, int argc, char **argv)
{
    int given = argc - optind - 1;
    bool more = verb->makes_slot && a->fresh.command;
    if (given < verb->words || (given > verb->words && !more))
        return cli_fail(LFS_EXIT_USAGE, "usage: latch slot %s %s", verb->name, verb->usage);
    if (!verb->makes_slot && (fresh_given(&a->fresh) || a->fresh.label || a->fresh.fast_kdf))
        return cli_fail(LFS_EXIT_USAGE, "options for a new slot go with 'latch slot add' and 'replace'");
    if (a->force && verb->run != run_remove)
        return cli_fail(LFS_EXIT_USAGE, "--force goes with 'latch slot remove'");
    a->fresh.command_args = argv + optind + 1 + verb->words;
    return LFS_EXIT_OK;
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
        return cli_fail(LFS_EXIT_USAGE, "usage: latch slot list|add|replace|remove|label|test ...; see "
                                        "'latch help slot'");
    code = check_line(&a, verb, argc, argv);
    char **words = argv + optind + 1;
    if (code == LFS_EXIT_OK)
        code = volume_files_open(words[0], &v);
    return code == LFS_EXIT_OK ? verb->run(&a, &v, words) : code;
}

const struct command cmd_slot = {
    .name = "slot",
    .synopsis = "list|add|replace|remove|label|test [OPTION]... VOLUME [SLOT]",
    .summary = "list, make, remove or test what opens a volume",
    .help =
        "  latch slot list VOLUME              needs no key\n"
        "  latch slot add VOLUME               a new slot; a passphrase is asked twice\n"
        "  latch slot replace VOLUME SLOT      the same in place of a slot, whose old secret is then out\n"
        "  latch slot remove VOLUME SLOT       takes the slot away; the last one only with --force\n"
        "  latch slot label VOLUME SLOT TEXT   names the slot; an empty TEXT takes the name away\n"
        "  latch slot test VOLUME              says which slot opens\n"
        "\n"
        "All but list open the volume. " OPENING_HELP "\n"
        "The new slot of add and replace:\n"
        "  --new-passphrase-file FILE, --new-passphrase-fd N, --new-passphrase-command CMD\n"
        "  --new-keyfile FILE        a key file slot, 32 to 8192 bytes\n"
        "  --new-recovery            a recovery slot; its key is shown once\n"
        "  --new-recovery-file FILE  the same, the key written into FILE (new, mode 0600)\n"
        "  --new-recipient FILE      for the public key in FILE, or latch-recipient-... itself\n"
        "  --new-command NAME        a command slot; the command gets what is behind --\n"
        "  --label TEXT              a name for the slot (add)\n"
        "  --fast-kdf                weak passphrase protection, for tests only\n",
    .run = run,
};
