#include "latchfs/unmount.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static int run_fusermount(const char *mountpoint, bool lazy)
{
    const char *args[] = {
        "fusermount3", "-u", "-q", lazy ? "-z" : "--", lazy ? "--" : mountpoint, lazy ? mountpoint : NULL,
        NULL};
    posix_spawnattr_t attr;
    sigset_t none;
    pid_t pid;
    int status;
    posix_spawnattr_init(&attr);
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    int err = posix_spawnp(&pid, args[0], NULL, &attr, (char *const *)(const void *)args, environ);
    posix_spawnattr_destroy(&attr);
    if (err)
        return -err;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

int unmount_path(const char *mountpoint, bool lazy)
{
    if (geteuid() == 0)
        return umount2(mountpoint, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) ? -errno : 0;
    return run_fusermount(mountpoint, lazy);
}
