/* latch umount: unmounts, waits until the daemon has closed the volume, and says who holds a busy mount. */
#include "cli.h"
#include "mount_table.h"

#include "latchfs/buf.h"
#include "latchfs/io.h"
#include "latchfs/jentry.h"
#include "latchfs/mountctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THAW_TRIES 20
#define THAW_WAIT_NS 100000000
#define CLOSE_SECONDS 300 /* a checkpoint of a full journal on a slow disk */

struct target {
    char path[PATH_MAX];   /* mount point */
    char volume[PATH_MAX]; /* "" if not known */
    int daemon;            /* pidfd, or -1 if it was not found */
    bool read_only;
    char frozen[PATH_MAX]; /* the control socket of a mount that is; else "" */
};

static void target_clear(struct target *t)
{
    lfs_close_fd(&t->daemon);
}

/* ---- what is mounted there ---- */

static int note_daemon(const char *socket_path, const struct mount_status *st, void *arg)
{
    struct target *t = arg;
    if (strcmp(st->mountpoint, t->path) != 0)
        return 0;
    t->daemon = pidfd_open((pid_t)st->pid, 0);
    t->read_only = st->read_only;
    strcpy(t->volume, st->volume);
    if (st->frozen_until)
        snprintf(t->frozen, sizeof t->frozen, "%s", socket_path);
    return 1;
}

/* Another user's mount answers nobody but him and shows in the mount table and /proc/locks only. */
static void find_by_lock(struct target *t, const struct mount_entry *e)
{
    char journal[PATH_MAX + sizeof JOURNAL_NAME];
    if (e->source[0] != '/')
        return;
    snprintf(journal, sizeof journal, "%s/" JOURNAL_NAME, e->source);
    pid_t pid = file_lock_holder(journal);
    if (pid > 0) {
        t->daemon = pidfd_open(pid, 0);
        strcpy(t->volume, e->source);
    }
}

/* Of the view of a plain directory too: there is nothing to wait for then. */
static bool is_ours(const struct mount_entry *e)
{
    return strcmp(e->type, "fuse.latchfs") == 0 || strcmp(e->type, "fuse.latchfs-view") == 0;
}

static int find_target(const char *path, struct target *t)
{
    struct mount_entry e;
    char quoted[PATH_MAX];
    int r = mount_point_path(path, t->path);
    if (!r)
        r = mount_table_find(t->path, &e);
    if (r == -ENOENT || (!r && !is_ours(&e)))
        return cli_fail(LFS_EXIT_NOTVOLUME,
                        "%s: no latchfs volume is mounted there; 'latch status' lists the mounts",
                        cli_quote(path, quoted, sizeof quoted));
    if (r)
        return cli_fail_err(r, path, NULL);
    mountctl_each(note_daemon, t);
    if (t->daemon < 0)
        find_by_lock(t, &e);
    return LFS_EXIT_OK;
}

/* ---- unmounting ---- */

/* fusermount3 is what lets an ordinary user unmount his own. 0, -EBUSY, or another error. */
static int fusermount(const char *path)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        if (null >= 0) {
            dup2(null, STDOUT_FILENO);
            dup2(null, STDERR_FILENO);
        }
        execlp("fusermount3", "fusermount3", "-u", "--", path, (char *)NULL);
        _exit(127);
    }
    if (pid < 0)
        return -errno;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return -ENOENT;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static int busy(const struct target *t)
{
    char holders[1024], quoted[PATH_MAX];
    struct mount_entry below;
    cli_quote(t->path, quoted, sizeof quoted);
    if (mount_table_below(t->path, &below) == 0)
        return cli_fail(LFS_EXIT_BUSY, "%s is busy: another file system is mounted below it", quoted);
    if (mount_holders(t->path, holders, sizeof holders))
        return cli_fail(LFS_EXIT_BUSY, "%s is busy: %s", quoted, holders);
    return cli_fail(LFS_EXIT_BUSY, "%s is busy, or not yours to unmount; no program that you can see uses it",
                    quoted);
}

static int unmount_once(const struct target *t)
{
    if (geteuid() == 0)
        return umount2(t->path, UMOUNT_NOFOLLOW) ? -errno : 0;
    return fusermount(t->path);
}

/* The kernel would wait with what it still has to write, and so may programs that are closing their files. */
static int unmount_frozen(const struct target *t)
{
    char holders[16];
    int r = -EBUSY;
    if (mount_holders(t->path, holders, sizeof holders) == 0)
        mountctl_thaw(t->frozen, 0);
    for (int i = 0; i < THAW_TRIES && r == -EBUSY; i++) {
        if (i)
            nanosleep(&(struct timespec){.tv_nsec = THAW_WAIT_NS}, NULL);
        r = mount_holders(t->path, holders, sizeof holders) == 0 ? unmount_once(t) : -EBUSY;
    }
    return r;
}

static int unmount(const struct target *t)
{
    int r = t->frozen[0] ? unmount_frozen(t) : unmount_once(t);
    if (r == -EBUSY)
        return busy(t);
    if (r == -ENOENT && geteuid() != 0)
        return cli_fail(LFS_EXIT_FAILURE, "the program fusermount3 was not found; install fuse3");
    return r ? cli_fail_err(r, t->path, NULL) : LFS_EXIT_OK;
}

/* ---- the end of the daemon ---- */

static long ms_left(const struct timespec *end)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long ms = (end->tv_sec - now.tv_sec) * 1000 + (end->tv_nsec - now.tv_nsec) / 1000000;
    return ms > 0 ? ms : 0;
}

static bool wait_for_end(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += CLOSE_SECONDS;
    int n;
    do
        n = poll(&p, 1, (int)ms_left(&end));
    while (n < 0 && errno == EINTR);
    return n > 0;
}

/* False only when the journal says so: the volume was left with changes in it. */
static bool closed_cleanly(const char *volume)
{
    char path[PATH_MAX + sizeof JOURNAL_NAME];
    uint8_t slot[JOURNAL_SUPER_BYTES];
    struct journal_super s, newest = {0};
    snprintf(path, sizeof path, "%s/" JOURNAL_NAME, volume);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    for (unsigned i = 0; fd >= 0 && i < 2; i++)
        if (io_pread(fd, slot, sizeof slot, (uint64_t)i * JOURNAL_SLOT_BYTES) == sizeof slot &&
            journal_super_decode(slot, NULL, &s) == 0 && s.counter >= newest.counter)
            newest = s;
    return newest.ring_bytes == 0;
}

static bool is_mounted_again(const char *volume)
{
    char journal[PATH_MAX + sizeof JOURNAL_NAME];
    snprintf(journal, sizeof journal, "%s/" JOURNAL_NAME, volume);
    return file_lock_holder(journal) != 0;
}

static int wait_closed(const struct target *t)
{
    char quoted[PATH_MAX];
    cli_quote(t->path, quoted, sizeof quoted);
    if (t->daemon < 0)
        return LFS_EXIT_OK;
    if (!wait_for_end(t->daemon))
        return cli_fail(LFS_EXIT_BUSY, "%s is unmounted, but latchfs has not closed the volume after %d s",
                        quoted, CLOSE_SECONDS);
    if (!t->read_only && t->volume[0] && !closed_cleanly(t->volume) && !is_mounted_again(t->volume))
        return cli_fail(LFS_EXIT_IO,
                        "%s is unmounted, but changes are left in the journal (the system log says why); "
                        "the next mount puts them in place",
                        quoted);
    return LFS_EXIT_OK;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{0}};
    CLEANUP(target_clear) struct target t = {.daemon = -1};
    int c = getopt_long(argc, argv, ":", options, NULL);
    if (c != -1)
        return cli_bad_option(&cmd_umount, c, argv);
    int code = cli_want_args(&cmd_umount, argc, 1, 1);
    if (code == LFS_EXIT_OK)
        code = find_target(argv[optind], &t);
    if (code == LFS_EXIT_OK)
        code = unmount(&t);
    return code == LFS_EXIT_OK ? wait_closed(&t) : code;
}

const struct command cmd_umount = {
    .name = "umount",
    .synopsis = "MOUNTPOINT",
    .summary = "unmount, and wait until the volume is closed",
    .help = "When it returns, everything is on the disk and the volume can be mounted or copied. A busy "
            "mount is\n"
            "left as it is; the error names the programs that use it.\n",
    .run = run,
};
