#include "alert_helper.h"

#include "alert.h"
#include "latchfs/buf.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SOCKET_FD 3
#define SECOND 1000

struct helper {
    const char *command;
    int64_t gone; /* when keyd was found gone, in milliseconds; 0: it is there */
    int64_t minute;
    unsigned runs; /* in this minute */
    unsigned left_out;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void run_command(const char *command, int in)
{
    static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    char *const env[] = {path, NULL};
    char *const argv[] = {strdup(command), NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0);
    if (argv[0] && dup2(in, STDIN_FILENO) == STDIN_FILENO)
        execve(command, argv, env);
    _exit(127);
}

/* Waits for the end of the run, or until its time is over; then ends all of its process group. */
static void await(struct helper *h, pid_t pid)
{
    AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int64_t end = now_ms() + ALERT_RUN_S * SECOND;
    for (int64_t now = now_ms(); pidfd >= 0 && now < end; now = now_ms()) {
        struct pollfd p[] = {{.fd = pidfd, .events = POLLIN}, {.fd = h->gone ? -1 : SOCKET_FD}};
        if (poll(p, 2, (int)(end - now)) > 0 && p[0].revents)
            break;
        if (p[1].revents & (POLLHUP | POLLERR)) {
            h->gone = now;
            end = end < now + ALERT_END_S * SECOND ? end : now + ALERT_END_S * SECOND;
        }
    }
    kill(-pid, SIGKILL); /* before the leader is reaped: its number is still its own */
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static void run(struct helper *h, const char *json, size_t len)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return;
    pid_t pid = fork();
    if (pid == 0)
        run_command(h->command, ends[0]);
    close(ends[0]);
    if (pid > 0) {
        setpgid(pid, pid); /* here as well: whoever comes first */
        while (len > 0) {  /* less than a pipe holds: does not block */
            ssize_t n = write(ends[1], json, len);
            if (n <= 0)
                break;
            json += n;
            len -= (size_t)n;
        }
    }
    close(ends[1]);
    if (pid > 0)
        await(h, pid);
}

static bool may_run(struct helper *h)
{
    int64_t now = now_ms();
    if (now - h->minute >= 60 * SECOND) {
        h->minute = now;
        h->runs = 0;
    }
    return h->runs++ < ALERT_RUNS_MINUTE;
}

/* Says in the object how many were left out before it. */
static size_t add_left_out(struct helper *h, char *json, size_t len, size_t size)
{
    if (!h->left_out || len < 2 || len + 40 > size)
        return len;
    int n = snprintf(json + len - 2, size - len + 2, ",\"left_out\":%u}\n", h->left_out);
    h->left_out = 0;
    return len - 2 + (size_t)n;
}

static void serve(struct helper *h)
{
    char json[ALERT_JSON_MAX + 64];
    for (;;) {
        ssize_t n = recv(SOCKET_FD, json, ALERT_JSON_MAX, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || (h->gone && now_ms() - h->gone >= ALERT_END_S * SECOND))
            return;
        if (!may_run(h)) {
            h->left_out++;
            continue;
        }
        run(h, json, add_left_out(h, json, (size_t)n, sizeof json));
    }
}

/* Keeps nothing of its parent but the socket. */
static void become_helper(int fd, const char *command)
{
    struct helper h = {.command = command};
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    prctl(PR_SET_NAME, "keyd-alert");
    setsid();
    for (int s = 1; s < 32; s++)
        sigaction(s, &dfl, NULL);
    signal(SIGPIPE, SIG_IGN);
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; null >= 0 && i < SOCKET_FD; i++)
        dup2(null, i);
    if (dup2(fd, SOCKET_FD) < 0 || fcntl(SOCKET_FD, F_SETFD, FD_CLOEXEC) ||
        close_range(SOCKET_FD + 1, ~0U, 0) || chdir("/"))
        _exit(1);
    serve(&h);
    _exit(0);
}

int alert_helper_start(const char *command, int *fd)
{
    int ends[2], status;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        pid_t second = fork();
        if (second == 0)
            become_helper(ends[1], command);
        _exit(second < 0);
    }
    int r = pid < 0 ? -errno : 0;
    close(ends[1]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid > 0 && (!WIFEXITED(status) || WEXITSTATUS(status)))
        r = -EAGAIN;
    if (r) {
        close(ends[0]);
        return r;
    }
    *fd = ends[0];
    return 0;
}
