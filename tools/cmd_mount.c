/* latch mount: opens the volume at latch-keyd if it is not open yet, then runs latchfs. */
#include "cli.h"
#include "unlock.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct mount_args {
    struct cred_source source;
    char *options; /* all -o, joined; NULL if none */
    bool foreground;
};

static void mount_args_clear(struct mount_args *a)
{
    free(a->options);
}

static int add_options(struct mount_args *a, const char *more)
{
    char *joined;
    if (asprintf(&joined, "%s%s%s", a->options ? a->options : "", a->options ? "," : "", more) < 0)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    free(a->options);
    a->options = joined;
    return LFS_EXIT_OK;
}

/* Before a passphrase is asked in vain; latchfs checks the rest. */
static int check_mount_point(const char *path)
{
    struct stat st;
    if (stat(path, &st))
        return cli_fail_err(-errno, path, errno == ENOENT ? "make the directory first" : NULL);
    return S_ISDIR(st.st_mode) ? LFS_EXIT_OK : cli_fail_err(-ENOTDIR, path, "name a directory to mount on");
}

static int wait_for(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return cli_fail_err(-errno, "latchfs", NULL);
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    return cli_fail(LFS_EXIT_FAILURE, "latchfs was ended by signal %d", WTERMSIG(status));
}

static int run_latchfs(const struct mount_args *a, char *volume, char *mountpoint)
{
    char program[PATH_MAX];
    if (cli_program("latchfs", "fs/mount", program, sizeof program))
        return cli_fail(LFS_EXIT_FAILURE, "the program latchfs was not found; it belongs beside latch");
    char *argv[9] = {(char *)(uintptr_t) "latchfs"};
    int n = 1;
    if (a->foreground)
        argv[n++] = (char *)(uintptr_t) "--foreground";
    if (a->options) {
        argv[n++] = (char *)(uintptr_t) "-o";
        argv[n++] = a->options;
    }
    argv[n++] = (char *)(uintptr_t) "--";
    argv[n++] = volume;
    argv[n++] = mountpoint;
    fflush(stdout);
    /* In the foreground latchfs takes our place: signals and the exit code are then its own. */
    pid_t pid = a->foreground ? 0 : fork();
    if (pid < 0)
        return cli_fail_err(-errno, "latchfs", NULL);
    if (pid > 0)
        return wait_for(pid);
    execv(program, argv);
    int code = cli_fail_err(-errno, program, NULL);
    if (a->foreground)
        return code;
    _exit(code);
}

static int unlock_if_needed(const char *path, const struct mount_args *a)
{
    AUTO_VOLUME struct volume_files v = {.dirfd = -1};
    bool unlocked = false;
    int code = volume_files_open(path, &v);
    if (code == LFS_EXIT_OK)
        code = volume_is_unlocked(&v, &unlocked);
    return code == LFS_EXIT_OK && !unlocked ? volume_unlock_with(&v, &a->source, false) : code;
}

static int parse(int argc, char **argv, struct mount_args *a)
{
    enum { OPT_FOREGROUND = OPT_NEXT };
    static const struct option options[] = {
        OPENING_OPTIONS,
        {"options", required_argument, NULL, 'o'},
        {"foreground", no_argument, NULL, OPT_FOREGROUND},
        {0},
    };
    int code = LFS_EXIT_OK;
    for (int c; code == LFS_EXIT_OK && (c = getopt_long(argc, argv, ":o:f", options, NULL)) != -1;) {
        if (c == 'o')
            code = add_options(a, optarg);
        else if (c == OPT_FOREGROUND || c == 'f')
            a->foreground = true;
        else if (!cred_source_option(&a->source, c, optarg))
            code = cli_bad_option(&cmd_mount, c, argv);
    }
    return code;
}

static int run(int argc, char **argv)
{
    CLEANUP(mount_args_clear) struct mount_args a = {0};
    int code = parse(argc, argv, &a);
    if (code == LFS_EXIT_OK)
        code = cli_want_args(&cmd_mount, argc, 2, 2);
    if (code == LFS_EXIT_OK)
        code = check_mount_point(argv[optind + 1]);
    if (code == LFS_EXIT_OK)
        code = unlock_if_needed(argv[optind], &a);
    return code == LFS_EXIT_OK ? run_latchfs(&a, argv[optind], argv[optind + 1]) : code;
}

const struct command cmd_mount = {
    .name = "mount",
    .synopsis = "[OPTION]... VOLUME MOUNTPOINT",
    .summary = "mount a volume",
    .help = "  -o, --options LIST        options of latchfs(8), separated by commas\n"
            "  -f, --foreground          stay in the foreground until the volume is unmounted\n"
            "\n"
            "A volume that latch-keyd has not open is unlocked first. " OPENING_HELP,
    .run = run,
};
