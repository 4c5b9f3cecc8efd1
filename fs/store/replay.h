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

/* 1 if entries that stood before those of the journal are not in place: a header counts the messages of its
 * file, so the first entry tells how many there were before it. That is so only in a copy that was taken
 * while the file was written: its page 0 is older than the tail of its journal. 0: no; < 0: an error. */
int replay_is_behind(struct replay *p, const struct replay_file *rf, const struct file_header *placed);

/* Of such a file, with its overlay built: chunks that seem to be holes may have had content. They get records
 * that nothing fits, so that they are reported and not read as zeros. LFS_ERR_CORRUPT: too many of them. */
int replay_spoil(struct file *f, int fd);

/* Finds the backing files: by hints, then by walking the volume. */
int replay_find(struct replay *p);

#endif
