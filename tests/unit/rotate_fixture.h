/* Rotations of the root's directory key in the tree's fixture. */
#ifndef TEST_ROTATE_FIXTURE_H
#define TEST_ROTATE_FIXTURE_H

#include "fs/store/tree.h"
#include "latchfs/header.h"
#include "pd_fixture.h"

#include <sys/syscall.h>
#include <time.h>

typedef int rotation(struct volume *v, const struct rotate_options *o, struct rotate_progress *out);

/* A clock that goes on by a second each time it is asked, so that progress is called at every step. */
static atomic_bool fast_clock;
int clock_gettime(clockid_t id, struct timespec *ts)
{
    static _Atomic long seconds;
    if (id == CLOCK_MONOTONIC && atomic_load(&fast_clock)) {
        *ts = (struct timespec){.tv_sec = 1000000 + atomic_fetch_add(&seconds, 1)};
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, id, ts);
}

/* A new active version, for the open volume too. */
static inline void next_version(void)
{
    uint32_t version = plain_keys.active + 1;
    if (plain_keys.count == KEYSET_VERSIONS_MAX) {
        memmove(&plain_keys.versions[0], &plain_keys.versions[1],
                (KEYSET_VERSIONS_MAX - 1) * sizeof plain_keys.versions[0]);
        plain_keys.count--;
    }
    plain_keys.versions[plain_keys.count].version = version;
    randombytes_buf(plain_keys.versions[plain_keys.count++].key, LFS_KEY_BYTES);
    plain_keys.active = version;
    unlock_pd(&plain_keys);
}

static inline int run(rotation *how, struct rotate_progress *p)
{
    struct rotate_options o = {0};
    memcpy(o.pd_id, plain_keys.pd_id, ID_BYTES);
    *p = (struct rotate_progress){0};
    return how(v, &o, p);
}

/* The backing file of a node. */
static inline int backing(struct node *n, int flags)
{
    char path[4096], full[8192];
    assert_int_equal(node_path(n, path, sizeof path), 0);
    snprintf(full, sizeof full, "%s/%s", volume_dir, path);
    int fd = open(full, flags);
    assert_true(fd >= 0);
    return fd;
}

static inline struct file_header placed_header(struct node *n)
{
    uint8_t image[HEADER_BYTES];
    struct file_header h;
    int fd = backing(n, O_RDONLY);
    assert_int_equal(io_pread(fd, image, sizeof image, 0), sizeof image);
    close(fd);
    assert_int_equal(header_decode(image, &h), 0);
    return h;
}

/* The older versions are gone; the volume is opened anew. */
static inline void only_newest(void)
{
    assert_int_equal(volume_close(v), 0);
    plain_keys.versions[0] = plain_keys.versions[plain_keys.count - 1];
    plain_keys.count = 1;
    plain_keys.least = plain_keys.active;
    open_volume();
}

#endif
