/* One case: a volume, and operations on it that the model follows. */
#ifndef LATCHFS_FAULT_RUN_H
#define LATCHFS_FAULT_RUN_H

#include "inject.h"
#include "model.h"

struct run {
    struct volume *v;
    const char *dir;
    bool all_failed;  /* what failed last is a reason for everything after it (a lasting fault) */
    bool reported;    /* an operation has answered the error of the fault */
    uint32_t version; /* of the directory key, active */
};

struct keyset *run_keys(uint32_t least, uint32_t most);
struct keyset *run_pd_keys(void); /* of the protected directory */
int run_open(struct run *t);      /* counts as an operation */
int run_close(struct run *t);     /* the same */

/* Each does the operation, judges its answer, and tells the model. Paths from the root, no leading slash. */
void do_create(struct run *t, const char *path);
void do_write(struct run *t, const char *path, uint64_t off, size_t len);
void do_append(struct run *t, const char *path, size_t len);
void do_truncate(struct run *t, const char *path, uint64_t size);
void do_fallocate(struct run *t, const char *path, int mode, uint64_t off, uint64_t len);
void do_fsync(struct run *t, const char *path);
void do_fdatasync(struct run *t, const char *path);
void do_dirsync(struct run *t, const char *path);
void do_mkdir(struct run *t, const char *path);
void do_rmdir(struct run *t, const char *path);
void do_unlink(struct run *t, const char *path);
void do_rename(struct run *t, const char *from, const char *to, unsigned flags);
void do_link(struct run *t, const char *from, const char *to);
void do_symlink(struct run *t, const char *path, const char *target);
void do_setxattr(struct run *t, const char *path, const char *name, size_t len);
void do_removexattr(struct run *t, const char *path, const char *name);
void do_chmod(struct run *t, const char *path, mode_t mode);
void do_read(struct run *t, const char *path);    /* all of a file, attributes and seeking too */
void do_readdir(struct run *t, const char *path); /* and looks every entry up */
void do_copy(struct run *t, const char *from, const char *to);
void do_round(struct run *t);
void do_checkpoint(struct run *t);
void do_seal(struct run *t);
void do_freeze(struct run *t); /* and thaw */
void do_rewrap(struct run *t);
void do_reencrypt(struct run *t);
void do_protect(struct run *t, const char *path);
void do_open_file(struct run *t, const char *path); /* left open */
void do_close_file(struct run *t, const char *path);

/* The volume as it must be once the fault is over: everything fits the model, and can be used. */
void run_check(struct run *t, const char *when);
void run_use(struct run *t, const char *when);

struct scenario {
    const char *name;
    void (*setup)(struct run *t);
    void (*act)(struct run *t); /* NULL: opening the volume is what is watched */
    bool unclean;               /* the setup ends without closing */
    bool no_fallocate;          /* the backing filesystem can't allocate ahead: a ballast file stands in */
};
extern const struct scenario scenarios[];

#endif
