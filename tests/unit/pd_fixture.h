/* Protected directories in the tree's fixture: key sets, and a look at the volume from below. */
#ifndef TEST_PD_FIXTURE_H
#define TEST_PD_FIXTURE_H

#include "latchfs/dirrec.h"
#include "latchfs/header.h"
#include "tree_fixture.h"

#include <ftw.h>
#include <sys/stat.h>

/* Keys of another protected directory of the same volume. */
static inline struct keyset pd_keyset(void)
{
    struct keyset k = {.suite = plain_keys.suite, .active = 1, .least = 1, .count = 1};
    memcpy(k.volume_id, plain_keys.volume_id, ID_BYTES);
    k.versions[0].version = 1;
    randombytes_buf(k.pd_id, ID_BYTES);
    randombytes_buf(k.versions[0].key, LFS_KEY_BYTES);
    randombytes_buf(k.name_key, LFS_KEY_BYTES);
    return k;
}

static inline void add_version(struct keyset *k)
{
    k->versions[k->count].version = k->active = k->count + 1;
    randombytes_buf(k->versions[k->count++].key, LFS_KEY_BYTES);
}

static inline struct node *make_top(struct node *dir, const char *name, const struct keyset *k)
{
    struct node *n = make_dir(dir, name);
    assert_int_equal(node_protect(n, k), 0);
    return n;
}

static inline void lock_pd(const struct keyset *k)
{
    assert_int_equal(volume_pd_lock_begin(v, k->pd_id), 0);
    assert_int_equal(volume_pd_lock_finish(v, k->pd_id), 0);
}

static inline void unlock_pd(const struct keyset *k)
{
    assert_int_equal(volume_pd_unlock(v, k), 0);
}

static uint64_t wanted_ino;
static char found_path[1024];

static inline int is_wanted(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    if (st->st_ino != wanted_ino)
        return 0;
    snprintf(found_path, sizeof found_path, "%s", path);
    return 1;
}

/* The path of the node's backing file. */
static inline void below(struct node *n, char path[static 1024])
{
    wanted_ino = node_ino(n);
    assert_int_equal(nftw(volume_dir, is_wanted, 16, FTW_PHYS), 1);
    memcpy(path, found_path, sizeof found_path);
}

static inline void read_below(const char *path, void *buf, size_t len)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, buf, len, 0), len);
    close(fd);
}

static inline struct file_header header_of(struct node *n)
{
    char path[1024];
    uint8_t bytes[HEADER_BYTES];
    struct file_header h;
    assert_int_equal(volume_checkpoint(v), 0);
    below(n, path);
    read_below(path, bytes, sizeof bytes);
    assert_int_equal(header_decode(bytes, &h), 0);
    return h;
}

/* True if the node belongs to the protected directory of k. */
static inline bool is_in(struct node *n, const struct keyset *k)
{
    uint8_t id[ID_BYTES];
    assert_int_equal(node_pd_id(n, id, NULL), 0);
    return memcmp(id, k->pd_id, ID_BYTES) == 0;
}

static inline bool is_top(struct node *n)
{
    uint8_t id[ID_BYTES];
    bool top;
    assert_int_equal(node_pd_id(n, id, &top), 0);
    return top;
}

#endif
