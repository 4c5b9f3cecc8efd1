#include "statedir.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

int statedir_path(char path[static PATH_MAX])
{
    const char *set = getenv("LATCH_KEYD_STATE_DIR"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n;
    if (set && set[0])
        n = snprintf(path, PATH_MAX, "%s", set);
    else if (geteuid() == 0)
        n = snprintf(path, PATH_MAX, "/var/lib/latchfs");
    else if (xdg && xdg[0] == '/')
        n = snprintf(path, PATH_MAX, "%s/latchfs", xdg);
    else if (home && home[0] == '/')
        n = snprintf(path, PATH_MAX, "%s/.local/state/latchfs", home);
    else
        return -ENOENT;
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int make_path(const char *path)
{
    char part[PATH_MAX];
    if (path[0] != '/' || snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return LFS_ERR_MISUSE;
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char was = *p;
        *p = '\0';
        if (mkdir(part, 0700) && errno != EEXIST && errno != EROFS && errno != EACCES)
            return -errno;
        if (!was)
            return 0;
        *p = was;
    }
}

int statedir_open(const char *path, int *out)
{
    struct stat st;
    struct statfs fs;
    int r = make_path(path);
    if (r)
        return r;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || fstatfs(fd, &fs))
        return -errno;
    if (st.st_uid != geteuid() || st.st_mode & 022)
        return LFS_ERR_DENIED;
    if (fs.f_type == FUSE_SUPER_MAGIC)
        return -EOPNOTSUPP;
    if (mkdirat(fd, "pins", 0700) && errno != EEXIST)
        return -errno;
    *out = fd;
    fd = -1;
    return 0;
}

void pin_of(const struct keystore *ks, const char *ini, size_t len, struct pin *out)
{
    out->generation = ks->generation;
    crypto_generichash(out->hash, sizeof out->hash, (const uint8_t *)ini, len, NULL, 0);
    memcpy(out->signing_public, ks->signing_public, sizeof out->signing_public);
}

static int open_pins(int statedir)
{
    int fd = openat(statedir, "pins", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

static bool hex32(const char *hex, uint8_t out[static 32])
{
    size_t got;
    return sodium_hex2bin(out, 32, hex, 64, NULL, &got, NULL) == 0 && got == 32;
}

int pin_load(int statedir, const uint8_t volume_id[static ID_BYTES], struct pin *out)
{
    char name[2 * ID_BYTES + 1], hash[65], key[65];
    AUTO_FREE char *text = NULL;
    size_t len;
    struct pin p;
    AUTO_CLOSE int dir = open_pins(statedir);
    if (dir < 0)
        return dir;
    id_to_hex(volume_id, name);
    int r = io_read_file(dir, name, 1024, &text, &len);
    if (r)
        return r;
    int end = 0;
    if (sscanf(text, "generation = %" SCNu64 "\nhash = %64[0-9a-f]\nsigning-public = %64[0-9a-f]\n%n",
               &p.generation, hash, key, &end) != 3 ||
        (size_t)end != len || !hex32(hash, p.hash) || !hex32(key, p.signing_public))
        return LFS_ERR_CORRUPT;
    *out = p;
    return 0;
}

int pin_store(int statedir, const uint8_t volume_id[static ID_BYTES], const struct pin *p)
{
    char name[2 * ID_BYTES + 1], hash[65], key[65], text[256];
    AUTO_CLOSE int dir = open_pins(statedir);
    if (dir < 0)
        return dir;
    id_to_hex(volume_id, name);
    sodium_bin2hex(hash, sizeof hash, p->hash, sizeof p->hash);
    sodium_bin2hex(key, sizeof key, p->signing_public, sizeof p->signing_public);
    int n = snprintf(text, sizeof text, "generation = %" PRIu64 "\nhash = %s\nsigning-public = %s\n",
                     p->generation, hash, key);
    return io_replace_file(dir, name, text, (size_t)n, 0600);
}

int pin_compare(const struct pin *pinned, const struct pin *now)
{
    if (memcmp(pinned->signing_public, now->signing_public, sizeof now->signing_public) != 0 ||
        now->generation < pinned->generation)
        return LFS_ERR_ROLLBACK;
    if (now->generation == pinned->generation && memcmp(now->hash, pinned->hash, sizeof now->hash) != 0)
        return LFS_ERR_ROLLBACK;
    return 0;
}
