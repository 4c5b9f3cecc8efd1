#include "fs/store/journal_lock.h"
#include "fs/store/journal_int.h"

#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

/* What the bytes of the journal file stand for. */
enum { TOKEN_AT, WANT_AT, SHARED_AT, ALONE_AT };

static int lock_byte(int fd, int at, short type)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    if (fcntl(fd, F_OFD_SETLK, &l) == 0)
        return 0;
    return errno == EAGAIN || errno == EACCES ? LFS_ERR_BUSY : -errno;
}

/* Another open file has a lock on the byte. */
static bool is_locked(int fd, int at)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

/* Shared mounts and all others: each says first that it is there, then looks for the other kind. So of two
 * that come together at least one sees the other. */
static int lock_kind(int fd, int own, int other)
{
    int r = lock_byte(fd, own, F_RDLCK);
    return !r && is_locked(fd, other) ? LFS_ERR_BUSY : r;
}

int journal_lock_use(int fd, enum journal_mode mode)
{
    if (mode == JOURNAL_SHARED)
        return lock_kind(fd, SHARED_AT, ALONE_AT);
    if (flock(fd, (mode == JOURNAL_WRITE ? LOCK_EX : LOCK_SH) | LOCK_NB))
        return errno == EWOULDBLOCK ? LFS_ERR_BUSY : -errno;
    /* Where there are no such locks there are no shared mounts. */
    return lock_kind(fd, ALONE_AT, SHARED_AT) == LFS_ERR_BUSY ? LFS_ERR_BUSY : 0;
}

int journal_token_try(const struct journal *j, bool *asked)
{
    int r = *asked ? 0 : lock_byte(j->fd, WANT_AT, F_WRLCK);
    if (r)
        return r;
    *asked = true;
    r = lock_byte(j->fd, TOKEN_AT, F_WRLCK);
    if (!r)
        journal_token_give_up(j, asked);
    return r;
}

void journal_token_give_up(const struct journal *j, bool *asked)
{
    if (*asked)
        lock_byte(j->fd, WANT_AT, F_UNLCK);
    *asked = false;
}

void journal_token_release(const struct journal *j)
{
    lock_byte(j->fd, TOKEN_AT, F_UNLCK);
}

bool journal_token_wanted(const struct journal *j)
{
    return is_locked(j->fd, WANT_AT);
}

bool journal_is_alone(const struct journal *j)
{
    return !is_locked(j->fd, SHARED_AT);
}
