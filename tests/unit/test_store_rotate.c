/* Rotation of directory keys and re-encryption of data, while programs use the files, cut at every step, and
 * over what is damaged. What counts in the end is what lies on the disk: it is read with the newest version
 * of the directory key alone. */
#include "fs/store/file.h"
#include "latchfs/layout.h"
#include "latchfs/xattr.h"
#include "rotate_fixture.h"

#include <linux/fs.h>
#include <pthread.h>
#include <sys/xattr.h>

/* The older versions are gone; the volume is opened anew. */
static void only_newest(void)
{
    assert_int_equal(volume_close(v), 0);
    plain_keys.versions[0] = plain_keys.versions[plain_keys.count - 1];
    plain_keys.count = 1;
    plain_keys.least = plain_keys.active;
    open_volume();
}

static unsigned places(const struct file_header *h)
{
    return (h->place[0].epoch != 0) + (h->place[1].epoch != 0);
}

/* Every record and every attribute is under this epoch. */
static void check_epochs(struct node *n, uint16_t epoch)
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

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + at / 251 + 1);
}

static void fill(struct node *n, uint64_t from, uint64_t to)
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

static void make_samples(void)
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

static void check_sample(const struct sample *s)
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

static void check_samples(void)
{
    for (size_t i = 0; i < COUNT(samples); i++)
        check_sample(&samples[i]);
}

/* Headers on the disk: version, one place of this epoch. */
static void check_headers(uint32_t version, uint16_t epoch)
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

/* ---- whole runs ---- */

static void test_rewrap(void **state)
{
    struct rotate_progress p;
    make_samples();
    struct node *open = must_walk("dir/open");
    assert_int_equal(file_open(open, true), 0);
    assert_int_equal(run(volume_scan_versions, &p), 0);
    assert_int_equal(p.files, COUNT(samples));
    assert_int_equal(p.least_found, 1);
    next_version();
    assert_int_equal(run(volume_rewrap, &p), 0);
    assert_int_equal(p.files, COUNT(samples));
    assert_int_equal(p.changed, COUNT(samples) - 1);
    assert_int_equal(p.least_found, 2);
    assert_int_equal(p.damaged, 0);
    check_headers(2, 1);
    assert_int_equal(run(volume_rewrap, &p), 0);
    assert_int_equal(p.changed, 0);
    fill(open, 1000, 20000); /* with the header that it has in memory */
    struct stat st, want = {.st_mtim = {1234567, 89}};
    assert_int_equal(node_setattr(open, &want, SET_MTIME, &st), 0);
    file_close(open);
    node_unref(open, 1);
    only_newest();
    check_samples();
}

static void test_reencrypt(void **state)
{
    struct rotate_progress p;
    uint64_t bytes = 0;
    make_samples();
    struct node *open = must_walk("dir/open");
    assert_int_equal(file_open(open, true), 0);
    for (size_t i = 0; i < COUNT(samples); i++)
        bytes += samples[i].size - (samples[i].hole_to - samples[i].hole_from);
    for (uint16_t epoch = 2; epoch < 5; epoch++) {
        next_version();
        assert_int_equal(run(volume_reencrypt, &p), 0);
        assert_int_equal(p.files, COUNT(samples));
        assert_int_equal(p.changed, COUNT(samples) - 1);
        assert_int_equal(p.bytes, bytes);
        check_headers(epoch, epoch);
        check_samples();
    }
    assert_int_equal(run(volume_reencrypt, &p), 0);
    assert_int_equal(p.changed, 0);
    assert_int_equal(run(volume_scan_versions, &p), 0);
    assert_int_equal(p.least_found, 4);
    file_close(open);
    node_unref(open, 1);
    only_newest();
    check_samples();
}

/* Written a moment ago, so that the journal still has it. */
static void test_pending(void **state)
{
    struct rotate_progress p;
    make_samples();
    reopen_volume();
    for (size_t i = 0; i < COUNT(samples); i++) {
        struct node *n = must_walk(samples[i].path);
        uint64_t size = samples[i].size;
        if (size > 2000 && !samples[i].hole_from)
            fill(n, size / 3, size / 2);
        struct stat st, want = {.st_mtim = {1234567, 89}};
        assert_int_equal(node_setattr(n, &want, SET_MTIME, &st), 0);
        node_unref(n, 1);
    }
    next_version();
    assert_int_equal(run(volume_reencrypt, &p), 0);
    check_headers(2, 2);
    only_newest();
    check_samples();
}

static void test_huge_sparse(void **state)
{
    struct rotate_progress p;
    struct node *n = make_file(volume_root(v), "sparse", "begin");
    uint64_t size = UINT64_C(4) << 40;
    char byte;
    assert_int_equal(file_truncate(n, size), 0);
    assert_int_equal(file_write(n, "middle", 6, size / 2 + 3 * PAGE_BYTES), 6);
    assert_int_equal(file_write(n, "end", 3, size - 3), 3);
    next_version();
    assert_int_equal(run(volume_reencrypt, &p), 0);
    assert_true(p.bytes > 0 && p.bytes <= 3 * PAGE_BYTES);
    node_unref(n, 1);
    only_newest();
    n = must_walk("sparse");
    struct file_header h = placed_header(n);
    assert_int_equal(h.key_version, 2);
    assert_true(holds(n, "begin"));
    assert_int_equal(file_read(n, &byte, 1, size - 1), 1);
    assert_int_equal(byte, 'd');
    assert_int_equal(file_read(n, &byte, 1, size / 2 + 3 * PAGE_BYTES), 1);
    assert_int_equal(byte, 'm');
    assert_int_equal(file_seek(n, 2 * PAGE_BYTES, SEEK_DATA), size / 2 + 3 * PAGE_BYTES);
    node_unref(n, 1);
}

/* A key that has sealed nearly as much as it may: the file gets another, and the next rotation finishes that.
 */
static void test_spent_key(void **state)
{
    struct rotate_progress p;
    struct file *f;
    struct node *n = make_file(volume_root(v), "busy", "");
    fill(n, 0, 100000);
    assert_int_equal(file_get(n, &f), 0);
    assert_int_equal(file_lock_write(f), 0);
    f->hdr.chunk_writes = FILE_MESSAGES_MAX - 2;
    file_unlock(f);
    fill(n, 5000, 9000);
    assert_true(file_has_two_keys(f));
    assert_true(f->hdr.chunk_writes < 100);
    f->hdr.chunk_writes = FILE_MESSAGES_MAX - 1; /* the second one, too */
    assert_int_equal(file_write(n, "x", 1, 0), -EFBIG);
    assert_int_equal(volume_checkpoint(v), 0);
    assert_int_equal(run(volume_scan_versions, &p), 0);
    assert_int_equal(p.changed, 1);
    assert_int_equal(run(volume_reencrypt, &p), LFS_ERR_CORRUPT);
    f->hdr.chunk_writes = 0;
    assert_int_equal(run(volume_reencrypt, &p), 0);
    check_epochs(n, 2);
    file_put(f);
    node_unref(n, 1);
}

/* Two rotations at once, a volume that nobody may write, keys that are not there. */
static void test_refused(void **state)
{
    struct rotate_progress p;
    struct rotate_options o = {0};
    assert_int_equal(volume_rewrap(v, &o, &p), LFS_ERR_NOKEY);
    assert_int_equal(volume_reencrypt(v, &o, &p), LFS_ERR_NOKEY);
    assert_int_equal(volume_scan_versions(v, &o, &p), LFS_ERR_NOKEY);
    assert_int_equal(volume_close(v), 0);
    struct volume_options ro = {.read_only = true};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &ro, NULL, &v), 0);
    assert_int_equal(run(volume_rewrap, &p), -EROFS);
    assert_int_equal(run(volume_scan_versions, &p), 0);
    reopen_volume();
}

/* ---- one protected directory of several ---- */

static void test_protected(void **state)
{
    struct keyset outer = pd_keyset(), inner = pd_keyset();
    struct rotate_options o = {0};
    struct rotate_progress p;
    struct node *top = make_top(volume_root(v), "top", &outer), *sub = make_dir(top, "sub"),
                *deep = make_top(sub, "deep", &inner), *below = make_dir(deep, "below");
    struct node *file[] = {make_file(volume_root(v), "a", "root's"), make_file(sub, "b", "outer's"),
                           make_file(below, "c", "inner's")};
    assert_int_equal(volume_checkpoint(v), 0);
    add_version(&inner);
    unlock_pd(&inner);
    memcpy(o.pd_id, inner.pd_id, ID_BYTES);
    lock_pd(&outer); /* what lies around it is not needed */
    assert_int_equal(volume_reencrypt(v, &o, &p), 0);
    assert_int_equal(p.files, 1);
    assert_int_equal(p.changed, 1);
    for (int i = 0; i < 3; i++) {
        struct file_header h = placed_header(file[i]);
        assert_int_equal(h.key_version, i == 2 ? 2 : 1);
    }
    unlock_pd(&outer);
    add_version(&outer);
    unlock_pd(&outer);
    lock_pd(&inner);
    assert_int_equal(volume_reencrypt(v, &o, &p), LFS_ERR_NOKEY);
    memcpy(o.pd_id, outer.pd_id, ID_BYTES);
    assert_int_equal(volume_rewrap(v, &o, &p), 0);
    assert_int_equal(p.changed, 1);
    unlock_pd(&inner);
    assert_true(holds(file[0], "root's") && holds(file[1], "outer's") && holds(file[2], "inner's"));
    for (int i = 0; i < 3; i++)
        node_unref(file[i], 1);
    node_unref(below, 1);
    node_unref(deep, 1);
    node_unref(sub, 1);
    node_unref(top, 1);
}

/* ---- cut ---- */

struct cut {
    atomic_bool stop;
    unsigned at, calls;
};

static void count_calls(const struct rotate_progress *p, void *arg)
{
    struct cut *c = arg;
    if (++c->calls == c->at)
        atomic_store(&c->stop, true);
}

/* The volume as a process leaves it that ends without a word. */
static void cut_process(rotation *how, struct cut *c)
{
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    pid_t child = fork();
    if (child == 0) {
        struct rotate_progress p;
        struct rotate_options o = {.stop = &c->stop, .progress = count_calls, .arg = c};
        open_volume();
        memcpy(o.pd_id, plain_keys.pd_id, ID_BYTES);
        _exit(how(v, &o, &p) == -EINTR ? 1 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    open_volume();
    atomic_store(&c->stop, WEXITSTATUS(status) == 1);
}

static void cut_within(rotation *how, struct cut *c)
{
    struct rotate_progress p;
    struct rotate_options o = {.stop = &c->stop, .progress = count_calls, .arg = c};
    memcpy(o.pd_id, plain_keys.pd_id, ID_BYTES);
    int r = how(v, &o, &p);
    assert_true(r == 0 || r == -EINTR);
    atomic_store(&c->stop, r == -EINTR);
}

static void cut_everywhere(rotation *how, void (*cut)(rotation *, struct cut *), bool data)
{
    struct rotate_progress p;
    unsigned cuts = 0;
    bool done = true;
    atomic_store(&fast_clock, true);
    make_samples();
    for (unsigned i = 0; i < 31; i++) {
        struct cut c = {.at = 1 + i * 5 % 31};
        if (done || i % 7 == 0) { /* each rotation is cut several times, at different steps */
            assert_int_equal(run(how, &p), 0);
            check_headers(plain_keys.active, data ? (uint16_t)plain_keys.active : 1);
            next_version();
        }
        cut(how, &c);
        done = !c.stop;
        cuts += c.stop;
        check_samples();
    }
    assert_true(cuts > 15);
    atomic_store(&fast_clock, false);
    assert_int_equal(run(how, &p), 0);
    only_newest();
    check_samples();
}

static void test_rewrap_stopped(void **state)
{
    cut_everywhere(volume_rewrap, cut_within, false);
}

static void test_rewrap_killed(void **state)
{
    cut_everywhere(volume_rewrap, cut_process, false);
}

static void test_reencrypt_stopped(void **state)
{
    cut_everywhere(volume_reencrypt, cut_within, true);
}

static void test_reencrypt_killed(void **state)
{
    cut_everywhere(volume_reencrypt, cut_process, true);
}

/* A header with two keys is wrapped with both, and its re-encryption goes on. */
static void test_rewrap_unfinished(void **state)
{
    struct rotate_progress p;
    struct cut c = {.at = 24};
    unsigned two = 0;
    make_samples();
    next_version();
    atomic_store(&fast_clock, true);
    cut_within(volume_reencrypt, &c);
    atomic_store(&fast_clock, false);
    assert_true(c.stop);
    next_version();
    assert_int_equal(run(volume_rewrap, &p), 0);
    assert_int_equal(p.least_found, 3);
    for (size_t i = 0; i < COUNT(samples); i++) {
        struct node *n = must_walk(samples[i].path);
        if (samples[i].size) {
            struct file_header h = placed_header(n);
            assert_int_equal(h.key_version, 3);
            two += places(&h) == 2;
        }
        node_unref(n, 1);
    }
    assert_true(two > 0);
    only_newest();
    check_samples();
    assert_int_equal(run(volume_scan_versions, &p), 0);
    assert_int_equal(p.changed, two);
    assert_int_equal(run(volume_reencrypt, &p), 0);
    assert_int_equal(p.changed, two);
    reopen_volume();
    check_samples();
}

/* ---- damage ---- */

static void flip(struct node *n, uint64_t at)
{
    uint8_t byte;
    struct stat st;
    int fd = backing(n, O_RDWR);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    assert_int_equal(futimens(fd, (struct timespec[2]){st.st_atim, st.st_mtim}), 0);
    close(fd);
}

static void test_damage(void **state)
{
    struct rotate_progress p;
    make_samples();
    reopen_volume();
    struct node *hdr = must_walk("inline"), *data = must_walk("dir/sub/groups"),
                *attr = must_walk("one-chunk");
    flip(hdr, 100);
    flip(data, layout_data_offset(300) + 50);
    int fd = backing(attr, O_RDWR);
    assert_int_equal(
        fsetxattr(fd, XATTR_STORED_PREFIX "garbage", "0123456789012345678901234567890123456789\1", 42, 0), 0);
    close(fd);
    next_version();
    assert_int_equal(run(volume_rewrap, &p), LFS_ERR_CORRUPT);
    assert_int_equal(p.damaged, 1);
    assert_int_equal(p.changed, COUNT(samples) - 2);
    next_version();
    assert_int_equal(run(volume_reencrypt, &p), LFS_ERR_CORRUPT);
    assert_int_equal(p.damaged, 3);
    struct file_header h = placed_header(data);
    assert_int_equal(places(&h), 2);
    h = placed_header(attr);
    assert_int_equal(places(&h), 2);
    check_sample(&samples[5]);
    flip(hdr, 100);
    flip(data, layout_data_offset(300) + 50);
    fd = backing(attr, O_RDWR);
    assert_int_equal(fremovexattr(fd, XATTR_STORED_PREFIX "garbage"), 0);
    close(fd);
    node_unref(hdr, 1);
    node_unref(data, 1);
    node_unref(attr, 1);
    assert_int_equal(run(volume_reencrypt, &p), 0);
    assert_int_equal(p.damaged, 0);
    only_newest();
    check_samples();
}

/* ---- what moves ---- */

#define MOVING 40

struct mover {
    struct node *dir[2];
    unsigned calls;
};

/* At every step something goes to the other side, a directory now and then. */
static void move_on(const struct rotate_progress *p, void *arg)
{
    struct mover *m = arg;
    char name[32];
    for (unsigned k = 0; k < 6; k++) {
        unsigned i = m->calls++, side = i / MOVING % 2;
        snprintf(name, sizeof name, "%c%u", i % 5 ? 'f' : 'd', i % MOVING);
        assert_int_equal(node_rename(m->dir[side], name, m->dir[1 - side], name, RENAME_NOREPLACE), 0);
    }
}

static void test_renamed_meanwhile(void **state)
{
    char name[32];
    struct mover m = {0};
    struct rotate_options o = {.progress = move_on, .arg = &m};
    struct rotate_progress p;
    memcpy(o.pd_id, plain_keys.pd_id, ID_BYTES);
    m.dir[0] = make_dir(volume_root(v), "left");
    m.dir[1] = make_dir(volume_root(v), "right");
    for (unsigned i = 0; i < MOVING; i++) {
        snprintf(name, sizeof name, "%c%u", i % 5 ? 'f' : 'd', i);
        struct node *n = i % 5 ? make_file(m.dir[0], name, name) : make_dir(m.dir[0], name);
        if (i % 5 == 0)
            node_unref(make_file(n, "inside", "in"), 1);
        node_unref(n, 1);
    }
    for (int round = 0; round < 4; round++) {
        next_version();
        atomic_store(&fast_clock, true);
        assert_int_equal((round % 2 ? volume_reencrypt : volume_rewrap)(v, &o, &p), 0);
        atomic_store(&fast_clock, false);
        assert_int_equal(run(volume_scan_versions, &p), 0);
        assert_int_equal(p.least_found, plain_keys.active);
        assert_int_equal(p.files, MOVING);
        assert_int_equal(p.changed, 0);
    }
    node_unref(m.dir[0], 1);
    node_unref(m.dir[1], 1);
}

/* ---- several threads ---- */

#define WORKERS 4
#define MODEL_BYTES (1u << 20)

struct worker {
    pthread_t thread;
    char name[16];
    struct node *n;
    uint8_t *model;
    size_t size;
    struct rng rng;
    atomic_bool *stop;
    char note[16];
};

static void change(struct worker *w)
{
    uint8_t buf[40000];
    size_t off = (size_t)rng_below(&w->rng, w->size + 1), len = 1 + (size_t)rng_below(&w->rng, sizeof buf);
    size_t cut = (size_t)rng_below(&w->rng, MODEL_BYTES);
    switch (rng_below(&w->rng, 8)) {
    case 0:
        assert_int_equal(file_truncate(w->n, cut), 0);
        if (cut < w->size)
            memset(w->model + cut, 0, w->size - cut);
        w->size = cut;
        break;
    case 1:
        snprintf(w->note, sizeof w->note, "%llx", (unsigned long long)rng_next(&w->rng) & 0xffffff);
        assert_int_equal(node_setxattr(w->n, "user.note", w->note, sizeof w->note, 0), 0);
        break;
    case 2:
        len = len < w->size - off ? len : w->size - off;
        if (len) {
            assert_int_equal(file_fallocate(w->n, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len), 0);
        }
        memset(w->model + off, 0, len);
        break;
    default:
        if (off + len > MODEL_BYTES)
            return;
        rng_fill(&w->rng, buf, len);
        assert_int_equal(file_write(w->n, buf, len, off), len);
        memcpy(w->model + off, buf, len);
        w->size = off + len > w->size ? off + len : w->size;
        break;
    }
}

static void compare(struct worker *w)
{
    char note[16];
    uint8_t *buf = malloc(w->size + 1);
    assert_int_equal(file_read(w->n, buf, w->size + 1, 0), w->size);
    assert_memory_equal(buf, w->model, w->size);
    free(buf);
    assert_int_equal(node_getxattr(w->n, "user.note", note, sizeof note), sizeof note);
    assert_memory_equal(note, w->note, sizeof note);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    for (unsigned i = 0; !atomic_load(w->stop); i++) {
        change(w);
        if (i % 8 == 0)
            compare(w);
        if (i % 16 == 0) {
            assert_int_equal(file_fsync(w->n, false), 0);
        }
        if (i % 5 == 0) {
            char other[20];
            snprintf(other, sizeof other, "%s-", w->name);
            assert_int_equal(node_rename(volume_root(v), w->name, volume_root(v), other, 0), 0);
            assert_int_equal(node_rename(volume_root(v), other, volume_root(v), w->name, 0), 0);
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    atomic_bool stop = false;
    struct worker w[WORKERS];
    struct volume_options roomy = {.no_flusher = true}; /* so that they meet in files, not in checkpoints */
    struct rotate_progress p;
    assert_int_equal(volume_close(v), 0);
    assert_int_equal(volume_open(volume_dir, &plain_keys, &roomy, NULL, &v), 0);
    for (int i = 0; i < WORKERS; i++) {
        w[i] = (struct worker){.model = calloc(1, MODEL_BYTES), .rng = {(uint64_t)i + 1}, .stop = &stop};
        snprintf(w[i].name, sizeof w[i].name, "w%d", i);
        w[i].n = make_file(volume_root(v), w[i].name, "");
        assert_int_equal(node_setxattr(w[i].n, "user.note", w[i].note, sizeof w[i].note, 0), 0);
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (int round = 0; round < 4; round++) {
        next_version();
        assert_int_equal(run(round == 2 ? volume_rewrap : volume_reencrypt, &p), 0);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(w[i].thread, NULL);
        node_unref(w[i].n, 1);
    }
    only_newest();
    for (int i = 0; i < WORKERS; i++) {
        w[i].n = must_walk(w[i].name);
        compare(&w[i]);
        node_unref(w[i].n, 1);
        free(w[i].model);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, volume_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_rewrap),        T(test_reencrypt),         T(test_pending),          T(test_huge_sparse),
        T(test_spent_key),     T(test_refused),           T(test_protected),        T(test_rewrap_stopped),
        T(test_rewrap_killed), T(test_reencrypt_stopped), T(test_reencrypt_killed), T(test_rewrap_unfinished),
        T(test_damage),        T(test_renamed_meanwhile), T(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
