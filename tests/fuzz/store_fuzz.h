/* What the targets that go through the store share: a volume in a temporary directory with known keys, and
 * bytes that are made authentic again after a mutation, so that fuzzing gets behind the MACs. */
#ifndef STORE_FUZZ_H
#define STORE_FUZZ_H

#include "latchfs/dirrec.h"
#include "latchfs/header.h"
#include "latchfs/jentry.h"
#include "latchfs/layout.h"
#include "latchfs/store.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* Aborts when it does not hold. */
#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

/* ---- volumes ---- */

/* A new empty volume below a temporary directory that is removed at exit. Its path. */
const char *fuzz_volume_new(void);
const struct keyset *fuzz_keys(void);
int fuzz_open(const char *path, bool read_only, struct volume **out);

/* Replaces a file: the first len bytes, and zeros up to length. */
void fuzz_put(const char *dir, const char *name, const uint8_t *data, size_t len, uint64_t length);

/* The stored form of a name in the root. */
void fuzz_stored(struct volume *v, const char *name, char stored[static NAME_CIPHER_MAX + 1]);

/* Everything that can be read of a node, and of all below it: no result beyond its bounds, the same when
 * read again. Returns a hash of what was seen. */
uint64_t fuzz_read_all(struct node *n);
unsigned fuzz_errors(void); /* of opening and reading files, since the last time this was asked */

/* The check of it, both depths: it goes through, whatever it finds. */
void fuzz_check(const char *path, struct volume *v);

/* ---- authentic bytes ---- */

/* The file key of an epoch, wrapped by the keys of fuzz_keys. */
void fuzz_file_key(uint16_t epoch, uint8_t key[static LFS_KEY_BYTES]);

/* Makes fields possible that no reader would take, so that the header decodes. */
void fuzz_repair_header(uint8_t image[static HEADER_BYTES]);

/* Wraps the file keys and sets the MAC of a header that decodes. */
void fuzz_authentic_header(uint8_t image[static HEADER_BYTES]);

/* Gives every record of the whole file a tag that fits the ciphertext in place, then the seal its root, and
 * the header its MAC. pages: of image. */
void fuzz_authentic_file(uint8_t *image, size_t pages);

/* The tag for a chunk's ciphertext. Nothing for records of no epoch of the header. */
void fuzz_authentic_record(const struct file_header *h, uint8_t kind, uint64_t index,
                           uint8_t record[static RECORD_BYTES], const uint8_t *cipher);

#endif
