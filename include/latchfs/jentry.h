/* Bytes of the journal: superblock and entries (docs/FORMAT.md, "Journal"). No I/O here.
 *
 * An entry: head 96 | items | MAC 32 | zeros to 8 | data | zeros to 64. The MAC (keyed BLAKE2b) covers the
 * incarnation, the predecessor's MAC, head and items. Data (ciphertext, authenticated by its own AEAD tag) is
 * covered through the CRC-32C of each piece, which stands in an item: enough to tell torn from whole. */
#ifndef LATCHFS_JENTRY_H
#define LATCHFS_JENTRY_H

#include "latchfs/buf.h"
#include "latchfs/format.h"
#include "latchfs/header.h"

#define JOURNAL_SUPER_BYTES 512u
#define JOURNAL_SLOT_BYTES PAGE_BYTES    /* two superblock slots, pages 0 and 1 */
#define JOURNAL_RING_AT (2 * PAGE_BYTES) /* the ring follows them */
#define JOURNAL_RING_MIN (UINT64_C(8) << 20)
#define JOURNAL_RING_MAX (UINT64_C(1) << 32)
#define JENTRY_HEAD_BYTES 96u
#define JENTRY_MAC_BYTES 32u
#define JENTRY_ALIGN 64u
#define JENTRY_ITEMS_MAX (256u << 10)
#define JENTRY_DATA_MAX (2u << 20)
#define JENTRY_PATH_MAX 2048u

/* Subkeys of the journal key, crypto_kdf context "latchfsJ". Keep in locked memory. */
struct journal_keys {
    uint8_t super[LFS_KEY_BYTES]; /* 1 */
    uint8_t entry[LFS_KEY_BYTES]; /* 2 */
};
void journal_keys_derive(const uint8_t journal_key[static LFS_KEY_BYTES], struct journal_keys *out);

struct journal_super {
    uint8_t volume_id[ID_BYTES];
    uint64_t counter;        /* of superblock writes: the valid slot with the higher one counts */
    uint64_t generation;     /* drawn at every mount and reset, ever growing */
    uint8_t incarnation[16]; /* random, with every generation */
    uint64_t ring_bytes;     /* 0: clean, no ring, the file is two pages long */
    uint64_t tail_pos;       /* virtual position (physical = mod ring_bytes) of the first live entry */
    uint64_t tail_seq;       /* its sequence number */
    uint8_t tail_mac[JENTRY_MAC_BYTES]; /* MAC of the entry before it */
    uint64_t self_ino; /* inode number of the journal file itself: another one means a copied volume */
};
void journal_super_encode(const struct journal_super *s, const struct journal_keys *k,
                          uint8_t out[static JOURNAL_SUPER_BYTES]);
/* LFS_ERR_CORRUPT, LFS_ERR_UNSUPPORTED, LFS_ERR_AUTH. k NULL: structure only (inspection). */
int journal_super_decode(const uint8_t in[static JOURNAL_SUPER_BYTES], const struct journal_keys *k,
                         struct journal_super *out);

enum jitem_type {
    JITEM_HEADER = 1, /* image[512] */
    JITEM_CHUNKS =
        2, /* first u64, count u32, fresh u8, then count times: record 32, crc u32 (of its ciphertext) */
    JITEM_CUT = 3,     /* length u64: the backing file is cut to this length; records beyond are holes */
    JITEM_PUNCH = 4,   /* first u64, count u64: these chunks are holes */
    JITEM_INLINE = 5,  /* length u16, crc u32: content behind the header, in data */
    JITEM_MARK = 6,    /* file id 16, seq u64: fresh data of that file's entries up to seq is on disk */
    JITEM_PATH = 7,    /* length u16, bytes: ciphertext path of the file, a hint */
    JITEM_REMOVED = 8, /* the file's last link was removed, a hint (the removal may not be on disk) */
};

/* Head of an entry. total counts everything, padding too. */
struct jentry_head {
    uint32_t total;
    uint64_t seq;
    uint8_t file_id[ID_BYTES]; /* zero: of no file (marks, padding at the end of the ring) */
    uint64_t ino;              /* backing inode number, a hint */
    uint32_t item_bytes;
    uint32_t data_bytes;
};
void jentry_head_encode(const struct jentry_head *h, uint8_t out[static JENTRY_HEAD_BYTES]);
int jentry_head_decode(const uint8_t in[static JENTRY_HEAD_BYTES],
                       struct jentry_head *out); /* LFS_ERR_CORRUPT */

/* Bytes before the data, and the whole entry, for given sizes. */
uint32_t jentry_data_offset(uint32_t item_bytes);
uint32_t jentry_total(uint32_t item_bytes, uint32_t data_bytes);

void jentry_mac(const struct journal_keys *k, const uint8_t incarnation[static 16],
                const uint8_t prev[static JENTRY_MAC_BYTES], const uint8_t head[static JENTRY_HEAD_BYTES],
                const uint8_t *items, size_t item_bytes, uint8_t mac[static JENTRY_MAC_BYTES]);

/* Writing items. */
void jitem_put_header(struct wcur *c, const uint8_t image[static HEADER_BYTES]);
/* Opens a chunk run; follow it with count calls of jitem_put_chunk. */
void jitem_put_chunks(struct wcur *c, uint64_t first, uint32_t count, bool fresh);
void jitem_put_chunk(struct wcur *c, const uint8_t record[static RECORD_BYTES], uint32_t crc);
void jitem_put_cut(struct wcur *c, uint64_t length);
void jitem_put_punch(struct wcur *c, uint64_t first, uint64_t count);
void jitem_put_inline(struct wcur *c, uint16_t length, uint32_t crc);
void jitem_put_mark(struct wcur *c, const uint8_t file_id[static ID_BYTES], uint64_t seq);
void jitem_put_path(struct wcur *c, const char *path, size_t len);

void jitem_put_removed(struct wcur *c);

/* Reading items, one after the other. Views point into the input. */
struct jitem {
    uint8_t type;
    uint64_t first, count;  /* CHUNKS, PUNCH */
    bool fresh;             /* CHUNKS */
    const uint8_t *chunks;  /* CHUNKS: count times 36 bytes */
    const uint8_t *image;   /* HEADER */
    uint64_t length;        /* CUT, INLINE, PATH */
    uint32_t crc;           /* INLINE */
    const uint8_t *file_id; /* MARK */
    uint64_t seq;           /* MARK */
    const uint8_t *path;    /* PATH */
};
#define JCHUNK_BYTES (RECORD_BYTES + 4u)
/* 1 an item, 0 the end, LFS_ERR_CORRUPT. Bounds: chunk indices below FILE_SIZE_MAX / PAGE_BYTES. */
int jitem_next(struct rcur *c, struct jitem *out);

#endif
