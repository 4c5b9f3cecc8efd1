/* latch: the command line of latchfs, for people and scripts. */
#include "cli.h"

#include "config.h"
#include "latchfs/secret.h"

#include <locale.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static int run_help(int argc, char **argv);
static int run_version(int argc, char **argv);

static const struct command cmd_version = {
    .name = "version",
    .synopsis = "",
    .summary = "print the version",
    .help = "",
    .run = run_version,
};
static const struct command cmd_help = {
    .name = "help",
    .synopsis = "[COMMAND]",
    .summary = "explain a command",
    .help = "",
    .run = run_help,
};

static const struct command *const commands[] = {
    &cmd_init,   &cmd_mount,  &cmd_umount,  &cmd_view,      &cmd_status,  &cmd_lock,   &cmd_unlock,
    &cmd_slot,   &cmd_passwd, &cmd_header,  &cmd_recipient, &cmd_protect, &cmd_rotate, &cmd_key,
    &cmd_backup, &cmd_shred,  &cmd_approve, &cmd_audit,     &cmd_inspect, &cmd_fsck,   &cmd_verify,
    &cmd_scrub,  &cmd_ls,     &cmd_cat,     &cmd_recover,   &cmd_extract, &cmd_tar,    &cmd_freeze,
    &cmd_thaw,   &cmd_path,   &cmd_version, &cmd_help,
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    char quoted[128];
    return cli_fail(LFS_EXIT_USAGE, "there is no command '%s'; 'latch help' lists them",
                    cli_quote(name, quoted, sizeof quoted));
}

static void print_list(FILE *to)
{
    fputs("usage: latch COMMAND [OPTION]... [ARGUMENT]...\n\n", to);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\n'latch help COMMAND' explains a command, latch(1) all of them.\n", to);
}

static int print_help(const struct command *cmd)
{
    printf("usage: latch %s %s\n\n%c%s.\n", cmd->name, cmd->synopsis, cmd->summary[0] - 'a' + 'A',
           cmd->summary + 1);
    if (cmd->help[0])
        printf("\n%s", cmd->help);
    return LFS_EXIT_OK;
}

static int run_help(int argc, char **argv)
{
    if (argc > 2)
        return cli_fail(LFS_EXIT_USAGE, "usage: latch help [COMMAND]");
    if (argc < 2) {
        print_list(stdout);
        return LFS_EXIT_OK;
    }
    const struct command *cmd = find_command(argv[1]);
    return cmd ? print_help(cmd) : unknown_command(argv[1]);
}

static int run_version(int argc, char **argv)
{
    if (argc > 1)
        return cli_fail(LFS_EXIT_USAGE, "usage: latch version");
    printf("latch %s\n", LATCHFS_VERSION);
    return LFS_EXIT_OK;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int dispatch(int argc, char **argv)
{
    const struct command *cmd = find_command(argv[0]);
    if (!cmd && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        print_list(stdout);
        return LFS_EXIT_OK;
    }
    if (!cmd && strcmp(argv[0], "--version") == 0)
        return run_version(1, argv);
    if (!cmd)
        return unknown_command(argv[0]);
    return asks_for_help(argc, argv) ? print_help(cmd) : cmd->run(argc, argv);
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    if (argc < 2) {
        print_list(stderr);
        return LFS_EXIT_USAGE;
    }
    if (sodium_init() < 0 || secret_harden_process())
        return cli_fail(LFS_EXIT_FAILURE, "cannot protect the memory of this process");
    opterr = 0;
    int code = dispatch(argc - 1, argv + 1);
    if (fflush(stdout) != 0 || ferror(stdout))
        return cli_fail(LFS_EXIT_IO, "cannot write to standard output");
    return code;
}
