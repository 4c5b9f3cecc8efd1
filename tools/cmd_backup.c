/* latch backup: which backups of the ciphertext must stay readable. */
#include "admin.h"
#include "cli.h"
#include "target.h"

#include "latchfs/keyedit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct backup_args {
    struct cred_source open;
    bool json;
};

static void json_needs(const struct keystore_backup *b)
{
    char hex[2 * ID_BYTES + 1];
    for (uint32_t i = 0; i < b->need_count; i++) {
        id_to_hex(b->needs[i].pd, hex);
        printf("%s{\"directory\":\"%s\",\"least\":%" PRIu32 ",\"most\":%" PRIu32 "}", i ? "," : "", hex,
               b->needs[i].least, b->needs[i].most);
    }
}

static void print_json(const struct keystore *ks)
{
    printf("[");
    for (uint32_t i = 0; i < ks->backup_count; i++) {
        const struct keystore_backup *b = &ks->backups[i];
        printf("%s{\"number\":%" PRIu32 ",\"label\":\"%s\",\"created\":%" PRIu64 ",\"master_least\":%" PRIu32
               ",\"master_most\":%" PRIu32 ",\"needs\":[",
               i ? "," : "", b->id, b->label, b->created, b->master_least, b->master_most);
        json_needs(b);
        printf("]}");
    }
    puts("]");
}

static int run_list(const struct backup_args *a, struct target *t, char **argv)
{
    const struct keystore *ks = t->v.ks;
    char day[32], hex[2 * ID_BYTES + 1];
    (void)argv;
    if (a->json) {
        print_json(ks);
        return LFS_EXIT_OK;
    }
    if (ks->backup_count == 0)
        puts("no backup is registered");
    for (uint32_t i = 0; i < ks->backup_count; i++) {
        const struct keystore_backup *b = &ks->backups[i];
        printf("%" PRIu32 "  %s  %s\n   master %" PRIu32 " to %" PRIu32 "\n", b->id,
               cli_time((long long)b->created, day, sizeof day), b->label, b->master_least, b->master_most);
        for (uint32_t n = 0; n < b->need_count; n++) {
            id_to_hex(b->needs[n].pd, hex);
            printf("   directory %s: %" PRIu32 " to %" PRIu32 "\n", hex, b->needs[n].least, b->needs[n].most);
        }
    }
    return LFS_EXIT_OK;
}

static int change(const struct backup_args *a, struct target *t, const struct key_edit *e, uint32_t *number)
{
    AUTO_ADMIN struct admin admin = {0};
    CLEANUP(key_edit_result_clear) struct key_edit_result made = {0};
    int code = admin_begin(&t->v, &a->open, &admin);
    if (code == LFS_EXIT_OK)
        code = admin_edit(&admin, e, &made);
    *number = made.number;
    return code;
}

static int run_register(const struct backup_args *a, struct target *t, char **argv)
{
    uint32_t number;
    if (!keystore_label_ok(argv[0]))
        return cli_fail(LFS_EXIT_USAGE, "a label has 1 to %u of A-Z a-z 0-9 . _ @ + - and inner blanks",
                        KEYSTORE_LABEL_MAX);
    int code = change(a, t, &(struct key_edit){.op = EDIT_BACKUP_ADD, .label = argv[0]}, &number);
    if (code == LFS_EXIT_OK)
        printf("backup %" PRIu32 " registered: the key versions of now stay until it is forgotten\n", number);
    return code;
}

static int run_forget(const struct backup_args *a, struct target *t, char **argv)
{
    uint32_t number = 0, ignored;
    char *end;
    errno = 0;
    unsigned long v = strtoul(argv[0], &end, 10);
    for (uint32_t i = 0; !errno && end != argv[0] && !*end && i < t->v.ks->backup_count; i++)
        if (t->v.ks->backups[i].id == v)
            number = (uint32_t)v;
    if (!number)
        return cli_fail(LFS_EXIT_USAGE, "there is no such backup; 'latch backup list' shows the numbers");
    int code = change(a, t, &(struct key_edit){.op = EDIT_BACKUP_REMOVE, .number = number}, &ignored);
    if (code == LFS_EXIT_OK)
        printf("backup %" PRIu32 " forgotten\n", number);
    return code;
}

static const struct {
    const char *name;
    int args;
    int (*run)(const struct backup_args *a, struct target *t, char **argv);
} verbs[] = {
    {"list", 0, run_list},
    {"register", 1, run_register},
    {"forget", 1, run_forget},
};

static int run(int argc, char **argv)
{
    enum { OPT_JSON = OPT_NEXT };
    static const struct option options[] = {OPENING_OPTIONS, {"json", no_argument, NULL, OPT_JSON}, {0}};
    struct backup_args a = {0};
    AUTO_TARGET struct target t = {.v.dirfd = -1};
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == OPT_JSON)
            a.json = true;
        else if (!cred_source_option(&a.open, c, optarg))
            return cli_bad_option(&cmd_backup, c, argv);
    }
    for (size_t i = 0; optind < argc && i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(argv[optind], verbs[i].name) != 0 || argc - optind - 2 != verbs[i].args)
            continue;
        int code = target_find(argv[optind + 1], &t);
        return code == LFS_EXIT_OK ? verbs[i].run(&a, &t, argv + optind + 2) : code;
    }
    return cli_fail(LFS_EXIT_USAGE, "usage: latch backup %s", cmd_backup.synopsis);
}

const struct command cmd_backup = {
    .name = "backup",
    .synopsis = "list|register|forget [OPTION]... VOLUME [LABEL|NUMBER]",
    .summary = "note which backups must stay readable",
    .help = "A registered backup keeps the key versions that its files may have from being destroyed.\n"
            "  latch backup register VOLUME LABEL  now, when the backup is made\n"
            "  latch backup list VOLUME            with the versions that each needs; needs no key\n"
            "  latch backup forget VOLUME NUMBER   when the backup is gone\n"
            "  --json                              list as a JSON array\n"
            "\n" OPENING_HELP,
    .run = run,
};
