/* Copies of directory records, which make a flush needless.
 *
 * A record's name is on disk before the name of its directory, but its content comes when the filesystem
 * likes to write data. An attribute of the directory is metadata: where all metadata goes through one journal
 * it is on disk before the directory's name. So a new directory has its record twice, until a sync has
 * covered the file. */
#include "fs/store/newdirs.h"
#include "fs/store/tree.h"
#include "latchfs/device.h"

#include <errno.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- how metadata reaches the disk ---- */

/* btrfs and F2FS write parts of their metadata apart when a file is synced (docs/DECISIONS.md). */
static enum order order_below(int fd)
{
    struct statfs s;
    struct stat st;
    if (fstatfs(fd, &s) || fstat(fd, &st))
        return ORDER_NONE;
    switch ((uint32_t)s.f_type) {
    case EXT4_SUPER_MAGIC:
        return device_has_ext4_journal(st.st_dev) ? ORDER_ALL : ORDER_NAMES;
    case XFS_SUPER_MAGIC:
    case TMPFS_MAGIC: /* has no disk */
        return ORDER_ALL;
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
        return ORDER_NAMES;
    default:
        return ORDER_NONE;
    }
}

enum order order_of(struct volume *v, int fd)
{
    if (atomic_load(&v->order) == ORDER_UNKNOWN)
        atomic_store(&v->order, order_below(fd));
    return (enum order)atomic_load(&v->order);
}

/* ---- the attribute ---- */

bool copy_read(int fd, uint8_t bytes[static DIRREC_BYTES])
{
    return fgetxattr(fd, DIRREC_COPY, bytes, DIRREC_BYTES) == DIRREC_BYTES;
}

bool copy_is_there(int fd)
{
    return fgetxattr(fd, DIRREC_COPY, NULL, 0) >= 0;
}

/* On a shared volume others could not tell who settles what. */
bool copy_make(struct volume *v, int fd, const uint8_t bytes[static DIRREC_BYTES])
{
    return !v->share && newdirs_have_room(v) && order_of(v, fd) == ORDER_ALL &&
           fsetxattr(fd, DIRREC_COPY, bytes, DIRREC_BYTES, XATTR_CREATE) == 0;
}

/* For attributes of users the kernel looks at the permission bits, whoever has the descriptor. One that stays
 * does no harm. */
void copy_drop(struct volume *v, int fd)
{
    struct stat st;
    if (fremovexattr(fd, DIRREC_COPY) == 0 || errno != EACCES)
        return;
    fd_grant_lock(v);
    if (!fstat(fd, &st) && st.st_uid == geteuid() && !fchmod(fd, (st.st_mode & 07777) | S_IWUSR)) {
        fremovexattr(fd, DIRREC_COPY);
        fchmod(fd, st.st_mode & 07777);
    }
    fd_grant_unlock(v);
}

void copy_found(struct node *dir, int fd)
{
    if (volume_check_writable(dir->vol) == 0 && dir != dir->vol->root)
        newdirs_add(dir, NEWDIR_FOUND);
}
