/* The tree half among its own sources: the node table, places, directory locks, descriptors, sidecars,
 * records. What the file half may use stands in node.h.
 *
 * Locks, outermost first: locks of directories (dir_set) > vol->tree_lock > vol->fds' grant lock > table
 * shard > fd cache. Nothing of file*.c is called with any of them held. */
#ifndef LATCHFS_STORE_TREE_H
#define LATCHFS_STORE_TREE_H

#include "fs/store/pd.h"
#include "latchfs/buf.h"
#include "latchfs/dirrec.h"

#ifndef SYS_fchmodat2 /* Linux 6.6 */
#define SYS_fchmodat2 452
#endif

/* ---- public calls: between begin and end ---- */

int tree_begin(struct node *n);        /* for reading: node_enter */
int tree_begin_change(struct node *n); /* and refuses on a read-only volume */
int tree_end(struct volume *v, int r); /* leaves, counts what is corrupt, returns r */

/* ---- node table (node.c) ---- */

/* The live node of this inode with one more reference, or NULL. */
struct node *node_find(struct volume *v, const struct stat *st);

/* The node of an inode seen at dir/stored (raw backing stat), made if need be, with one more reference. The
 * place becomes its known one. LFS_ERR_AUTH for a directory whose record does not name dir as parent. */
int node_obtain(struct node *dir, const struct stat *st, const char *stored, struct node **out);

/* The node now stands for another inode (a symlink that was made anew). */
void node_rekey(struct node *n, const struct stat *st);

/* Random digits of this mount: temporary names that bear them are not left over from another. */
#define LIFE_DIGITS 16
const char *node_life(const struct volume *v);

/* ---- places (place.c): parent and stored name ---- */

struct place {
    struct node *parent; /* referenced */
    char *stored;
};
int place_new(struct node *parent, const char *stored, struct place *out);
/* Gives n another place; the old one is released later, outside the lock. tree_lock is held for writing. */
struct place place_swap(struct node *n, struct place p);
/* Drops what a place owns; a temporary name in the root (see victim) is removed. */
void place_release(struct volume *v, struct place *p);

int place_set(struct node *n, struct node *parent, const char *stored);
void place_clear(struct node *n, const struct node *parent, const char *stored); /* if that is its place */

/* How to name n in a *at call: its own descriptor with AT_EMPTY_PATH, or its parent's and its name (then
 * tree_lock is held for reading until put). */
struct node_at {
    struct volume *vol;
    int fd;
    const char *name;
    int flags;
    struct node *holder; /* whose descriptor it is */
    bool locked;
};
int node_at_get(struct node *n, struct node_at *at);
int node_at_named(struct node *n, struct node_at *at); /* by its name only; -ESTALE if it has none */
void node_at_put(struct node_at *at);

/* ---- locks of directories (dirlock.c): guard the entries of a directory, short of single system calls ----
 */

#define DIR_SET_MAX 4
struct dir_locks;
struct dir_locks *dir_locks_new(void);
void dir_locks_free(struct dir_locks *l);
struct dir_locks *node_dir_locks(struct volume *v); /* node.c keeps them */
void dir_rdlock(struct node *dir);
void dir_wrlock(struct node *dir);
void dir_unlock(struct node *dir);

/* Several at once for writing. Add all, then lock. */
struct dir_set {
    pthread_rwlock_t *lock[DIR_SET_MAX];
    unsigned count;
};
void dir_set_add(struct dir_set *s, struct volume *v, dev_t dev, ino_t ino);
void dir_set_lock(struct dir_set *s);
void dir_set_unlock(struct dir_set *s);

/* ---- descriptors (fdcache.c, fdopen.c) ---- */

int fd_cache_init(struct volume *v);
void fd_cache_free(struct volume *v);
void fd_cache_stats(struct volume *v, struct volume_stats *out);

/* A cached descriptor in use, if there is one that serves. */
bool fd_try(struct node *n, bool write, int *fd);
/* Gives a fresh descriptor to the cache, in use by the caller; *out is the one to use from now on. */
void fd_publish(struct node *n, int fd, bool writable, int *out);
/* As node_fd_get, with tree_lock held for reading. */
int fd_get_locked(struct node *n, bool write, int *fd);
/* Keeps the descriptor until the node goes. False at the limit of pins, or when it can't be opened. */
bool fd_pin(struct node *n);
void fd_unpin(struct node *n);
void fd_drop(struct node *n); /* closes; nobody uses it */
void fd_evict_unused(struct volume *v);
/* Descriptors outside the cache that count all the same (directory streams). False: too many. */
bool fd_charge(struct volume *v);
void fd_uncharge(struct volume *v);

/* openat with O_CLOEXEC | O_NOFOLLOW that makes room when descriptors run out. */
int fd_openat(struct volume *v, int dirfd, const char *name, int flags, mode_t mode);
/* A descriptor of the caller's own, by path. tree_lock is held for reading. */
int fd_open_fresh(struct node *n, bool write, int *fd);
/* chmod by name without following a symlink. */
int fd_chmodat(int dirfd, const char *name, mode_t mode);
/* Held while the owner gets permission for the moment, and around changes of mode. */
void fd_grant_lock(struct volume *v);
void fd_grant_unlock(struct volume *v);

/* node_getattr inside tree_begin and tree_end (attr.c). */
int node_stat(struct node *n, struct stat *st);

/* ---- entries (tree.c) ---- */

/* A name in a directory, in use: the directory's descriptor is borrowed. */
struct entry {
    struct node *dir;
    int fd;
    uint8_t id[ID_BYTES]; /* of dir */
    struct pd *pd;        /* of dir */
    const struct pd_keys *keys;
    struct cipher_name cn;
};
int entry_get(struct node *dir, const char *name, struct entry *e);
void entry_put(struct entry *e);
/* With the directory locked, before something is put there: -ENOENT if it was removed, -ESTALE if it became a
 * protected directory since, so that the name is to be looked up again. */
int entry_check(const struct entry *e);
/* Raw backing stat; checks the sidecar of a long name. */
int entry_stat(const struct entry *e, struct stat *st);
void entry_changed(const struct entry *e);

/* Turns the raw stat of a node into what callers see. No lock of the tree is held. */
void tree_fix_stat(struct node *n, struct stat *st);

#define TMP_NAME_MAX 64
void tmp_name(struct volume *v, char out[static TMP_NAME_MAX]);
bool tmp_is_ours(const struct volume *v, const char *stored);
bool tmp_is_name(const char *stored);
/* Where this mount buried a file that is removed and still in use (see victim). */
bool tmp_is_grave(const struct volume *v, const char *stored);

/* Makes a new file with this content, synced if asked. */
int small_file_put(struct volume *v, int dirfd, const char *name, const void *data, size_t len, bool sync);
/* The same, synced. */
int small_file_write(struct volume *v, int dirfd, const char *name, const void *data, size_t len);
int dir_fd_sync(struct volume *v, int fd);

/* ---- sidecars (sidecar.c) ---- */

/* The sidecar of a long name stands and is durable; *made if it was not there. Nothing for a short name. */
int long_name_put(const struct entry *e, bool *made);
int long_name_check(const struct entry *e);
void long_name_drop(const struct entry *e);
/* Encoding of a long name, for listings: -errno, LFS_ERR_CORRUPT. */
int long_name_read(struct volume *v, int dirfd, const char *stored,
                   char encoded[static NAME_ENCODED_MAX + 1]);

/* Makes the backing link dirfd/stored for target in the directory with this id. */
int link_make(struct volume *v, int dirfd, const struct pd_keys *keys, const uint8_t id[static ID_BYTES],
              const char *target, const char *stored);
/* A link made anew gets owner and times of the one it stands for, as far as they can be had. */
void link_copy_attributes(int dirfd, const char *stored, const struct stat *st);
/* Removes dirfd/stored and, with its last link, the sidecar. */
int link_remove(int dirfd, const char *stored);
/* Name of the sidecar of the link dirfd/stored, "" if it has none. */
#define LINK_SIDECAR_MAX 64
void link_sidecar(int dirfd, const char *stored, const struct stat *st, char out[static LINK_SIDECAR_MAX]);
int link_read(struct volume *v, int dirfd, const char *stored, const struct pd_keys *keys,
              const uint8_t id[static ID_BYTES], char target[static SYMLINK_PLAIN_MAX + 1]);
/* st_size of the plaintext. */
int link_fix_size(int dirfd, const char *stored, struct stat *st);

/* ---- directory records (dirrec_io.c) ---- */

/* Reads the record in the directory fd without checking its MAC: what it claims. */
int record_claim(struct volume *v, int fd, struct dirrec *out);
/* Reads and checks it. LFS_ERR_NOKEY if the keys it asks for are not here. */
int record_read(struct volume *v, int fd, struct dirrec *out, struct pd **pd);
/* The same for a node's. The root of a volume whose keys are here can't ask for others: LFS_ERR_AUTH. */
int record_read_of(struct node *dir, int fd, struct dirrec *out, struct pd **pd);
/* Writes a new directory's record, so that it can be read wherever the directory's name can. *copied: it is
 * not on disk, but a copy is in an attribute, which is there before the name (newdirs.h has to know of it).
 * Else it is synced, and its name too where names do not reach the disk in order. */
int record_create(struct volume *v, int fd, const struct dirrec *d, const struct pd_keys *keys, bool *copied);
/* Overwrites it, synced if asked; then the copy goes. */
int record_update(struct volume *v, int fd, const struct dirrec *d, const struct pd_keys *keys, bool sync);
/* Puts another in its place at once, durable when it returns; the copy goes. */
int record_replace(struct volume *v, int fd, const struct dirrec *d, const struct pd_keys *keys);

/* ---- their copies (dirrec_copy.c) ---- */

/* What the filesystem below keeps in order on its way to the disk. */
enum order {
    ORDER_UNKNOWN,
    ORDER_NONE,
    ORDER_NAMES, /* no name is there without those that were made before it */
    ORDER_ALL,   /* the same for all metadata, attributes included */
};
enum order order_of(struct volume *v, int fd);

/* The 512 bytes of the copy. False if there is none, or it can't be read. */
bool copy_read(int fd, uint8_t bytes[static DIRREC_BYTES]);
bool copy_is_there(int fd);
/* False if it can't be had: then the record is to be synced. */
bool copy_make(struct volume *v, int fd, const uint8_t bytes[static DIRREC_BYTES]);
/* The record is on disk. */
void copy_drop(struct volume *v, int fd);
/* A directory that was found with a copy: a checkpoint will settle it. */
void copy_found(struct node *dir, int fd);
/* Where only the copy is good, the record is written anew from it, durable when it returns. No directory is
 * locked. LFS_ERR_CORRUPT, LFS_ERR_AUTH, LFS_ERR_NOKEY: neither of them is known to be good. */
int record_mend(struct node *dir);
/* node_dir_id for a look at the entries: LFS_ERR_NOKEY too while they are being locked. */
int node_dir_enter(struct node *dir, uint8_t id[static ID_BYTES]);
/* LFS_ERR_AUTH unless the record of dir says that it stands in parent under this name. */
int record_check_place(struct node *dir, struct node *parent, const char *stored);
void node_set_dir_id(struct node *dir, const uint8_t id[static ID_BYTES], struct pd *pd);

/* ---- removal (discard.c, victim.c) ---- */

/* Calls fn for every entry but the dots; stops at the first answer that is not 0 and returns it. */
int dir_scan(int fd, int (*fn)(const char *name, unsigned char type, void *arg), void *arg);
int dir_check_empty(int fd); /* -ENOTEMPTY if anything but what belongs to the directory itself is in it */
/* The same of a directory that is to go; LFS_ERR_NOKEY if it is locked: what it holds can't be judged. */
int dir_check_removable(struct node *dir);
/* Removes dirfd/name, a directory without entries, with all that belongs to it. */
int dir_discard(struct volume *v, int dirfd, const char *name);
/* Removes a half-made thing of whatever type. */
void tmp_discard(struct volume *v, int dirfd, const char *name);

/* What loses a name: its node, if any, is kept usable as long as it is referenced. */
struct victim {
    struct node *n; /* referenced, or NULL */
    struct node *dir;
    bool last, gone;
    bool stays; /* a file that has other names */
    bool bury;  /* no descriptor could be pinned: it moves to a temporary name in the root */
    char tmp[TMP_NAME_MAX];
    struct place grave;
    char sidecar[LINK_SIDECAR_MAX];
};
int victim_get(const struct entry *e, const struct stat *st, struct victim *w);
/* Before the name goes by being replaced. */
void victim_link_away(const struct entry *e, struct victim *w);
/* The name is gone (or, with r, is not). */
void victim_settle(const struct entry *e, struct victim *w, int r);
/* Outside all locks. */
void victim_put(struct victim *w);

#endif
