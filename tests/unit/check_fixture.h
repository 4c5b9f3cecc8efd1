/* Volumes with one of everything in them, checked, and the findings kept. */
#ifndef TEST_CHECK_FIXTURE_H
#define TEST_CHECK_FIXTURE_H

#include "latchfs/check.h"
#include "latchfs/keystore.h"
#include "latchfs/layout.h"
#include "pd_fixture.h"

#include <sys/mman.h>
#include <sys/xattr.h>

#define SEEN_MAX 512

struct seen {
    enum check_kind kind;
    enum check_severity severity;
    char cipher[1024], plain[1024], moved[1024];
    bool has_plain, repaired, repairable;
    uint64_t offset, length;
    int err;
};

static struct seen seen[SEEN_MAX];
static unsigned seen_count;
static struct check_progress last_progress;
static struct keyset second_keys; /* of the protected directory "team" */
static char long_name[NAME_PLAIN_MAX + 1], long_target[SYMLINK_PLAIN_MAX + 1];

/* ---- a key store that parses and is signed ---- */

static inline void write_ini(const char *name)
{
    uint8_t public_key[32], secret_key[64];
    struct keystore *ks = keystore_new();
    char *ini = NULL, path[256];
    size_t len;
    crypto_sign_keypair(public_key, secret_key);
    memcpy(ks->volume_id, plain_keys.volume_id, ID_BYTES);
    memcpy(ks->root_id, plain_keys.pd_id, ID_BYTES);
    memcpy(ks->signing_public, public_key, sizeof public_key);
    memset(ks->signing_wrapped, 1, sizeof ks->signing_wrapped);
    memset(ks->journal_wrapped, 2, sizeof ks->journal_wrapped);
    ks->suite = plain_keys.suite;
    ks->format = FORMAT_VERSION;
    ks->generation = ks->next_slot = ks->journal_master = ks->master_count = 1;
    ks->masters[0].version = 1;
    ks->masters[0].state = KEY_ACTIVE;
    memset(ks->masters[0].wrapped, 3, sizeof ks->masters[0].wrapped);
    struct keystore_dir *d = keystore_add_dir(ks);
    memcpy(d->id, plain_keys.pd_id, ID_BYTES);
    d->least = d->name_version = d->count = 1;
    memset(d->name_wrapped, 4, sizeof d->name_wrapped);
    d->keys[0] = (struct keystore_dirkey){.version = 1, .state = KEY_ACTIVE, .master = 1};
    memset(d->keys[0].wrapped, 5, sizeof d->keys[0].wrapped);
    assert_int_equal(keystore_encode_signed(ks, secret_key, &ini, &len), 0);
    snprintf(path, sizeof path, "%s/%s", volume_dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, ini, len), len);
    close(fd);
    free(ini);
    keystore_free(ks);
}

static inline int check_setup(void **state)
{
    int r = volume_setup(state);
    second_keys = pd_keyset();
    memset(long_name, 'n', 200);
    memset(long_target, 't', 3500);
    write_ini(KEYSTORE_NAME);
    write_ini(KEYSTORE_BAK_NAME);
    return r;
}

/* ---- the volume ---- */

static inline struct node *make_big(struct node *dir, const char *name, uint64_t chunks)
{
    struct node *n = make_file(dir, name, "");
    uint8_t buf[8 * PAGE_BYTES];
    struct rng r = {chunks};
    for (uint64_t at = 0; at < chunks; at += 8) {
        rng_fill(&r, buf, sizeof buf);
        size_t len = (chunks - at < 8 ? chunks - at : 8) * PAGE_BYTES;
        assert_int_equal(file_write(n, buf, len, at * PAGE_BYTES), len);
    }
    return n;
}

static inline void make_link(struct node *dir, const char *name, const char *target)
{
    struct node *n;
    struct stat st;
    assert_int_equal(node_symlink(dir, name, target, &st, &n), 0);
    node_unref(n, 1);
}

static inline void fill_dir(struct node *dir)
{
    struct node *n, *again;
    struct stat st;
    node_unref(make_file(dir, "empty", ""), 1);
    n = make_file(dir, "inline", "some text");
    assert_int_equal(node_setxattr(n, "user.colour", "blue", 4, 0), 0);
    assert_int_equal(node_link(n, dir, "inline too", &st, &again), 0);
    node_unref(again, 1);
    node_unref(n, 1);
    node_unref(make_big(dir, "paged", 3), 1);
    n = make_file(dir, "sparse", "");
    assert_int_equal(file_write(n, "x", 1, 500 * PAGE_BYTES), 1);
    assert_int_equal(file_truncate(n, 1000 * PAGE_BYTES + 7), 0);
    node_unref(n, 1);
    node_unref(make_file(dir, long_name, "a long name"), 1);
    make_link(dir, "link", "there");
    make_link(dir, "long link", long_target);
    assert_int_equal(node_mknod(dir, "pipe", S_IFIFO | 0644, 0, &st, &n), 0);
    node_unref(n, 1);
    assert_int_equal(node_setxattr(dir, "user.shape", "round", 5, 0), 0);
}

/* root, a, a/b and the protected directory "team", each with all kinds of entries. */
static inline void fill_volume(void)
{
    struct node *a = make_dir(volume_root(v), "a"), *b = make_dir(a, "b");
    struct node *team = make_top(volume_root(v), "team", &second_keys);
    fill_dir(volume_root(v));
    fill_dir(a);
    fill_dir(b);
    fill_dir(team);
    node_unref(make_big(b, "big", 500), 1);
    char name[NAME_PLAIN_MAX + 1];
    memset(name, 'd', 255);
    name[255] = '\0';
    node_unref(make_dir(b, name), 1);
    node_unref(a, 1);
    node_unref(b, 1);
    node_unref(team, 1);
    assert_int_equal(volume_checkpoint(v), 0);
}

/* ---- checking ---- */

static inline void on_finding(const struct check_finding *f, void *arg)
{
    assert_true(seen_count < SEEN_MAX);
    struct seen *s = &seen[seen_count++];
    *s = (struct seen){.kind = f->kind,
                       .severity = f->severity,
                       .has_plain = f->plain_path,
                       .repaired = f->repaired,
                       .repairable = f->repair,
                       .offset = f->offset,
                       .length = f->length,
                       .err = f->err};
    snprintf(s->cipher, sizeof s->cipher, "%s", f->cipher_path);
    snprintf(s->plain, sizeof s->plain, "%s", f->plain_path ? f->plain_path : "");
    snprintf(s->moved, sizeof s->moved, "%s", f->moved_to ? f->moved_to : "");
}

static inline void show_seen(void)
{
    for (unsigned i = 0; i < seen_count; i++)
        print_message("%s %d '%s' '%s' %llu+%llu err %d%s%s %s\n", check_kind_name(seen[i].kind),
                      seen[i].severity, seen[i].cipher, seen[i].plain, (unsigned long long)seen[i].offset,
                      (unsigned long long)seen[i].length, seen[i].err, seen[i].repaired ? " repaired" : "",
                      seen[i].repairable ? " repairable" : "", seen[i].moved);
}

static inline int check_with(struct check_options *o)
{
    o->finding = on_finding;
    return check_volume(v, o, &last_progress);
}

/* The open volume, as it is. */
static inline void check_open(unsigned flags)
{
    struct check_options o = {.flags = flags};
    seen_count = 0;
    assert_int_equal(check_with(&o), 0);
}

/* Closed, and without keys. */
static inline void check_bare(void)
{
    struct check_options o = {.finding = on_finding};
    seen_count = 0;
    assert_int_equal(check_structure(volume_dir, &o, &last_progress), 0);
}

static inline void close_volume(void)
{
    assert_int_equal(volume_close(v), 0);
    v = NULL;
}

static inline void open_as(bool read_only)
{
    struct volume_options o = {
        .journal_bytes = UINT64_C(8) << 20, .no_flusher = true, .read_only = read_only};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    assert_int_equal(volume_pd_unlock(v, &second_keys), 0);
}

static inline void check_read_only(unsigned flags)
{
    open_as(true);
    check_open(flags);
    close_volume();
}

static inline const struct seen *find_seen(enum check_kind kind, const char *plain)
{
    for (unsigned i = 0; i < seen_count; i++)
        if (seen[i].kind == kind && (!plain || (seen[i].has_plain && strcmp(seen[i].plain, plain) == 0)))
            return &seen[i];
    return NULL;
}

static inline void expect_none(void)
{
    if (seen_count)
        show_seen();
    assert_int_equal(seen_count, 0);
}

/* Exactly one finding, of this kind. */
static inline const struct seen *expect_one(enum check_kind kind, const char *plain)
{
    const struct seen *s = find_seen(kind, plain);
    if (!s || seen_count != 1)
        show_seen();
    assert_non_null(s);
    assert_int_equal(seen_count, 1);
    return s;
}

/* ---- damage ---- */

static inline void path_of(const char *plain, char path[static 1024])
{
    struct node *n = must_walk(plain);
    below(n, path);
    node_unref(n, 1);
}

static inline void flip_at(const char *path, uint64_t at)
{
    uint8_t b;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &b, 1, (off_t)at), 1);
    b ^= 0x40;
    assert_int_equal(pwrite(fd, &b, 1, (off_t)at), 1);
    close(fd);
}

static inline void put_file(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

#endif
