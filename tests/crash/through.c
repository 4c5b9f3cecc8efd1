/* Shows a directory as it is: through DIRECTORY MOUNTPOINT [FUSE OPTIONS]. A program that the recorder can't
 * be preloaded into works on the mount, and the recorder is preloaded into this one (compare). */
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

static char root[PATH_MAX];

/* Paths below the root, in a buffer of this thread's own; two at a time. */
static const char *below(const char *path)
{
    static _Thread_local char buf[2][PATH_MAX];
    static _Thread_local int turn;
    turn = !turn;
    snprintf(buf[turn], PATH_MAX, "%s%s", root, path);
    return buf[turn];
}

static int answer(long r)
{
    return r < 0 ? -errno : (int)r;
}

static int t_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    return answer(fi ? fstat((int)fi->fh, st) : lstat(below(path), st));
}

static int t_readlink(const char *path, char *buf, size_t size)
{
    ssize_t n = readlink(below(path), buf, size - 1);
    if (n < 0)
        return -errno;
    buf[n] = '\0';
    return 0;
}

static int t_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t at, struct fuse_file_info *fi,
                     enum fuse_readdir_flags flags)
{
    DIR *d = opendir(below(path));
    struct dirent *e;
    if (!d)
        return -errno;
    while ((e = readdir(d)))
        fill(buf, e->d_name, NULL, 0, 0);
    closedir(d);
    return 0;
}

static int t_mknod(const char *path, mode_t mode, dev_t dev)
{
    return answer(mknod(below(path), mode, dev));
}

static int t_mkdir(const char *path, mode_t mode)
{
    return answer(mkdir(below(path), mode));
}

static int t_unlink(const char *path)
{
    return answer(unlink(below(path)));
}

static int t_rmdir(const char *path)
{
    return answer(rmdir(below(path)));
}

static int t_symlink(const char *target, const char *path)
{
    return answer(symlink(target, below(path)));
}

static int t_rename(const char *from, const char *to, unsigned flags)
{
    return answer(renameat2(AT_FDCWD, below(from), AT_FDCWD, below(to), flags));
}

static int t_link(const char *from, const char *to)
{
    return answer(link(below(from), below(to)));
}

static int t_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    return answer(chmod(below(path), mode));
}

static int t_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
    return answer(lchown(below(path), uid, gid));
}

static int t_utimens(const char *path, const struct timespec ts[2], struct fuse_file_info *fi)
{
    return answer(utimensat(AT_FDCWD, below(path), ts, AT_SYMLINK_NOFOLLOW));
}

static int t_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    int fd = fi ? (int)fi->fh : open(below(path), O_WRONLY | O_CLOEXEC);
    int r = answer(fd < 0 ? -1 : ftruncate(fd, size));
    if (!fi && fd >= 0)
        close(fd);
    return r;
}

static int t_open(const char *path, struct fuse_file_info *fi)
{
    int fd = open(below(path), fi->flags | O_CLOEXEC);
    fi->fh = (uint64_t)fd;
    return fd < 0 ? -errno : 0;
}

static int t_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    int fd = open(below(path), fi->flags | O_CREAT | O_CLOEXEC, mode);
    fi->fh = (uint64_t)fd;
    return fd < 0 ? -errno : 0;
}

static int t_read(const char *path, char *buf, size_t size, off_t at, struct fuse_file_info *fi)
{
    return answer(pread((int)fi->fh, buf, size, at));
}

static int t_write(const char *path, const char *buf, size_t size, off_t at, struct fuse_file_info *fi)
{
    return answer(pwrite((int)fi->fh, buf, size, at));
}

static int t_statfs(const char *path, struct statvfs *s)
{
    return answer(statvfs(below(path), s));
}

static int t_release(const char *path, struct fuse_file_info *fi)
{
    return answer(close((int)fi->fh));
}

static int t_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
    return answer(datasync ? fdatasync((int)fi->fh) : fsync((int)fi->fh));
}

static int t_fsyncdir(const char *path, int datasync, struct fuse_file_info *fi)
{
    int fd = open(below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = answer(fd < 0 ? -1 : fsync(fd));
    if (fd >= 0)
        close(fd);
    return r;
}

static int t_fallocate(const char *path, int mode, off_t at, off_t len, struct fuse_file_info *fi)
{
    return answer(fallocate((int)fi->fh, mode, at, len));
}

static int t_setxattr(const char *path, const char *name, const char *value, size_t size, int flags)
{
    return answer(lsetxattr(below(path), name, value, size, flags));
}

static int t_getxattr(const char *path, const char *name, char *value, size_t size)
{
    return answer(lgetxattr(below(path), name, value, size));
}

static int t_listxattr(const char *path, char *list, size_t size)
{
    return answer(llistxattr(below(path), list, size));
}

static int t_removexattr(const char *path, const char *name)
{
    return answer(lremovexattr(below(path), name));
}

static const struct fuse_operations operations = {
    .getattr = t_getattr,
    .readlink = t_readlink,
    .readdir = t_readdir,
    .mknod = t_mknod,
    .mkdir = t_mkdir,
    .unlink = t_unlink,
    .rmdir = t_rmdir,
    .symlink = t_symlink,
    .rename = t_rename,
    .link = t_link,
    .chmod = t_chmod,
    .chown = t_chown,
    .utimens = t_utimens,
    .truncate = t_truncate,
    .open = t_open,
    .create = t_create,
    .read = t_read,
    .write = t_write,
    .statfs = t_statfs,
    .release = t_release,
    .fsync = t_fsync,
    .fsyncdir = t_fsyncdir,
    .fallocate = t_fallocate,
    .setxattr = t_setxattr,
    .getxattr = t_getxattr,
    .listxattr = t_listxattr,
    .removexattr = t_removexattr,
};

int main(int argc, char **argv)
{
    if (argc < 3 || !realpath(argv[1], root)) {
        fputs("usage: through DIRECTORY MOUNTPOINT [FUSE OPTIONS]\n", stderr);
        return 2;
    }
    umask(0);
    argv[1] = argv[0];
    return fuse_main(argc - 1, argv + 1, &operations, NULL);
}
