#include "latchfs/layout.h"

/* Page 0 and its 112 data pages, then groups of one tag page and 128 data pages. */
#define FIRST_PAGES (1 + (uint64_t)FIRST_RECORDS)
#define GROUP_PAGES (1 + (uint64_t)GROUP_RECORDS)

static uint64_t tag_page_number(uint64_t chunk)
{
    return chunk < FIRST_RECORDS ? 0 : FIRST_PAGES + (chunk - FIRST_RECORDS) / GROUP_RECORDS * GROUP_PAGES;
}

uint64_t layout_group_first(uint64_t chunk)
{
    return chunk < FIRST_RECORDS ? 0 : chunk - (chunk - FIRST_RECORDS) % GROUP_RECORDS;
}

uint64_t layout_group_next(uint64_t chunk)
{
    return chunk < FIRST_RECORDS ? FIRST_RECORDS : layout_group_first(chunk) + GROUP_RECORDS;
}

uint64_t layout_tag_page(uint64_t chunk)
{
    return tag_page_number(chunk) * PAGE_BYTES;
}

uint64_t layout_data_offset(uint64_t chunk)
{
    return (tag_page_number(chunk) + 1 + chunk - layout_group_first(chunk)) * PAGE_BYTES;
}

uint64_t layout_record_offset(uint64_t chunk)
{
    uint64_t head = chunk < FIRST_RECORDS ? HEADER_BYTES : 0;
    return layout_tag_page(chunk) + head + (chunk - layout_group_first(chunk)) * RECORD_BYTES;
}

uint64_t layout_chunks(uint64_t size)
{
    return size / PAGE_BYTES + (size % PAGE_BYTES != 0);
}

uint64_t layout_length(uint64_t size)
{
    uint64_t last = layout_chunks(size) - 1;
    return layout_data_offset(last) + (size - last * PAGE_BYTES);
}

static uint64_t paged_size(uint64_t length)
{
    uint64_t page = (length - 1) / PAGE_BYTES; /* of the last byte; not 0 */
    uint64_t tail = length - page * PAGE_BYTES;
    if (page < FIRST_PAGES)
        return (page - 1) * PAGE_BYTES + tail;
    uint64_t group = (page - FIRST_PAGES) / GROUP_PAGES;
    uint64_t place = (page - FIRST_PAGES) % GROUP_PAGES;
    uint64_t before = (FIRST_RECORDS + group * GROUP_RECORDS) * PAGE_BYTES;
    return place == 0 ? before : before + (place - 1) * PAGE_BYTES + tail;
}

enum length_kind layout_size(uint64_t length, uint64_t *size)
{
    *size = 0;
    if (length == 0)
        return LENGTH_EMPTY;
    if (length < HEADER_BYTES)
        return LENGTH_CORRUPT;
    if (length <= PAGE_BYTES) {
        *size = length - HEADER_BYTES;
        return LENGTH_INLINE;
    }
    uint64_t paged = paged_size(length);
    if (paged > FILE_SIZE_MAX)
        return LENGTH_CORRUPT;
    *size = paged;
    return LENGTH_PAGED;
}
