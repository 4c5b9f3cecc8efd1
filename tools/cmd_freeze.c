/* latch freeze, latch thaw: a moment at which the ciphertext below a mount stands still. */
#include "cli.h"
#include "mount_ref.h"

#include "latchfs/buf.h"
#include "latchfs/mountctl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_DEFAULT 60u

struct freeze {
    struct mount_ref mount;
    const char *name; /* of the mount point, for messages */
    unsigned seconds;
    uint64_t serial;
};

/* ---- freezing ---- */

static int write_out(const char *mountpoint)
{
    AUTO_CLOSE int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || syncfs(fd) ? -errno : 0;
}

static int refused(const struct freeze *f, int err)
{
    char quoted[PATH_MAX];
    cli_quote(f->name, quoted, sizeof quoted);
    if (err == LFS_ERR_BUSY)
        return cli_fail(LFS_EXIT_BUSY, "%s: frozen already, or just being locked; 'latch status' tells",
                        quoted);
    if (err == LFS_ERR_NOKEY)
        return cli_fail(LFS_EXIT_NOKEY, "%s: locked; nothing is written while it is, so copy it as it is",
                        quoted);
    if (err == -EROFS)
        return cli_fail(LFS_EXIT_IO, "%s: read-only, so nothing is written; 'latch status' says why", quoted);
    return cli_fail_err(err, f->name, "nothing is frozen");
}

/* What the kernel holds goes to the mount first; a locked one has nothing. */
static int freeze(struct freeze *f)
{
    int r = write_out(f->mount.mountpoint);
    if (r == -EROFS || r == -ENOKEY)
        r = 0; /* the mount says it better */
    if (!r)
        r = mountctl_freeze(f->mount.socket, f->seconds, &f->serial);
    return r ? refused(f, r) : LFS_EXIT_OK;
}

/* ---- with a command ---- */

static volatile sig_atomic_t passed_on; /* a signal that ends this program; it goes to the command */
static volatile pid_t command_pid;

static void pass_on(int sig)
{
    passed_on = sig;
    if (command_pid > 0)
        kill(command_pid, sig);
}

/* From a terminal the command gets these itself, and we go on to thaw. */
static void take_signals(void)
{
    const struct sigaction pass = {.sa_handler = pass_on, .sa_flags = SA_RESTART},
                           leave = {.sa_handler = SIG_IGN};
    sigaction(SIGTERM, &pass, NULL);
    sigaction(SIGHUP, &pass, NULL);
    sigaction(SIGINT, &leave, NULL);
    sigaction(SIGQUIT, &leave, NULL);
}

static void give_back_signals(void)
{
    static const int all[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        signal(all[i], SIG_DFL);
}

/* The exit code of the command, 128 and the signal's number as in a shell, or 127. */
static int run_command(char **argv)
{
    int status;
    take_signals();
    pid_t pid = fork();
    if (pid == 0) {
        give_back_signals();
        execvp(argv[0], argv);
        _exit(cli_fail(127, "%s: %s", argv[0], strerrordesc_np(errno)));
    }
    if (pid < 0)
        return cli_fail_err(-errno, "cannot start the command", NULL);
    command_pid = pid;
    if (passed_on)
        kill(pid, passed_on);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return cli_fail_err(-errno, "waiting for the command", NULL);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int freeze_for_command(struct freeze *f, char **argv)
{
    char quoted[PATH_MAX];
    int code = freeze(f);
    if (code != LFS_EXIT_OK)
        return code;
    fflush(NULL);
    code = run_command(argv);
    int r = mountctl_thaw(f->mount.socket, f->serial);
    if (!r)
        return code;
    cli_quote(f->name, quoted, sizeof quoted);
    int late = cli_fail(
        LFS_EXIT_FAILURE,
        r == -EINVAL ? "%s: the freeze ended before the command did, by its deadline or a lock: what was "
                       "copied may not be consistent; --for gives more time"
                     : "%s: the mount does not answer any more: what was copied may not be consistent",
        quoted);
    return code ? code : late;
}

/* ---- commands ---- */

static bool parse_seconds(const char *text, unsigned *out)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (errno || *end || text[0] < '0' || text[0] > '9' || n < 1 || n > FREEZE_SECONDS_MAX)
        return false;
    *out = (unsigned)n;
    return true;
}

static int run_freeze(int argc, char **argv)
{
    enum { OPT_FOR = 1 };
    static const struct option options[] = {{"for", required_argument, NULL, OPT_FOR}, {0}};
    struct freeze f = {.seconds = SECONDS_DEFAULT};
    char quoted[PATH_MAX], until[32];
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c != OPT_FOR)
            return cli_bad_option(&cmd_freeze, c, argv);
        if (!parse_seconds(optarg, &f.seconds))
            return cli_fail(LFS_EXIT_USAGE, "--for takes 1 to %u seconds", FREEZE_SECONDS_MAX);
    }
    int code = cli_want_args(&cmd_freeze, argc, 1, INT_MAX);
    if (code != LFS_EXIT_OK)
        return code;
    f.name = argv[optind];
    code = mount_ref_get(f.name, &f.mount);
    if (code != LFS_EXIT_OK)
        return code;
    if (argv[optind + 1])
        return freeze_for_command(&f, argv + optind + 1);
    code = freeze(&f);
    if (code == LFS_EXIT_OK)
        printf("%s: frozen until %s at the latest, for %u s; 'latch thaw' ends it\n",
               cli_quote(f.name, quoted, sizeof quoted),
               cli_time((long long)time(NULL) + f.seconds, until, sizeof until), f.seconds);
    return code;
}

const struct command cmd_freeze = {
    .name = "freeze",
    .synopsis = "[--for SECONDS] MOUNTPOINT [-- COMMAND [ARGUMENT]...]",
    .summary = "keep the ciphertext below a mount still, for a snapshot or a copy",
    .help =
        "What was written so far is put in place and the journal is empty: the volume is as after an "
        "unmount.\n"
        "Reads go on, changes wait until 'latch thaw', at the latest until the time is over. Locking and\n"
        "unmounting with latch end a freeze.\n"
        "With a COMMAND, it is frozen while that runs; the exit code is the command's, or 1 when the freeze\n"
        "ended before it.\n"
        "  --for SECONDS             end by itself after this time, 60 by default, 3600 at most\n",
    .run = run_freeze,
};

static int run_thaw(int argc, char **argv)
{
    static const struct option options[] = {{0}};
    struct mount_ref mount;
    char quoted[PATH_MAX];
    int c = getopt_long(argc, argv, ":", options, NULL);
    if (c != -1)
        return cli_bad_option(&cmd_thaw, c, argv);
    int code = cli_want_args(&cmd_thaw, argc, 1, 1);
    if (code == LFS_EXIT_OK)
        code = mount_ref_get(argv[optind], &mount);
    if (code != LFS_EXIT_OK)
        return code;
    cli_quote(argv[optind], quoted, sizeof quoted);
    int r = mountctl_thaw(mount.socket, 0);
    if (r == -EINVAL)
        return cli_fail(
            LFS_EXIT_FAILURE,
            "%s: not frozen; if it was, that ended before, by its deadline or a lock, and what was "
            "copied since may not be consistent",
            quoted);
    if (r)
        return cli_fail_err(r, argv[optind], NULL);
    printf("%s: thawed\n", quoted);
    return LFS_EXIT_OK;
}

const struct command cmd_thaw = {
    .name = "thaw",
    .synopsis = "MOUNTPOINT",
    .summary = "end a freeze",
    .help = "Fails when it has ended by itself before: what was copied since then may not be consistent.\n",
    .run = run_thaw,
};
