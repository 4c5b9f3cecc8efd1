#include "recovery.h"

#include "cli.h"
#include "terminal.h"
#include "volume_files.h"

#include "latchfs/buf.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

int recovery_prepare(const char *path, int *fd)
{
    if (!path) {
        AUTO_CLOSE int tty = terminal_open();
        if (tty >= 0)
            return LFS_EXIT_OK;
        return cli_fail(
            LFS_EXIT_USAGE,
            "there is no terminal to show the recovery key on; name a file for it (see the command's help)");
    }
    int made = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (made < 0)
        return cli_fail_err(-errno, path, errno == EEXIST ? "name a new file for the recovery key" : NULL);
    *fd = made;
    return LFS_EXIT_OK;
}

static size_t text_len(const struct secret *key)
{
    return strnlen((const char *)secret_const(key), secret_len(key));
}

/* writev from locked memory: no copy of the key in a stdio buffer. */
static int write_parts(int fd, const char *before, const struct secret *key, const char *after)
{
    struct iovec parts[3] = {
        {(void *)(uintptr_t)before, strlen(before)},
        {(void *)(uintptr_t)secret_const(key), text_len(key)},
        {(void *)(uintptr_t)after, strlen(after)},
    };
    size_t want = parts[0].iov_len + parts[1].iov_len + parts[2].iov_len;
    ssize_t n = writev(fd, parts, 3);
    if (n < 0)
        return -errno;
    return (size_t)n == want ? 0 : -EIO;
}

static int show(const struct secret *key)
{
    AUTO_CLOSE int tty = terminal_open();
    if (tty < 0)
        return cli_fail_err(tty, "the terminal", NULL);
    int r = write_parts(tty, "\n---------------- recovery key ----------------\n\n", key,
                        "\n\n----------------------------------------------\n"
                        "It opens the volume when the passphrase is lost, and is shown only this once.\n"
                        "Write it down and keep it apart from the volume.\n\n");
    return r ? cli_fail_err(r, "the terminal", NULL) : LFS_EXIT_OK;
}

int recovery_hand_out(const char *path, int fd, const struct secret *key)
{
    if (!path)
        return show(key);
    int r = write_parts(fd, "", key, "\n");
    if (!r)
        r = io_fsync(fd);
    if (!r)
        r = sync_parent_dir(path);
    return r ? cli_fail_err(r, path, "the recovery key is not saved") : LFS_EXIT_OK;
}

void recovery_abandon(const char *path, int fd)
{
    if (path && fd >= 0)
        unlink(path);
}
