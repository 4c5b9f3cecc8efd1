/* Secrets in locked memory. One arena per process, made of pages that are locked, left out of core dumps and
 * wiped on fork (RLIMIT_MEMLOCK is 8 MiB for ordinary users, so not a guarded page per key). A struct secret
 * is opaque and move-only: it owns its bytes, and freeing wipes them. */
#ifndef LATCHFS_SECRET_H
#define LATCHFS_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LFS_KEY_BYTES 32 /* every symmetric key of the hierarchy */

struct secret;

/* A secret of len bytes (1..65536), zeroed. NULL when memory is out. Thread safe. */
struct secret *secret_new(size_t len);
struct secret *secret_new_copy(const void *data, size_t len);
struct secret *secret_new_random(size_t len);

/* Wipes and frees. Takes NULL. */
void secret_free(struct secret *s);
void secret_freep(struct secret **s); /* for CLEANUP; leaves NULL */

uint8_t *secret_bytes(struct secret *s);
const uint8_t *secret_const(const struct secret *s);
size_t secret_len(const struct secret *s);

/* Equal in constant time (lengths are public). */
bool secret_equal(const struct secret *a, const struct secret *b);

/* Raw locked memory out of the same arena, zeroed, for structs that embed keys. locked_free wipes. */
void *locked_alloc(size_t len);
void locked_free(void *p);

/* The whole process: no core dumps, not dumpable, no ptrace by the same user. Call first in main of
 * latchfs and latch-keyd. Returns 0 or an error. */
int secret_harden_process(void);

/* False when the arena could not be locked (RLIMIT_MEMLOCK too small): programs warn once. */
bool secret_memory_is_locked(void);

#endif
