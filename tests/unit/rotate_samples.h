/* A volume with a bit of everything, for rotations, and what is looked at afterwards. */
#ifndef TEST_ROTATE_SAMPLES_H
#define TEST_ROTATE_SAMPLES_H

#include "fs/store/file.h"
#include "latchfs/layout.h"
#include "latchfs/xattr.h"
#include "rotate_fixture.h"

#include <linux/fs.h>
#include <sys/xattr.h>

static inline unsigned places(const struct file_header *h)
{
    return (h->place[0].epoch != 0) + (h->place[1].epoch != 0);
}

/* Every record and every attribute is under this epoch. */
static inline void check_epochs(struct node *n, uint16_t epoch)
{
    struct file_header h = placed_header(n);
    char list[4096], value[4096];
    int fd = backing(n, O_RDONLY);
    for (uint64_t c = 0; h.state == FILE_PAGED && c < layout_chunks(h.size); c++) {
        uint8_t image[RECORD_BYTES];
        struct record rec;
        assert_int_equal(io_pread(fd, image, sizeof image, layout_record_offset(c)), sizeof image);
        assert_int_equal(record_decode(image, &rec), 0);
        assert_true(record_is_hole(&rec) || rec.epoch == epoch);
    }
    if (h.state == FILE_INLINE) {
        assert_true(h.inline_record.epoch == epoch || !h.inline_record.epoch);
    }
    ssize_t len = flistxattr(fd, list, sizeof list);
    for (char *name = list; name < list + len; name += strlen(name) + 1) {
        if (strncmp(name, XATTR_STORED_PREFIX, strlen(XATTR_STORED_PREFIX)))
            continue;
        ssize_t size = fgetxattr(fd, name, value, sizeof value);
        assert_true(size > 0);
        assert_int_equal(xattr_value_epoch((uint8_t *)value, (size_t)size), epoch);
    }
    close(fd);
}

/* ---- a volume with a bit of everything ---- */

struct sample {
    const char *path;
    uint64_t size; /* filled with a pattern, but for holes */
    uint64_t hole_from, hole_to;
    mode_t mode;
};
static const struct sample samples[] = {
    {"empty", 0, 0, 0, 0644},
    {"inline", 100, 0, 0, 0600},
    {"full-inline", INLINE_MAX, 0, 0, 0600},
    {"one-chunk", 4096, 0, 0, 0444},
    {"locked-away", 9000, 0, 0, 0},
    {"dir/several", 200000, 0, 0, 0644},
    {"dir/sub/groups", 700 * PAGE_BYTES + 17, 0, 0, 0640},
    {"dir/sub/holes", 500 * PAGE_BYTES + 5, 30 * PAGE_BYTES, 400 * PAGE_BYTES, 0644},
    {"dir/open", 50000, 0, 0, 0644},
};

static inline uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + at / 251 + 1);
}

static inline void fill(struct node *n, uint64_t from, uint64_t to)
{
    uint8_t buf[8192];
    for (uint64_t at = from; at < to;) {
        size_t len = to - at < sizeof buf ? (size_t)(to - at) : sizeof buf;
        for (size_t i = 0; i < len; i++)
            buf[i] = pattern(at + i);
        assert_int_equal(file_write(n, buf, len, at), len);
        at += len;
    }
}

static inline void make_samples(void)
{
    struct node *dir = make_dir(volume_root(v), "dir"), *sub = make_dir(dir, "sub"), *linked;
    struct stat st, want = {.st_mtim = {1234567, 89}};
    for (size_t i = 0; i < COUNT(samples); i++) {
        const struct sample *s = &samples[i];
        const char *slash = strrchr(s->path, '/');
        struct node *in = !slash ? volume_root(v) : strstr(s->path, "sub") ? sub : dir;
        struct node *n = make_file(in, slash ? slash + 1 : s->path, "");
        fill(n, 0, s->hole_from ? s->hole_from : s->size);
        if (s->hole_from)
            fill(n, s->hole_to, s->size);
        want.st_mode = s->mode;
        if (s->size > 3000) {
            assert_int_equal(node_setxattr(n, "user.note", s->path, strlen(s->path), 0), 0);
            assert_int_equal(node_setxattr(n, "security.other", "x", 1, 0), 0);
        }
        assert_int_equal(node_setattr(n, &want, SET_MODE | SET_MTIME, &st), 0);
        if (strcmp(s->path, "dir/several") == 0) {
            assert_int_equal(node_link(n, volume_root(v), "again", &st, &linked), 0);
            node_unref(linked, 1);
        }
        node_unref(n, 1);
    }
    node_unref(sub, 1);
    node_unref(dir, 1);
}

static inline void check_sample(const struct sample *s)
{
    struct node *n = must_walk(s->path);
    struct stat st;
    char note[256];
    uint8_t *buf = malloc(s->size + 1);
    assert_int_equal(node_getattr(n, &st), 0);
    assert_int_equal(st.st_size, s->size);
    assert_int_equal(st.st_mode & 07777, s->mode);
    assert_true(st.st_mtim.tv_sec == 1234567 && st.st_mtim.tv_nsec == 89);
    assert_int_equal(file_read(n, buf, s->size + 1, 0), s->size);
    for (uint64_t at = 0; at < s->size; at++)
        assert_int_equal(buf[at], at >= s->hole_from && at < s->hole_to ? 0 : pattern(at));
    if (s->hole_from) {
        assert_int_equal(file_seek(n, 0, SEEK_HOLE), s->hole_from);
        assert_int_equal(file_seek(n, s->hole_from, SEEK_DATA), s->hole_to);
    }
    if (s->size > 3000) {
        assert_int_equal(node_getxattr(n, "user.note", note, sizeof note), strlen(s->path));
        assert_memory_equal(note, s->path, strlen(s->path));
        assert_int_equal(node_getxattr(n, "security.other", note, sizeof note), 1);
    }
    free(buf);
    node_unref(n, 1);
}

static inline void check_samples(void)
{
    for (size_t i = 0; i < COUNT(samples); i++)
        check_sample(&samples[i]);
}

/* Headers on the disk: version, one place of this epoch. */
static inline void check_headers(uint32_t version, uint16_t epoch)
{
    for (size_t i = 0; i < COUNT(samples); i++) {
        struct node *n = must_walk(samples[i].path);
        if (samples[i].size) {
            struct file_header h = placed_header(n);
            assert_int_equal(h.key_version, version);
            assert_int_equal(places(&h), 1);
            assert_int_equal(h.place[header_newest(&h)].epoch, epoch);
            check_epochs(n, epoch);
        }
        node_unref(n, 1);
    }
}

#endif
