#include "command_run.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IN, OUT, ERR, STREAMS };

struct running {
    struct command_run *r;
    pid_t pid;
    int pidfd;
    int fd[STREAMS]; /* our ends; -1 when closed */
    size_t written, err_len;
};

static void running_clear(struct running *p)
{
    for (int i = 0; i < STREAMS; i++)
        lfs_close_fd(&p->fd[i]);
    lfs_close_fd(&p->pidfd);
}

/* ---- the child ---- */

static void reset_signals(void)
{
    sigset_t none;
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Whatever fails here shows as an exit code of 127: there is no other way to say it. */
static _Noreturn void become(const struct command_run *r, const int ends[static STREAMS], pid_t parent)
{
    if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
        _exit(127);
    for (int i = 0; i < STREAMS; i++)
        if (dup2(ends[i], i) < 0)
            _exit(127);
    if (close_range(STREAMS, ~0U, 0) || chdir("/"))
        _exit(127);
    umask(077);
    reset_signals();
    execve(r->path, r->argv, r->env);
    _exit(127);
}

/* ---- starting ---- */

/* pair[i]: the child's end of stream i. Ends above the standard descriptors, so that dup2 hits none. */
static int open_pipe(struct running *p, int stream, int *child)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return -errno;
    int mine = ends[stream == IN], theirs = ends[stream != IN];
    p->fd[stream] = mine;
    *child = fcntl(theirs, F_DUPFD_CLOEXEC, STREAMS);
    int err = *child < 0 || fcntl(mine, F_SETFL, O_NONBLOCK) ? -errno : 0;
    close(theirs);
    return err;
}

static int start(struct running *p)
{
    int ends[STREAMS] = {-1, -1, -1}, r = 0;
    for (int i = 0; !r && i < STREAMS; i++)
        r = open_pipe(p, i, &ends[i]);
    pid_t self = getpid();
    p->pid = r ? -1 : fork();
    if (p->pid == 0)
        become(p->r, ends, self);
    if (!r && p->pid < 0)
        r = -errno;
    for (int i = 0; i < STREAMS; i++)
        lfs_close_fd(&ends[i]);
    if (r)
        return r;
    p->pidfd = pidfd_open(p->pid, 0);
    return p->pidfd < 0 ? -errno : 0;
}

/* ---- talking ---- */

/* A program that does not read what it is given has its own reasons: EPIPE is no error. */
static void feed(struct running *p)
{
    const char *from = (const char *)p->r->in + p->written;
    ssize_t n = write(p->fd[IN], from, p->r->in_len - p->written);
    if (n > 0)
        p->written += (size_t)n;
    if ((n < 0 && errno != EAGAIN && errno != EINTR) || p->written == p->r->in_len)
        lfs_close_fd(&p->fd[IN]);
}

static int take_out(struct running *p)
{
    struct command_run *r = p->r;
    char extra;
    bool full = r->out_len == r->out_max;
    ssize_t n =
        full ? read(p->fd[OUT], &extra, 1) : read(p->fd[OUT], r->out + r->out_len, r->out_max - r->out_len);
    if (n > 0 && full)
        return -E2BIG;
    if (n > 0)
        r->out_len += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        lfs_close_fd(&p->fd[OUT]);
    return 0;
}

static void take_err(struct running *p)
{
    char more[512];
    ssize_t n = read(p->fd[ERR], more, sizeof more);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        lfs_close_fd(&p->fd[ERR]);
    size_t room = COMMAND_ERR_MAX - p->err_len;
    size_t keep = n <= 0 ? 0 : (size_t)n < room ? (size_t)n : room;
    memcpy(p->r->err + p->err_len, more, keep);
    p->err_len += keep;
}

static long ms_left(const struct timespec *end)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (end->tv_sec - now.tv_sec) * 1000 + (end->tv_nsec - now.tv_nsec) / 1000000;
}

/* What the program left in the pipes; a process that it left behind may keep them open. */
static int drain(struct running *p)
{
    int r = 0;
    size_t before;
    do {
        before = p->r->out_len;
        if (p->fd[OUT] >= 0)
            r = take_out(p);
    } while (!r && p->fd[OUT] >= 0 && p->r->out_len != before);
    do {
        before = p->err_len;
        if (p->fd[ERR] >= 0)
            take_err(p);
    } while (p->fd[ERR] >= 0 && p->err_len != before);
    return r;
}

static int talk(struct running *p)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += p->r->seconds;
    for (;;) {
        struct pollfd f[] = {{.fd = p->fd[IN], .events = POLLOUT},
                             {.fd = p->fd[OUT], .events = POLLIN},
                             {.fd = p->fd[ERR], .events = POLLIN},
                             {.fd = p->pidfd, .events = POLLIN}};
        long ms = ms_left(&end);
        if (ms <= 0)
            return LFS_ERR_TIMEOUT;
        if (poll(f, sizeof f / sizeof f[0], (int)ms) < 0 && errno != EINTR)
            return -errno;
        if (f[IN].revents)
            feed(p);
        int r = f[OUT].revents ? take_out(p) : 0;
        if (!r && f[ERR].revents)
            take_err(p);
        if (r || f[STREAMS].revents)
            return r ? r : drain(p);
    }
}

/* The group first: while its leader is not reaped, the number cannot be another's. */
static void finish(struct running *p)
{
    if (p->pid <= 0)
        return;
    kill(-p->pid, SIGKILL);
    kill(p->pid, SIGKILL);
    while (waitpid(p->pid, &p->r->status, 0) < 0 && errno == EINTR)
        ;
}

int command_run(struct command_run *r)
{
    CLEANUP(running_clear) struct running p = {.r = r, .pidfd = -1, .fd = {-1, -1, -1}};
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    r->out_len = 0;
    sigaction(SIGPIPE, &ignore, &before);
    int err = start(&p);
    if (!err)
        err = talk(&p);
    finish(&p);
    sigaction(SIGPIPE, &before, NULL);
    r->err[p.err_len] = '\0';
    return err;
}
