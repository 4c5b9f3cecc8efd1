/* What the promise and the seal cost, without FUSE. Usage: bench_promise DIR journal|bypass|no-seals WORKLOAD
 * AMOUNT Prints operations (or MiB) a second of one workload in a fresh volume in DIR:
 *
 *   overwrite  AMOUNT random 4 KiB overwrites of a file of 128 MiB, then fsync
 *   write-sync AMOUNT random 4 KiB overwrites of it, fdatasync after each
 *   append-sync AMOUNT appends of 100 bytes, fdatasync after each
 *   stream     AMOUNT MiB in order, then fsync
 *   whole      the same until all of it is in place, on disk and sealed: the volume is closed */
#include "latchfs/err.h"
#include "latchfs/store.h"

#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MIB (1u << 20)
#define FILE_MIB 128u

static uint8_t block[MIB];

static _Noreturn void die(const char *what, int r)
{
    fprintf(stderr, "bench_promise: %s: %s\n", what, lfs_strerror(r));
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

static double processor(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static struct volume *new_volume(const char *dir, const char *mode)
{
    struct keyset *k = keyset_new();
    struct volume_options o = {.bypass_journal = !strcmp(mode, "bypass"),
                               .seal_seconds = strcmp(mode, "no-seals") ? 0 : UINT_MAX};
    struct volume *v;
    if (!k)
        die("locked memory", -12);
    randombytes_buf(k->volume_id, ID_BYTES);
    randombytes_buf(k->pd_id, ID_BYTES);
    randombytes_buf(k->name_key, LFS_KEY_BYTES);
    randombytes_buf(k->journal_key, LFS_KEY_BYTES);
    randombytes_buf(k->versions[0].key, LFS_KEY_BYTES);
    k->suite = SUITE_AES_256_GCM;
    k->least = k->active = k->count = k->versions[0].version = 1;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must("create", fd < 0 ? -2 : volume_create(fd, k));
    close(fd);
    must("open", volume_open(dir, k, &o, NULL, &v));
    must("start", volume_start(v));
    keyset_free(k);
    return v;
}

static void write_at(struct node *n, size_t len, uint64_t off)
{
    ssize_t w = file_write(n, block, len, off);
    if (w < 0)
        die("write", (int)w);
}

static void stream(struct node *n, unsigned mib)
{
    for (unsigned i = 0; i < mib; i++)
        write_at(n, MIB, (uint64_t)i * MIB);
    must("fsync", file_fsync(n, false));
}

static void overwrite(struct node *n, unsigned amount, bool sync)
{
    for (unsigned i = 0; i < amount; i++) {
        write_at(n, 4096, (uint64_t)randombytes_uniform(FILE_MIB * 256) * 4096);
        if (sync)
            must("fdatasync", file_fsync(n, true));
    }
    must("fsync", file_fsync(n, false));
}

static void append(struct node *n, unsigned amount)
{
    for (unsigned i = 0; i < amount; i++) {
        if (file_append(n, block, 100) != 100)
            die("append", -5);
        must("fdatasync", file_fsync(n, true));
    }
}

static struct node *new_file(struct volume *v)
{
    struct stat st;
    struct node *n;
    must("create", node_create(volume_root(v), "f", 0600, true, &st, &n));
    return n;
}

int main(int argc, char **argv)
{
    if (argc != 5 || sodium_init() < 0) {
        fputs("usage: bench_promise DIR journal|bypass|no-seals WORKLOAD AMOUNT\n", stderr);
        return 2;
    }
    const char *what = argv[3];
    unsigned amount = (unsigned)strtoul(argv[4], NULL, 10);
    bool over = !strcmp(what, "overwrite") || !strcmp(what, "write-sync");
    struct volume *v = new_volume(argv[1], argv[2]);
    struct node *n = new_file(v);
    randombytes_buf(block, sizeof block);
    if (over)
        stream(n, FILE_MIB);
    else if (!strcmp(what, "append-sync"))
        write_at(n, 5000, 0);
    must("checkpoint", volume_checkpoint(v));
    double t = now(), p = processor();
    if (over)
        overwrite(n, amount, !strcmp(what, "write-sync"));
    else if (!strcmp(what, "append-sync"))
        append(n, amount);
    else
        stream(n, amount);
    double rate = amount / (now() - t), cheap = amount / (processor() - p);
    node_unref(n, 1);
    must("close", volume_close(v));
    if (!strcmp(what, "whole")) {
        rate = amount / (now() - t);
        cheap = amount / (processor() - p);
    }
    printf("%.1f %.1f\n", rate, cheap);
    return 0;
}
