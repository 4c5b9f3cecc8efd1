#include "latchfs/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rcur rcur_over(const void *data, size_t len)
{
    return (struct rcur){.p = data, .left = len};
}

const uint8_t *rcur_view(struct rcur *c, size_t len)
{
    if (c->bad || len > c->left) {
        c->bad = true;
        return NULL;
    }
    const uint8_t *at = c->p;
    c->p += len;
    c->left -= len;
    return at;
}

static uint64_t get_le(struct rcur *c, size_t n)
{
    const uint8_t *at = rcur_view(c, n);
    uint64_t v = 0;
    for (size_t i = 0; at && i < n; i++)
        v |= (uint64_t)at[i] << (8 * i);
    return v;
}

uint8_t rcur_u8(struct rcur *c)
{
    return (uint8_t)get_le(c, 1);
}

uint16_t rcur_u16(struct rcur *c)
{
    return (uint16_t)get_le(c, 2);
}

uint32_t rcur_u32(struct rcur *c)
{
    return (uint32_t)get_le(c, 4);
}

uint64_t rcur_u64(struct rcur *c)
{
    return get_le(c, 8);
}

void rcur_bytes(struct rcur *c, void *out, size_t len)
{
    const uint8_t *at = rcur_view(c, len);
    if (at)
        memcpy(out, at, len);
    else
        memset(out, 0, len);
}

bool rcur_zeros(struct rcur *c, size_t len)
{
    const uint8_t *at = rcur_view(c, len);
    if (!at)
        return false;
    return bytes_are_zero(at, len);
}

struct wcur wcur_over(void *data, size_t len)
{
    return (struct wcur){.start = data, .p = data, .left = len};
}

static uint8_t *put(struct wcur *c, size_t len)
{
    if (c->bad || len > c->left) {
        c->bad = true;
        return NULL;
    }
    uint8_t *at = c->p;
    c->p += len;
    c->left -= len;
    return at;
}

static void put_le(struct wcur *c, uint64_t v, size_t n)
{
    uint8_t *at = put(c, n);
    for (size_t i = 0; at && i < n; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

void wcur_u8(struct wcur *c, uint8_t v)
{
    put_le(c, v, 1);
}

void wcur_u16(struct wcur *c, uint16_t v)
{
    put_le(c, v, 2);
}

void wcur_u32(struct wcur *c, uint32_t v)
{
    put_le(c, v, 4);
}

void wcur_u64(struct wcur *c, uint64_t v)
{
    put_le(c, v, 8);
}

void wcur_bytes(struct wcur *c, const void *data, size_t len)
{
    uint8_t *at = put(c, len);
    if (at && len)
        memcpy(at, data, len);
}

void wcur_zeros(struct wcur *c, size_t len)
{
    uint8_t *at = put(c, len);
    if (at)
        memset(at, 0, len);
}

bool bytes_are_zero(const void *data, size_t len)
{
    const uint8_t *p = data;
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

void lfs_free_ptr(void *pp)
{
    void **p = pp;
    free(*p);
    *p = NULL;
}

void lfs_close_fd(int *fd)
{
    int saved = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}
