/* Protected directories: a table of those that had keys since the volume was opened, and which one a node
 * belongs to.
 *
 * A node has a home, the protected directory that its name belongs to, which never changes (renames and links
 * across answer -EXDEV); a directory has besides the one that its entries belong to, by its record.
 *
 * Keys are published by one pointer. What a call has read there stays until the call leaves the volume:
 * whoever takes keys away waits for the calls under way (gate.h) before he wipes. */
#ifndef LATCHFS_STORE_PD_H
#define LATCHFS_STORE_PD_H

#include "fs/store/node.h"

#include "latchfs/keystore.h"

/* Keys of one protected directory and what derives from them. locked_alloc'ed. */
struct pd_keys {
    struct keyset set;
    struct name_keys names;
};

struct pd {
    uint8_t id[ID_BYTES];
    _Atomic(struct pd_keys *) keys; /* NULL while locked */
    _Atomic int state;              /* enum lock_state */
    _Atomic uint64_t last_use;      /* see struct pd_status */
};

/* Entries are added under volume.pd_lock and never go. */
struct pd_table {
    struct pd *of[KEYSTORE_DIRS_MAX]; /* the first is the root's */
    _Atomic unsigned count;
};

int pd_table_init(struct volume *v, const struct keyset *root); /* root NULL: without keys */
void pd_table_free(struct volume *v);

/* Gives keys, in place of those that are there. pd_lock is held, and the caller is not inside volume_enter.
 * LFS_ERR_ROLLBACK: newer ones are there; LFS_ERR_MISUSE: the name key is another. */
int pd_set_keys(struct volume *v, const struct keyset *keys);

/* Wipes the keys of files, of one or (NULL) of all: no call that may use them is inside. */
void pd_forget_files(struct volume *v, struct pd *pd);
/* Takes and wipes all keys; nobody is inside. */
void pd_wipe_all(struct volume *v);

struct pd *pd_root(const struct volume *v);
struct pd *pd_find(const struct volume *v, const uint8_t id[static ID_BYTES]); /* NULL: never had keys */

/* The keys, NULL while locked. pd may be NULL. The caller is inside volume_enter. */
static inline const struct pd_keys *pd_keys(const struct pd *pd)
{
    return pd ? atomic_load(&pd->keys) : NULL;
}

/* LFS_ERR_NOKEY as volume_enter: locked, or locking and the call is no write of dirty pages. */
static inline int pd_check(const struct pd *pd, bool writing)
{
    int state = pd ? atomic_load(&pd->state) : VOLUME_LOCKED;
    return state == VOLUME_LOCKED || (state == VOLUME_LOCKING && !writing) ? LFS_ERR_NOKEY : 0;
}

/* It was used: opened, created in or listed. */
void pd_touch(struct pd *pd);

/* The keys of what is in n: of a directory's entries, a file's content, any node's attributes. NULL while
 * they are not here, and for a directory that was not loaded (node_dir_id). */
static inline const struct pd_keys *node_keys(const struct node *n)
{
    return pd_keys(atomic_load(&n->pd));
}

/* n was seen in dir: that is its home, if dir is loaded. LFS_ERR_AUTH if it has another. */
int node_set_home(struct node *n, const struct node *dir);

/* -EXDEV if n's home is not pd. */
int node_check_home(struct node *n, const struct pd *pd);

/* volume_enter, for a call about the entries of a directory or the content of anything else. A directory that
 * was not loaded passes: node_dir_id tells. */
int node_enter(struct node *n, bool writing);

/* The same for what belongs to the name: attributes. */
int node_enter_named(struct node *n, bool writing);

#endif
