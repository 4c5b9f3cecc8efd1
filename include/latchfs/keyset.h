/* The keys of one protected directory as a mount holds them while it has a lease. In locked memory. */
#ifndef LATCHFS_KEYSET_H
#define LATCHFS_KEYSET_H

#include "latchfs/format.h"
#include "latchfs/secret.h"

#define KEYSET_VERSIONS_MAX 16u

struct keyset {
    uint8_t volume_id[ID_BYTES];
    uint8_t pd_id[ID_BYTES];
    uint8_t suite;   /* enum suite, of the volume */
    uint32_t active; /* version that new headers use */
    uint32_t least;  /* least version that a header may have */
    uint32_t count;  /* of versions[], 1..KEYSET_VERSIONS_MAX */
    struct {
        uint32_t version;
        uint8_t key[LFS_KEY_BYTES];
    } versions[KEYSET_VERSIONS_MAX];
    uint8_t name_key[LFS_KEY_BYTES];
    uint8_t journal_key[LFS_KEY_BYTES];
};

/* locked_alloc'ed / wiped. keyset_free takes NULL. */
static inline struct keyset *keyset_new(void)
{
    return locked_alloc(sizeof(struct keyset));
}
static inline void keyset_free(struct keyset *k)
{
    locked_free(k);
}
static inline void keyset_freep(struct keyset **k)
{
    keyset_free(*k);
    *k = NULL;
}

#endif
