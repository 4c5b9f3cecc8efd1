/* A transaction: one journal entry that changes one file. Build it with the file's write lock held, commit,
 * then bring the file's memory up to date; on an error nothing has changed. Ciphertext passed in must stay
 * until commit. */
#ifndef LATCHFS_STORE_TXN_H
#define LATCHFS_STORE_TXN_H

#include "fs/store/file.h"

#define TXN_ITEM_BYTES (24u << 10)
#define TXN_PIECES 260

struct txn {
    struct file *f;
    struct wcur items;
    struct iovec data[TXN_PIECES];
    int data_n;
    uint64_t data_bytes;
    uint64_t seq;     /* after commit */
    uint64_t data_at; /* after commit: journal offset of the first data byte */
    bool fresh, hint;
    bool opens; /* the file was sealed */
    uint8_t buf[TXN_ITEM_BYTES];
};

void txn_begin(struct txn *t, struct file *f);

/* count chunks from first on. records: count times 32 bytes; cipher: the chunk i at i * PAGE_BYTES; lengths
 * from the records; crcs: of the ciphertext, NULL to have them made. With fresh the data is in place already
 * and stays out of the entry. */
void txn_chunks(struct txn *t, uint64_t first, uint32_t count, bool fresh, const uint8_t *records,
                const uint8_t *cipher, const uint32_t *crcs);
void txn_cut(struct txn *t, uint64_t length);
void txn_punch(struct txn *t, uint64_t first, uint64_t count);
void txn_inline(struct txn *t, const uint8_t *cipher, uint16_t length);

/* Stamps the generation, sets the MAC, puts the header in. Last item. A seal is open from then on. */
void txn_header(struct txn *t, struct file_header *h);
/* The same for what changes no record: the seal is as h says. */
void txn_header_as_is(struct txn *t, struct file_header *h);

/* With volume_options.bypass_journal: in place at once (bypass.c). */
int txn_bypass(struct txn *t);

/* Appends to the journal. *reserved is consumed (0 afterwards), also on error. */
int txn_commit(struct txn *t, uint64_t *reserved);

/* The same for a transaction that changes nothing but the header; h becomes the file's. */
int file_commit_header(struct txn *t, const struct file_header *h, uint64_t *reserved);

#endif
