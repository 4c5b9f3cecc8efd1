#include "offline_held.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int offline_held_open(const char *dir, struct offline_held *h)
{
    AUTO_CLOSE int top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return -errno;
    int fd = openat(top, "held", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    h->dirfd = fd;
    return 0;
}

void offline_held_clear(struct offline_held *h)
{
    lfs_close_fd(&h->dirfd);
}

int offline_held_find(void *arg, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                      uint32_t version, uint8_t wrapped[static KEYSTORE_WRAPPED_BYTES])
{
    const struct offline_held *h = arg;
    char volume[2 * ID_BYTES + 1], dir[2 * ID_BYTES + 1], name[4 * ID_BYTES + 16];
    AUTO_FREE char *data = NULL;
    size_t len;
    if (h->dirfd < 0)
        return -ENOENT;
    id_to_hex(volume_id, volume);
    id_to_hex(pd, dir);
    snprintf(name, sizeof name, "%s.%s.%" PRIu32, volume, dir, version);
    int r = io_read_file(h->dirfd, name, KEYSTORE_WRAPPED_BYTES, &data, &len);
    if (r)
        return r;
    if (len != KEYSTORE_WRAPPED_BYTES)
        return LFS_ERR_CORRUPT;
    memcpy(wrapped, data, KEYSTORE_WRAPPED_BYTES);
    return 0;
}
