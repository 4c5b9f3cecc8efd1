/* Faults planted in the store itself, by CRASH_PLANT: the linker sends its calls of these functions here
 * (meson.build). Only the laboratory's driver has them. */
#include "fs/store/journal.h"
#include "fs/store/tree.h"
#include "latchfs/crc32c.h"

#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool planted(const char *what)
{
    const char *plant = getenv("CRASH_PLANT");
    return plant && !strcmp(plant, what);
}

int __real_journal_append(struct journal *j, const struct jentry_new *e, uint64_t reserved, uint64_t *seq,
                          uint64_t *data_at);
int __wrap_journal_append(struct journal *j, const struct jentry_new *e, uint64_t reserved, uint64_t *seq,
                          uint64_t *data_at);
uint32_t __real_crc32c(uint32_t crc, const void *data, size_t len);
uint32_t __wrap_crc32c(uint32_t crc, const void *data, size_t len);
int __real_sodium_memcmp(const void *a, const void *b, size_t len);
int __wrap_sodium_memcmp(const void *a, const void *b, size_t len);
bool __real_copy_read(int fd, uint8_t bytes[static DIRREC_BYTES]);
bool __wrap_copy_read(int fd, uint8_t bytes[static DIRREC_BYTES]);

/* Fresh data is synced, but no mark says so. */
int __wrap_journal_append(struct journal *j, const struct jentry_new *e, uint64_t reserved, uint64_t *seq,
                          uint64_t *data_at)
{
    if (!e->file_id && planted("no-mark")) {
        journal_unreserve(j, reserved);
        *seq = 0;
        return 0;
    }
    return __real_journal_append(j, e, reserved, seq, data_at);
}

/* An entry that did not reach the disk whole is accepted: neither the CRCs of its data count nor its MAC. */
uint32_t __wrap_crc32c(uint32_t crc, const void *data, size_t len)
{
    return planted("broken-entry") ? 0 : __real_crc32c(crc, data, len);
}

int __wrap_sodium_memcmp(const void *a, const void *b, size_t len)
{
    return len == JENTRY_MAC_BYTES && planted("broken-entry") ? 0 : __real_sodium_memcmp(a, b, len);
}

/* A record that did not reach the disk is not looked for in its copy. */
bool __wrap_copy_read(int fd, uint8_t bytes[static DIRREC_BYTES])
{
    return !planted("no-copy") && __real_copy_read(fd, bytes);
}
