/* Contents of files against a model in memory: seeded random writes, cuts, holes and syncs, checkpoints at
 * random moments, clean reopens, and processes that end without closing (what kill -9 leaves). */
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/store.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODEL_MAX (6u << 20)
#define RING_MIN (UINT64_C(8) << 20)

static char dir[64];
static struct keyset *keys, raw_keys;

struct model {
    uint8_t *bytes;
    size_t size;
    uint64_t rng;
};

static uint64_t draw(struct model *m, uint64_t below)
{
    m->rng ^= m->rng << 13;
    m->rng ^= m->rng >> 7;
    m->rng ^= m->rng << 17;
    return m->rng % below;
}

static struct volume *open_volume(struct replay_report *report)
{
    struct volume_options o = {.journal_bytes = RING_MIN, .no_flusher = true};
    struct volume *v = NULL;
    assert_int_equal(volume_open(dir, keys, &o, report, &v), 0);
    return v;
}

static struct node *file_at(struct volume *v, const char *name)
{
    struct node *n;
    struct stat st;
    int r = node_lookup(volume_root(v), name, &st, &n);
    if (r == -ENOENT)
        r = node_create(volume_root(v), name, 0600, true, &st, &n);
    assert_int_equal(r, 0);
    return n;
}

static int make_volume(void **state)
{
    strcpy(dir, "/tmp/latchfs-unit-XXXXXX");
    assert_non_null(mkdtemp(dir));
    keys = keyset_new();
    keys->suite = SUITE_AES_256_GCM;
    keys->active = keys->least = keys->count = keys->versions[0].version = 1;
    randombytes_buf(keys->volume_id, sizeof keys->volume_id);
    randombytes_buf(keys->pd_id, sizeof keys->pd_id);
    randombytes_buf(keys->versions[0].key, LFS_KEY_BYTES);
    randombytes_buf(keys->name_key, LFS_KEY_BYTES);
    randombytes_buf(keys->journal_key, LFS_KEY_BYTES);
    raw_keys = *keys;
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(volume_create(fd, keys), 0);
    close(fd);
    return 0;
}

static int drop_volume(void **state)
{
    char cmd[96];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    keyset_free(keys);
    return system(cmd);
}

/* ---- the model ---- */

static void model_init(struct model *m, uint64_t seed)
{
    m->bytes = calloc(1, MODEL_MAX);
    m->size = 0;
    m->rng = seed * 2654435761u + 88172645463325252u;
}

static void model_resize(struct model *m, size_t size)
{
    if (size < m->size)
        memset(m->bytes + size, 0, m->size - size);
    m->size = size;
}

static size_t some_length(struct model *m)
{
    static const size_t lengths[] = {1, 100, 511, 3584, 4096, 8192, 65536, 300000, 1048576};
    size_t top = lengths[draw(m, sizeof lengths / sizeof *lengths)];
    return draw(m, 3) ? 1 + (size_t)draw(m, top) : top;
}

static size_t some_offset(struct model *m)
{
    switch (draw(m, 4)) {
    case 0:
        return m->size;
    case 1:
        return (size_t)draw(m, MODEL_MAX / 2) / 4096 * 4096;
    default:
        return (size_t)draw(m, m->size + 5000);
    }
}

static void step_write(struct model *m, struct node *n)
{
    size_t len = some_length(m), off = some_offset(m);
    if (off + len > MODEL_MAX)
        return;
    uint8_t *buf = malloc(len);
    for (size_t i = 0; i < len; i++)
        buf[i] = (uint8_t)draw(m, 255) + 1;
    if (n) {
        assert_int_equal(file_write(n, buf, len, off), (int)len);
    }
    memcpy(m->bytes + off, buf, len);
    m->size = off + len > m->size ? off + len : m->size;
    free(buf);
}

static void step_truncate(struct model *m, struct node *n)
{
    size_t size = draw(m, 4) ? (size_t)draw(m, m->size + 9000) : draw(m, 2) ? 0 : m->size / 2;
    if (size > MODEL_MAX)
        return;
    if (n) {
        assert_int_equal(file_truncate(n, size), 0);
    }
    model_resize(m, size);
}

static void step_allocate(struct model *m, struct node *n)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    int mode = modes[draw(m, 5)];
    size_t off = some_offset(m), len = some_length(m);
    if (off + len > MODEL_MAX)
        return;
    if (n) {
        assert_int_equal(file_fallocate(n, mode, off, len), 0);
    }
    size_t end = off + len < m->size ? off + len : m->size;
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) && off < end)
        memset(m->bytes + off, 0, end - off);
    if (!(mode & FALLOC_FL_KEEP_SIZE) && off + len > m->size)
        m->size = off + len;
}

static void check_file(struct model *m, struct node *n)
{
    struct stat st;
    uint8_t *got = malloc(MODEL_MAX + 1);
    assert_int_equal(node_getattr(n, &st), 0);
    assert_int_equal(st.st_size, m->size);
    assert_int_equal(file_read(n, got, MODEL_MAX + 1, 0), (int)m->size);
    assert_memory_equal(got, m->bytes, m->size);
    free(got);
}

static void check_part(struct model *m, struct node *n)
{
    size_t off = some_offset(m), len = some_length(m);
    if (!n)
        return;
    uint8_t *got = malloc(len);
    ssize_t r = file_read(n, got, len, off);
    ssize_t want = off >= m->size ? 0 : (ssize_t)(m->size - off < len ? m->size - off : len);
    assert_int_equal(r, want);
    assert_memory_equal(got, m->bytes + off, (size_t)want);
    free(got);
}

/* One step; the draws are the same with and without a node, so that a model can follow a dead process. */
static void step(struct model *m, struct node *n, struct volume *v)
{
    switch (draw(m, 12)) {
    case 0:
    case 1:
        step_truncate(m, n);
        break;
    case 2:
        step_allocate(m, n);
        break;
    case 3:
        if (n)
            assert_int_equal(file_fsync(n, false), 0);
        break;
    case 4:
        if (n)
            assert_int_equal(volume_checkpoint(v), 0);
        break;
    case 5:
    case 6:
        check_part(m, n);
        break;
    default:
        step_write(m, n);
    }
}

static void run_seed(uint64_t seed)
{
    struct model m;
    char name[32];
    model_init(&m, seed);
    snprintf(name, sizeof name, "seed-%llu", (unsigned long long)seed);
    for (int life = 0; life < 4; life++) {
        struct volume *v = open_volume(NULL);
        struct node *n = file_at(v, name);
        check_file(&m, n);
        for (int i = 0; i < 60; i++)
            step(&m, n, v);
        check_file(&m, n);
        node_unref(n, 1);
        assert_int_equal(volume_close(v), 0);
    }
    free(m.bytes);
}

static void test_model(void **state)
{
    for (uint64_t seed = 1; seed <= 12; seed++)
        run_seed(seed);
}

/* The child ends without closing, at a step that its seed chooses; the parent's model follows it. */
static void child_life(struct model *m, const char *name, int steps)
{
    *keys = raw_keys; /* locked memory does not survive a fork */
    struct volume *v = open_volume(NULL);
    struct node *n = file_at(v, name);
    check_file(m, n);
    for (int i = 0; i < steps; i++)
        step(m, n, v);
    _exit(0);
}

static void killed_seed(uint64_t seed, uint64_t *replayed)
{
    struct model m;
    char name[32];
    model_init(&m, seed);
    snprintf(name, sizeof name, "killed-%llu", (unsigned long long)seed);
    for (int life = 0; life < 3; life++) {
        int steps = 10 + (int)draw(&m, 40), status;
        pid_t pid = fork();
        if (pid == 0)
            child_life(&m, name, steps);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        for (int i = 0; i < steps; i++)
            step(&m, NULL, NULL);
        struct replay_report report;
        struct volume *v = open_volume(&report);
        struct node *n = file_at(v, name);
        check_file(&m, n);
        *replayed += report.entries;
        assert_int_equal(report.skipped + report.torn, 0);
        node_unref(n, 1);
        assert_int_equal(volume_close(v), 0);
    }
    free(m.bytes);
}

static void test_killed(void **state)
{
    uint64_t replayed = 0;
    for (uint64_t seed = 100; seed < 112; seed++)
        killed_seed(seed, &replayed);
    assert_true(replayed > 100);
}

static void test_small_files(void **state)
{
    struct volume *v = open_volume(NULL);
    uint8_t data[20000], got[20000];
    randombytes_buf(data, sizeof data);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < 300; i++) {
            char name[32];
            snprintf(name, sizeof name, "small-%zu", i);
            struct node *n = file_at(v, name);
            size_t len = i * 61;
            if (pass == 0 && len) {
                assert_int_equal(file_write(n, data, len, 0), (int)len);
            }
            assert_int_equal(file_read(n, got, sizeof got, 0), (int)len);
            assert_memory_equal(got, data, len);
            node_unref(n, 1);
        }
        assert_int_equal(volume_close(v), 0);
        v = open_volume(NULL);
    }
    assert_int_equal(volume_close(v), 0);
}

/* A hole is passed over as a whole, be it pending or in place. */
static void test_seeking_in_a_huge_hole(void **state)
{
    struct volume *v = open_volume(NULL);
    struct node *n = file_at(v, "huge");
    const uint64_t size = UINT64_C(1) << 42, at = size / 2 / PAGE_BYTES * PAGE_BYTES;
    assert_int_equal(file_truncate(n, size), 0);
    for (int pass = 0; pass < 2; pass++) {
        assert_int_equal(file_seek(n, 0, SEEK_DATA), -ENXIO);
        assert_int_equal(file_seek(n, 5, SEEK_HOLE), 5);
        assert_int_equal(volume_checkpoint(v), 0);
    }
    assert_int_equal(file_write(n, "x", 1, at), 1);
    for (int pass = 0; pass < 2; pass++) {
        assert_int_equal(file_seek(n, 0, SEEK_DATA), at);
        assert_int_equal(file_seek(n, at, SEEK_HOLE), at + PAGE_BYTES);
        assert_int_equal(file_seek(n, at + PAGE_BYTES, SEEK_DATA), -ENXIO);
        assert_int_equal(volume_checkpoint(v), 0);
    }
    node_unref(n, 1);
    assert_int_equal(volume_close(v), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_model, make_volume, drop_volume),
        cmocka_unit_test_setup_teardown(test_killed, make_volume, drop_volume),
        cmocka_unit_test_setup_teardown(test_small_files, make_volume, drop_volume),
        cmocka_unit_test_setup_teardown(test_seeking_in_a_huge_hole, make_volume, drop_volume),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
