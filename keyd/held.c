#include "held.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX (2 * ID_BYTES)
#define NAME_BYTES (2 * (HEX + 1) + 12)

static void name_of(const uint8_t *volume_id, const uint8_t *pd, uint32_t version,
                    char name[static NAME_BYTES])
{
    char volume[HEX + 1], dir[HEX + 1];
    id_to_hex(volume_id, volume);
    id_to_hex(pd, dir);
    snprintf(name, NAME_BYTES, "%s.%s.%" PRIu32, volume, dir, version);
}

/* The exact form of name_of only. */
static bool parse_name(const char *name, uint8_t volume_id[static ID_BYTES], uint8_t pd[static ID_BYTES],
                       uint32_t *version)
{
    char volume[HEX + 1], dir[HEX + 1], again[NAME_BYTES];
    if (sscanf(name, "%32[0-9a-f].%32[0-9a-f].%" SCNu32, volume, dir, version) != 3 ||
        !id_from_hex(volume, volume_id) || !id_from_hex(dir, pd))
        return false;
    name_of(volume_id, pd, *version, again);
    return strcmp(name, again) == 0;
}

static int open_held(int statedir)
{
    if (mkdirat(statedir, "held", 0700) && errno != EEXIST)
        return -errno;
    int fd = openat(statedir, "held", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

int held_store(int statedir, const uint8_t volume_id[static ID_BYTES], const struct held_blob *b)
{
    char name[NAME_BYTES];
    AUTO_CLOSE int dir = open_held(statedir);
    if (dir < 0)
        return dir;
    name_of(volume_id, b->pd, b->version, name);
    int r = io_replace_file(dir, name, b->wrapped, sizeof b->wrapped, 0600);
    return r ? r : io_fsync(statedir); /* the directory itself may be new */
}

int held_find(void *arg, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
              uint32_t version, uint8_t wrapped[static KEYSTORE_WRAPPED_BYTES])
{
    char name[NAME_BYTES];
    AUTO_FREE char *data = NULL;
    size_t len;
    AUTO_CLOSE int dir = open_held(*(const int *)arg);
    if (dir < 0)
        return dir;
    name_of(volume_id, pd, version, name);
    int r = io_read_file(dir, name, KEYSTORE_WRAPPED_BYTES, &data, &len);
    if (r)
        return r;
    if (len != KEYSTORE_WRAPPED_BYTES)
        return LFS_ERR_CORRUPT;
    memcpy(wrapped, data, KEYSTORE_WRAPPED_BYTES);
    return 0;
}

/* Where the filesystem writes elsewhere than in place, the old bytes may outlast this (docs/THREATS.md). */
static int destroy(int dir, const char *name)
{
    uint8_t noise[KEYSTORE_WRAPPED_BYTES];
    AUTO_CLOSE int fd = openat(dir, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    randombytes_buf(noise, sizeof noise);
    int r = io_pwrite(fd, noise, sizeof noise, 0);
    if (!r)
        r = io_fsync(fd);
    if (!r && unlinkat(dir, name, 0))
        r = -errno;
    return r ? r : io_fsync(dir);
}

int held_destroy(int statedir, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                 uint32_t version)
{
    char name[NAME_BYTES];
    AUTO_CLOSE int dir = open_held(statedir);
    if (dir < 0)
        return dir;
    name_of(volume_id, pd, version, name);
    return destroy(dir, name);
}

static bool is_destroyed(const struct keystore *ks, const char *name)
{
    uint8_t volume_id[ID_BYTES], pd[ID_BYTES];
    uint32_t version;
    if (!parse_name(name, volume_id, pd, &version) || memcmp(volume_id, ks->volume_id, ID_BYTES) != 0)
        return false;
    const struct keystore_dir *d = keystore_dir(ks, pd);
    const struct keystore_dirkey *k = d ? keystore_dirkey(d, version) : NULL;
    return d && (d->shredded || (k && k->state == KEY_DESTROYED));
}

static void close_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

int held_reconcile(int statedir, const struct keystore *ks, unsigned *count)
{
    AUTO_CLOSE int dir = open_held(statedir);
    int list = dir < 0 ? dir : openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (list < 0)
        return dir < 0 ? dir : -errno;
    CLEANUP(close_dir) DIR *d = fdopendir(list);
    unsigned n = 0;
    int r = 0;
    if (!d) {
        close(list);
        return -ENOMEM;
    }
    for (struct dirent *e; !r && (errno = 0, e = readdir(d));) {
        if (!is_destroyed(ks, e->d_name))
            continue;
        r = destroy(dir, e->d_name);
        n++;
    }
    if (!r && errno)
        r = -errno;
    if (!r && count)
        *count = n;
    return r;
}
