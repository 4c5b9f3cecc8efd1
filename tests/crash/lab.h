/* The driver of the crash laboratory: runs workloads on a volume through the store and says in the trace what
 * the program was promised, and checks what a power cut left. See README.md. */
#ifndef LATCHFS_CRASH_LAB_H
#define LATCHFS_CRASH_LAB_H

#include "latchfs/store.h"

/* Prints and exits with 2. */
_Noreturn void lab_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The volume's keys, the same at every run: versions least..most of its directory key, the last is active. */
#define LAB_VERSIONS 16u
struct keyset *lab_keys(uint32_t least, uint32_t most);
/* Options of every mount: the smallest journal, no flusher. */
struct volume_options lab_options(void);
struct keyset *lab_pd_keys(void); /* of the protected directory that there may be */
/* As volume_open, and the keys of the protected directory are given. */
int lab_mount(const char *dir, uint32_t least, uint32_t most, bool read_only, struct replay_report *rep,
              struct volume **v);
struct volume *lab_open(const char *dir, uint32_t least, uint32_t most); /* or dies */

/* ---- operations (ops.c): one call of the store each, with begin and end in the trace. Paths are plaintext,
 * from the volume's root, without a leading slash. Any error ends the driver. ---- */

#define LAB_KEPT_MAX 500

struct lab {
    struct volume *v;
    const char *dir;
    uint64_t ops, random;
    uint32_t version;                /* of the directory key, active */
    struct node *kept[LAB_KEPT_MAX]; /* files left open */
    size_t kept_count;
};

/* Closes what is open. */
void lab_release(struct lab *l);

/* Below n. */
uint64_t lab_random(struct lab *l, uint64_t n);

void op_create(struct lab *l, const char *path);
void op_write(struct lab *l, const char *path, uint64_t off, size_t len);
void op_append(struct lab *l, const char *path, size_t len);
void op_truncate(struct lab *l, const char *path, uint64_t size);
void op_fallocate(struct lab *l, const char *path, int mode, uint64_t off, uint64_t len);
void op_fsync(struct lab *l, const char *path);
void op_fdatasync(struct lab *l, const char *path);
void op_dirsync(struct lab *l, const char *path);
void op_mkdir(struct lab *l, const char *path);
void op_rmdir(struct lab *l, const char *path);
void op_unlink(struct lab *l, const char *path);
void op_rename(struct lab *l, const char *from, const char *to, unsigned flags);
void op_link(struct lab *l, const char *from, const char *to);
void op_symlink(struct lab *l, const char *path, const char *target);
void op_mkfifo(struct lab *l, const char *path);
void op_setxattr(struct lab *l, const char *path, const char *name, size_t len);
void op_removexattr(struct lab *l, const char *path, const char *name); /* of which there is one */
void op_chmod(struct lab *l, const char *path, mode_t mode);
void op_protect(struct lab *l, const char *path);
void op_seal(struct lab *l);      /* a checkpoint, and every seal that waits */
void op_seal_idle(struct lab *l); /* what the flusher does for files that have been idle */
void op_freeze(struct lab *l, void (*meanwhile)(struct lab *l)); /* meanwhile only reads */
void op_checkpoint(struct lab *l);                               /* everything durable and in place */
void op_round(struct lab *l);                                    /* what the flusher does once in a while */

/* A new version of the directory key, and a rotation to it: of headers, or with data of everything. meanwhile
 * is called at every step, where programs would run; with stop_at the rotation ends at that step, and the
 * next one has the rest to do. */
void op_rotate(struct lab *l, bool data, uint64_t stop_at, void (*meanwhile)(struct lab *l));

void op_remount(struct lab *l); /* unmounts and mounts again */
bool op_exists(struct lab *l, const char *path);

/* The node at a path, with a reference. */
struct node *lab_node(struct volume *v, const char *path);

/* ---- workloads*.c ---- */

/* Now and then one of the things that make content durable or put it in place. */
void lab_settle(struct lab *l, const char *path, unsigned every);

void w_overwrite(struct lab *l);
void w_append(struct lab *l);
void w_grow(struct lab *l);
void w_truncating(struct lab *l);
void w_punch(struct lab *l);
void w_small(struct lab *l);
void w_saving(struct lab *l);
void w_tree(struct lab *l);
void w_names(struct lab *l);
void w_moves(struct lab *l);
void w_links(struct lab *l);
void w_removing(struct lab *l);
void w_hints(struct lab *l);
void w_remount(struct lab *l);
void w_wrap(struct lab *l);
void w_fresh(struct lab *l);
void w_mixed(struct lab *l);
void w_threads(struct lab *l);
void w_rewrap(struct lab *l);
void w_reencrypt(struct lab *l);
void w_xattrs(struct lab *l);
void w_seals(struct lab *l);
void w_protects(struct lab *l);
void w_dirnames(struct lab *l);
void w_freezing(struct lab *l);
void w_newdirs(struct lab *l);

struct workload {
    const char *name;
    void (*run)(struct lab *l);
};
extern const struct workload workloads[];

/* ---- check.c ---- */

/* With the directory key's versions from least to most: opens the volume read-only, writes all that it holds
 * to out, opens it for writing, does so again, uses it and opens it once more. 0, or 1 when the store failed
 * at something; then out says at what. */
int lab_check(const char *dir, const char *out, uint32_t least, uint32_t most);

#endif
