/* latch passwd: another passphrase in place of the one that is given. */
#include "cli.h"
#include "slot_change.h"

#include <stdio.h>

enum { FRESH = 0x100, OPT_FAST = OPT_NEXT + FRESH };

struct passwd_args {
    struct cred_source open;
    struct fresh_source fresh;
};

static int parse(int argc, char **argv, struct passwd_args *a)
{
    static const struct option options[] = {
        PASSPHRASE_OPTIONS("", 0),
        PASSPHRASE_OPTIONS("new-", FRESH),
        {"slot", required_argument, NULL, OPT_SLOT},
        {"fast-kdf", no_argument, NULL, OPT_FAST},
        {0},
    };
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == OPT_FAST)
            a->fresh.fast_kdf = true;
        else if (!cred_source_option(&a->fresh.from, c - FRESH, optarg) &&
                 !cred_source_option(&a->open, c, optarg))
            return cli_bad_option(&cmd_passwd, c, argv);
    }
    if (a->open.keyfile || a->fresh.from.keyfile)
        return cli_fail(LFS_EXIT_USAGE, "passwd is about passphrases; see 'latch help slot' for the others");
    return fresh_check(&a->fresh);
}

static int run(int argc, char **argv)
{
    struct passwd_args a = {0};
    AUTO_ADMIN struct admin admin = {0};
    AUTO_VOLUME struct volume_files v = {.dirfd = -1};
    int code = parse(argc, argv, &a);
    if (code == LFS_EXIT_OK)
        code = cli_want_args(&cmd_passwd, argc, 1, 1);
    if (code == LFS_EXIT_OK)
        code = volume_files_open(argv[optind], &v);
    if (code == LFS_EXIT_OK)
        code = admin_begin(&v, &a.open, &admin);
    return code == LFS_EXIT_OK ? slot_make(&admin, &a.fresh, admin.slot_id) : code;
}

const struct command cmd_passwd = {
    .name = "passwd",
    .synopsis = "[OPTION]... VOLUME",
    .summary = "replace a passphrase",
    .help =
        "Asks for the old passphrase and twice for the new one. The slot that the old one opens keeps its\n"
        "number and label. With a lost passphrase, use 'latch slot replace --recovery VOLUME SLOT'.\n"
        "  --passphrase-file FILE, --passphrase-fd N, --passphrase-command CMD: the old one\n"
        "  --new-passphrase-file FILE, --new-passphrase-fd N, --new-passphrase-command CMD\n"
        "  --slot N                  the old one is that of this slot\n"
        "  --fast-kdf                weak passphrase protection, for tests only\n",
    .run = run,
};
