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

static int open_in(int statedir, const char *name)
{
    if (mkdirat(statedir, name, 0700) && errno != EEXIST)
        return -errno;
    int fd = openat(statedir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

static int open_held(int statedir)
{
    return open_in(statedir, "held");
}

int held_store(int statedir, const uint8_t volume_id[static ID_BYTES], const struct held_blob *b)
{
    char name[NAME_BYTES];
    AUTO_CLOSE int dir = open_held(statedir);
    if (dir < 0)
        return dir;
    uint8_t there[KEYSTORE_WRAPPED_BYTES];
    int r = held_find(&statedir, volume_id, b->pd, b->version, there);
    if (r != -ENOENT)
        return r ? r : memcmp(there, b->wrapped, sizeof there) ? -EEXIST : 0;
    name_of(volume_id, b->pd, b->version, name);
    r = io_replace_file(dir, name, b->wrapped, sizeof b->wrapped, 0600);
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

/* ---- all of a volume ---- */

static void close_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

/* An error of one does not keep fn from the others; the first one is returned. */
static int each_in(int statedir, const char *where, const uint8_t *volume_id, held_visit *fn, void *arg)
{
    uint8_t volume[ID_BYTES], pd[ID_BYTES];
    uint32_t version;
    int list = open_in(statedir, where), r = 0;
    if (list < 0)
        return list;
    CLEANUP(close_dir) DIR *d = fdopendir(list);
    if (!d) {
        close(list);
        return -ENOMEM;
    }
    for (struct dirent *e; (errno = 0, e = readdir(d));) {
        if (!parse_name(e->d_name, volume, pd, &version) || memcmp(volume, volume_id, ID_BYTES) != 0)
            continue;
        int one = fn(arg, pd, version);
        r = r ? r : one;
    }
    return r ? r : -errno;
}

int held_each(int statedir, const uint8_t volume_id[static ID_BYTES], held_visit *fn, void *arg)
{
    return each_in(statedir, "held", volume_id, fn, arg);
}

struct newest {
    const uint8_t *pd;
    uint32_t version;
};

static int note_newest(void *arg, const uint8_t *pd, uint32_t version)
{
    struct newest *n = arg;
    if (memcmp(n->pd, pd, ID_BYTES) == 0 && version > n->version)
        n->version = version;
    return 0;
}

int held_newest(int statedir, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                uint32_t *version)
{
    struct newest n = {.pd = pd};
    int r = each_in(statedir, "held", volume_id, note_newest, &n);
    if (!r)
        r = each_in(statedir, "ended", volume_id, note_newest, &n);
    if (!r)
        *version = n.version;
    return r;
}

/* ---- notes of what was ended ---- */

static const char *const notes[] = {[HELD_ANSWERED] = "answered\n", [HELD_PINNED] = "pinned\n"};

int held_note_store(int statedir, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                    uint32_t version, enum held_note note)
{
    char name[NAME_BYTES];
    AUTO_CLOSE int dir = open_in(statedir, "ended");
    if (dir < 0)
        return dir;
    name_of(volume_id, pd, version, name);
    int r = io_replace_file(dir, name, notes[note], strlen(notes[note]), 0600);
    return r ? r : io_fsync(statedir);
}

static int load_note(int dir, const char *name, enum held_note *out)
{
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = io_read_file(dir, name, 16, &text, &len);
    if (r == -ENOENT)
        return 0;
    if (r)
        return r;
    for (unsigned i = HELD_ANSWERED; i <= HELD_PINNED; i++)
        if (strcmp(text, notes[i]) == 0) {
            if (i > *out)
                *out = (enum held_note)i;
            return 0;
        }
    return LFS_ERR_CORRUPT;
}

int held_note_load(int statedir, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                   uint32_t version, enum held_note *out)
{
    char name[NAME_BYTES];
    enum held_note note = HELD_NO_NOTE;
    AUTO_CLOSE int dir = open_in(statedir, "ended");
    if (dir < 0)
        return dir;
    name_of(volume_id, pd, version, name);
    int r = load_note(dir, name, &note);
    name_of(volume_id, pd, HELD_WHOLE_DIR, name);
    if (!r)
        r = load_note(dir, name, &note);
    if (!r)
        *out = note;
    return r;
}
