/* rename: every kind of thing to every kind of place, against a plain directory. */
#include "latchfs/dirrec.h"
#include "tree_mirror.h"

static char long_from[256], long_to[256], target_long[3901];

enum thing { NOTHING, FILE_, EMPTY_DIR, FULL_DIR, LINK, LONG_LINK, THINGS };

static void make(enum thing what, const char *path)
{
    char child[MIRROR_PATH_MAX], text[20];
    switch (what) {
    case FILE_:
        snprintf(text, sizeof text, "%.19s", path);
        assert_int_equal(both_write(path, text), 0);
        break;
    case FULL_DIR:
    case EMPTY_DIR:
        assert_int_equal(both_mkdir(path, 0750), 0);
        snprintf(child, sizeof child, "%s/child", path);
        if (what == FULL_DIR)
            assert_int_equal(both_write(child, "child"), 0);
        break;
    case LINK:
        assert_int_equal(both_symlink(path, path), 0);
        break;
    case LONG_LINK:
        assert_int_equal(both_symlink(target_long, path), 0);
        break;
    default:
        break;
    }
}

static void clear(const char *path)
{
    char child[MIRROR_PATH_MAX];
    struct stat st;
    if (fstatat(plain_fd, path, &st, AT_SYMLINK_NOFOLLOW))
        return;
    if (!S_ISDIR(st.st_mode)) {
        assert_int_equal(both_unlink(path), 0);
        return;
    }
    snprintf(child, sizeof child, "%s/child", path);
    if (fstatat(plain_fd, child, &st, AT_SYMLINK_NOFOLLOW) == 0)
        assert_int_equal(both_unlink(child), 0);
    assert_int_equal(both_rmdir(path), 0);
}

/* A caller who knows both things goes on with the same nodes. */
static void one_case(enum thing a, enum thing b, unsigned flags, const char *from, const char *to)
{
    struct node *na = NULL, *nb = NULL, *now;
    make(a, from);
    make(b, to);
    if (a != NOTHING)
        na = must_walk(from);
    if (b != NOTHING)
        nb = must_walk(to);
    int r = both_rename(from, to, flags);
    compare_all();
    if (na) {
        now = must_walk(r ? from : to);
        assert_ptr_equal(now, na);
        node_unref(now, 1);
    }
    if (nb && (r || (flags & RENAME_EXCHANGE))) {
        now = must_walk(r ? to : from);
        assert_ptr_equal(now, nb);
        node_unref(now, 1);
    }
    if (na)
        node_unref(na, 1);
    if (nb)
        node_unref(nb, 1);
    reopen_volume();
    compare_all();
    clear(from);
    clear(to);
    compare_all();
}

static void matrix(unsigned flags, bool same_dir)
{
    char from[300], to[300];
    assert_int_equal(both_mkdir("d", 0755), 0);
    assert_int_equal(both_mkdir("e", 0755), 0);
    unsigned count = 0;
    for (int a = NOTHING; a < THINGS; a++)
        for (int b = NOTHING; b < THINGS; b++, count++) {
            snprintf(from, sizeof from, "d/%s", count & 1 ? long_from : "from");
            snprintf(to, sizeof to, "%s/%s", same_dir ? "d" : "e", count & 2 ? long_to : "to");
            one_case(a, b, flags, from, to);
        }
}

static void test_plain_same(void **state)
{
    matrix(0, true);
}

static void test_plain_other(void **state)
{
    matrix(0, false);
}

static void test_noreplace(void **state)
{
    matrix(RENAME_NOREPLACE, false);
}

static void test_exchange_same(void **state)
{
    matrix(RENAME_EXCHANGE, true);
}

static void test_exchange_other(void **state)
{
    matrix(RENAME_EXCHANGE, false);
}

static void test_into_itself(void **state)
{
    assert_int_equal(both_mkdir("a", 0755), 0);
    assert_int_equal(both_mkdir("a/b", 0755), 0);
    assert_int_equal(both_mkdir("a/b/c", 0755), 0);
    assert_int_equal(both_rename("a", "a/b/x", 0), -EINVAL);
    assert_int_equal(both_rename("a", "a/b/c", 0), -EINVAL);
    assert_int_equal(both_rename("a/b", "a", 0), -ENOTEMPTY);
    assert_int_equal(both_rename("a", "a/b/c", RENAME_EXCHANGE), -EINVAL);
    reopen_volume();
    compare_all();
    assert_int_equal(both_rename("a/b", "moved", 0), 0);
    assert_int_equal(both_write("moved/c/f", "f"), 0);
    reopen_volume();
    compare_all();
}

static void test_flags(void **state)
{
    struct node *root = volume_root(v);
    assert_int_equal(node_rename(root, "a", root, "b", RENAME_WHITEOUT), -EINVAL);
    assert_int_equal(node_rename(root, "a", root, "b", RENAME_EXCHANGE | RENAME_NOREPLACE), -EINVAL);
}

static void test_hard_links_of_one_file(void **state)
{
    assert_int_equal(both_write("a", "a"), 0);
    assert_int_equal(both_link("a", "b"), 0);
    assert_int_equal(both_rename("a", "b", 0), 0); /* does nothing, says POSIX */
    compare_all();
    assert_int_equal(both_rename("a", "a", 0), 0);
    compare_all();
}

/* The replaced file goes on for those who have it. */
static void test_replaced_file_stays_usable(void **state)
{
    struct node *old;
    struct stat st;
    assert_int_equal(both_write("old", "old"), 0);
    assert_int_equal(both_write("new", "new"), 0);
    old = must_walk("old");
    assert_int_equal(both_rename("new", "old", 0), 0);
    assert_true(holds(old, "old"));
    assert_int_equal(file_write(old, "OLD", 3, 0), 3);
    assert_int_equal(node_getattr(old, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    node_unref(old, 1);
    compare_all();
}

/* ---- records of directories that move ---- */

static void backing_path(const char *path, char stored[static PATH_MAX])
{
    char cmd[256];
    struct node *n = must_walk(path);
    snprintf(cmd, sizeof cmd, "find %s -inum %llu", volume_dir, (unsigned long long)node_ino(n));
    node_unref(n, 1);
    FILE *p = popen(cmd, "r");
    assert_non_null(fgets(stored, PATH_MAX, p));
    pclose(p);
    stored[strcspn(stored, "\n")] = '\0';
}

static int open_record(const char *path)
{
    char stored[PATH_MAX], record[PATH_MAX + sizeof DIRREC_NAME + 1];
    backing_path(path, stored);
    snprintf(record, sizeof record, "%s/" DIRREC_NAME, stored);
    int fd = open(record, O_RDWR);
    assert_true(fd >= 0);
    return fd;
}

static struct dirrec record_of(const char *path)
{
    uint8_t bytes[DIRREC_BYTES];
    struct dirrec d;
    int fd = open_record(path);
    assert_int_equal(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    close(fd);
    assert_int_equal(dirrec_parse(bytes, &d), 0);
    return d;
}

static void put_record(const char *path, const struct dirrec *d)
{
    uint8_t bytes[DIRREC_BYTES];
    struct name_keys *names = locked_alloc(sizeof *names);
    name_keys_derive(plain_keys.name_key, names);
    dirrec_encode(d, names, bytes);
    locked_free(names);
    int fd = open_record(path);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 0), sizeof bytes);
    close(fd);
}

static void check_child_of(const char *path, const char *parent)
{
    static const uint8_t none[ID_BYTES];
    struct dirrec d = record_of(path), p = record_of(parent);
    assert_memory_equal(d.parent[0], p.id, ID_BYTES);
    assert_memory_equal(d.parent[1], none, ID_BYTES);
}

static void test_record_follows(void **state)
{
    assert_int_equal(both_mkdir("a", 0755), 0);
    assert_int_equal(both_mkdir("b", 0755), 0);
    assert_int_equal(both_mkdir("a/d", 0755), 0);
    assert_int_equal(both_mkdir("b/e", 0755), 0);
    check_child_of("a/d", "a");
    assert_int_equal(both_rename("a/d", "b/d", 0), 0);
    check_child_of("b/d", "b");
    assert_int_equal(both_rename("b/d", "a", RENAME_EXCHANGE), 0);
    check_child_of("a", "");
    check_child_of("b/d", "b");
    assert_int_equal(both_rename("a", "b/e", 0), 0);
    check_child_of("b/e", "b");
    reopen_volume();
    compare_all();
}

static void test_record_of_a_failed_move(void **state)
{
    assert_int_equal(both_mkdir("a", 0755), 0);
    assert_int_equal(both_mkdir("a/b", 0755), 0);
    assert_int_equal(both_rename("a", "a/b/x", 0), -EINVAL);
    check_child_of("a", "");
    assert_int_equal(both_rename("a", "a/b/x", RENAME_EXCHANGE), -ENOENT);
    check_child_of("a", "");
}

/* What a power cut in the middle of a move leaves: a record that names both parents is good at both. */
static void test_record_of_both_parents(void **state)
{
    assert_int_equal(both_mkdir("a", 0755), 0);
    assert_int_equal(both_mkdir("b", 0755), 0);
    assert_int_equal(both_mkdir("a/d", 0755), 0);
    assert_int_equal(both_write("a/d/f", "f"), 0);
    struct dirrec d = record_of("a/d"), b = record_of("b"), root = record_of("");
    memcpy(d.parent[1], b.id, ID_BYTES);
    dirrec_name_tag("elsewhere", d.name[1]);
    put_record("a/d", &d);
    reopen_volume();
    compare_all();
    memcpy(d.name[1], d.name[0], DIRREC_NAME_BYTES);
    dirrec_name_tag("elsewhere", d.name[0]);
    memcpy(d.parent[0], b.id, ID_BYTES);
    memcpy(d.parent[1], record_of("a").id, ID_BYTES);
    put_record("a/d", &d);
    reopen_volume();
    compare_all();
    assert_int_equal(both_rename("a/d", "b/d", 0), 0);
    check_child_of("b/d", "b");
    /* And at no third. */
    memcpy(d.parent[0], root.id, ID_BYTES);
    put_record("b/d", &d);
    reopen_volume();
    struct node *n = must_walk("b/d"), *f;
    struct stat st;
    assert_int_equal(node_lookup(n, "f", &st, &f), LFS_ERR_AUTH);
    node_unref(n, 1);
    n = must_walk("b");
    struct node *to = volume_root(v);
    assert_int_equal(node_rename(n, "d", to, "d", 0), LFS_ERR_AUTH);
    node_unref(n, 1);
}

/* Another name within the parent: the record has both, until the next change. */
static void test_record_of_both_names(void **state)
{
    assert_int_equal(both_mkdir("a", 0755), 0);
    assert_int_equal(both_write("a/f", "f"), 0);
    struct dirrec was = record_of("a");
    assert_int_equal(both_rename("a", "b", 0), 0);
    struct dirrec d = record_of("b");
    assert_memory_equal(d.parent[1], was.parent[0], ID_BYTES);
    assert_memory_equal(d.name[0], was.name[0], DIRREC_NAME_BYTES);
    reopen_volume();
    compare_all();
    assert_int_equal(both_rename("b", "c", 0), 0);
    assert_memory_equal(record_of("c").name[0], d.name[1], DIRREC_NAME_BYTES);
    assert_int_equal(both_mkdir("d", 0755), 0);
    assert_int_equal(both_rename("c", "d", RENAME_EXCHANGE), 0);
    assert_int_equal(both_rename("d", "e", 0), 0);
    reopen_volume();
    compare_all();
}

static void check_refused(const char *path)
{
    struct stat st;
    struct node *n = must_walk(path), *f;
    assert_int_equal(node_lookup(n, "f", &st, &f), LFS_ERR_AUTH);
    assert_int_equal(node_mkdir(n, "g", 0755, &st, &f), LFS_ERR_AUTH);
    node_unref(n, 1);
}

/* Directories that change names behind our back are not taken for each other. */
static void test_siblings_exchanged(void **state)
{
    char a[PATH_MAX], b[PATH_MAX];
    assert_int_equal(both_mkdir("a", 0755), 0);
    assert_int_equal(both_mkdir("b", 0755), 0);
    assert_int_equal(both_write("a/f", "f"), 0);
    backing_path("a", a);
    backing_path("b", b);
    reopen_volume();
    assert_int_equal(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE), 0);
    check_refused("a");
    check_refused("b");
    assert_int_equal(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE), 0);
    reopen_volume();
    compare_all();
}

/* Another protected directory: its keys are not here. */
static void test_record_of_another_protected_directory(void **state)
{
    assert_int_equal(both_mkdir("a", 0755), 0);
    struct dirrec d = record_of("a");
    d.pd_id[0] ^= 1;
    put_record("a", &d);
    reopen_volume();
    struct node *n = must_walk("a"), *f;
    struct stat st;
    assert_int_equal(node_lookup(n, "f", &st, &f), LFS_ERR_NOKEY);
    node_unref(n, 1);
}

#define RENAME_TEST(t) cmocka_unit_test_setup_teardown(t, mirror_setup, mirror_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RENAME_TEST(test_plain_same),
        RENAME_TEST(test_plain_other),
        RENAME_TEST(test_noreplace),
        RENAME_TEST(test_exchange_same),
        RENAME_TEST(test_exchange_other),
        RENAME_TEST(test_into_itself),
        RENAME_TEST(test_flags),
        RENAME_TEST(test_hard_links_of_one_file),
        RENAME_TEST(test_replaced_file_stays_usable),
        RENAME_TEST(test_record_follows),
        RENAME_TEST(test_record_of_a_failed_move),
        RENAME_TEST(test_record_of_both_parents),
        RENAME_TEST(test_record_of_both_names),
        RENAME_TEST(test_siblings_exchanged),
        RENAME_TEST(test_record_of_another_protected_directory),
    };
    umask(022);
    memset(long_from, 'f', 220);
    memset(long_to, 't', 255);
    memset(target_long, 'T', 3900);
    return cmocka_run_group_tests_name("store_rename", tests, NULL, NULL);
}
