#include "store_fuzz.h"

#include "fs/store/tree.h"
#include "latchfs/check.h"
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- volumes ---- */

static char top[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static void remove_all(void)
{
    nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const struct keyset *fuzz_keys(void)
{
    static struct keyset *k;
    if (!k) {
        MUST(k = keyset_new());
        memset(k->volume_id, 1, sizeof k->volume_id);
        memset(k->pd_id, 2, sizeof k->pd_id);
        memset(k->name_key, 3, sizeof k->name_key);
        memset(k->journal_key, 4, sizeof k->journal_key);
        memset(k->versions[0].key, 5, sizeof k->versions[0].key);
        k->suite = SUITE_CHACHA20_POLY1305;
        k->active = k->least = k->count = k->versions[0].version = 1;
    }
    return k;
}

/* The root's record has a fixed id, so that inputs mean the same in every run. */
static void put_root(const char *path)
{
    struct dirrec d = {.id = {6}};
    uint8_t bytes[DIRREC_BYTES];
    struct name_keys keys;
    memcpy(d.parent[0], d.id, sizeof d.id);
    memcpy(d.pd_id, fuzz_keys()->pd_id, sizeof d.pd_id);
    name_keys_derive(fuzz_keys()->name_key, &keys);
    dirrec_encode(&d, &keys, bytes);
    fuzz_put(path, DIRREC_NAME, bytes, sizeof bytes, sizeof bytes);
}

const char *fuzz_volume_new(void)
{
    static char path[8][96];
    static int count;
    if (!count) {
        MUST(sodium_init() >= 0);
        log_setup("fuzz", false, LOG_LEVEL_ERROR);
        strcpy(top, access("/dev/shm", W_OK) ? "/tmp/latchfs-fuzz-XXXXXX" : "/dev/shm/latchfs-fuzz-XXXXXX");
        MUST(mkdtemp(top));
        atexit(remove_all);
    }
    MUST(count < 8);
    snprintf(path[count], sizeof path[count], "%s/vol%d", top, count);
    MUST(mkdir(path[count], 0700) == 0);
    AUTO_CLOSE int fd = open(path[count], O_RDONLY | O_DIRECTORY);
    MUST(fd >= 0 && volume_create(fd, fuzz_keys()) == 0);
    put_root(path[count]);
    return path[count++];
}

int fuzz_open(const char *path, bool read_only, struct volume **out)
{
    struct volume_options o = {
        .read_only = read_only, .ignore_journal = true, .journal_bytes = 1, .no_flusher = true};
    return volume_open(path, fuzz_keys(), &o, NULL, out);
}

void fuzz_put(const char *dir, const char *name, const uint8_t *data, size_t len, uint64_t length)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(fd >= 0 && io_pwrite(fd, data, len < length ? len : length, 0) == 0 &&
         ftruncate(fd, (off_t)length) == 0);
}

void fuzz_stored(struct volume *v, const char *name, char stored[static NAME_CIPHER_MAX + 1])
{
    struct name_keys keys;
    struct cipher_name c;
    uint8_t id[ID_BYTES];
    name_keys_derive(fuzz_keys()->name_key, &keys);
    MUST(node_dir_id(volume_root(v), id) == 0 && name_encrypt(&keys, id, name, &c) == 0);
    strcpy(stored, c.stored);
}

/* ---- reading ---- */

static unsigned errors;

unsigned fuzz_errors(void)
{
    unsigned n = errors;
    errors = 0;
    return n;
}

#define READ_MAX (300u * PAGE_BYTES)

static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
    uint8_t out[8];
    uint64_t value;
    crypto_shorthash(out, data, len, (const uint8_t *)"0123456789abcdef");
    memcpy(&value, out, sizeof value);
    return (hash ^ value) * 1099511628211u;
}

/* A large read is as short or wrong as the small ones it is made of. */
static uint64_t read_file(struct node *n, uint64_t size)
{
    static uint8_t whole[READ_MAX + PAGE_BYTES], part[PAGE_BYTES];
    size_t want = size < READ_MAX ? (size_t)size : READ_MAX;
    ssize_t r = file_read(n, whole, want, 0);
    uint64_t hash = 0;
    MUST(r < 0 || (size_t)r == want);
    for (size_t at = 0; at < want; at += PAGE_BYTES) {
        size_t len = want - at < PAGE_BYTES ? want - at : PAGE_BYTES;
        ssize_t p = file_read(n, part, len, at);
        MUST(p < 0 || (size_t)p == len);
        MUST(r < 0 || (p >= 0 && memcmp(part, whole + at, len) == 0));
        errors += p < 0;
        hash = p < 0 ? mix(hash, "error", 5) : mix(hash, part, len);
    }
    MUST(file_read(n, part, 1, size) <= 0);
    if (size)
        file_read(n, part, 1, size - 1);
    file_seek(n, 0, SEEK_DATA);
    file_seek(n, 0, SEEK_HOLE);
    return hash;
}

static uint64_t read_regular(struct node *n)
{
    struct stat st;
    if (file_open(n, false)) {
        errors++;
        return 1;
    }
    MUST(node_getattr(n, &st) == 0 && st.st_size >= 0 && (uint64_t)st.st_size <= FILE_SIZE_MAX);
    uint64_t hash = mix(read_file(n, (uint64_t)st.st_size), &st.st_size, sizeof st.st_size);
    file_close(n);
    return hash;
}

static uint64_t read_attributes(struct node *n)
{
    char list[4096], value[4096];
    ssize_t len = node_listxattr(n, list, sizeof list, true);
    uint64_t hash = mix(0, len < 0 ? "error" : list, len < 0 ? 5 : (size_t)len);
    for (char *name = list; len > 0 && name < list + len; name += strlen(name) + 1) {
        ssize_t r = node_getxattr(n, name, value, sizeof value);
        MUST(r <= (ssize_t)sizeof value);
        hash = mix(hash, value, r < 0 ? 0 : (size_t)r);
    }
    return hash;
}

static uint64_t read_dir(struct node *dir)
{
    struct dir_stream *d;
    struct dir_entry e;
    uint64_t cookie = 0, hash = 0;
    if (dir_open(dir, &d))
        return 1;
    for (int i = 0; i < 100 && dir_next(d, cookie, &e) == 1; i++) {
        struct node *n;
        struct stat st;
        cookie = e.cookie;
        MUST(strlen(e.name) <= NAME_PLAIN_MAX);
        if (!strcmp(e.name, ".") || !strcmp(e.name, "..") || node_lookup(dir, e.name, &st, &n))
            continue;
        hash += mix(fuzz_read_all(n), e.name, strlen(e.name)); /* in any order */
        node_unref(n, 1);
    }
    dir_close(d);
    return hash;
}

uint64_t fuzz_read_all(struct node *n)
{
    static char target[SYMLINK_PLAIN_MAX + 1];
    struct stat st;
    uint64_t hash = read_attributes(n);
    if (node_getattr(n, &st))
        return hash;
    if (S_ISREG(st.st_mode))
        return hash ^ read_regular(n);
    if (S_ISDIR(st.st_mode))
        return hash ^ read_dir(n);
    if (S_ISLNK(st.st_mode) && node_readlink(n, target) == 0)
        return hash ^ mix(0, target, strlen(target));
    return hash;
}

/* ---- checking ---- */

static void found(const struct check_finding *f, void *arg)
{
    MUST(f->cipher_path && check_kind_name(f->kind)[0] != '?');
    MUST(f->length == 0 || f->offset + f->length > f->offset);
}

void fuzz_check(const char *path, struct volume *v)
{
    struct check_options o = {.flags = CHECK_CONTENTS, .workers = 1, .finding = found};
    struct check_progress p = {0};
    MUST(check_volume(v, &o, &p) == 0);
    o.flags = 0;
    p = (struct check_progress){0};
    MUST(check_structure(path, &o, &p) == 0);
}
