#include "tar_entry.h"

#include "offline_xattr.h"

#include "latchfs/buf.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void tar_entry_stat(struct archive_entry *e, const struct stat *st, const char *path)
{
    archive_entry_copy_pathname(e, path);
    archive_entry_set_mode(e, st->st_mode);
    archive_entry_set_uid(e, st->st_uid);
    archive_entry_set_gid(e, st->st_gid);
    archive_entry_set_mtime(e, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    archive_entry_set_atime(e, st->st_atim.tv_sec, st->st_atim.tv_nsec);
    archive_entry_set_size(e, S_ISREG(st->st_mode) ? st->st_size : 0);
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
        archive_entry_set_rdev(e, st->st_rdev);
}

/* ---- attributes ---- */

/* As the kernel gives it (linux/posix_acl_xattr.h): version 2, then tag, permissions and id of each entry. */
static void add_acl(struct archive_entry *e, int type, const void *value, size_t len)
{
    static const struct {
        uint16_t kernel;
        int archive;
    } tags[] = {{0x01, ARCHIVE_ENTRY_ACL_USER_OBJ},  {0x02, ARCHIVE_ENTRY_ACL_USER},
                {0x04, ARCHIVE_ENTRY_ACL_GROUP_OBJ}, {0x08, ARCHIVE_ENTRY_ACL_GROUP},
                {0x10, ARCHIVE_ENTRY_ACL_MASK},      {0x20, ARCHIVE_ENTRY_ACL_OTHER}};
    struct rcur c = rcur_over(value, len);
    if (rcur_u32(&c) != 2)
        return;
    while (c.left >= 8) {
        uint16_t tag = rcur_u16(&c), perm = rcur_u16(&c);
        uint32_t id = rcur_u32(&c);
        for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
            if (tags[i].kernel == tag)
                archive_entry_acl_add_entry(e, type, perm & 7, tags[i].archive,
                                            tag == 0x02 || tag == 0x08 ? (int)id : -1, NULL);
    }
}

static int add(void *arg, const char *name, const void *value, size_t len)
{
    struct archive_entry *e = arg;
    if (strcmp(name, "system.posix_acl_access") == 0)
        add_acl(e, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, value, len);
    else if (strcmp(name, "system.posix_acl_default") == 0)
        add_acl(e, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, value, len);
    else
        archive_entry_xattr_add_entry(e, name, value, len);
    return 0;
}

int tar_entry_attributes(struct archive_entry *e, struct volume *v, struct node *n)
{
    return offline_xattrs(v, n, geteuid() == 0, add, e);
}

/* ---- holes ---- */

void tar_entry_map(struct archive_entry *e, struct node *n, uint64_t size)
{
    for (uint64_t off = 0; off < size;) {
        int64_t from = file_seek(n, off, SEEK_DATA);
        if (from == -ENXIO) {
            archive_entry_sparse_add_entry(e, (int64_t)size, 0);
            return;
        }
        int64_t to = from < 0 ? from : file_seek(n, (uint64_t)from, SEEK_HOLE);
        if (to < 0) { /* damaged: without a map everything is written */
            archive_entry_sparse_clear(e);
            return;
        }
        if (from == 0 && (uint64_t)to >= size)
            return;
        archive_entry_sparse_add_entry(e, from, to - from);
        off = (uint64_t)to;
    }
}
