/* Between replay.c and replay_find.c. */
#ifndef LATCHFS_STORE_REPLAY_H
#define LATCHFS_STORE_REPLAY_H

#include "fs/store/file.h"

struct replay_entry {
    uint64_t seq, items_at, data_at;
    uint32_t item_bytes;
};

/* A file that entries or marks speak of. */
struct replay_file {
    uint8_t id[ID_BYTES];
    uint64_t ino; /* hint */
    char *path;   /* hint, ciphertext, malloc'ed; NULL: none */
    uint64_t marked;
    struct replay_entry *entries;
    size_t entry_count, entry_cap;
    uint64_t last; /* last entry taken */
    bool unmarked; /* some fresh data taken stands on its CRC alone */
    bool found;
    bool removed; /* the journal says that its last link was removed: not worth a walk */
    size_t next;  /* hash chain, index + 1 */
};

/* A backing file with its rebuilt overlay. A copy of a volume may have several for one id. */
struct replay_target {
    struct file *f;
    size_t file; /* index of its replay_file */
};

struct replay {
    struct volume *v;
    struct replay_report *report;
    struct replay_file *files;
    size_t file_count, file_cap;
    size_t *hash; /* 65536 chains */
    struct replay_target *targets;
    size_t target_count, target_cap;
    struct journal_point end;
};

/* Builds the overlay of rf over the backing file of n, if that bears the id and no newer generation. */
int replay_take(struct replay *p, size_t file, struct node *n);

/* Finds the backing files: by hints, then by walking the volume. */
int replay_find(struct replay *p);

#endif
