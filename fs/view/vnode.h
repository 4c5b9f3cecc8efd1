/* The inodes that the kernel knows. In a view a plaintext path and a kind are an inode: they never change, so
 * a node is read without a lock. Two names of one plain file are two nodes. */
#ifndef FS_VIEW_VNODE_H
#define FS_VIEW_VNODE_H

#include "fs/view/derive.h"

#include <sys/stat.h>

enum vkind {
    V_DIR,
    V_FILE,
    V_LINK,
    V_SPECIAL,
    V_DIRREC,  /* latchfs.dir; the parent is its directory, as for the others that have no plain file */
    V_NAMECAR, /* sidecar of the long name that the node bears */
    V_LINKCAR, /* sidecar of the link that the node names */
    V_KEYSTORE,
    V_JOURNAL,
};

struct vnode {
    struct vnode *parent; /* NULL: the root */
    struct vnode *next;   /* of its hash chain, as the next two guarded by the table */
    uint64_t lookups;     /* of the kernel */
    uint64_t children;    /* nodes whose parent it is */
    uint64_t pins;        /* open files of it, guarded by pin_lock of vnode.c, as the next one */
    uint64_t open_size;   /* of an open file: plain size at its last opening */
    uint8_t id[ID_BYTES];
    uint8_t kind; /* enum vkind */
    char name[];  /* plaintext */
};

enum vkind vkind_of_mode(mode_t mode);
enum view_id vkind_id(enum vkind kind);
uint64_t vnode_ino(const struct vnode *n);

struct vtable;
struct vtable *vtable_new(void); /* NULL when memory is out */
void vtable_free(struct vtable *t);

/* The root has no id until it is told; it is the same with every lease. */
struct vnode *vtable_root(struct vtable *t);

/* The node of that parent, kind and name, made if it is new, with one lookup more. NULL when memory is out.
 */
struct vnode *vnode_get(struct vtable *t, struct vnode *parent, enum vkind kind, const char *name,
                        const uint8_t id[static ID_BYTES]);
/* One lookup more, for who uses the node beside the kernel. */
void vnode_hold(struct vtable *t, struct vnode *n);
void vnode_forget(struct vtable *t, struct vnode *n, uint64_t lookups);

/* How many there are, the root apart; and the most there were. */
uint64_t vtable_count(struct vtable *t);
uint64_t vtable_peak(struct vtable *t);

/* The plain size of a file that the view tells: size, or while it is open that of the last opening, so that
 * what fstat says and what a read gives are one file. */
uint64_t vnode_size(struct vnode *n, uint64_t size);
void vnode_pin(struct vnode *n, uint64_t size);
void vnode_unpin(struct vnode *n);

/* Up to max nodes without children, other ones with each call, each with a lookup more that the caller gives
 * back. Returns how many. */
size_t vtable_some(struct vtable *t, struct vnode **out, size_t max);

/* path/name from the top of the plain directory, malloc'ed; name NULL: the path of n itself. NULL when memory
 * is out. */
char *vnode_path(const struct vnode *n, const char *name);

#endif
