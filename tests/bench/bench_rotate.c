/* Times rotations on a volume of its own, without FUSE. Usage: bench_rotate DIR FILES MIB
 * Prints one line of figures for `run`: headers per second, and MiB per second of a sequential write, of an
 * overwrite and of a re-encryption of the same file, each until it is durable and in place. */
#include "latchfs/err.h"
#include "latchfs/store.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB (1u << 20)

static _Noreturn void die(const char *what, int r)
{
    fprintf(stderr, "bench_rotate: %s: %s\n", what, lfs_strerror(r));
    exit(1);
}

static void must(const char *what, int r)
{
    if (r)
        die(what, r);
}

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void add_version(struct keyset *k)
{
    uint32_t version = k->active + 1;
    k->versions[k->count].version = version;
    randombytes_buf(k->versions[k->count++].key, LFS_KEY_BYTES);
    k->active = version;
}

static struct keyset *make_keys(void)
{
    struct keyset *k = keyset_new();
    if (!k)
        die("locked memory", -12);
    randombytes_buf(k->volume_id, ID_BYTES);
    randombytes_buf(k->pd_id, ID_BYTES);
    randombytes_buf(k->name_key, LFS_KEY_BYTES);
    randombytes_buf(k->journal_key, LFS_KEY_BYTES);
    k->suite = SUITE_AES_256_GCM;
    k->least = 1;
    add_version(k);
    return k;
}

static struct volume *open_volume(const char *dir, const struct keyset *k)
{
    struct volume_options o = {0};
    struct volume *v;
    must("open", volume_open(dir, k, &o, NULL, &v));
    must("start", volume_start(v));
    return v;
}

static struct node *make_file(struct node *dir, const char *name)
{
    struct stat st;
    struct node *n;
    must("create", node_create(dir, name, 0600, true, &st, &n));
    return n;
}

static void make_small(struct volume *v, unsigned files)
{
    char name[64];
    struct stat st;
    struct node *dir = NULL;
    for (unsigned i = 0; i < files; i++) {
        if (i % 1000 == 0) {
            if (dir)
                node_unref(dir, 1);
            snprintf(name, sizeof name, "d%u", i / 1000);
            must("mkdir", node_mkdir(volume_root(v), name, 0700, &st, &dir));
        }
        snprintf(name, sizeof name, "f%u", i);
        struct node *n = make_file(dir, name);
        ssize_t w = file_write(n, name, sizeof name, 0);
        if (w < 0)
            die("write", (int)w);
        node_unref(n, 1);
    }
    if (dir)
        node_unref(dir, 1);
}

static double write_all(struct volume *v, struct node *n, unsigned mib)
{
    uint8_t *buf = malloc(MIB);
    double t = now();
    if (!buf)
        die("memory", -12);
    randombytes_buf(buf, MIB);
    for (unsigned i = 0; i < mib; i++) {
        ssize_t w = file_write(n, buf, MIB, (uint64_t)i * MIB);
        if (w < 0)
            die("write", (int)w);
    }
    must("fsync", file_fsync(n, false));
    must("checkpoint", volume_checkpoint(v));
    free(buf);
    return mib / (now() - t);
}

typedef int rotation(struct volume *v, const struct rotate_options *o, struct rotate_progress *out);

/* Under a new version; seconds. */
static double rotate(const char *dir, struct keyset *k, rotation *run, struct rotate_progress *p)
{
    struct rotate_options o = {0};
    add_version(k);
    struct volume *v = open_volume(dir, k);
    memcpy(o.pd_id, k->pd_id, ID_BYTES);
    double t = now();
    must("rotate", run(v, &o, p));
    t = now() - t;
    must("close", volume_close(v));
    return t;
}

static void new_volume(const char *parent, const char *name, char path[static 4096], struct keyset **k)
{
    *k = make_keys();
    snprintf(path, 4096, "%s/%s", parent, name);
    int r = mkdir(path, 0700), fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must("create", r || fd < 0 ? -2 : volume_create(fd, *k));
    close(fd);
}

static void bench_headers(const char *parent, unsigned files)
{
    char path[4096];
    struct keyset *k;
    struct rotate_progress p = {0};
    new_volume(parent, "small", path, &k);
    struct volume *v = open_volume(path, k);
    make_small(v, files);
    must("close", volume_close(v));
    double rewrap = rotate(path, k, volume_rewrap, &p), again = rotate(path, k, volume_reencrypt, &p);
    printf("\"headers_s\": %.0f, \"small_reencrypted_s\": %.0f, ", files / rewrap, files / again);
    keyset_free(k);
}

static void bench_data(const char *parent, unsigned mib)
{
    char path[4096];
    struct keyset *k;
    struct rotate_progress p = {0};
    new_volume(parent, "large", path, &k);
    struct volume *v = open_volume(path, k);
    struct node *n = make_file(volume_root(v), "big");
    double plain = write_all(v, n, mib), over = write_all(v, n, mib);
    node_unref(n, 1);
    must("close", volume_close(v));
    double seconds = rotate(path, k, volume_reencrypt, &p);
    printf("\"write_mib_s\": %.1f, \"overwrite_mib_s\": %.1f, \"reencrypt_mib_s\": %.1f", plain, over,
           (double)p.bytes / MIB / seconds);
    keyset_free(k);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: bench_rotate DIR FILES MIB\n", stderr);
        return 2;
    }
    putchar('{');
    bench_headers(argv[1], (unsigned)strtoul(argv[2], NULL, 10));
    bench_data(argv[1], (unsigned)strtoul(argv[3], NULL, 10));
    puts("}");
    return 0;
}
