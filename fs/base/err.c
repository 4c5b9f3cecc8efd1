#include "latchfs/err.h"

#include <errno.h>
#include <string.h>

static const struct {
    int err;
    int errnum;
    int exit_code;
    const char *text;
} table[] = {
    {LFS_ERR_CORRUPT, EIO, LFS_EXIT_CORRUPT, "corrupt data"},
    {LFS_ERR_AUTH, EIO, LFS_EXIT_CORRUPT, "authentication failed: the data was changed"},
    {LFS_ERR_NOKEY, ENOKEY, LFS_EXIT_NOKEY, "the key is not available (locked)"},
    {LFS_ERR_UNSUPPORTED, EIO, LFS_EXIT_CORRUPT, "unknown version, suite or flag"},
    {LFS_ERR_MISUSE, EINVAL, LFS_EXIT_USAGE, "invalid argument"},
    {LFS_ERR_BUSY, EBUSY, LFS_EXIT_BUSY, "in use"},
    {LFS_ERR_PASSPHRASE, EKEYREJECTED, LFS_EXIT_PASSPHRASE, "no slot opens with this secret"},
    {LFS_ERR_NOTVOLUME, EIO, LFS_EXIT_NOTVOLUME, "not a latchfs volume"},
    {LFS_ERR_ROLLBACK, EIO, LFS_EXIT_CORRUPT, "older or other data than expected"},
    {LFS_ERR_PROTO, EPROTO, LFS_EXIT_FAILURE, "protocol error"},
    {LFS_ERR_DENIED, EACCES, LFS_EXIT_NOKEY, "refused by policy"},
    {LFS_ERR_TIMEOUT, ETIMEDOUT, LFS_EXIT_FAILURE, "timed out"},
    {LFS_ERR_JOURNAL, EIO, LFS_EXIT_CORRUPT, "journal missing or unreadable"},
    {LFS_ERR_APPROVAL, EACCES, LFS_EXIT_APPROVAL, "waits for approval"},
    {LFS_ERR_SHARED, EBUSY, LFS_EXIT_BUSY, "not while the volume is mounted with -o shared"},
};

const char *lfs_strerror(int err)
{
    if (err >= 0)
        return "success";
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].err == err)
            return table[i].text;
    if (err >= -4095) {
        const char *text = strerrordesc_np(-err);
        return text ? text : "unknown system error";
    }
    return "unknown error";
}

int lfs_errno(int err)
{
    if (err >= 0)
        return 0;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].err == err)
            return table[i].errnum;
    return err >= -4095 ? -err : EIO;
}

int lfs_exit_code(int err)
{
    if (err >= 0)
        return LFS_EXIT_OK;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].err == err)
            return table[i].exit_code;
    if (err == -EBUSY)
        return LFS_EXIT_BUSY;
    return err >= -4095 ? LFS_EXIT_IO : LFS_EXIT_FAILURE;
}
