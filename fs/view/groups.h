/* The groups of ciphertext made last: a reader that comes for the data pages behind a tag page gets those
 * that its tag page was made with. Bounded; the least recently used goes. */
#ifndef FS_VIEW_GROUPS_H
#define FS_VIEW_GROUPS_H

#include "fs/view/content.h"

#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

/* What a plain file looked like. While it looks the same its content is taken for the same. */
struct stamp {
    uint64_t dev, ino, size;
    struct timespec mtime, ctime;
};
struct stamp stamp_of(const struct stat *st);
bool stamp_same(const struct stamp *a, const struct stamp *b);

struct group_key {
    struct stamp stamp;
    uint64_t size;  /* that the header has */
    uint64_t owner; /* 0: anybody who sees this stamp; else one open file alone */
    uint64_t group;
    uint32_t dir_version; /* of the directory key that the header is wrapped by */
    uint8_t id[ID_BYTES];
};

struct groups;
struct group {
    struct group_key key;
    uint8_t *image; /* GROUP_BYTES */
};

struct groups *groups_new(void); /* NULL when memory is out */
void groups_free(struct groups *g);

/* The group of that key, held until groups_put. NULL: it is not there; with make (else NULL) a place for it
 * then comes in *make, which others who want the same wait for: fill its image, then groups_made. */
struct group *groups_get(struct groups *g, const struct group_key *key, struct group **make);

/* ok: the image is good for owner (as in the key), and it stays held. Else the place is given up. */
void groups_made(struct groups *g, struct group *made, uint64_t owner, bool ok);
void groups_put(struct groups *g, struct group *held);

#endif
