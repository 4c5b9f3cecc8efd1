#include "tree_fixture.h"

static struct node *root(void)
{
    return volume_root(v);
}

static void check_path(const char *plain_path)
{
    char cipher[4096], plain[4096], record[8192];
    struct node *n = must_walk(plain_path), *found;
    assert_int_equal(node_cipher_path(n, cipher, sizeof cipher), 0);
    assert_int_equal(volume_find_cipher(v, cipher, &found, plain, sizeof plain), 0);
    assert_ptr_equal(found, n);
    assert_string_equal(plain, plain_path);
    node_unref(found, 1);
    if (S_ISDIR(node_type(n))) {
        snprintf(record, sizeof record, "%s%slatchfs.dir", cipher, *cipher ? "/" : "");
        assert_int_equal(volume_find_cipher(v, record, &found, plain, sizeof plain), 0);
        assert_ptr_equal(found, n);
        node_unref(found, 1);
    }
    node_unref(n, 1);
}

static void test_cipher_paths(void **state)
{
    char name[256], path[600], cipher[4096], plain[4096], sidecar[8192], target[SYMLINK_PLAIN_MAX + 1];
    struct node *n, *found;
    struct stat st;
    struct node *dir = make_dir(root(), "dir");
    node_unref(make_file(dir, "file", "text"), 1);
    node_unref(make_file(dir, "gone", "x"), 1);
    memset(name, 'n', 255);
    name[255] = '\0';
    node_unref(make_file(dir, name, "long"), 1);
    snprintf(path, sizeof path, "dir/%s", name);
    check_path("");
    check_path("dir");
    check_path("dir/file");
    check_path(path);
    n = must_walk(path);
    assert_int_equal(node_cipher_path(n, cipher, sizeof cipher), 0);
    snprintf(sidecar, sizeof sidecar, "%s.name", cipher);
    assert_int_equal(volume_find_cipher(v, sidecar, &found, plain, sizeof plain), 0);
    assert_ptr_equal(found, n);
    assert_string_equal(plain, path);
    node_unref(found, 1);
    node_unref(n, 1);

    /* The sidecar of a long target belongs to the link. */
    memset(target, 't', sizeof target - 1);
    target[sizeof target - 1] = '\0';
    assert_int_equal(node_symlink(root(), "sym", target, &st, &n), 0);
    DIR *d = opendir(volume_dir);
    const struct dirent *e;
    bool seen = false;
    while ((e = readdir(d))) {
        if (strncmp(e->d_name, "latchfs.link.", 13) != 0)
            continue;
        seen = true;
        assert_int_equal(volume_find_cipher(v, e->d_name, &found, plain, sizeof plain), 0);
        assert_ptr_equal(found, n);
        assert_string_equal(plain, "sym");
        node_unref(found, 1);
    }
    closedir(d);
    assert_true(seen);
    node_unref(n, 1);

    /* A file that is not there any more still has a name; its node can't be had. */
    n = must_walk("dir/gone");
    assert_int_equal(node_cipher_path(n, cipher, sizeof cipher), 0);
    node_unref(n, 1);
    assert_int_equal(node_unlink(dir, "gone"), 0);
    assert_int_equal(volume_find_cipher(v, cipher, &found, plain, sizeof plain), -ENOENT);
    assert_int_equal(volume_find_cipher(v, cipher, NULL, plain, sizeof plain), 0);
    assert_string_equal(plain, "dir/gone");
    assert_int_equal(volume_find_cipher(v, cipher, NULL, plain, 8), -ENAMETOOLONG);

    assert_int_equal(volume_find_cipher(v, "latchfs.journal", NULL, plain, sizeof plain), -ENOENT);
    assert_int_equal(volume_find_cipher(v, "no such name", NULL, plain, sizeof plain), -ENOENT);
    cipher[strlen(cipher) - 2] ^= 1; /* still base64url, most of the time */
    int r = volume_find_cipher(v, cipher, NULL, plain, sizeof plain);
    assert_true(r == LFS_ERR_AUTH || r == LFS_ERR_CORRUPT || r == -ENOENT);
    n = must_walk("dir/file");
    assert_int_equal(node_cipher_path(n, cipher, sizeof cipher), 0);
    strcat(cipher, "/latchfs.dir");
    assert_int_equal(volume_find_cipher(v, cipher, NULL, plain, sizeof plain), -ENOTDIR);
    node_unref(n, 1);
    node_unref(dir, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cipher_paths, volume_setup, volume_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
