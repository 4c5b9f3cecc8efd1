/* Seals in the tree's fixture: the root computed again from the backing file alone, as docs/FORMAT.md has it.
 */
#ifndef TEST_SEAL_FIXTURE_H
#define TEST_SEAL_FIXTURE_H

#include "latchfs/layout.h"
#include "rotate_fixture.h"

#define GROUP (GROUP_RECORDS * PAGE_BYTES)
#define SEVERAL_GROUPS (3u * GROUP) /* of plaintext: few tag pages */
#define MANY_GROUPS (12u * GROUP)   /* more than are checked at open */

/* Reopens with the flusher or without. */
static inline void open_sealing(unsigned seal_seconds, bool flusher)
{
    struct volume_options o = {.journal_bytes = UINT64_C(8) << 20,
                               .no_flusher = !flusher,
                               .flush_seconds = 1,
                               .seal_seconds = seal_seconds};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    assert_int_equal(volume_start(v), 0);
}

static inline struct volume_stats stats(void)
{
    struct volume_stats s;
    volume_stats(v, &s);
    return s;
}

static inline void hash_records(crypto_generichash_state *root, int fd, uint64_t page)
{
    uint8_t bytes[PAGE_BYTES] = {0}, h[32];
    uint64_t at = page ? (113 + 129 * (page - 1)) * PAGE_BYTES : HEADER_BYTES;
    size_t len = page ? PAGE_BYTES : PAGE_BYTES - HEADER_BYTES;
    assert_true(pread(fd, bytes, len, (off_t)at) >= 0);
    crypto_generichash(h, sizeof h, bytes, len, NULL, 0);
    crypto_generichash_update(root, h, sizeof h);
}

/* True if the header in place is sealed; its root must be right then. */
static inline bool is_sealed_right(int fd)
{
    uint8_t image[HEADER_BYTES], key[LFS_KEY_BYTES], sub[LFS_KEY_BYTES], size[8], root[32];
    struct file_header h;
    crypto_generichash_state s;
    assert_int_equal(pread(fd, image, sizeof image, 0), sizeof image);
    assert_int_equal(header_decode(image, &h), 0);
    if (h.seal_state != SEAL_SEALED)
        return false;
    assert_int_equal(h.state, FILE_PAGED);
    for (uint32_t i = 0; i < plain_keys.count; i++)
        if (plain_keys.versions[i].version == h.key_version)
            assert_int_equal(header_unwrap_key(&h, header_newest(&h), plain_keys.versions[i].key, key), 0);
    file_subkey(key, FILE_SUB_SEAL, sub);
    crypto_generichash_init(&s, sub, sizeof sub, sizeof root);
    for (int i = 0; i < 8; i++)
        size[i] = (uint8_t)(h.size >> 8 * i);
    crypto_generichash_update(&s, size, sizeof size);
    uint64_t chunks = (h.size + PAGE_BYTES - 1) / PAGE_BYTES;
    for (uint64_t page = 0, first = 0; first < chunks; first = page ? 112 + 128 * (page - 1) : 0)
        hash_records(&s, fd, page++);
    crypto_generichash_final(&s, root, sizeof root);
    assert_memory_equal(root, h.seal_root, sizeof root);
    return true;
}

static inline bool placed_sealed(struct node *n)
{
    int fd = backing(n, O_RDONLY);
    bool sealed = is_sealed_right(fd);
    close(fd);
    return sealed;
}

/* A file of len bytes that depend on seed. */
static inline void fill(uint8_t *buf, size_t len, uint64_t seed)
{
    struct rng r = {seed};
    rng_fill(&r, buf, len);
}

static inline struct node *big_file(const char *name, size_t len, uint64_t seed)
{
    struct node *n = make_file(volume_root(v), name, "");
    uint8_t *buf = malloc(len + 1);
    fill(buf, len, seed);
    assert_int_equal(file_write(n, buf, len, 0), len);
    free(buf);
    return n;
}

static inline bool reads_as(struct node *n, size_t len, uint64_t seed)
{
    uint8_t *want = malloc(len + 1), *got = malloc(len + 2);
    fill(want, len, seed);
    bool same = file_read(n, got, len + 1, 0) == (ssize_t)len && memcmp(want, got, len) == 0;
    free(want);
    free(got);
    return same;
}

/* Everything in place, and what waits is sealed in place. */
static inline void seal_all(void)
{
    assert_int_equal(volume_checkpoint(v), 0);
    assert_int_equal(volume_seal_all(v), 0);
    assert_int_equal(volume_checkpoint(v), 0);
}

#endif
