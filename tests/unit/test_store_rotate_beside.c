/* Rotations beside renames and beside threads that write. */
#include "rotate_fixture.h"

#include <pthread.h>

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
        T(test_renamed_meanwhile),
        T(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
