/* Names of the view: from a stored name to what stands behind it, and from a plain directory to its listing.
 */
#ifndef FS_VIEW_ENTRIES_H
#define FS_VIEW_ENTRIES_H

#include "fs/view/view.h"

struct sight { /* of something in the plain directory, or what stands for it */
    struct stat st;
    size_t target_len; /* of a link */
};

struct entry {
    enum vkind kind;
    char name[NAME_PLAIN_MAX + 1]; /* plaintext of the file; "" if there is none */
    uint8_t id[ID_BYTES];
    struct sight seen;
};

/* What stored names in dir. -ENOENT, -errno. */
int entry_find(struct view *v, const struct view_keys *k, const struct vnode *dir, const char *stored,
               struct entry *out);

/* Attributes as the view shows them, of what was seen. */
void entry_show(struct vnode *n, const struct sight *seen, struct stat *st);

/* The same for a node, by a new look. Needs no keys. */
int entry_stat(struct view *v, struct vnode *n, struct stat *st);

/* Length of a link's target; some file systems say 0 in st. */
size_t link_target_length(int dirfd, const char *name, const struct stat *st);

/* Whether the target of a link with this length stands in a sidecar; the length of what is stored. */
bool link_is_long(size_t target_len);
size_t link_stored_length(size_t target_len);
/* latchfs.link.X of a link. */
#define LINKCAR_NAME_MAX 64u
void linkcar_name(const struct view_keys *k, const uint8_t dir_id[static ID_BYTES], const char *name,
                  char out[static LINKCAR_NAME_MAX]);

#endif
