/* Bounded cursors over bytes: the boundary between untrusted bytes and structs. A cursor that was asked for
 * more than it has turns bad and stays bad; every later get returns zeros. Check once, at the end. All
 * integers are little-endian. */
#ifndef LATCHFS_BUF_H
#define LATCHFS_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rcur { /* reads */
    const uint8_t *p;
    size_t left;
    bool bad;
};

struct wcur { /* writes into a buffer of fixed size */
    uint8_t *start;
    uint8_t *p;
    size_t left;
    bool bad;
};

struct rcur rcur_over(const void *data, size_t len);
uint8_t rcur_u8(struct rcur *c);
uint16_t rcur_u16(struct rcur *c);
uint32_t rcur_u32(struct rcur *c);
uint64_t rcur_u64(struct rcur *c);
void rcur_bytes(struct rcur *c, void *out, size_t len); /* copies; zeros when bad */
const uint8_t *rcur_view(struct rcur *c, size_t len);   /* into the input, or NULL when bad */
bool rcur_zeros(struct rcur *c, size_t len);            /* consumes; true if all were zero */
static inline bool rcur_done(const struct rcur *c)      /* all consumed, nothing bad */
{
    return !c->bad && c->left == 0;
}

struct wcur wcur_over(void *data, size_t len);
void wcur_u8(struct wcur *c, uint8_t v);
void wcur_u16(struct wcur *c, uint16_t v);
void wcur_u32(struct wcur *c, uint32_t v);
void wcur_u64(struct wcur *c, uint64_t v);
void wcur_bytes(struct wcur *c, const void *data, size_t len);
void wcur_zeros(struct wcur *c, size_t len);
static inline size_t wcur_used(const struct wcur *c)
{
    return (size_t)(c->p - c->start);
}

/* Stops at the first byte that is not zero: for what is no secret. */
bool bytes_are_zero(const void *data, size_t len);

/* Cleanup attributes, the project's one cleanup idiom. */
void lfs_free_ptr(void *pp); /* frees *(void **)pp */
void lfs_close_fd(int *fd);  /* closes *fd if >= 0, keeps errno */
#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define AUTO_FREE CLEANUP(lfs_free_ptr)
#define AUTO_CLOSE CLEANUP(lfs_close_fd)

#endif
