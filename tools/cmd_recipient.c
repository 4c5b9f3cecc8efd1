/* latch recipient: key pairs of people who open volumes with a private key file. */
#include "cli.h"
#include "identity.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static int run_new(const char *path)
{
    char text[RECIPIENT_CHARS + 1], quoted[PATH_MAX];
    int code = identity_make(path, text);
    if (code != LFS_EXIT_OK)
        return code;
    cli_quote(path, quoted, sizeof quoted);
    printf("%s\nprivate key in %s, public key in %s.pub\n", text, quoted, quoted);
    return LFS_EXIT_OK;
}

static int run_show(const char *path)
{
    char text[RECIPIENT_CHARS + 1];
    uint8_t key[KEYTEXT_KEY];
    int code = recipient_read(path, key);
    if (code != LFS_EXIT_OK)
        return code;
    recipient_text(key, text);
    puts(text);
    return LFS_EXIT_OK;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{0}};
    int c = getopt_long(argc, argv, ":", options, NULL);
    if (c != -1)
        return cli_bad_option(&cmd_recipient, c, argv);
    int code = cli_want_args(&cmd_recipient, argc, 2, 2);
    if (code != LFS_EXIT_OK)
        return code;
    const char *verb = argv[optind], *path = argv[optind + 1];
    if (strcmp(verb, "new") == 0)
        return run_new(path);
    if (strcmp(verb, "show") == 0)
        return run_show(path);
    return cli_fail(LFS_EXIT_USAGE, "usage: latch recipient %s", cmd_recipient.synopsis);
}

const struct command cmd_recipient = {
    .name = "recipient",
    .synopsis = "new|show FILE",
    .summary = "make a key pair that volumes can have slots for",
    .help = "  latch recipient new FILE    a private key in FILE (mode 0600), its public key in FILE.pub\n"
            "  latch recipient show FILE   the public key of either file\n"
            "\n"
            "A slot is made with the public key alone: 'latch slot add --new-recipient FILE.pub VOLUME'.\n"
            "It opens with the private key: 'latch unlock --identity FILE VOLUME'.\n",
    .run = run,
};
