/* latch init: a new volume. Also the options of latch view --init, which are the same. */
#include "cli.h"
#include "init_make.h"
#include "init_view.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
    OPT_SUITE = OPT_NEXT,
    OPT_FAST,
    OPT_NO_RECOVERY,
    OPT_LABEL,
    OPT_ENVIRONMENT,
    OPT_RECIPIENT,
    OPT_VIEW_INIT,
    OPT_VIEW_CONFIG,
};

static int take_option(struct init_args *a, const struct command *cmd, int c, char **argv)
{
    switch (c) {
    case OPT_SUITE:
        if (suite_by_name(optarg, &a->suite))
            return cli_fail(LFS_EXIT_USAGE, "unknown suite; use auto, aes-256-gcm or chacha20-poly1305");
        return LFS_EXIT_OK;
    case OPT_FAST:
        a->first.fast_kdf = true;
        return LFS_EXIT_OK;
    case OPT_NO_RECOVERY:
        a->no_recovery = true;
        return LFS_EXIT_OK;
    case OPT_RECOVERY_FILE:
        a->recovery_file = optarg;
        return LFS_EXIT_OK;
    case OPT_LABEL:
        a->first.label = optarg;
        return label_check(optarg);
    case OPT_ENVIRONMENT:
        a->environment = optarg;
        return label_check(optarg);
    case OPT_RECIPIENT:
        a->first.recipient = optarg;
        return LFS_EXIT_OK;
    case OPT_VIEW_CONFIG:
        a->config = optarg;
        return LFS_EXIT_OK;
    case OPT_VIEW_INIT:
        return LFS_EXIT_OK;
    default:
        return cred_source_option(&a->first.from, c, optarg) ? LFS_EXIT_OK : cli_bad_option(cmd, c, argv);
    }
}

static int check(struct init_args *a)
{
    if (a->no_recovery && a->recovery_file)
        return cli_fail(LFS_EXIT_USAGE, "--recovery-file and --no-recovery exclude each other");
    if (a->first.recipient && a->no_recovery && !a->identity)
        return cli_fail(LFS_EXIT_USAGE,
                        "a public key alone cannot open the new volume to make its files; give "
                        "--identity FILE, or do without --no-recovery");
    return fresh_check(&a->first);
}

/* Options that open a volume elsewhere make its first slot here. */
static int parse(int argc, char **argv, const struct command *cmd, struct init_args *a)
{
    /* The first two are of a view only. */
    static const struct option all[] = {
        {"init", no_argument, NULL, OPT_VIEW_INIT},
        {"config", required_argument, NULL, OPT_VIEW_CONFIG},
        {"suite", required_argument, NULL, OPT_SUITE},
        {"fast-kdf", no_argument, NULL, OPT_FAST},
        {"no-recovery", no_argument, NULL, OPT_NO_RECOVERY},
        {"recovery-file", required_argument, NULL, OPT_RECOVERY_FILE},
        {"label", required_argument, NULL, OPT_LABEL},
        {"environment", required_argument, NULL, OPT_ENVIRONMENT},
        {"recipient", required_argument, NULL, OPT_RECIPIENT},
        {"identity", required_argument, NULL, OPT_IDENTITY},
        {"command", required_argument, NULL, OPT_COMMAND},
        {"command-timeout", required_argument, NULL, OPT_COMMAND_TIMEOUT},
        PASSPHRASE_OPTIONS("", 0),
        {0},
    };
    const struct option *options = cmd == &cmd_init ? all + 2 : all;
    struct cred_source *from = &a->first.from;
    int code = LFS_EXIT_OK;
    for (int c; code == LFS_EXIT_OK && (c = getopt_long(argc, argv, ":", options, NULL)) != -1;)
        code = take_option(a, cmd, c, argv);
    if (code != LFS_EXIT_OK)
        return code;
    if (from->identity && a->first.recipient)
        return cli_fail(LFS_EXIT_USAGE, "give one kind of new slot, not several");
    code = cred_source_check(from);
    if (code != LFS_EXIT_OK)
        return code;
    a->first.command = from->command;
    a->first.command_timeout = from->command_timeout;
    a->identity = from->identity;
    if (from->identity)
        a->first.recipient = from->identity;
    from->command = from->identity = NULL;
    return check(a);
}

static int parse_all(int argc, char **argv, const struct command *cmd, struct init_args *a)
{
    int code = parse(argc, argv, cmd, a);
    if (code == LFS_EXIT_OK)
        code = cli_want_args(cmd, argc, 1, a->first.command ? argc : 1);
    if (code != LFS_EXIT_OK)
        return code;
    a->path = argv[optind];
    a->first.command_args = argv + optind + 1;
    return LFS_EXIT_OK;
}

static int run(int argc, char **argv)
{
    struct init_args a = {.suite = aead_best_suite()};
    int code = parse_all(argc, argv, &cmd_init, &a);
    return code == LFS_EXIT_OK ? init_make(&a) : code;
}

int init_view(int argc, char **argv)
{
    struct init_args a = {.suite = aead_best_suite()};
    char config[PATH_MAX];
    int code = parse_all(argc, argv, &cmd_view, &a);
    if (code == LFS_EXIT_OK && !a.config) {
        if (snprintf(config, sizeof config, "%s/" VIEW_KEYSTORE_NAME, a.path) >= (int)sizeof config)
            return cli_fail_err(-ENAMETOOLONG, a.path, NULL);
        a.config = config;
    }
    return code == LFS_EXIT_OK ? init_make(&a) : code;
}

const struct command cmd_init = {
    .name = "init",
    .synopsis = "[OPTION]... VOLUME [-- ARG...]",
    .summary = "make a new volume in a new or an empty directory",
    .help = INIT_HELP,
    .run = run,
};
