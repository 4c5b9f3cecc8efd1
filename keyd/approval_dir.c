#include "approval_dir.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECTORY "approvals"
#define FILES_MAX 1024u

int approval_dir_open(int statedir, int *out)
{
    struct stat st;
    if (mkdirat(statedir, DIRECTORY, 0700) && errno != EEXIST)
        return -errno;
    AUTO_CLOSE int fd = openat(statedir, DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st))
        return -errno;
    if (st.st_uid != geteuid() || st.st_mode & 022)
        return LFS_ERR_DENIED;
    *out = fd;
    fd = -1;
    return 0;
}

static int read_one(int dir, const char *name, struct approval *out)
{
    struct stat st;
    AUTO_FREE char *text = NULL;
    size_t len;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    if (st.st_uid != geteuid() || st.st_mode & 077)
        return LFS_ERR_DENIED;
    int r = io_read_file(dir, name, APPROVAL_FILE_MAX, &text, &len);
    if (!r)
        r = approval_decode(text, len, out);
    return r || strcmp(out->id, name) == 0 ? r : LFS_ERR_CORRUPT;
}

struct reader {
    int dir;
    struct approval *out;
    unsigned count, max;
    unsigned left_out;
    int last; /* why the last one was */
};

static void take_file(struct reader *rd, const char *name)
{
    if (strncmp(name, "latchfs.tmp.", 12) == 0) { /* of a write that was cut short */
        unlinkat(rd->dir, name, 0);
        return;
    }
    int r = rd->count < rd->max ? read_one(rd->dir, name, &rd->out[rd->count]) : LFS_ERR_BUSY;
    if (r) {
        rd->left_out++;
        rd->last = r;
    } else {
        rd->count++;
    }
}

static int read_all(struct reader *rd, DIR *d)
{
    unsigned files = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (++files > FILES_MAX)
            return LFS_ERR_CORRUPT;
        take_file(rd, e->d_name);
    }
    return 0;
}

int approval_dir_read(int dir, struct approval *out, unsigned max, unsigned *count)
{
    struct reader rd = {.dir = dir, .out = out, .max = max};
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int err = errno;
        if (fd >= 0)
            close(fd);
        return -err;
    }
    int r = read_all(&rd, d);
    closedir(d);
    if (rd.left_out)
        log_warn("approvals: %u files in the state directory are left out, one for: %s", rd.left_out,
                 lfs_strerror(rd.last));
    if (!r)
        *count = rd.count;
    return r;
}

int approval_dir_keep(int dir, const struct approval *p)
{
    char text[APPROVAL_FILE_MAX];
    return io_replace_file(dir, p->id, text, approval_encode(p, text), 0600);
}

int approval_dir_remove(int dir, const char *id)
{
    if (unlinkat(dir, id, 0) && errno != ENOENT)
        return -errno;
    return io_fsync(dir);
}
