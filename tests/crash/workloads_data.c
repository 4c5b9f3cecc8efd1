/* What programs do to contents, each workload one habit. Deterministic for a seed. */
#include "lab.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB 1024u

/* Now and then one of the things that make content durable or put it in place. */
void lab_settle(struct lab *l, const char *path, unsigned every)
{
    switch (lab_random(l, every)) {
    case 0:
        op_fsync(l, path);
        break;
    case 1:
        op_fdatasync(l, path);
        break;
    case 2:
        op_round(l);
        break;
    case 3:
        if (lab_random(l, 4) == 0)
            op_checkpoint(l);
        break;
    default:
        break;
    }
}

void w_overwrite(struct lab *l)
{
    const char *files[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) {
        op_create(l, files[i]);
        op_write(l, files[i], 0, 300 * KIB + (size_t)i * 1000);
        op_fsync(l, files[i]);
    }
    op_checkpoint(l);
    for (int i = 0; i < 80; i++) {
        const char *f = files[lab_random(l, 3)];
        uint64_t chunk = lab_random(l, 70);
        if (lab_random(l, 2))
            op_write(l, f, chunk * PAGE_BYTES, PAGE_BYTES * (1 + lab_random(l, 5)));
        else
            op_write(l, f, chunk * PAGE_BYTES + lab_random(l, PAGE_BYTES), 1 + lab_random(l, 3 * PAGE_BYTES));
        lab_settle(l, f, 12);
    }
}

void w_append(struct lab *l)
{
    const char *files[] = {"log", "unsynced", "wal"};
    for (int i = 0; i < 3; i++)
        op_create(l, files[i]);
    for (int i = 0; i < 120; i++) {
        op_append(l, "log", 1 + lab_random(l, 9000));
        op_append(l, "unsynced", 1 + lab_random(l, 60 * KIB));
        op_append(l, "wal", 100 + lab_random(l, 500));
        if (i % 3 == 0)
            op_fdatasync(l, "wal");
        lab_settle(l, "log", 10);
    }
}

void w_grow(struct lab *l)
{
    char name[32];
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "grow%d", i);
        op_create(l, name);
        op_append(l, name, 1 + lab_random(l, 2000));
        lab_settle(l, name, 6);
        op_append(l, name, 1 + lab_random(l, 2500));
        lab_settle(l, name, 6);
        if (lab_random(l, 3) == 0)
            op_truncate(l, name, INLINE_MAX + lab_random(l, 3 * PAGE_BYTES));
        else
            op_append(l, name, 1 + lab_random(l, 3 * PAGE_BYTES));
        lab_settle(l, name, 5);
        if (lab_random(l, 4) == 0) {
            op_truncate(l, name, lab_random(l, INLINE_MAX));
            op_append(l, name, 1 + lab_random(l, 500));
            lab_settle(l, name, 6);
        }
    }
}

void w_truncating(struct lab *l)
{
    char name[32];
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "cut%d", i);
        op_create(l, name);
        op_write(l, name, 0, 120 * PAGE_BYTES + lab_random(l, 20 * PAGE_BYTES));
        lab_settle(l, name, 3);
        for (int k = 0; k < 16; k++) {
            uint64_t size = lab_random(l, 150 * PAGE_BYTES);
            switch (lab_random(l, 5)) {
            case 0:
                size = 0;
                break;
            case 1:
                size = size / PAGE_BYTES * PAGE_BYTES;
                break;
            case 2:
                size = (112 + lab_random(l, 2)) * PAGE_BYTES + lab_random(l, 2) * 7;
                break;
            default:
                break;
            }
            op_truncate(l, name, size);
            lab_settle(l, name, 8);
            if (lab_random(l, 2))
                op_append(l, name, 1 + lab_random(l, 20 * PAGE_BYTES));
            else
                op_write(l, name, lab_random(l, 130) * PAGE_BYTES,
                         PAGE_BYTES + lab_random(l, 9 * PAGE_BYTES));
            lab_settle(l, name, 8);
        }
    }
}

void w_punch(struct lab *l)
{
    static const int modes[] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                                FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE, 0};
    const char *files[] = {"p", "q"};
    for (int i = 0; i < 2; i++) {
        op_create(l, files[i]);
        op_write(l, files[i], 0, 400 * PAGE_BYTES);
        op_fsync(l, files[i]);
    }
    op_checkpoint(l);
    for (int i = 0; i < 70; i++) {
        const char *f = files[lab_random(l, 2)];
        uint64_t off = lab_random(l, 400 * PAGE_BYTES), len = 1 + lab_random(l, 30 * PAGE_BYTES);
        if (lab_random(l, 6) == 0)
            len = 150 * PAGE_BYTES + lab_random(l, 100 * PAGE_BYTES);
        if (lab_random(l, 2))
            off = off / PAGE_BYTES * PAGE_BYTES;
        if (lab_random(l, 2))
            op_fallocate(l, f, modes[lab_random(l, 10) < 6 ? 0 : lab_random(l, 5)], off, len);
        else
            op_write(l, f, off, 1 + len % (20 * PAGE_BYTES));
        lab_settle(l, f, 9);
    }
}

/* Files whose seal stands are changed in every way, and sealed again. */
void w_seals(struct lab *l)
{
    static const uint64_t sizes[] = {9000, 100 * KIB, 448 * KIB, 470 * KIB, 3000, 1100 * KIB};
    char name[32];
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "s%d", i);
        op_create(l, name);
        op_write(l, name, 0, sizes[i]);
    }
    op_seal(l);
    for (int k = 0; k < 60; k++) {
        snprintf(name, sizeof name, "s%d", (int)lab_random(l, 6));
        uint64_t at = lab_random(l, 300 * KIB);
        switch (lab_random(l, 7)) {
        case 0:
            op_append(l, name, 50 * KIB + lab_random(l, 300 * KIB)); /* fresh, behind a seal */
            break;
        case 1:
            op_truncate(l, name, lab_random(l, 4) ? lab_random(l, 600 * KIB) : lab_random(l, 4000));
            break;
        case 2:
            op_fallocate(l, name, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 100 * KIB);
            break;
        case 3:
            op_setxattr(l, name, "user.note", 20);
            break;
        default:
            op_write(l, name, at, 1 + lab_random(l, 20 * KIB));
            break;
        }
        lab_settle(l, name, 6);
        if (lab_random(l, 5) == 0)
            op_seal(l);
        if (lab_random(l, 3) == 0)
            op_seal_idle(l);
        if (lab_random(l, 12) == 0)
            op_remount(l);
    }
}

/* Several laps of the ring. */
void w_wrap(struct lab *l)
{
    const char *files[] = {"w0", "w1", "w2", "w3"};
    for (int i = 0; i < 4; i++) {
        op_create(l, files[i]);
        op_write(l, files[i], 0, 600 * KIB);
    }
    op_checkpoint(l);
    for (int i = 0; i < 260; i++) {
        const char *f = files[lab_random(l, 4)];
        op_write(l, f, lab_random(l, 130) * PAGE_BYTES + lab_random(l, 2) * 100,
                 1 + lab_random(l, 120 * KIB));
        lab_settle(l, f, 14);
    }
}

/* Large files in fresh space, cut and written again where there was something before. */
void w_fresh(struct lab *l)
{
    char name[32];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "big%d", i);
        op_create(l, name);
        for (int k = 0; k < 6; k++) {
            op_append(l, name, 200 * KIB + lab_random(l, 300 * KIB));
            lab_settle(l, name, 8);
        }
        op_truncate(l, name, lab_random(l, 500 * KIB));
        lab_settle(l, name, 8);
        op_append(l, name, 300 * KIB);
        lab_settle(l, name, 8);
        op_write(l, name, 900 * KIB + lab_random(l, 300 * KIB), 100 * KIB);
        lab_settle(l, name, 6);
        op_truncate(l, name, 0);
        op_write(l, name, 0, 250 * KIB);
        lab_settle(l, name, 6);
    }
    op_create(l, "huge");
    op_write(l, "huge", 0, 2600 * KIB);
    op_fsync(l, "huge");
}

/* ---- everything at once ---- */

#define MIXED_FILES 10

static void mixed_change(struct lab *l, const char *f)
{
    uint64_t off = lab_random(l, 3) ? lab_random(l, 200 * PAGE_BYTES) : lab_random(l, 6000);
    uint64_t len = lab_random(l, 3) ? 1 + lab_random(l, 8000) : 1 + lab_random(l, 30 * PAGE_BYTES);
    switch (lab_random(l, 8)) {
    case 0:
        op_truncate(l, f, lab_random(l, 3) ? off : 0);
        break;
    case 1:
        op_fallocate(l, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
        break;
    case 2:
        op_append(l, f, len);
        break;
    default:
        op_write(l, f, off, len);
        break;
    }
}

void w_mixed(struct lab *l)
{
    char name[MIXED_FILES][32], tmp[32];
    for (int i = 0; i < MIXED_FILES; i++) {
        snprintf(name[i], sizeof name[i], "m%d", i);
        op_create(l, name[i]);
    }
    for (int i = 0; i < 400; i++) {
        char *f = name[lab_random(l, MIXED_FILES)];
        mixed_change(l, f);
        lab_settle(l, f, 16);
        if (lab_random(l, 25) == 0) { /* replaced, or moved out of the way of a new one */
            snprintf(tmp, sizeof tmp, "x%d", i);
            op_rename(l, f, tmp, 0);
            op_create(l, f);
            if (lab_random(l, 2)) {
                op_write(l, f, 0, 1 + lab_random(l, 20000));
                op_rename(l, f, tmp, 0);
                op_create(l, f);
            } else if (lab_random(l, 2)) {
                op_unlink(l, tmp);
            }
        }
    }
}

/* ---- keys ---- */

#define ROTATED 12

static void rotated_name(struct lab *l, char name[static 16], uint64_t i)
{
    snprintf(name, 16, "r%d", (int)i);
    if (!op_exists(l, name))
        snprintf(name, 16, "d/r%d", (int)i);
}

/* What programs do between two steps of a rotation. */
static void meanwhile(struct lab *l)
{
    char name[16], to[16];
    uint64_t i = lab_random(l, ROTATED);
    rotated_name(l, name, i);
    switch (lab_random(l, 14)) {
    case 0:
        op_write(l, name, lab_random(l, 20 * PAGE_BYTES), 1 + lab_random(l, 3 * PAGE_BYTES));
        break;
    case 1:
        op_append(l, name, 1 + lab_random(l, 12 * PAGE_BYTES));
        break;
    case 2:
        op_truncate(l, name, lab_random(l, 3) ? lab_random(l, 40 * PAGE_BYTES) : lab_random(l, 4000));
        break;
    case 3:
        op_setxattr(l, name, "user.note", 1 + lab_random(l, 100));
        break;
    case 4:
        snprintf(to, sizeof to, "%sr%d", name[0] == 'd' ? "" : "d/", (int)i);
        op_rename(l, name, to, 0);
        break;
    case 5:
        lab_settle(l, name, 4);
        break;
    default:
        break;
    }
}

static void rotating(struct lab *l, bool data)
{
    static const uint64_t sizes[ROTATED] = {
        0, 40, 3000, 3584, 3585, 9000, 30 * 4096, 50 * 4096, 90 * 4096, 130 * 4096, 260 * 4096, 12 * 4096};
    char name[16];
    op_mkdir(l, "d");
    for (int i = 0; i < ROTATED; i++) {
        snprintf(name, sizeof name, "%sr%d", i % 3 ? "d/" : "", i);
        op_create(l, name);
        if (sizes[i])
            op_write(l, name, 0, sizes[i]);
        if (i % 2)
            op_setxattr(l, name, "user.note", 1 + lab_random(l, 100));
    }
    op_link(l, "r6", "d/linked");
    op_checkpoint(l);
    for (int round = 0; round < 5; round++) {
        while (lab_random(l, 2) && l->version < LAB_VERSIONS - 5)
            op_rotate(l, data || lab_random(l, 3) == 0, 1 + lab_random(l, 40), meanwhile);
        if (lab_random(l, 5) == 0)
            op_remount(l);
        op_rotate(l, data, 0, meanwhile);
        rotated_name(l, name, lab_random(l, ROTATED));
        lab_settle(l, name, 5);
    }
}

void w_rewrap(struct lab *l)
{
    rotating(l, false);
}

void w_reencrypt(struct lab *l)
{
    rotating(l, true);
}

/* ---- several threads, a file each, while rounds go on ---- */

#define THREADS 4

struct worker {
    struct lab lab;
    char name[16];
    pthread_t thread;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < 50; i++) {
        mixed_change(&w->lab, w->name);
        lab_settle(&w->lab, w->name, 9);
    }
    return NULL;
}

void w_threads(struct lab *l)
{
    struct worker w[THREADS];
    for (int i = 0; i < THREADS; i++) {
        w[i] = (struct worker){
            .lab = {.v = l->v, .ops = (uint64_t)(i + 1) * 100000, .random = lab_random(l, 1u << 30)}};
        snprintf(w[i].name, sizeof w[i].name, "th%d", i);
        op_create(l, w[i].name);
    }
    op_dirsync(l, "");
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&w[i].thread, NULL, work, &w[i]))
            lab_die("no thread");
    for (int i = 0; i < THREADS; i++)
        pthread_join(w[i].thread, NULL);
}
