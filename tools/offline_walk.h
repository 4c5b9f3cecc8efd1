/* The plaintext tree of an offline volume, in the order of its names. */
#ifndef TOOLS_OFFLINE_WALK_H
#define TOOLS_OFFLINE_WALK_H

#include "offline.h"

#include <limits.h>

/* The names in a directory, sorted by their bytes, "." and ".." left out. */
struct name_list {
    char **name;
    size_t count;
    uint64_t hidden; /* entries whose names do not decrypt */
};
void name_list_clear(struct name_list *l);
#define AUTO_NAMES CLEANUP(name_list_clear)
int name_list_read(struct offline *o, struct node *dir, struct name_list *out);

/* Says on standard error that l->hidden entries of the directory plain are left out; LFS_EXIT_OK for none. */
int name_list_complain(const struct name_list *l, const char *plain);

struct walk_entry {
    struct node *n;
    const char *plain; /* path below the volume's root, "" for it */
    const char *name;  /* its last component */
    unsigned depth;    /* 0: what the walk began with */
    struct stat st;
};

enum { WALK_SKIP = -1 };
struct offline_walk {
    /* Each node, a directory before what is in it. An exit code but LFS_EXIT_OK: a directory is not entered;
     * the walk goes on beside it. So with WALK_SKIP, which is no error. */
    int (*enter)(void *arg, const struct walk_entry *e);
    int (*leave)(void *arg, const struct walk_entry *e); /* a directory that was entered; or NULL */
    void *arg;
    bool stop; /* set by a callback: nothing more is visited */
    int noted; /* offline_walk_note's */
};

/* For enter: code becomes part of the walk's result, and the directory is entered all the same. */
int offline_walk_note(struct offline_walk *w, int code);

/* From the node at plain on, everything below it. What can't be read is said on standard error and passed by.
 * Returns the exit code that matters most. */
int offline_walk(struct offline *o, const char *plain, struct offline_walk *w);

/* plain without slashes and "." that say nothing; it is shorter than PATH_MAX. */
void offline_tidy(const char *plain, char out[static PATH_MAX]);

#endif
