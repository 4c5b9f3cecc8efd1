/* latch view: opens the key store of a view at latch-keyd if it is not open yet, then runs latchfs-view. */
#include "cli.h"
#include "init_view.h"
#include "unlock.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct view_args {
    struct cred_source source;
    const char *config;
    char default_config[PATH_MAX];
    bool foreground;
    char **pass; /* words for latchfs-view, ended by NULL */
    size_t pass_count;
};

static void view_args_clear(struct view_args *a)
{
    free(a->pass);
}

/* Options that latchfs-view understands itself. value NULL: it has none. */
static void pass_on(struct view_args *a, const char *option, const char *value)
{
    a->pass[a->pass_count++] = (char *)(uintptr_t)option;
    if (value)
        a->pass[a->pass_count++] = (char *)(uintptr_t)value;
}

enum { OPT_CONFIG = OPT_NEXT, OPT_EXCLUDE, OPT_EXCLUDE_FROM, OPT_ONE_FS };

static int take(struct view_args *a, int c, char **argv)
{
    if (c == OPT_CONFIG)
        a->config = optarg;
    else if (c == OPT_EXCLUDE)
        pass_on(a, "--exclude", optarg);
    else if (c == OPT_EXCLUDE_FROM)
        pass_on(a, "--exclude-from", optarg);
    else if (c == OPT_ONE_FS)
        pass_on(a, "--one-file-system", NULL);
    else if (c == 'o')
        pass_on(a, "-o", optarg);
    else if (c == 'f')
        a->foreground = true;
    else if (!cred_source_option(&a->source, c, optarg))
        return cli_bad_option(&cmd_view, c, argv);
    return LFS_EXIT_OK;
}

static int parse(int argc, char **argv, struct view_args *a)
{
    static const struct option options[] = {
        OPENING_OPTIONS,
        {"config", required_argument, NULL, OPT_CONFIG},
        {"exclude", required_argument, NULL, OPT_EXCLUDE},
        {"exclude-from", required_argument, NULL, OPT_EXCLUDE_FROM},
        {"one-file-system", no_argument, NULL, OPT_ONE_FS},
        {"options", required_argument, NULL, 'o'},
        {"foreground", no_argument, NULL, 'f'},
        {0},
    };
    int code = LFS_EXIT_OK;
    a->pass = calloc((size_t)argc * 2 + 8, sizeof *a->pass);
    if (!a->pass)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    pass_on(a, "latchfs-view", NULL);
    for (int c; code == LFS_EXIT_OK && (c = getopt_long(argc, argv, ":o:f", options, NULL)) != -1;)
        code = take(a, c, argv);
    return code;
}

/* Before a passphrase is asked in vain; latchfs-view checks the rest. */
static int check_places(struct view_args *a, const char *plain, const char *mountpoint)
{
    char quoted[PATH_MAX];
    struct stat st;
    if (stat(mountpoint, &st))
        return cli_fail_err(-errno, mountpoint, errno == ENOENT ? "make the directory first" : NULL);
    if (!S_ISDIR(st.st_mode))
        return cli_fail_err(-ENOTDIR, mountpoint, "name a directory to mount on");
    if (!a->config && snprintf(a->default_config, sizeof a->default_config, "%s/" VIEW_KEYSTORE_NAME,
                               plain) >= (int)sizeof a->default_config)
        return cli_fail_err(-ENAMETOOLONG, plain, NULL);
    if (!a->config)
        a->config = a->default_config;
    if (stat(plain, &st) == 0 && access(a->config, F_OK) && errno == ENOENT)
        return cli_fail(LFS_EXIT_NOTVOLUME,
                        "%s: there is no key store of a view; 'latch view --init' makes one",
                        cli_quote(a->config, quoted, sizeof quoted));
    return LFS_EXIT_OK;
}

static int unlock_if_needed(const struct view_args *a, const char *plain)
{
    AUTO_VOLUME struct volume_files v = {.dirfd = -1};
    bool unlocked = false;
    int code = volume_files_open_copy(plain, a->config, &v);
    if (code == LFS_EXIT_OK)
        code = volume_is_unlocked(&v, &unlocked);
    return code == LFS_EXIT_OK && !unlocked ? volume_unlock_with(&v, &a->source, false) : code;
}

static int wait_for(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return cli_fail_err(-errno, "latchfs-view", NULL);
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    return cli_fail(LFS_EXIT_FAILURE, "latchfs-view was ended by signal %d", WTERMSIG(status));
}

static int run_view(struct view_args *a, char *plain, char *mountpoint)
{
    char program[PATH_MAX];
    if (cli_program("latchfs-view", "fs/view", program, sizeof program))
        return cli_fail(LFS_EXIT_FAILURE, "the program latchfs-view was not found; it belongs beside latch");
    if (a->foreground)
        pass_on(a, "--foreground", NULL);
    pass_on(a, "--config", a->config);
    pass_on(a, "--", plain);
    pass_on(a, mountpoint, NULL);
    fflush(stdout);
    /* In the foreground it takes our place: signals and the exit code are then its own. */
    pid_t pid = a->foreground ? 0 : fork();
    if (pid < 0)
        return cli_fail_err(-errno, "latchfs-view", NULL);
    if (pid > 0)
        return wait_for(pid);
    execv(program, a->pass);
    int code = cli_fail_err(-errno, program, NULL);
    if (a->foreground)
        return code;
    _exit(code);
}

static bool asks_for_init(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--init") == 0)
            return true;
    return false;
}

static int run(int argc, char **argv)
{
    CLEANUP(view_args_clear) struct view_args a = {0};
    if (asks_for_init(argc, argv))
        return init_view(argc, argv);
    int code = parse(argc, argv, &a);
    if (code == LFS_EXIT_OK)
        code = cli_want_args(&cmd_view, argc, 2, 2);
    if (code == LFS_EXIT_OK)
        code = check_places(&a, argv[optind], argv[optind + 1]);
    if (code == LFS_EXIT_OK)
        code = unlock_if_needed(&a, argv[optind]);
    return code == LFS_EXIT_OK ? run_view(&a, argv[optind], argv[optind + 1]) : code;
}

const struct command cmd_view = {
    .name = "view",
    .synopsis = "[OPTION]... PLAIN-DIR MOUNTPOINT | --init [OPTION]... PLAIN-DIR",
    .summary = "show a plain directory as an encrypted volume, to back it up",
    .help = "  --config FILE             the key store, else " VIEW_KEYSTORE_NAME " in PLAIN-DIR\n"
            "  --exclude PATTERN         leave out what fits; may be given again\n"
            "  --exclude-from FILE       the same for every line of FILE\n"
            "  --one-file-system         show directories of other file systems as empty\n"
            "  -o, --options LIST        options of latchfs-view(8), separated by commas\n"
            "  -f, --foreground          stay in the foreground until it is unmounted\n"
            "\n"
            "The view is read-only and the same in every mount. 'latch umount' ends it.\n" OPENING_HELP "\n"
            "With --init a key store is made, once, by the options of 'latch init':\n" INIT_HELP,
    .run = run,
};
