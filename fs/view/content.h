/* The ciphertext of one plain file: which bytes the view has at which place. A plain file of one size has one
 * header; its chunks are made a group at a time, since a group shares a tag page. */
#ifndef FS_VIEW_CONTENT_H
#define FS_VIEW_CONTENT_H

#include "fs/view/derive.h"
#include "latchfs/aead.h"

/* A group as it stands in the backing file: its tag page (with the header in the first group), then its data
 * pages. */
#define GROUP_PAGES (GROUP_RECORDS + 1)
#define GROUP_BYTES (GROUP_PAGES * PAGE_BYTES)
#define GROUP_PLAIN_BYTES (GROUP_RECORDS * PAGE_BYTES)

/* Length of the file in the view. Even an empty file has a header: its attributes may need one, and stat is
 * not to look for attributes. */
uint64_t content_length(uint64_t size);
bool content_is_inline(uint64_t size);

/* Of a paged file: the group at an offset of the view, where it begins there, and its chunks. */
uint64_t content_group_at(uint64_t offset);
uint64_t content_group_offset(uint64_t group);
uint64_t content_group_first(uint64_t group);
unsigned content_group_chunks(uint64_t group, uint64_t size); /* those that the size leaves it */

struct content {
    int fd;
    uint64_t size; /* that the header has, at most what the plain file has */
    uint8_t id[ID_BYTES];
    uint8_t home[ID_BYTES]; /* id of the directory that it has its only name in */
};

/* A whole inline file: HEADER_BYTES + size bytes. */
int content_inline(const struct content *c, const struct view_keys *k, struct aead *a, const uint8_t *plain,
                   uint8_t *out);

/* All of a group into image (GROUP_BYTES). plain: scratch of GROUP_PLAIN_BYTES. -EIO when the plain file ends
 * too early, else of reading. */
int content_group(const struct content *c, const struct view_keys *k, struct aead *a, uint64_t group,
                  uint8_t *plain, uint8_t *image);

/* Data pages alone, count chunks of one group from first on, page by page into out; records into records. */
int content_chunks(const struct content *c, const struct view_keys *k, struct aead *a, uint64_t first,
                   unsigned count, uint8_t *plain, uint8_t *out, uint8_t *records);

/* The next data (or hole) of the view from offset on, as lseek tells it; -ENXIO. */
int64_t content_seek(const struct content *c, uint64_t offset, bool hole);

#endif
