#include "fs/mount/unlock.h"

#include "config.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Beside this program, where it is installed together; else where it was meant to be. */
static void find_latch(char path[static PATH_MAX])
{
    char self[PATH_MAX - 8];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        char *slash = strrchr(self, '/');
        snprintf(path, PATH_MAX, "%.*s/latch", (int)(slash - self), self);
        if (access(path, X_OK) == 0)
            return;
    }
    snprintf(path, PATH_MAX, "%s/latch", LATCHFS_BINDIR);
}

static _Noreturn void exec_latch(const struct options *o, const char *latch, const char *volume_path)
{
    static const char *const switches[] = {
        [UNLOCK_PASSPHRASE_FILE] = "--passphrase-file",
        [UNLOCK_KEYFILE] = "--keyfile",
        [UNLOCK_RECOVERY_FILE] = "--recovery-file",
        [UNLOCK_IDENTITY] = "--identity",
        [UNLOCK_COMMAND] = "--command",
    };
    if (o->keyd_socket)
        setenv("LATCH_KEYD_SOCKET", o->keyd_socket, 1);
    execl(latch, "latch", "unlock", switches[o->unlock], o->unlock_with, "--", volume_path, (char *)NULL);
    log_error("%s: %s", latch, strerrordesc_np(errno));
    _exit(LFS_EXIT_FAILURE);
}

int unlock_volume(const struct options *o, const char *volume_path, int *exit_code)
{
    char latch[PATH_MAX];
    int status;
    if (o->unlock == UNLOCK_NOT)
        return 0;
    find_latch(latch);
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        exec_latch(o, latch, volume_path);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    *exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : LFS_EXIT_FAILURE;
    return *exit_code ? LFS_ERR_NOKEY : 0;
}
