/* How a check runs: beside writers, a part of it, stopped and taken up again, with its counts. */
#include "check_fixture.h"

#include <pthread.h>

static int run_setup(void **state)
{
    int r = check_setup(state);
    fill_volume();
    return r;
}

/* ---- beside writers ---- */

static atomic_bool writers_stop;
static atomic_uint rounds;

static void change_files(unsigned round)
{
    char name[32], other[32];
    struct node *a = must_walk("a"), *b = must_walk("a/b"), *n = NULL;
    uint8_t buf[3 * PAGE_BYTES];
    struct rng r = {round};
    rng_fill(&r, buf, sizeof buf);
    snprintf(name, sizeof name, "w%u", round % 8);
    snprintf(other, sizeof other, "w%u", (round + 3) % 8);
    struct stat st;
    if (node_create(a, name, 0644, false, &st, &n) == 0 && n) {
        file_write(n, buf, sizeof buf - round % 4096, (round % 7) * 1000);
        if (round % 3 == 0)
            node_setxattr(n, "user.round", name, strlen(name), 0);
        if (round % 5 == 0)
            file_truncate(n, round % 9000);
        if (round % 4 == 0)
            file_fsync(n, false);
        node_unref(n, 1);
    }
    node_rename(a, name, round % 2 ? b : a, other, 0);
    node_unlink(b, other);
    node_unref(a, 1);
    node_unref(b, 1);
}

static void change_names(unsigned round)
{
    struct node *a = must_walk("a"), *n;
    struct stat st;
    if (node_symlink(a, "moving link", round % 2 ? long_target : "short", &st, &n) == 0)
        node_unref(n, 1);
    if (node_mkdir(a, "moving", 0755, &st, &n) == 0)
        node_unref(n, 1);
    char name[NAME_PLAIN_MAX + 1];
    memset(name, 'm', 230);
    name[230] = '\0';
    node_rename(a, "moving", volume_root(v), round % 2 ? name : "moved", 0);
    node_rmdir(volume_root(v), round % 2 ? name : "moved");
    node_unlink(a, "moving link");
    node_unref(a, 1);
}

static void *write_files(void *arg)
{
    for (unsigned i = 0; !atomic_load(&writers_stop); i++) {
        change_files(i);
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void *write_names(void *arg)
{
    for (unsigned i = 0; !atomic_load(&writers_stop); i++) {
        change_names(i);
        if (i % 16 == 0)
            volume_checkpoint(v);
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void beside_writers(void **state)
{
    pthread_t files, names;
    atomic_store(&writers_stop, false);
    pthread_create(&files, NULL, write_files, NULL);
    pthread_create(&names, NULL, write_names, NULL);
    for (int i = 0; i < 12; i++) {
        check_open(CHECK_CONTENTS);
        if (seen_count)
            show_seen();
        assert_int_equal(seen_count, 0);
    }
    while (atomic_load(&rounds) < 50)
        sched_yield();
    atomic_store(&writers_stop, true);
    pthread_join(files, NULL);
    pthread_join(names, NULL);
    check_open(CHECK_CONTENTS);
    expect_none();
}

/* ---- in parts ---- */

static char place[4096];
static struct check_progress place_progress;
static unsigned places, stop_after;
static atomic_bool stop;

static void on_position(const char *where, const struct check_progress *p, void *arg)
{
    snprintf(place, sizeof place, "%s", where);
    place_progress = *p;
}

static void on_stop_finding(const struct check_finding *f, void *arg)
{
    on_finding(f, arg);
    if (++places >= stop_after)
        atomic_store(&stop, true);
}

/* Damage all over, but not in what has two names: after the place it would be found by the other one. */
static void damage_many(void)
{
    static const char *const what[] = {"paged",  "a/paged",  "a/b/paged",  "team/paged",
                                       "sparse", "a/sparse", "a/b/sparse", "team/sparse"};
    char paths[COUNT(what)][1024], big[1024];
    for (unsigned i = 0; i < COUNT(what); i++)
        path_of(what[i], paths[i]);
    path_of("a/b/big", big);
    close_volume();
    for (unsigned i = 0; i < COUNT(what); i++)
        flip_at(paths[i], layout_data_offset(i < 4 ? 1 : 500));
    flip_at(big, layout_data_offset(400));
    open_as(true);
}

static int by_text(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;
    int r = strcmp(x->cipher, y->cipher);
    return r ? r : x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Stopped after each so many findings and taken up, all parts together find what a whole run finds, and their
 * counts add up to its. */
static void parts_are_the_whole(void **state)
{
    static struct seen whole[SEEN_MAX];
    damage_many();
    check_open(CHECK_CONTENTS);
    unsigned count = seen_count;
    struct check_progress p = last_progress, sum = {0};
    if (count != 9)
        show_seen();
    assert_int_equal(count, 9);
    qsort(seen, count, sizeof *seen, by_text);
    memcpy(whole, seen, sizeof whole);
    seen_count = 0;
    place[0] = '\0';
    int r = -EINTR;
    for (unsigned i = 0; r == -EINTR; i++) {
        char from[4096];
        unsigned had = seen_count;
        snprintf(from, sizeof from, "%s", place);
        place_progress = (struct check_progress){0};
        struct check_options o = {.flags = CHECK_CONTENTS,
                                  .resume = from[0] ? from : NULL,
                                  .stop = &stop,
                                  .workers = 1,
                                  .finding = on_stop_finding,
                                  .position = on_position};
        places = 0;
        stop_after = 2;
        atomic_store(&stop, false);
        r = check_volume(v, &o, &last_progress);
        assert_true(r == 0 || (r == -EINTR && i < 20));
        sum.entries += place_progress.entries;
        sum.files += place_progress.files;
        sum.damage += place_progress.damage;
        /* What was found behind the place will be found again. */
        seen_count = had + (unsigned)place_progress.damage;
    }
    assert_int_equal(r, 0);
    assert_int_equal(sum.files, p.files);
    assert_int_equal(sum.entries, p.entries);
    assert_int_equal(sum.damage, 9);
    assert_int_equal(seen_count, count);
    qsort(seen, count, sizeof *seen, by_text);
    for (unsigned i = 0; i < count; i++) {
        assert_string_equal(seen[i].cipher, whole[i].cipher);
        assert_int_equal(seen[i].offset, whole[i].offset);
        assert_int_equal(seen[i].kind, whole[i].kind);
    }
}

static void stopped_at_once(void **state)
{
    struct check_options o = {.flags = CHECK_CONTENTS, .stop = &stop, .finding = on_finding};
    atomic_store(&stop, true);
    seen_count = 0;
    assert_int_equal(check_volume(v, &o, &last_progress), -EINTR);
    assert_int_equal(last_progress.bytes, 0);
}

/* A place within a large file. */
static void place_in_a_file(void **state)
{
    char path[1024], where[2048];
    path_of("a/b/big", path);
    close_volume();
    flip_at(path, layout_data_offset(5));
    flip_at(path, layout_data_offset(400));
    open_as(true);
    snprintf(where, sizeof where, "%.1000s//%d", path + strlen(volume_dir) + 1, 368);
    struct check_options o = {.flags = CHECK_CONTENTS, .resume = where};
    seen_count = 0;
    assert_int_equal(check_with(&o), 0);
    unsigned found = 0;
    for (unsigned i = 0; i < seen_count; i++)
        found += seen[i].kind == CHECK_BAD_CHUNK;
    assert_int_equal(found, 1);
    assert_int_equal(find_seen(CHECK_BAD_CHUNK, "a/b/big")->offset, 400 * PAGE_BYTES);
}

/* Places that are gone, and positions that never were, do not stop a check. */
static void place_that_is_gone(void **state)
{
    struct check_options o = {.flags = CHECK_CONTENTS, .resume = "aaaa/bbbb/cccc//77"};
    seen_count = 0;
    assert_int_equal(check_with(&o), 0);
    o.resume = "zzzzzzzzzzzzzzzzzzzzzzzzzzzz";
    assert_int_equal(check_with(&o), 0);
    assert_int_equal(last_progress.entries, 0);
}

static void subtree_only(void **state)
{
    char path[1024];
    struct check_options o = {.flags = CHECK_CONTENTS};
    path_of("a/b", path);
    const char *sub = path + strlen(volume_dir) + 1;
    char inside[1024], outside[1024];
    path_of("a/b/inline", inside);
    path_of("a/inline", outside);
    close_volume();
    flip_at(inside, HEADER_BYTES);
    flip_at(outside, HEADER_BYTES);
    open_as(true);
    o.subtree = sub;
    seen_count = 0;
    assert_int_equal(check_with(&o), 0);
    assert_int_equal(seen_count, 1);
    assert_int_equal(strncmp(seen[0].plain, "a/b/inline", 10), 0);
    o.subtree = "not/there";
    assert_int_equal(check_with(&o), -ENOENT);
}

static struct check_progress shown;

static void on_progress(const struct check_progress *p, void *arg)
{
    if (p->entries_total)
        shown = *p;
}

static void counts(void **state)
{
    struct check_options o = {.flags = CHECK_CONTENTS, .progress = on_progress, .bytes_per_second = 1 << 20};
    shown = (struct check_progress){0};
    assert_int_equal(check_with(&o), 0);
    assert_int_equal(shown.entries_total, last_progress.entries);
    assert_true(shown.bytes_total > 500 * PAGE_BYTES);
    assert_int_equal(last_progress.damage + last_progress.warnings + last_progress.notes, 0);
}

/* More entries than a window holds. */
static void many_entries(void **state)
{
    char path[1024], name[1200];
    path_of("a/b", path);
    close_volume();
    for (unsigned i = 0; i < 40000; i++) {
        snprintf(name, sizeof name, "%s/latchfs.tmp.%u", path, i);
        int fd = open(name, O_WRONLY | O_CREAT, 0644);
        assert_true(fd >= 0);
        close(fd);
    }
    struct check_options o = {0};
    assert_int_equal(check_structure(volume_dir, &o, &last_progress), 0);
    assert_int_equal(last_progress.notes, 40000);
}

/* ---- what stays in memory ---- */

static unsigned in_cache(const char *path)
{
    struct stat st;
    unsigned char in[4096];
    unsigned count = 0;
    int fd = open(path, O_RDONLY);
    assert_int_equal(fstat(fd, &st), 0);
    size_t pages = ((size_t)st.st_size + PAGE_BYTES - 1) / PAGE_BYTES;
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    assert_int_equal(mincore(p, (size_t)st.st_size, in), 0);
    munmap(p, (size_t)st.st_size);
    close(fd);
    for (size_t i = 0; i < pages; i++)
        count += in[i] & 1;
    return count;
}

static bool can_drop(int fd, const char *path)
{
    fdatasync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return in_cache(path) == 0;
}

/* What was not in the page cache before is not in it afterwards, and what was stays. */
static void page_cache(void **state)
{
    char path[1024], small[1024];
    uint8_t buf[65536];
    path_of("a/b/big", path);
    path_of("a/b/inline", small);
    close_volume();
    int fd = open(path, O_RDONLY), small_fd = open(small, O_RDONLY);
    if (can_drop(fd, path) && can_drop(small_fd, small)) { /* not on a filesystem in memory */
        check_read_only(CHECK_CONTENTS);
        assert_true(in_cache(path) < 40);
        assert_int_equal(in_cache(small), 0);
        while (read(fd, buf, sizeof buf) > 0)
            ;
        unsigned had = in_cache(path);
        check_read_only(CHECK_CONTENTS);
        assert_true(in_cache(path) >= had);
    }
    close(fd);
    close(small_fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, run_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(beside_writers),  TEST(parts_are_the_whole), TEST(stopped_at_once),
        TEST(place_in_a_file), TEST(place_that_is_gone),  TEST(subtree_only),
        TEST(counts),          TEST(many_entries),        TEST(page_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
