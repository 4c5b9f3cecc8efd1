/* Everything in a view that is random in an ordinary volume: ids, file keys, nonces. All of it follows from
 * the volume's keys, the plaintext path and the plaintext itself (docs/FORMAT.md, "Reverse view"). */
#ifndef FS_VIEW_DERIVE_H
#define FS_VIEW_DERIVE_H

#include "latchfs/jentry.h"
#include "latchfs/keyset.h"
#include "latchfs/keywrap.h"
#include "latchfs/name.h"

/* Subkeys of the name key, crypto_kdf context "latchfsV". The name key stays when directory keys rotate. */
enum view_subkey { VIEW_SUB_IDS = 1, VIEW_SUB_FILES = 2, VIEW_SUB_NONCES = 3 };

struct view_keys { /* in locked memory */
    struct name_keys names;
    struct journal_keys journal;
    uint8_t ids[LFS_KEY_BYTES], files[LFS_KEY_BYTES], nonces[LFS_KEY_BYTES];
    uint8_t dir_key[LFS_KEY_BYTES]; /* active version of the root's directory key */
    uint32_t dir_version;
    uint8_t suite;
    uint8_t volume_id[ID_BYTES], pd_id[ID_BYTES];
};

/* LFS_ERR_MISUSE if the set lacks its active key. */
int view_keys_derive(const struct keyset *set, struct view_keys *out);

/* What an id is for: the same place has another one as a file than as a directory. The numbers are part of
 * the format. */
enum view_id {
    VIEW_ID_ROOT = 0,
    VIEW_ID_FILE = 1,
    VIEW_ID_DIR = 2,
    VIEW_ID_LINK = 3,
    VIEW_ID_SPECIAL = 4, /* inode number only, as the next ones */
    VIEW_ID_DIRREC = 5,  /* of latchfs.dir */
    VIEW_ID_NAMECAR = 6, /* sidecar of a long name */
    VIEW_ID_LINKCAR = 7, /* sidecar of a long link: also its name */
    VIEW_ID_KEYSTORE = 8,
    VIEW_ID_JOURNAL = 9, /* also the incarnation in it */
};

/* parent: id of the directory (VIEW_ID_ROOT: of the volume); name: plaintext name, "" if it has none. */
void view_id(const struct view_keys *k, enum view_id kind, const uint8_t parent[static ID_BYTES],
             const char *name, uint8_t id[static ID_BYTES]);

void view_file_key(const struct view_keys *k, const uint8_t file_id[static ID_BYTES],
                   uint8_t key[static LFS_KEY_BYTES]);

/* The nonce of an AEAD message. kind: enum content_kind; number: index of the chunk, or length of name; name:
 * of the attribute, else NULL. */
void view_nonce(const struct view_keys *k, uint8_t kind, const uint8_t id[static ID_BYTES], uint64_t number,
                const char *name, const void *plain, size_t len, uint8_t nonce[static NONCE_BYTES]);

/* The nonce under which a file key is wrapped by the directory key of k->dir_version. */
void view_wrap_nonce(const struct view_keys *k, const uint8_t file_id[static ID_BYTES],
                     const uint8_t file_key[static LFS_KEY_BYTES], uint8_t nonce[static KEYWRAP_NONCE_BYTES]);

#endif
