/* Finding keyd's socket, trusting it, starting keyd on demand. */
#include "client.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIES 5

static _Thread_local char connect_message[PROTO_TEXT_MAX + 1];

const char *keyclient_connect_message(void)
{
    return connect_message;
}

int keyclient_default_socket(char path[static 108])
{
    const char *set = getenv("LATCH_KEYD_SOCKET"), *run = getenv("XDG_RUNTIME_DIR");
    int n;
    if (set && set[0])
        n = snprintf(path, 108, "%s", set);
    else if (geteuid() == 0)
        n = snprintf(path, 108, "/run/latchfs/keyd.sock");
    else if (run && run[0] == '/')
        n = snprintf(path, 108, "%s/latchfs/keyd.sock", run);
    else
        n = snprintf(path, 108, "/tmp/latchfs-%u/keyd.sock", (unsigned)geteuid());
    return n < 0 || n >= 108 ? -ENAMETOOLONG : 0;
}

int client_check_directory(const char *path, char *why)
{
    char dir[108];
    struct stat st;
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (!slash || slash == dir || path[0] != '/')
        return LFS_ERR_MISUSE;
    *slash = '\0';
    if (mkdir(dir, 0700) && errno != EEXIST && errno != EACCES && errno != EROFS)
        return -errno;
    if (lstat(dir, &st))
        return -errno;
    if (S_ISDIR(st.st_mode) && (st.st_uid == geteuid() || st.st_uid == 0) && !(st.st_mode & 022))
        return 0;
    snprintf(why, PROTO_TEXT_MAX,
             "the directory of the socket, %s, belongs to another user or is open to others", dir);
    return LFS_ERR_DENIED;
}

static int check_peer(int fd, char *why)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
        return -errno;
    if (peer.uid == geteuid() || peer.uid == 0)
        return 0;
    snprintf(why, PROTO_TEXT_MAX, "the socket is served by another user (uid %u)", (unsigned)peer.uid);
    return LFS_ERR_DENIED;
}

int client_dial(const char *path, int *out, char *why)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path)
        return -ENAMETOOLONG;
    memcpy(a.sun_path, path, strlen(path));
    int r = client_check_directory(path, why);
    if (r)
        return r;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    for (int i = 0; connect(fd, (struct sockaddr *)&a, sizeof a); i++) {
        if (errno != EAGAIN || i == 200) /* EAGAIN: the queue of connections is full for now */
            return -errno;
        poll(NULL, 0, 10);
    }
    r = check_peer(fd, why);
    if (r)
        return r;
    *out = fd;
    fd = -1;
    return 0;
}

/* Between fork and exec: only what is safe after a fork of a program with threads. */
static _Noreturn void become_keyd(const char *path, const char *program, int ready)
{
    const char *const argv[] = {program, "--socket", path, "--ready-fd", "3", NULL};
    int null = open("/dev/null", O_RDWR);
    if (setsid() < 0 || null < 0)
        _exit(1);
    pid_t pid = fork(); /* not a session leader, and nobody's child */
    if (pid)
        _exit(pid < 0);
    int high = fcntl(ready, F_DUPFD, 10);
    if (high < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || dup2(high, 3) < 0)
        _exit(1);
    close_range(4, ~0u, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(program, (char *const *)(uintptr_t)argv);
    static const char sorry[] = "the program cannot be run";
    ssize_t ignored = write(3, sorry, sizeof sorry - 1);
    (void)ignored;
    _exit(127);
}

/* keyd writes one line on ready, "ok" or why it cannot start, and closes it. */
static int wait_ready(int ready, int64_t until, char *why)
{
    char line[PROTO_TEXT_MAX];
    size_t n = 0;
    for (;;) {
        int64_t left = until - client_now_ms();
        struct pollfd p = {.fd = ready, .events = POLLIN};
        int polled = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (polled == 0)
            return LFS_ERR_TIMEOUT;
        if (polled < 0 && errno != EINTR)
            return -errno;
        ssize_t got = polled > 0 ? read(ready, line + n, sizeof line - 1 - n) : 0;
        if (polled > 0 && got <= 0)
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    line[n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, "ok") == 0)
        return 0;
    snprintf(why, PROTO_TEXT_MAX, "latch-keyd did not start: %.300s",
             line[0] ? line : "it ended without a word");
    return -ENOTCONN;
}

static int spawn(const char *path, const char *program, int64_t until, char *why)
{
    int p[2];
    if (pipe2(p, O_CLOEXEC))
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        become_keyd(path, program, p[1]);
    int err = errno;
    close(p[1]);
    AUTO_CLOSE int ready = p[0];
    if (pid < 0)
        return -err;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return wait_ready(ready, until, why);
}

static int lock_starting(const char *path, int64_t until, int *out)
{
    char name[128];
    snprintf(name, sizeof name, "%s.start", path);
    AUTO_CLOSE int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    while (flock(fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (client_now_ms() >= until)
            return LFS_ERR_TIMEOUT;
        poll(NULL, 0, 20);
    }
    *out = fd;
    fd = -1;
    return 0;
}

int client_start_keyd(const char *path, const char *program, int64_t until_ms, char *why)
{
    AUTO_CLOSE int lock = -1;
    AUTO_CLOSE int probe = -1;
    int r = lock_starting(path, until_ms, &lock);
    if (r)
        return r;
    if (client_dial(path, &probe, why) == 0)
        return 0; /* somebody was faster */
    return spawn(path, program, until_ms, why);
}

static bool nobody_there(int err)
{
    return err == -ENOENT || err == -ECONNREFUSED || err == -ENOTCONN || err == -ECONNRESET;
}

/* Connected, and answered: a keyd that is just ending does not. */
static int try_connect(const char *path, int deadline_ms, struct keyclient **out)
{
    int fd, r = client_dial(path, &fd, connect_message);
    CLEANUP(keyclient_freep) struct keyclient *kc = NULL;
    if (!r)
        r = client_new(fd, deadline_ms, &kc);
    if (r)
        return r;
    struct proto_msg hello = {.type = P_HELLO}, reply = {0};
    r = client_call(kc, &hello, &reply);
    if (r) {
        snprintf(connect_message, sizeof connect_message, "%s", kc->message);
        return r;
    }
    kc->wait_s = reply.wait_s;
    *out = kc;
    kc = NULL;
    return 0;
}

int keyclient_connect(const struct keyclient_options *o, struct keyclient **out)
{
    char path[108];
    int deadline = o->deadline_ms > 0 ? o->deadline_ms : CLIENT_DEADLINE_MS;
    int64_t until = client_now_ms() + deadline;
    connect_message[0] = '\0';
    int r = o->socket_path ? 0 : keyclient_default_socket(path);
    if (o->socket_path && snprintf(path, sizeof path, "%s", o->socket_path) >= (int)sizeof path)
        r = -ENAMETOOLONG;
    for (int i = 0; !r && i < TRIES; i++) {
        r = try_connect(path, deadline, out);
        if (!nobody_there(r))
            return r;
        if (!o->keyd_path)
            return r == -ENOENT ? r : -ECONNREFUSED;
        r = client_start_keyd(path, o->keyd_path, until, connect_message);
    }
    return r ? r : -ECONNREFUSED;
}
