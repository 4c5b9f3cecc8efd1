/* The 512-byte header of a file with content. Encode and decode do not need keys; the MAC and the wrapped
 * file keys are separate steps, in the order of trust: decode, unwrap, check the MAC, then believe. */
#ifndef LATCHFS_HEADER_H
#define LATCHFS_HEADER_H

#include "latchfs/format.h"
#include "latchfs/keywrap.h"
#include "latchfs/record.h"
#include "latchfs/secret.h"

#define HEADER_HOMES 8u
#define WRAPPED_KEY_BYTES 72u /* nonce 24 | sealed key 32 | tag 16 */

enum file_state { FILE_INLINE = 1, FILE_PAGED = 2 };
enum seal_state { SEAL_OPEN = 0, SEAL_SEALED = 1 };

struct key_place {
    uint16_t epoch; /* 0: the place is empty */
    uint8_t wrapped[WRAPPED_KEY_BYTES];
};

struct file_header {
    uint8_t suite;
    uint8_t state;  /* enum file_state */
    uint16_t flags; /* none defined: must be 0 */
    uint8_t file_id[ID_BYTES];
    uint8_t pd_id[ID_BYTES];   /* protected directory */
    uint32_t key_version;      /* of its directory key, 1.. */
    struct key_place place[2]; /* at least one filled; epochs differ; the newest is the higher epoch */
    uint64_t size;             /* committed plaintext size */
    uint64_t chunk_writes;     /* messages sealed under the newest file key, at least */
    uint64_t generation;       /* of the journal, at the last change */
    uint8_t seal_state;        /* enum seal_state */
    uint64_t seal_generation;
    uint8_t seal_root[32];
    uint8_t home[HEADER_HOMES][ID_BYTES]; /* ids of the directories it may have names in, the rest zeros;
                                             none at all: not bound */
    struct record inline_record;          /* for FILE_INLINE; length == size; zero for FILE_PAGED */
    uint8_t mac[32];                      /* set by header_set_mac, checked by header_check_mac */
};

/* What has no meaning in a state is written as zeros whatever the struct holds: the inline record of a paged
 * file, the root of an open seal, the blob of an empty place. */
void header_encode(const struct file_header *h, uint8_t out[static HEADER_BYTES]);

/* LFS_ERR_CORRUPT (magic, impossible field, trailing bytes not zero), LFS_ERR_UNSUPPORTED (version, suite,
 * flags). Checks: INLINE has size <= INLINE_MAX and an inline record of that length, under an epoch of a
 * place (for size 0 also no record at all); PAGED has size >= 1, or 0 when created for a first large write
 * and not committed yet, at most FILE_SIZE_MAX. */
int header_decode(const uint8_t in[static HEADER_BYTES], struct file_header *out);

/* Index (0 or 1) of the place with the newest epoch; the place that bears epoch, or -1. */
int header_newest(const struct file_header *h);
int header_place(const struct file_header *h, uint16_t epoch);

/* Subkeys of a file key, by crypto_kdf (libsodium, BLAKE2b) with context "latchfsF". */
enum file_subkey { FILE_SUB_CONTENT = 1, FILE_SUB_XATTR = 2, FILE_SUB_HEADER = 3, FILE_SUB_SEAL = 4 };
void file_subkey(const uint8_t file_key[static LFS_KEY_BYTES], enum file_subkey which,
                 uint8_t out[static LFS_KEY_BYTES]);

/* Wraps the file key into place i under the directory key. Associated data: magic, version, suite, file id,
 * pd id, key version, place index, epoch (so set those fields first). */
int header_wrap_key(struct file_header *h, int i, uint16_t epoch, const uint8_t dir_key[static LFS_KEY_BYTES],
                    const uint8_t file_key[static LFS_KEY_BYTES]);
/* The same with a given nonce (keywrap_seal_with). */
int header_wrap_key_with(struct file_header *h, int i, uint16_t epoch,
                         const uint8_t nonce[static KEYWRAP_NONCE_BYTES],
                         const uint8_t dir_key[static LFS_KEY_BYTES],
                         const uint8_t file_key[static LFS_KEY_BYTES]);
/* LFS_ERR_AUTH when it does not fit. */
int header_unwrap_key(const struct file_header *h, int i, const uint8_t dir_key[static LFS_KEY_BYTES],
                      uint8_t file_key[static LFS_KEY_BYTES]);

/* Keyed BLAKE2b over the encoded header without its MAC field, key = FILE_SUB_HEADER of the newest key. */
void header_set_mac(struct file_header *h, const uint8_t mac_key[static LFS_KEY_BYTES]);
int header_check_mac(const struct file_header *h, const uint8_t mac_key[static LFS_KEY_BYTES]);

#endif
