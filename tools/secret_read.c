#include "secret_read.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void locked_freep(char **p)
{
    locked_free(*p);
    *p = NULL;
}

static long ms_left(const struct timespec *end)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (end->tv_sec - now.tv_sec) * 1000 + (end->tv_nsec - now.tv_nsec) / 1000000;
}

ssize_t secret_read_fd(int fd, char *buf, size_t len, const struct timespec *end)
{
    size_t n = 0;
    for (;;) {
        char extra;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        long ms = end ? ms_left(end) : -1;
        if (end && ms <= 0)
            return LFS_ERR_TIMEOUT;
        int ready = poll(&p, 1, (int)ms);
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (ready <= 0)
            continue;
        ssize_t got = n < len ? read(fd, buf + n, len - n) : read(fd, &extra, 1);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return (ssize_t)n;
        if (n == len)
            return -E2BIG;
        n += (size_t)got;
    }
}

ssize_t secret_read_path(const char *path, char *buf, size_t len)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    return fd < 0 ? -errno : secret_read_fd(fd, buf, len, NULL);
}

int secret_parse_fd(const char *text)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || *end || end == text || v < 0 || v > INT_MAX || fcntl((int)v, F_GETFD) < 0)
        return -1;
    return (int)v;
}

static pid_t start_command(const char *command, int *out)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        if (dup2(ends[1], STDOUT_FILENO) >= 0)
            execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int err = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -err;
    }
    *out = ends[0];
    return pid;
}

ssize_t secret_read_command(const char *command, char *buf, size_t len)
{
    AUTO_CLOSE int fd = -1;
    pid_t pid = start_command(command, &fd);
    if (pid < 0)
        return pid;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += SECRET_COMMAND_SECONDS;
    ssize_t n = secret_read_fd(fd, buf, len, &end);
    if (n < 0)
        kill(pid, SIGKILL);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (n >= 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        return -ECHILD;
    return n;
}
