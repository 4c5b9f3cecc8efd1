/* Repairs: each kind of damage that can be mended is, what can't be read is put where it is told, nothing
 * else changes, and a second run has nothing left to do. */
#include "damage_fixture.h"

#include <linux/fs.h>

#define ALL (CHECK_CONTENTS | CHECK_REPAIR | CHECK_CUT_TAILS | CHECK_LOST_FOUND)

static void open_for_repair(void)
{
    struct volume_options o = {.journal_bytes = UINT64_C(8) << 20, .no_flusher = true, .damaged_root = true};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    assert_int_equal(volume_pd_unlock(v, &second_keys), 0);
}

/* Without the flag nothing is touched; with it, the finding is told as repaired. */
static struct seen repair_one(enum check_kind kind, const char *plain, unsigned flags)
{
    open_for_repair();
    check_open(CHECK_CONTENTS);
    assert_true(expect_one(kind, plain)->repairable);
    check_open(CHECK_CONTENTS);
    assert_false(expect_one(kind, plain)->repaired);
    check_open(CHECK_CONTENTS | CHECK_REPAIR | flags);
    struct seen s = *expect_one(kind, plain);
    if (!s.repaired)
        show_seen();
    assert_true(s.repaired);
    assert_int_equal(last_progress.repaired, 1);
    return s;
}

/* Nothing is found any more, by a volume opened anew and without keys. */
static void whole_again(void)
{
    check_open(ALL);
    expect_none();
    close_volume();
    check_bare();
    expect_none();
    check_read_only(CHECK_CONTENTS);
    expect_none();
    open_as(false);
}

static bool reads(const char *plain, const char *text)
{
    struct node *n;
    if (walk(plain, &n))
        return false;
    bool yes = holds(n, text);
    node_unref(n, 1);
    return yes;
}

static bool is_there(const char *plain)
{
    struct node *n;
    if (walk(plain, &n))
        return false;
    node_unref(n, 1);
    return true;
}

/* ---- half-made things ---- */

static void leftover(void **state)
{
    at("a/b");
    strcat(path, "/latchfs.tmp.0123");
    put_file(path, "x", 1);
    repair_one(CHECK_LEFTOVER, NULL, 0);
    assert_int_equal(access(path, F_OK), -1);
    whole_again();
}

static void orphan_sidecar(void **state)
{
    char plain[512];
    snprintf(plain, sizeof plain, "a/%s", long_name);
    at(plain);
    assert_int_equal(unlink(path), 0);
    repair_one(CHECK_ORPHAN_SIDECAR, NULL, 0);
    whole_again();
}

static void orphan_target(void **state)
{
    at("a/long link");
    assert_int_equal(unlink(path), 0);
    repair_one(CHECK_ORPHAN_SIDECAR, NULL, 0);
    whole_again();
}

/* Its link may be the one that lost its target. */
static void orphan_target_of_a_broken_link(void **state)
{
    at("a/long link");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("nowhere", path), 0);
    open_for_repair();
    check_open(CHECK_REPAIR);
    assert_non_null(find_seen(CHECK_BAD_LINK, "a/long link"));
    assert_false(find_seen(CHECK_ORPHAN_SIDECAR, NULL)->repaired);
}

/* ---- names ---- */

static void lost_name(void **state)
{
    char plain[512], side[1100];
    snprintf(plain, sizeof plain, "a/%s", long_name);
    at(plain);
    snprintf(side, sizeof side, "%s" LONG_NAME_SUFFIX, path);
    assert_int_equal(unlink(side), 0);
    struct seen s = repair_one(CHECK_MISSING_SIDECAR, NULL, 0);
    assert_int_equal(strncmp(s.moved, "a/lost-name-", 12), 0);
    assert_true(reads(s.moved, "a long name"));
    whole_again();
}

static void lost_name_of_directory(void **state)
{
    char plain[512] = "a/b/", side[1100];
    memset(plain + 4, 'd', 255);
    struct node *d = must_walk(plain);
    node_unref(make_file(d, "inside", "found"), 1);
    node_unref(d, 1);
    at(plain);
    snprintf(side, sizeof side, "%s" LONG_NAME_SUFFIX, path);
    flip_at(side, 99);
    open_for_repair();
    check_open(CHECK_REPAIR);
    const struct seen *s = find_seen(CHECK_BAD_SIDECAR, NULL);
    assert_true(s && s->repaired);
    char inside[1100];
    snprintf(inside, sizeof inside, "%s/inside", s->moved);
    assert_true(reads(inside, "found"));
    whole_again();
}

static void exchanged_sidecars(void **state)
{
    char other[NAME_PLAIN_MAX + 1], plain[512], one[1100], two[1100];
    struct node *a = must_walk("a");
    memset(other, 'o', 201);
    other[201] = '\0';
    node_unref(make_file(a, other, "the other"), 1);
    node_unref(a, 1);
    snprintf(plain, sizeof plain, "a/%s", other);
    path_of(plain, path);
    snprintf(one, sizeof one, "%s" LONG_NAME_SUFFIX, path);
    snprintf(plain, sizeof plain, "a/%s", long_name);
    at(plain);
    snprintf(two, sizeof two, "%s" LONG_NAME_SUFFIX, path);
    assert_int_equal(renameat2(AT_FDCWD, one, AT_FDCWD, two, RENAME_EXCHANGE), 0);
    open_for_repair();
    check_open(0);
    assert_int_equal(seen_count, 2);
    check_open(CHECK_REPAIR);
    assert_true(find_seen(CHECK_BAD_SIDECAR, NULL)->repaired);
    whole_again();
    assert_true(reads(plain, "a long name"));
    snprintf(plain, sizeof plain, "a/%s", other);
    assert_true(reads(plain, "the other"));
}

/* ---- records ---- */

static void record_of(const char *plain)
{
    at(plain);
    strcat(path, "/" DIRREC_NAME);
}

static void record_with_its_id(void **state)
{
    record_of("a/b");
    flip_at(path, 490);
    repair_one(CHECK_BAD_RECORD, "a/b", 0);
    assert_true(reads("a/b/inline", "some text"));
    whole_again();
}

static void record_from_a_child(void **state)
{
    record_of("a");
    assert_int_equal(unlink(path), 0);
    open_for_repair();
    check_open(CHECK_REPAIR);
    const struct seen *s = find_seen(CHECK_MISSING_RECORD, "a");
    assert_true(s && s->repaired);
    assert_int_equal(seen_count, 1);
    assert_true(reads("a/inline", "some text"));
    check_open(ALL);
    /* Attributes of a directory are bound to its id, which is the same again. */
    whole_again();
}

static void record_of_empty(void **state)
{
    struct node *a = must_walk("a");
    node_unref(make_dir(a, "void"), 1);
    node_unref(a, 1);
    record_of("a/void");
    assert_int_equal(unlink(path), 0);
    struct volume_options o = {.journal_bytes = UINT64_C(8) << 20, .no_flusher = true};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    check_open(CHECK_REPAIR);
    assert_true(find_seen(CHECK_MISSING_RECORD, "a/void")->repaired);
    assert_int_equal(volume_pd_unlock(v, &second_keys), 0);
    whole_again();
}

static void record_of_the_root(void **state)
{
    at("a");
    snprintf(path, sizeof path, "%s/" DIRREC_NAME, volume_dir);
    assert_int_equal(unlink(path), 0);
    struct volume_options o = {.no_flusher = true};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), LFS_ERR_CORRUPT);
    open_for_repair();
    check_open(CHECK_REPAIR);
    assert_true(find_seen(CHECK_MISSING_RECORD, "")->repaired);
    assert_true(reads("a/inline", "some text"));
    whole_again();
}

/* Nothing in it tells the id: out of the tree as it is. */
static void record_gone_for_good(void **state)
{
    char inside[1200];
    struct node *a = must_walk("a"), *dir = make_dir(a, "links");
    make_link(dir, "link", "there");
    node_unref(dir, 1);
    node_unref(a, 1);
    record_of("a/links");
    assert_int_equal(unlink(path), 0);
    open_for_repair();
    check_open(CHECK_REPAIR);
    assert_false(find_seen(CHECK_MISSING_RECORD, "a/links")->repaired);
    check_open(ALL);
    const struct seen *s = find_seen(CHECK_MISSING_RECORD, "a/links");
    assert_true(s->repaired);
    assert_int_equal(strncmp(s->moved, "latchfs.lost/", 13), 0);
    snprintf(inside, sizeof inside, "%s/%s", volume_dir, s->moved);
    assert_int_equal(access(inside, F_OK), 0);
    whole_again();
}

/* ---- files ---- */

static void tail(void **state)
{
    struct stat st;
    at("a/paged");
    assert_int_equal(stat(path, &st), 0);
    off_t was = st.st_size;
    assert_int_equal(truncate(path, was + 9000), 0);
    repair_one(CHECK_TAIL, "a/paged", 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, was);
    whole_again();
}

static void zero_page(void **state)
{
    static const uint8_t zeros[PAGE_BYTES];
    struct stat st;
    at("a/paged");
    put_file(path, zeros, sizeof zeros);
    repair_one(CHECK_ZERO_PAGE, "a/paged", 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 0);
    whole_again();
}

/* What stands behind a lost header may be wanted. */
static void lost_header(void **state)
{
    static const uint8_t zeros[PAGE_BYTES];
    struct stat st;
    char there[1200];
    at("a/b/big");
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    close(fd);
    assert_int_equal(stat(path, &st), 0);
    off_t was = st.st_size;
    open_for_repair();
    check_open(CHECK_CONTENTS | CHECK_REPAIR | CHECK_CUT_TAILS);
    assert_false(expect_one(CHECK_ZERO_PAGE, "a/b/big")->repaired);
    check_open(ALL);
    const struct seen *s = expect_one(CHECK_ZERO_PAGE, "a/b/big");
    assert_true(s->repaired);
    snprintf(there, sizeof there, "%s/%s", volume_dir, s->moved);
    assert_int_equal(stat(there, &st), 0);
    assert_int_equal(st.st_size, was);
    whole_again();
}

static uint64_t size_of(const char *plain)
{
    struct node *n = must_walk(plain);
    struct stat st;
    assert_int_equal(node_getattr(n, &st), 0);
    node_unref(n, 1);
    return (uint64_t)st.st_size;
}

static void short_file(void **state)
{
    at("a/b/big");
    assert_int_equal(truncate(path, (off_t)layout_data_offset(200) + 10), 0);
    repair_one(CHECK_BAD_LENGTH, "a/b/big", CHECK_CUT_TAILS);
    assert_int_equal(size_of("a/b/big"), 200 * PAGE_BYTES);
    whole_again();
}

static void damaged_tail(void **state)
{
    at("a/b/big");
    for (uint64_t i = 490; i < 500; i++)
        flip_at(path, layout_data_offset(i) + i);
    repair_one(CHECK_BAD_CHUNK, "a/b/big", CHECK_CUT_TAILS);
    assert_int_equal(size_of("a/b/big"), 490 * PAGE_BYTES);
    whole_again();
}

/* What stands behind a damaged chunk is not cut away. */
static void damage_inside(void **state)
{
    at("a/b/big");
    flip_at(path, layout_data_offset(123));
    open_for_repair();
    check_open(CHECK_CONTENTS | CHECK_REPAIR | CHECK_CUT_TAILS);
    assert_false(expect_one(CHECK_BAD_CHUNK, "a/b/big")->repaired);
    check_open(ALL);
    const struct seen *s = expect_one(CHECK_BAD_CHUNK, "a/b/big");
    assert_true(s->repaired);
    assert_string_equal(s->moved, "lost+found/big");
    assert_false(is_there("a/b/big"));
    assert_int_equal(size_of("lost+found/big"), 500 * PAGE_BYTES);
    check_open(ALL);
    s = expect_one(CHECK_BAD_CHUNK, "lost+found/big");
    assert_int_equal(s->severity, CHECK_WARNING);
    assert_false(s->repairable || s->repaired);
}

static atomic_bool stop;

static void stop_soon(const struct check_progress *p, void *arg)
{
    if (p->bytes > 300 * PAGE_BYTES)
        atomic_store(&stop, true);
}

/* A run that ends inside of a file has not seen what is behind. */
static void stopped_inside(void **state)
{
    char path_of_big[1024];
    struct node *b = must_walk("a/b");
    node_unref(make_big(b, "bigger", 4000), 1);
    node_unref(b, 1);
    path_of("a/b/bigger", path_of_big);
    close_volume();
    flip_at(path_of_big, layout_data_offset(5));
    open_for_repair();
    struct check_options o = {
        .flags = ALL, .stop = &stop, .progress = stop_soon, .bytes_per_second = 2u << 20, .workers = 1};
    atomic_store(&stop, false);
    seen_count = 0;
    assert_int_equal(check_with(&o), -EINTR);
    assert_int_equal(size_of("a/b/bigger"), 4000 * PAGE_BYTES);
}

static void damaged_header(void **state)
{
    char other[1024];
    path_of("team/paged", other);
    at("a/paged");
    flip_at(path, 300);
    flip_at(other, 300);
    open_for_repair();
    check_open(ALL);
    assert_int_equal(seen_count, 2);
    assert_string_equal(find_seen(CHECK_BAD_HEADER, "a/paged")->moved, "lost+found/paged");
    assert_string_equal(find_seen(CHECK_BAD_HEADER, "team/paged")->moved, "team/lost+found/paged");
    assert_true(is_there("lost+found/paged") && is_there("team/lost+found/paged"));
    check_open(ALL);
    assert_int_equal(seen_count, 2);
    assert_int_equal(last_progress.repaired + last_progress.damage, 0);
}

/* ---- entries from elsewhere ---- */

static void undecryptable_entries(void **state)
{
    static const char *const names[] = {"inline", "link", "pipe", "b"};
    char to[1024];
    for (unsigned i = 0; i < COUNT(names); i++) {
        char plain[64];
        snprintf(plain, sizeof plain, "a/%s", names[i]);
        path_of(plain, path);
        snprintf(to, sizeof to, "%s", path);
        char *last = strrchr(to, '/') + 2;
        *last = *last == 'A' ? 'B' : 'A';
        assert_int_equal(rename(path, to), 0);
    }
    close_volume();
    open_for_repair();
    check_open(CHECK_CONTENTS);
    assert_int_equal(seen_count, 5); /* the directory's record is wrong too */
    check_open(ALL);
    for (unsigned i = 0; i < seen_count; i++) {
        if (!seen[i].repaired)
            show_seen();
        assert_true(seen[i].repaired);
        assert_true(strncmp(seen[i].moved, "lost+found/", 11) == 0);
    }
    struct node *n = must_walk("lost+found");
    struct dir_stream *d;
    struct dir_entry e;
    unsigned files = 0, dirs = 0, links = 0;
    assert_int_equal(dir_open(n, &d), 0);
    for (uint64_t c = 0; dir_next(d, c, &e) == 1; c = e.cookie) {
        files += e.type == S_IFREG;
        dirs += e.type == S_IFDIR;
        links += e.type == S_IFLNK;
    }
    dir_close(d);
    node_unref(n, 1);
    assert_int_equal(files, 1);
    assert_int_equal(dirs, 3); /* with . and .. */
    assert_int_equal(links, 1);
    whole_again();
}

/* Damage inside of what is moved is found in the same run. */
static void moved_directory(void **state)
{
    char to[1024], inside[1024];
    path_of("a/b/paged", inside);
    at("a/b");
    flip_at(inside, 300);
    snprintf(to, sizeof to, "%s/%.500s", volume_dir, strrchr(path, '/') + 1);
    assert_int_equal(rename(path, to), 0);
    open_for_repair();
    check_open(ALL);
    assert_non_null(find_seen(CHECK_UNDECRYPTABLE_NAME, NULL));
    const struct seen *s = find_seen(CHECK_BAD_HEADER, NULL);
    assert_non_null(s);
    assert_int_equal(strncmp(s->plain, "lost+found/", 11), 0);
    check_open(ALL);
    expect_one(CHECK_BAD_HEADER, NULL);
    assert_int_equal(last_progress.damage, 0);
}

/* A seal is opened where the file is put, or nobody could read what is left. */
static void broken_seal(void **state)
{
    static const uint8_t zeros[RECORD_BYTES];
    char text[8];
    at("a/paged");
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, (off_t)layout_record_offset(1)), sizeof zeros);
    close(fd);
    struct seen s = repair_one(CHECK_BAD_SEAL, "a/paged", CHECK_LOST_FOUND);
    assert_string_equal(s.moved, "lost+found/paged");
    struct node *n = must_walk("lost+found/paged");
    assert_int_equal(file_read(n, text, sizeof text, 2 * PAGE_BYTES), sizeof text);
    node_unref(n, 1);
    whole_again();
}

/* Contents that were exchanged: the names go with them to lost+found, where both can be read. */
static void exchanged_files(void **state)
{
    char other[1024];
    path_of("a/b/paged", other);
    at("a/paged");
    assert_int_equal(renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE), 0);
    open_for_repair();
    check_open(ALL);
    assert_true(find_seen(CHECK_WRONG_DIRECTORY, "a/paged")->repaired);
    assert_true(find_seen(CHECK_WRONG_DIRECTORY, "a/b/paged")->repaired);
    whole_again();
    assert_true(is_there("lost+found/paged") && is_there("lost+found/paged.2"));
}

/* Two records changed places: what is in the directories says whose they are. */
static void exchanged_records(void **state)
{
    char one[1100], two[1100];
    path_of("a/b", path);
    snprintf(one, sizeof one, "%s/" DIRREC_NAME, path);
    at("a");
    snprintf(two, sizeof two, "%s/" DIRREC_NAME, path);
    assert_int_equal(renameat2(AT_FDCWD, one, AT_FDCWD, two, RENAME_EXCHANGE), 0);
    open_for_repair();
    check_open(CHECK_REPAIR);
    assert_true(find_seen(CHECK_BAD_RECORD, "a")->repaired);
    assert_true(find_seen(CHECK_BAD_RECORD, "a/b")->repaired);
    assert_true(reads("a/inline", "some text") && reads("a/b/inline", "some text"));
    whole_again();
}

/* A file that was copied in must not make the directory another one's. */
static void record_of_another(void **state)
{
    char from[1024], cmd[4096];
    struct node *a = must_walk("a"), *dir = make_dir(a, "links");
    make_link(dir, "link", "there");
    node_unref(dir, 1);
    node_unref(a, 1);
    path_of("a/b/paged", from);
    record_of("a/links");
    assert_int_equal(unlink(path), 0);
    *strrchr(path, '/') = '\0';
    snprintf(cmd, sizeof cmd, "cp -a '%s' '%s/'", from, path);
    assert_int_equal(system(cmd), 0);
    open_for_repair();
    check_open(CHECK_REPAIR);
    assert_false(find_seen(CHECK_MISSING_RECORD, "a/links")->repaired);
}

static void record_from_a_header(void **state)
{
    record_of("a/b");
    assert_int_equal(unlink(path), 0);
    repair_one(CHECK_MISSING_RECORD, "a/b", 0);
    assert_true(reads("a/b/inline", "some text"));
    whole_again();
}

static void broken_links(void **state)
{
    at("a/link");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("../../etc", path), 0);
    struct seen s = repair_one(CHECK_BAD_LINK, "a/link", CHECK_LOST_FOUND);
    assert_int_equal(strncmp(s.moved, "latchfs.lost/", 13), 0);
    whole_again();
}

static void refused_when_read_only(void **state)
{
    struct check_options o = {.flags = CHECK_REPAIR};
    struct check_progress p;
    close_volume();
    open_as(true);
    assert_int_equal(check_volume(v, &o, &p), -EROFS);
    assert_int_equal(check_structure(volume_dir, &o, &p), LFS_ERR_MISUSE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, damage_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(leftover),
        TEST(orphan_sidecar),
        TEST(orphan_target),
        TEST(orphan_target_of_a_broken_link),
        TEST(lost_name),
        TEST(lost_name_of_directory),
        TEST(exchanged_sidecars),
        TEST(record_with_its_id),
        TEST(record_from_a_child),
        TEST(record_of_empty),
        TEST(record_of_the_root),
        TEST(record_gone_for_good),
        TEST(tail),
        TEST(zero_page),
        TEST(lost_header),
        TEST(short_file),
        TEST(damaged_tail),
        TEST(damage_inside),
        TEST(stopped_inside),
        TEST(damaged_header),
        TEST(undecryptable_entries),
        TEST(moved_directory),
        TEST(broken_seal),
        TEST(exchanged_files),
        TEST(exchanged_records),
        TEST(record_of_another),
        TEST(record_from_a_header),
        TEST(broken_links),
        TEST(refused_when_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
