/* Where chunks and records lie in a paged file, and how length and size follow from each other. Pure
 * arithmetic, no state. chunk: index of a 4096-byte piece of plaintext. */
#ifndef LATCHFS_LAYOUT_H
#define LATCHFS_LAYOUT_H

#include "latchfs/format.h"

#include <stdbool.h>

/* Byte offset of a chunk's data page, and of its record. */
uint64_t layout_data_offset(uint64_t chunk);
uint64_t layout_record_offset(uint64_t chunk);

/* Byte offset of the page that holds the chunk's record (0 for the first 112). */
uint64_t layout_tag_page(uint64_t chunk);

/* First chunk of the group (chunks that share a tag page) that chunk belongs to, and of the next group. */
uint64_t layout_group_first(uint64_t chunk);
uint64_t layout_group_next(uint64_t chunk);

/* Backing length of a paged file of size bytes (size >= 1). */
uint64_t layout_length(uint64_t size);

/* Number of chunks of size bytes. */
uint64_t layout_chunks(uint64_t size);

/* What a backing length says about an unopened file. The size of a paged length that ends inside a tag page
 * is that of the chunk before. */
enum length_kind { LENGTH_EMPTY, LENGTH_CORRUPT, LENGTH_INLINE, LENGTH_PAGED };
enum length_kind layout_size(uint64_t length, uint64_t *size);

#endif
