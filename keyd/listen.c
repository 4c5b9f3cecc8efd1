#include "listen.h"

#include "client.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ENDING_MS 5000 /* for which another keyd, just ending, is waited for */

static int take_lock(const char *path, int *out, char *why)
{
    char name[128];
    snprintf(name, sizeof name, "%s.lock", path);
    int64_t until = client_now_ms() + ENDING_MS;
    AUTO_CLOSE int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    while (flock(fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (client_now_ms() >= until) {
            snprintf(why, PROTO_TEXT_MAX, "another latch-keyd serves %s", path);
            return LFS_ERR_BUSY;
        }
        poll(NULL, 0, 20);
    }
    *out = fd;
    fd = -1;
    return 0;
}

/* Who may connect is decided by credentials (conn.c); the modes are a second fence. */
static int open_modes(const char *path)
{
    char dir[108];
    struct stat st;
    snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = '\0';
    if (stat(dir, &st) || (st.st_uid == geteuid() && chmod(dir, 0711)))
        return -errno;
    return chmod(path, 0666) ? -errno : 0;
}

static int bind_here(struct listen *l, bool open_to_others)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, l->path, sizeof a.sun_path);
    l->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return -errno;
    if (unlink(l->path) && errno != ENOENT)
        return -errno;
    mode_t was = umask(0177);
    int r = bind(l->fd, (struct sockaddr *)&a, sizeof a) ? -errno : 0;
    umask(was);
    if (!r && open_to_others)
        r = open_modes(l->path);
    if (!r && listen(l->fd, SOMAXCONN))
        r = -errno;
    return r;
}

int listen_open(const char *path, bool open_to_others, struct listen *out, char *why)
{
    struct listen l = {.lock = -1, .fd = -1};
    if (strlen(path) >= sizeof l.path)
        return -ENAMETOOLONG;
    snprintf(l.path, sizeof l.path, "%s", path);
    int r = client_check_directory(path, why);
    if (!r)
        r = take_lock(path, &l.lock, why);
    if (!r)
        r = bind_here(&l, open_to_others);
    if (r) {
        if (l.fd >= 0)
            close(l.fd);
        if (l.lock >= 0)
            close(l.lock);
        return r;
    }
    *out = l;
    return 0;
}

void listen_close(struct listen *l)
{
    unlink(l->path);
    close(l->fd);
    close(l->lock);
}
