/* struct node, and what the halves of the store owe each other: the tree (names, directories, descriptors)
 * and the files (contents, journal). Used by the sources of fs/store only. */
#ifndef LATCHFS_STORE_NODE_H
#define LATCHFS_STORE_NODE_H

#include "fs/store/volume.h"

struct file;
struct pd;

struct node {
    struct volume *vol;
    dev_t dev;
    ino_t ino;
    mode_t type; /* S_IFMT bits */
    _Atomic uint64_t refs;
    struct node *hash_next; /* guarded by its table shard */

    /* One known place of the inode. parent holds a reference. Guarded by vol->tree_lock. Both NULL for the
     * root, and for a node whose known name is gone (unlinked, or another hard link not looked up yet). */
    struct node *parent;
    char *stored;

    /* On a shared volume (share.h): birth tells the inode from another with its number, 0 if that is not
     * known; the rest are epochs, of when the node was seen at its place, and of the kernel's cache. */
    _Atomic uint64_t birth, seen, cached;
    _Atomic unsigned openers;

    /* Protected directories (pd.h): home is the one the name belongs to, NULL until a loaded directory was
     * seen to hold it, and the same ever after. pd is whose keys what is in the node needs: home, but for a
     * directory the one its record names, NULL until that is loaded. */
    _Atomic(struct pd *) home, pd;

    /* fd cache, guarded by its lock. */
    int fd; /* -1: none */
    bool fd_writable;
    bool fd_pinned; /* no name to open it by: never evicted */
    unsigned fd_users;
    struct node *lru_prev, *lru_next;

    atomic_bool bare;       /* made by this mount, and has had no attribute of ours since */
    atomic_bool meta_dirty; /* mode, owner, times, xattrs or the name changed since the last fsync */
    atomic_bool
        data_dirty; /* in-place content may not be on disk, by what was before this node or its file state */
    atomic_bool removed; /* the last link is gone */
    atomic_bool renamed; /* a name of it came or went: the kernel may set the times that it has already */

    /* Directories: the id (loaded at first use) and whether its entries are known durable:
     * changes counts creates, links, renames and removals in it; synced is the count at the last fsync. */
    atomic_bool dir_loaded;
    uint8_t dir_id[ID_BYTES];
    _Atomic uint64_t changes, synced;
    _Atomic uint8_t newdir; /* enum newdir_state (newdirs.h) */

    /* Regular files: contents (file.c), made at first use, NULL until then. Guarded by file_lock. */
    pthread_mutex_t file_lock;
    struct file *file;
    _Atomic unsigned moving;    /* into another directory, without a header (file_home.h) */
    bool moved;                 /* it is in vol->moved; guarded by vol->moved_lock */
    struct seal_waiter *waiter; /* its file waits for a seal; guarded by vol->dirty_lock */
    atomic_bool seal_broken;    /* it was said already */
    atomic_bool place_unasked;  /* it turned up elsewhere: a loaded file is asked whether it belongs there */
};

/* ---- the tree gives (node.c, fdcache.c, tree.c) ---- */

/* A descriptor of the node, borrowed until node_fd_put. Directories: O_RDONLY (O_PATH where reading is not
 * permitted). Regular files: O_RDWR when write, else O_RDONLY or better; NOFOLLOW; checked to be the same
 * (dev, ino). Opens by path when none is cached; an owner's file without the needed owner permission bits is
 * opened by granting them to the owner for the moment. -ESTALE when no name is known and none is cached. */
int node_fd_get(struct node *n, bool write, int *fd);
void node_fd_put(struct node *n);

/* The ciphertext path from the volume's root, no leading slash; "" for the root. -ENAMETOOLONG, -ESTALE. */
int node_path(struct node *n, char *path, size_t size);

/* The parent of the known place (referenced), or NULL. */
struct node *node_parent(struct node *n);

/* fsyncs every directory up the path whose entries are not known durable. */
int node_sync_path(struct node *n);

/* The directory's id, loading and checking its record at first use; n->pd is known then. Caller is inside
 * volume_enter. */
int node_dir_id(struct node *dir, uint8_t id[static ID_BYTES]);

/* Set up and torn down by volume_open and volume_close. */
int node_tables_init(struct volume *v); /* nodes, fds, root node */
void node_tables_free(struct volume *v);

/* Fills nodes, open_fds and pinned_fds. */
void node_tables_stats(struct volume *v, struct volume_stats *out);

/* Removes the latchfs.tmp.* of earlier lives from the root; once, while opening, with the lock on the volume
 * held. In other directories they go when the directory is first listed. */
int tree_clean_root(struct volume *v);

/* ---- the files give (file*.c) ---- */

/* Turns a backing stat of a regular file into the plaintext's: size, blocks, mtime with pending changes. */
void file_fix_stat(struct node *n, struct stat *st);

/* The plaintext mtime was set explicitly (already on the backing file). */
void file_mtime_set(struct node *n, struct timespec mtime);

/* Data durable and in place: before a rename over another file. */
int file_settle(struct node *n);

/* What xattrs of a regular file are bound to. writing: a value will be sealed under k[0], the newest; a file
 * without a header then gets one, otherwise such a file answers -ENODATA. k is locked memory of the caller's.
 * On success *held stays locked for reading until file_xattr_end, so that no epoch goes meanwhile. */
struct file_xattr_keys {
    uint8_t id[ID_BYTES];
    int count;
    struct {
        uint16_t epoch;
        uint8_t key[LFS_KEY_BYTES]; /* FILE_SUB_XATTR of that epoch's file key */
    } k[2];
};
int file_xattr_begin(struct node *n, bool writing, struct file_xattr_keys *k, struct file **held);
void file_xattr_end(struct file *held);

/* Seals every attribute of a file with two keys anew that is not under the newest. Durable with the next sync
 * of the file. LFS_ERR_CORRUPT, _AUTH: one does not open; the others may be done. */
int node_rekey_xattrs(struct node *n);

/* The last link is gone (n->removed is set): pending changes need not reach the disk. dir: where it was. */
void file_removed(struct node *n, struct node *dir);

/* The known name has changed (call after a rename, outside tree_lock): keeps the journal's hint right. */
void file_renamed(struct node *n);

/* The node is being freed: wipes and frees n->file. A file with pending changes holds a reference on its
 * node, so there are none. Takes a node without file state. */
void file_drop(struct node *n);

#endif
