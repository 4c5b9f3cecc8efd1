/* Where the log lies, and how a chain begins. */
#include "audit_log.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_NAME "audit.state"
#define FIRST_NAME "audit.first"
#define ENDING_MS 5000 /* for which another keyd, just ending, is waited for */
#define OLD_NAMES_MAX 1000

static int sync_dir(int dir)
{
    AUTO_CLOSE int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : io_fsync(fd);
}

static int check_owner(int fd)
{
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    return S_ISREG(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022) ? 0 : LFS_ERR_DENIED;
}

static int open_log(struct audit *a)
{
    AUTO_CLOSE int fd =
        openat(a->dir, a->name, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    int r = fd < 0 ? -errno : check_owner(fd);
    if (!r)
        r = sync_dir(a->dir);
    if (r)
        return r;
    if (a->fd >= 0)
        close(a->fd);
    a->fd = fd;
    fd = -1;
    a->allocated = 0;
    return 0;
}

/* Two writers would break the chain. */
static int open_state(struct audit *a)
{
    a->state_fd =
        openat(a->statedir, STATE_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    int r = a->state_fd < 0 ? -errno : check_owner(a->state_fd);
    for (int waited = 0; !r && flock(a->state_fd, LOCK_EX | LOCK_NB); waited += 20) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (waited >= ENDING_MS)
            return LFS_ERR_BUSY;
        poll(NULL, 0, 20);
    }
    return r;
}

static int open_dir(struct audit *a, const char *path)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path[0] ? path : "audit.log";
    if (strlen(name) > NAME_MAX || !name[0] || strlen(path) >= sizeof parent)
        return -ENAMETOOLONG;
    snprintf(a->name, sizeof a->name, "%s", name);
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path + (slash == path)) : 1,
             slash ? path : ".");
    a->dir = openat(a->statedir, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return a->dir < 0 ? -errno : 0;
}

/* True if the first line is a record of a chain. */
static int has_chain(const struct audit *a, bool *chain)
{
    AUTO_FREE char *text = NULL;
    struct audit_line l;
    struct stat st;
    *chain = false;
    if (fstat(a->fd, &st))
        return -errno;
    size_t len = st.st_size < AUDIT_LINE_MAX ? (size_t)st.st_size : AUDIT_LINE_MAX;
    if (len == 0)
        return 0;
    text = malloc(len);
    if (!text)
        return -ENOMEM;
    ssize_t n = io_pread(a->fd, text, len, 0);
    if (n < 0)
        return (int)n;
    const char *end = memchr(text, '\n', (size_t)n);
    *chain = end && audit_line_parse(text, (size_t)(end - text), &l);
    return 0;
}

/* audit.log.old, or the first audit.log.old.N that is free. */
static int put_aside(struct audit *a, char *old, size_t size)
{
    for (unsigned i = 1; i < OLD_NAMES_MAX; i++) {
        int n =
            i == 1 ? snprintf(old, size, "%s.old", a->name) : snprintf(old, size, "%s.old.%u", a->name, i);
        if (n < 0 || (size_t)n >= size)
            return -ENAMETOOLONG;
        if (renameat2(a->dir, a->name, a->dir, old, RENAME_NOREPLACE) == 0)
            return open_log(a);
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

static int new_first_key(struct audit *a)
{
    randombytes_buf(a->st.key, sizeof a->st.key);
    return io_replace_file(a->statedir, FIRST_NAME, a->st.key, sizeof a->st.key, 0600);
}

static int first_record(struct audit *a, const char *old)
{
    struct json j = {0};
    char hex[2 * AUDIT_CHAIN_BYTES + 1], detail[NAME_MAX + 40];
    audit_record_begin(a, &j);
    json_string(&j, "act", "audit-begin");
    json_string(&j, "chain", sodium_bin2hex(hex, sizeof hex, a->st.chain, sizeof a->st.chain));
    if (old[0]) {
        snprintf(detail, sizeof detail, "the log before this one is %.255s", old);
        json_string(&j, "detail", detail);
    }
    return audit_record_end(a, &j, true, true);
}

/* The first key is there before the state that needs it, and both before the first record: an end between
 * them leaves an empty log, where the next start begins again. */
int audit_file_begin(struct audit *a, bool had_chain)
{
    char old[NAME_MAX + 1] = "";
    struct stat st;
    int r = fstat(a->fd, &st) ? -errno : 0;
    if (!r && st.st_size > 0)
        r = put_aside(a, old, sizeof old);
    a->st = (struct audit_state){.seq = 1, .synced = 1};
    memcpy(a->st.boot, a->boot, sizeof a->st.boot);
    randombytes_buf(a->st.chain, sizeof a->st.chain);
    if (!r)
        r = new_first_key(a);
    if (!r)
        r = audit_state_store(a->state_fd, &a->st);
    if (!r)
        r = io_fsync(a->state_fd);
    if (!r)
        r = sync_dir(a->statedir);
    if (!r)
        r = first_record(a, old);
    if (!r && had_chain)
        audit_note_add(a, (struct audit_note){.alarm = true,
                                              .text = "the state of the log was missing or unreadable: the "
                                                      "chain begins anew"});
    return r;
}

int audit_file_open(struct audit *a, const char *path)
{
    bool chain = false;
    int r = open_dir(a, path);
    if (!r)
        r = open_state(a);
    if (!r)
        r = open_log(a);
    if (!r)
        r = has_chain(a, &chain);
    if (r)
        return r;
    r = audit_state_load(a->state_fd, &a->st);
    if (r == -ENOENT || r == LFS_ERR_CORRUPT)
        return audit_file_begin(a, chain || r == LFS_ERR_CORRUPT);
    return r ? r : audit_recover(a);
}

int audit_file_reopen(struct audit *a)
{
    return open_log(a);
}

/* ---- the first key, until it is handed out ---- */

bool audit_first_key_there(const struct audit *a)
{
    return faccessat(a->statedir, FIRST_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int audit_first_key(struct audit *a, struct secret **out)
{
    static const uint8_t zeros[LFS_KEY_BYTES];
    AUTO_CLOSE int fd = openat(a->statedir, FIRST_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    CLEANUP(secret_freep) struct secret *key = secret_new(LFS_KEY_BYTES);
    if (!key)
        return -ENOMEM;
    ssize_t n = io_pread(fd, secret_bytes(key), LFS_KEY_BYTES, 0);
    if (n != LFS_KEY_BYTES)
        return n < 0 ? (int)n : LFS_ERR_CORRUPT;
    if (sodium_is_zero(secret_const(key), LFS_KEY_BYTES))
        return -ENOENT;
    int r = io_pwrite(fd, zeros, sizeof zeros, 0);
    if (!r)
        r = io_fdatasync(fd);
    if (r)
        return r;
    /* From here on the key is nowhere else: a name that stays, with zeros behind it, is no reason to lose it.
     */
    if (unlinkat(a->statedir, FIRST_NAME, 0) == 0)
        sync_dir(a->statedir);
    *out = key;
    key = NULL;
    return 0;
}
