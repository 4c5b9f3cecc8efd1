/* Codec of latchfs.ini, the key store of a volume (docs/FORMAT.md, "Key store"). No secret is needed to parse
 * it: it serves keyless inspection and, below latch-keyd's slots, everything that opens or changes a store.
 * The text is canonical: a parsed store encodes to exactly the bytes it came from, anything else is refused.
 */
#ifndef LATCHFS_KEYSTORE_H
#define LATCHFS_KEYSTORE_H

#include "latchfs/format.h"
#include "latchfs/keyset.h"

#include <stdbool.h>

#define KEYSTORE_MAX_BYTES (256u * 1024)
#define KEYSTORE_SLOTS_MAX 16u
#define KEYSTORE_SLOT_ID_MAX 9999u
#define KEYSTORE_MASTERS_MAX 64u
#define KEYSTORE_DIRS_MAX 256u
#define KEYSTORE_LABEL_MAX 64u
#define KEYSTORE_VERSION_MAX 999999u
#define KEYSTORE_GENERATION_MAX UINT64_C(999999999999999999)
#define KEYSTORE_SIGNATURE_BYTES 64u

#define KEYSTORE_SALT_BYTES 16u
#define KEYSTORE_PUBLIC_BYTES 32u       /* X25519 and Ed25519 public keys */
#define KEYSTORE_WRAPPED_BYTES 72u      /* keywrap of 32 bytes */
#define KEYSTORE_SLOT_SEALED_BYTES 104u /* keywrap of X25519 private key 32 | Ed25519 public key 32 */
#define KEYSTORE_BOX_BYTES 80u          /* sealed box of 32 bytes (crypto_box_SEALBYTES 48) */

/* Argon2id of passphrase slots: what a file may ask for. Floor: RFC 9106's second recommended option (3
 * passes, 64 MiB). The ceilings keep a hostile file from eating the machine. */
#define KEYSTORE_KDF_OPS_MIN 3u
#define KEYSTORE_KDF_OPS_MAX 64u
#define KEYSTORE_KDF_KIB_MIN 65536u
#define KEYSTORE_KDF_KIB_MAX 1048576u
#define KEYSTORE_KDF_WORK_MAX (UINT64_C(8) * 1048576) /* passes * KiB */

enum keystore_slot_type {
    SLOT_PASSPHRASE = 1,
    SLOT_KEYFILE = 2,
    SLOT_RECOVERY = 3,
    SLOT_RECIPIENT = 4, /* only the public key is here; no sealed, no salt */
    SLOT_COMMAND = 5,   /* the secret is what a program makes of blob */
};
#define KEYSTORE_COMMAND_MAX 32u /* name of a command: a-z 0-9 -, begins with a letter */
#define KEYSTORE_BLOB_MAX 12288u /* what the command's wrap call answered */

struct keystore_slot {
    unsigned id;                        /* 1..KEYSTORE_SLOT_ID_MAX, never reused while the store lives */
    uint8_t type;                       /* enum keystore_slot_type */
    bool fast;                          /* made with the floor of Argon2id, for tests */
    char label[KEYSTORE_LABEL_MAX + 1]; /* "" if none */
    uint64_t created;                   /* seconds since 1970 */
    uint32_t kdf_ops, kdf_kib;          /* SLOT_PASSPHRASE only, else 0 */
    uint8_t salt[KEYSTORE_SALT_BYTES];  /* zero in SLOT_RECIPIENT, else not */
    uint8_t public_key[KEYSTORE_PUBLIC_BYTES];
    uint8_t sealed[KEYSTORE_SLOT_SEALED_BYTES]; /* by the slot secret; zero in SLOT_RECIPIENT, else not */
    uint8_t store_key[KEYSTORE_BOX_BYTES];      /* key store key, to public_key */
    char command[KEYSTORE_COMMAND_MAX + 1];     /* SLOT_COMMAND only, else "" */
    uint8_t *blob;                              /* SLOT_COMMAND only, else NULL; owned by the store */
    uint32_t blob_len;
};

/* Destroyed: the version stays on record, its key is gone (wrapped is zero and not in the file; so is
 * keystore_dirkey.master). */
enum key_state { KEY_PENDING = 1, KEY_ACTIVE = 2, KEY_DECRYPT_ONLY = 3, KEY_RETIRED = 4, KEY_DESTROYED = 5 };

struct keystore_master {
    uint32_t version;
    uint8_t state; /* enum key_state; exactly one is active */
    uint64_t created;
    uint8_t wrapped[KEYSTORE_WRAPPED_BYTES]; /* by the key store key */
};

struct keystore_dirkey {
    uint32_t version;
    uint8_t state;   /* enum key_state */
    uint32_t master; /* version that wraps it; 0 when destroyed */
    uint64_t created;
    uint8_t wrapped[KEYSTORE_WRAPPED_BYTES];
};

#define KEYSTORE_NAME_WRAPPED_BYTES 105u /* keywrap of length u8 | name, zeros behind it, 64 */
#define KEYSTORE_BACKUPS_MAX 32u
#define KEYSTORE_NEEDS_MAX 1024u /* of all backups together */

struct keystore_dir { /* a protected directory */
    uint8_t id[ID_BYTES];
    uint64_t created;
    bool shredded; /* every key of it is destroyed; name, name key, least and the other versions are zero */
    bool held;     /* its wrapped keys open blobs that only latch-keyd's own store has */
    bool named;
    uint8_t label_wrapped[KEYSTORE_NAME_WRAPPED_BYTES]; /* its name, under the name key; if named */
    uint32_t least;                                     /* least version that a header may have */
    uint32_t data_version; /* made for the last re-encryption: it is under way while this is the active
                              version and least is lower; 0: there was none */
    uint32_t name_version; /* directory key version that wraps the name key */
    uint8_t name_wrapped[KEYSTORE_WRAPPED_BYTES];
    uint32_t count; /* of keys[], ascending by version; exactly one is active, none if shredded */
    struct keystore_dirkey keys[KEYSET_VERSIONS_MAX];
};

/* A backup of ciphertext that somebody still wants to restore from. */
struct keystore_need { /* header versions of one protected directory that it may have */
    uint8_t pd[ID_BYTES];
    uint32_t least, most;
};
struct keystore_backup {
    uint32_t id; /* 1.. */
    uint64_t created;
    uint32_t master_least, master_most; /* master versions that its key store has wrapped keys under */
    char label[KEYSTORE_LABEL_MAX + 1];
    uint32_t need_count;
    struct keystore_need *needs; /* owned */
};

struct keystore {
    uint8_t volume_id[ID_BYTES];
    uint8_t root_id[ID_BYTES];                /* protected directory of the root: one of dirs[] */
    uint8_t suite;                            /* enum suite */
    char environment[KEYSTORE_LABEL_MAX + 1]; /* "" if none */
    unsigned format;                          /* FORMAT_VERSION */
    uint64_t created;
    uint64_t generation;  /* 1.., one more at every change */
    uint32_t next_slot;   /* id of the next slot */
    uint32_t next_backup; /* id of the next backup; 0: there was none yet, it will be 1 */
    uint8_t signing_public[KEYSTORE_PUBLIC_BYTES];
    uint8_t signing_wrapped[KEYSTORE_WRAPPED_BYTES]; /* Ed25519 seed, by the key store key */
    uint32_t journal_master;
    uint8_t journal_wrapped[KEYSTORE_WRAPPED_BYTES]; /* by master key version journal_master */
    /* Arrays ascend (dirs: as in the file). There is at least one master and one dir. Without slots nobody
     * can open the store any more. */
    uint32_t slot_count, master_count, dir_count, backup_count;
    struct keystore_slot slots[KEYSTORE_SLOTS_MAX];
    struct keystore_master masters[KEYSTORE_MASTERS_MAX];
    struct keystore_dir *dirs;
    struct keystore_backup backups[KEYSTORE_BACKUPS_MAX];
    uint8_t signature[KEYSTORE_SIGNATURE_BYTES];
};

struct keystore *keystore_new(void); /* zeroed, NULL when memory is out */
void keystore_free(struct keystore *ks);
void keystore_freep(struct keystore **ks);

/* Adds a zeroed protected directory; NULL when memory is out or there are KEYSTORE_DIRS_MAX. The pointer
 * holds until the next addition. */
struct keystore_dir *keystore_add_dir(struct keystore *ks);

/* Adds a zeroed need; NULL when memory is out or all backups together have KEYSTORE_NEEDS_MAX. The pointer
 * holds until the next addition. */
struct keystore_need *keystore_add_need(struct keystore *ks, struct keystore_backup *b);

/* Takes an element out, with what it owns. */
void keystore_drop_slot(struct keystore *ks, unsigned id);
void keystore_drop_backup(struct keystore *ks, uint32_t id);

/* Reads and checks the whole text; its signature is not verified. LFS_ERR_CORRUPT, LFS_ERR_UNSUPPORTED
 * (another format version or suite), -ENOMEM. *line (may be NULL): the first bad line, 0 if no single one. */
int keystore_parse(const char *ini, size_t len, struct keystore **out, unsigned *line);

/* True if the text is signed by signing_public (keystore_parse took the text). With the store's own
 * signing_public this only tells damage: who may sign is known from inside a slot. */
bool keystore_signed_by(const char *ini, size_t len,
                        const uint8_t signing_public[static KEYSTORE_PUBLIC_BYTES]);

/* The text to sign (malloc'ed, NUL-terminated): everything before the line [signature]. LFS_ERR_MISUSE for a
 * store that keystore_parse would refuse, -E2BIG, -ENOMEM. */
int keystore_encode(const struct keystore *ks, char **text, size_t *len);

/* Encodes, signs with the Ed25519 secret key (64 bytes of libsodium), and answers the whole file. */
int keystore_encode_signed(const struct keystore *ks, const uint8_t secret_key[static 64], char **ini,
                           size_t *len);

/* By id or version, or NULL. id NULL: of the root. */
const struct keystore_slot *keystore_slot(const struct keystore *ks, unsigned id);
const struct keystore_master *keystore_master(const struct keystore *ks, uint32_t version);
const struct keystore_master *keystore_active_master(const struct keystore *ks);
const struct keystore_backup *keystore_backup(const struct keystore *ks, uint32_t id);
const struct keystore_dir *keystore_dir(const struct keystore *ks, const uint8_t *id);
const struct keystore_dirkey *keystore_dirkey(const struct keystore_dir *d, uint32_t version);
const struct keystore_dirkey *keystore_active_dirkey(const struct keystore_dir *d);

/* "passphrase", ...; "active", ...; NULL if unknown. */
const char *keystore_slot_type_name(unsigned type);
const char *key_state_name(unsigned state);

/* 1..KEYSTORE_LABEL_MAX of A-Z a-z 0-9 space . _ @ + - with no space at either end. */
bool keystore_label_ok(const char *label);

/* 1..KEYSTORE_COMMAND_MAX of a-z 0-9 -, the first a letter. */
bool keystore_command_ok(const char *name);

/* Lower-case hex of an id, NUL-terminated, and back (exact form only). */
void id_to_hex(const uint8_t id[static ID_BYTES], char hex[static 2 * ID_BYTES + 1]);
bool id_from_hex(const char *hex, uint8_t id[static ID_BYTES]);

#endif
