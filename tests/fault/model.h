/* What the program under test was promised: for every file the contents it may have, for the tree the shapes
 * it may have. An operation that failed may have happened or not. Lies in memory that the processes of one
 * case share. */
#ifndef LATCHFS_FAULT_MODEL_H
#define LATCHFS_FAULT_MODEL_H

#include "latchfs/store.h"

#define OBJECTS_MAX 24
#define VERSIONS_MAX 5
#define DATA_MAX (768u * 1024)
#define TREES_MAX 5
#define ENTRIES_MAX 24
#define PATH_MAX_HERE 300
#define ATTRS_MAX 3
#define VALUES_MAX 4
#define VALUE_BYTES 400

struct version {
    uint64_t size;
    uint8_t data[DATA_MAX]; /* zeros behind the size */
};

struct attribute {
    char name[32];
    int count; /* of values it may have */
    struct {
        int len; /* -1: not there */
        uint8_t bytes[VALUE_BYTES];
    } value[VALUES_MAX];
};

struct object {
    char kind; /* 'f', 'd', 'l' */
    char target[1300];
    int versions;
    struct attribute attr[ATTRS_MAX];
    struct version version[VERSIONS_MAX];
};

struct entry_of_tree {
    char path[PATH_MAX_HERE];
    int object;
};

struct shape {
    int count;
    struct entry_of_tree e[ENTRIES_MAX];
};

struct model {
    int objects, shapes;
    struct shape shape[TREES_MAX];
    struct object object[OBJECTS_MAX];
    uint64_t operations; /* numbers the data */
    int failures;
    char report[16][400];
};
extern struct model *model;

void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The file under a path in the shape that is likeliest; NULL if there is none. */
struct object *model_find(const char *path);

/* Each takes what the operation answered: a failed one adds to what may be. */
void model_add(const char *path, char kind, const char *target, int r);
void model_drop(const char *path, int r);
void model_move(const char *from, const char *to, bool exchange, int r);
void model_link(const char *from, const char *to, int r);
void model_bytes(struct object *o, uint64_t off, const uint8_t *data, size_t len,
                 int r); /* data NULL: zeros */
void model_size(struct object *o, uint64_t size, int r);
void model_attr(struct object *o, const char *name, const uint8_t *value, int len,
                int r); /* len -1: removed */

/* True if another failure would find no room. */
bool model_is_crowded(void);

/* Reads the whole volume; what fits none of the versions or shapes is a failure. when: for the report. Then
 * what was found is what holds. */
void model_check(struct volume *v, const char *when);

#endif
