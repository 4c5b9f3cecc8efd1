/* A whole backing file, read and changed through the store.
 *
 * Input: length u32, of which the highest bit says "change it too" | header 512 | 8 records | units. A unit
 * is page u16 | place in it u8 | 128 bytes. The rest of the file is zeros. The mutator keeps what it makes
 * authentic, most of the time. */
#include "store_fuzz.h"

#include "latchfs/err.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define PAGES 300u /* three tag pages */
#define HEAD (4 + HEADER_BYTES + 8 * RECORD_BYTES)
#define UNIT 128u
#define TAIL 10
#define UNIT_INPUT (3 + UNIT)

static uint8_t image[PAGES * PAGE_BYTES];

/* Where a unit of the input lies in the file. */
static size_t unit_place(const uint8_t *unit)
{
    size_t page = (size_t)(unit[0] | unit[1] << 8) % PAGES;
    return page * PAGE_BYTES + unit[2] % (PAGE_BYTES / UNIT) * UNIT;
}

static bool used[PAGES];

static void unpack(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < PAGES; i++)
        if (used[i])
            memset(image + i * PAGE_BYTES, 0, PAGE_BYTES);
    memset(used, 0, sizeof used);
    used[0] = true;
    memcpy(image, data + 4, HEAD - 4);
    for (size_t at = HEAD; at + UNIT_INPUT <= size; at += UNIT_INPUT) {
        size_t place = unit_place(data + at);
        used[place / PAGE_BYTES] = true;
        memcpy(image + place, data + at + 3, UNIT);
    }
}

static void put_image(const char *dir, const char *name, uint64_t length)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (size_t i = 0; i < PAGES; i++)
        if (used[i] && i * PAGE_BYTES < length)
            MUST(io_pwrite(fd, image + i * PAGE_BYTES, PAGE_BYTES, i * PAGE_BYTES) == 0);
    MUST(io_ftruncate(fd, length) == 0);
}

static void pack(uint8_t *data, size_t size)
{
    memcpy(data + 4, image, HEAD - 4);
    for (size_t at = HEAD; at + UNIT_INPUT <= size; at += UNIT_INPUT)
        memcpy(data + at + 3, image + unit_place(data + at), UNIT);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max);
    if (size < HEAD || seed % 16 == 0)
        return size;
    unpack(data, size);
    if (seed % 8)
        fuzz_repair_header(image);
    fuzz_authentic_file(image, PAGES);
    struct file_header h;
    if (seed % 4 && header_decode(image, &h) == 0) { /* mostly a length that fits */
        uint64_t length = h.state == FILE_INLINE ? HEADER_BYTES + h.size
                          : h.size               ? layout_length(h.size)
                                                 : HEADER_BYTES;
        struct wcur w = wcur_over(data, 4);
        wcur_u32(&w, (uint32_t)(length & 0x7fffffff) | (uint32_t)(seed & 16) << 27);
    }
    pack(data, size);
    return size;
}

static struct volume *readable, *changed;
static const char *readable_dir, *changed_dir;
static char stored[NAME_CIPHER_MAX + 1];
static uint8_t text[2 * PAGE_BYTES], back[2 * PAGE_BYTES];

static void begin(void)
{
    memset(text, 'w', sizeof text);
    readable_dir = fuzz_volume_new();
    changed_dir = fuzz_volume_new();
    MUST(fuzz_open(readable_dir, true, &readable) == 0);
    fuzz_stored(readable, "file", stored);
}

static struct node *find(struct volume *v)
{
    struct node *n;
    struct stat st;
    MUST(node_lookup(volume_root(v), "file", &st, &n) == 0);
    return n;
}

/* Errors that hostile bytes may give; any other is a fault of ours. */
static bool is_expected(int64_t r)
{
    return r >= 0 || r == LFS_ERR_CORRUPT || r == LFS_ERR_AUTH || r == LFS_ERR_UNSUPPORTED ||
           r == LFS_ERR_ROLLBACK || r == -EFBIG || r == -ENOSPC || r == -ENODATA || r == -ENOTSUP;
}

/* True if all of it worked: the last bytes of the file are then the first of text. */
static bool change(struct node *n, uint64_t at)
{
    ssize_t r = file_write(n, text, sizeof text, at);
    MUST(is_expected(r) && (r < 0 || r == (ssize_t)sizeof text));
    if (r >= 0) {
        MUST(file_read(n, back, sizeof back, at) == (ssize_t)sizeof back);
        MUST(!memcmp(text, back, sizeof back));
    }
    int x = node_setxattr(n, "user.name", text, 20, 0);
    int hole = file_fallocate(n, 3, at / 2, PAGE_BYTES);
    int cut = file_truncate(n, at + TAIL);
    int sync = file_fsync(n, false);
    MUST(is_expected(x) && is_expected(hole) && is_expected(cut) && is_expected(sync));
    return r >= 0 && !x && !hole && !cut && !sync;
}

/* Of the file as it was before it was changed. */
static bool seal_was_broken(void)
{
    struct node *n = find(readable);
    bool sealed;
    int r = file_verify_seal(n, &sealed);
    node_unref(n, 1);
    return r == LFS_ERR_AUTH && sealed;
}

/* The seal of a long file is asked after its first change. If it does not fit, the file is refused from then
 * on. */
static void expect_text(struct node *n, uint64_t at)
{
    ssize_t r = file_read(n, back, sizeof back, at);
    if (r == LFS_ERR_AUTH && seal_was_broken())
        return;
    MUST(r == TAIL && !memcmp(back, text, TAIL));
    MUST(node_getxattr(n, "user.name", back, sizeof back) == 20);
}

static void run_changed(uint64_t length, uint64_t at)
{
    put_image(changed_dir, stored, length);
    MUST(fuzz_open(changed_dir, false, &changed) == 0);
    struct node *n = find(changed);
    bool done = change(n, at);
    fuzz_read_all(n);
    node_unref(n, 1);
    int r = volume_close(changed);
    MUST(is_expected(r));
    if (r) { /* what could not be put in place must not wait for the next input */
        fuzz_put(changed_dir, JOURNAL_NAME, NULL, 0, 0);
        return;
    }
    MUST(fuzz_open(changed_dir, true, &changed) == 0);
    n = find(changed);
    fuzz_read_all(n);
    if (done)
        expect_text(n, at);
    node_unref(n, 1);
    volume_close(changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!readable)
        begin();
    if (size < HEAD)
        return 0;
    struct rcur c = rcur_over(data, 4);
    uint32_t word = rcur_u32(&c);
    uint64_t length = word & 0x7fffffff;
    unpack(data, size);
    put_image(readable_dir, stored, length);
    struct node *n = find(readable);
    fuzz_read_all(n);
    node_unref(n, 1);
    if (word & 1)
        fuzz_check(readable_dir, readable);
    if (word >> 31)
        run_changed(length, 2 * PAGE_BYTES + data[5] * 7000u);
    return 0;
}
