/* A volume in a temporary directory, for the tests of the tree. */
#ifndef TEST_TREE_FIXTURE_H
#define TEST_TREE_FIXTURE_H

#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/store.h"
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef TREE_TMP
#define TREE_TMP "/tmp"
#endif

static char base[64]; /* holds vol/, and whatever a test puts beside it */
static char volume_dir[96];
static struct keyset *keys;
static struct keyset plain_keys; /* locked memory does not survive a fork */
static struct volume *v;

static inline void open_volume(void)
{
    struct volume_options o = {.journal_bytes = UINT64_C(8) << 20, .no_flusher = true};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
}

/* Every node is gone after that: what is looked up then comes from the disk alone. */
static inline void reopen_volume(void)
{
    assert_int_equal(volume_close(v), 0);
    open_volume();
}

static inline int volume_setup(void **state)
{
    strcpy(base, TREE_TMP "/latchfs-tree-XXXXXX");
    assert_non_null(mkdtemp(base));
    assert_int_equal(chmod(base, 0755), 0);
    snprintf(volume_dir, sizeof volume_dir, "%s/vol", base);
    assert_int_equal(mkdir(volume_dir, 0755), 0);
    keys = keyset_new();
    assert_non_null(keys);
    keys->suite = SUITE_CHACHA20_POLY1305;
    keys->active = keys->least = keys->count = keys->versions[0].version = 1;
    randombytes_buf(keys->volume_id, ID_BYTES);
    randombytes_buf(keys->pd_id, ID_BYTES);
    randombytes_buf(keys->versions[0].key, LFS_KEY_BYTES);
    randombytes_buf(keys->name_key, LFS_KEY_BYTES);
    randombytes_buf(keys->journal_key, LFS_KEY_BYTES);
    plain_keys = *keys;
    int fd = open(volume_dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(volume_create(fd, keys), 0);
    close(fd);
    open_volume();
    return 0;
}

static inline int volume_teardown(void **state)
{
    char cmd[128];
    int r = v ? volume_close(v) : 0;
    v = NULL;
    keyset_free(keys);
    snprintf(cmd, sizeof cmd, "rm -rf %s", base);
    return system(cmd) || r;
}

/* Walks a plaintext path from the root. One reference. */
static inline int walk(const char *path, struct node **out)
{
    char part[NAME_PLAIN_MAX + 1];
    struct node *n = volume_root(v), *next;
    struct stat st;
    node_ref(n);
    for (const char *p = path; *p;) {
        size_t len = strcspn(p, "/");
        memcpy(part, p, len);
        part[len] = '\0';
        int r = node_lookup(n, part, &st, &next);
        node_unref(n, 1);
        if (r)
            return r;
        n = next;
        p += len + (p[len] == '/');
    }
    *out = n;
    return 0;
}

static inline struct node *must_walk(const char *path)
{
    struct node *n = NULL;
    assert_int_equal(walk(path, &n), 0);
    return n;
}

static inline struct node *make_dir(struct node *dir, const char *name)
{
    struct node *n;
    struct stat st;
    assert_int_equal(node_mkdir(dir, name, 0755, &st, &n), 0);
    assert_true(S_ISDIR(st.st_mode));
    return n;
}

static inline struct node *make_file(struct node *dir, const char *name, const char *text)
{
    struct node *n;
    struct stat st;
    assert_int_equal(node_create(dir, name, 0644, true, &st, &n), 0);
    assert_int_equal(file_write(n, text, strlen(text), 0), strlen(text));
    return n;
}

static inline bool holds(struct node *n, const char *text)
{
    static char buf[32768];
    memset(buf, 0, sizeof buf);
    ssize_t len = file_read(n, buf, sizeof buf - 1, 0);
    return len >= 0 && strcmp(buf, text) == 0;
}

/* Entries of the backing directory path (below the volume) whose names begin with prefix. */
static inline unsigned count_stored(const char *path, const char *prefix)
{
    char full[512];
    unsigned count = 0;
    snprintf(full, sizeof full, "%s/%s", volume_dir, path);
    DIR *d = opendir(full);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        count += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(d);
    return count;
}

#endif
