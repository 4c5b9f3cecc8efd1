/* Opening and changing key stores with a slot's secret. Needs no daemon: latch-keyd and the offline tools
 * link it, latchfs does not. Key wraps and their associated data: docs/FORMAT.md, "Key store". */
#ifndef LATCHFS_KEYSLOTS_H
#define LATCHFS_KEYSLOTS_H

#include "latchfs/keyclient.h"
#include "latchfs/keystore.h"

#define KEYFILE_MIN \
    32u /* to make a slot: shorter ones are too easily guessed, and key files are not stretched */
#define KEYFILE_MAX 8192u
#define KEY_WHY_MAX 200u

/* The reason of a refusal in one line, without secrets. Empty when the error says it all. */
struct key_why {
    char text[KEY_WHY_MAX];
};

/* What a slot's secret opens. In locked memory; keystore_keys_free wipes. */
struct keystore_keys {
    unsigned slot_id; /* the slot that opened */
    uint8_t store_key[LFS_KEY_BYTES];
    uint8_t signing_secret[64]; /* Ed25519, seed | public key */
    uint32_t count;             /* of masters[], as in the key store */
    struct {
        uint32_t version;
        uint8_t key[LFS_KEY_BYTES];
    } masters[KEYSTORE_MASTERS_MAX];
};
void keystore_keys_free(struct keystore_keys *k);
void keystore_keys_freep(struct keystore_keys **k);

/* Parses, finds the slot that c opens, checks the signature with the public key from inside that slot,
 * unwraps the signing key and every master key. LFS_ERR_PASSPHRASE, _CORRUPT, _UNSUPPORTED, _AUTH (changed,
 * or signed by another), -ENOMEM. Takes as long as Argon2id of each passphrase slot tried. */
int keystore_open(const char *ini, size_t len, const struct credential *c, struct keystore **ks,
                  struct keystore_keys **keys, struct key_why *why);

/* A new key store with one protected directory, the root's. kdf_ms: the time that Argon2id is to take.
 * *recovery (if in->recovery): the printable key, NUL-terminated. */
int keystore_make(const struct keystore_init *in, unsigned kdf_ms, char **ini, size_t *len,
                  struct secret **recovery, struct key_why *why);

/* Changes of an opened store: ks is changed, generation one higher, *ini the signed text. ks is of no use
 * after an error. Add: *recovery is the printable key when a->fresh is CRED_RECOVERY without a secret.
 * Remove: refuses the last slot (LFS_ERR_DENIED), -ENOENT for an unknown one; replaces the key store key. */
int keystore_slot_add(struct keystore *ks, const struct keystore_keys *keys, const struct slot_add *a,
                      unsigned kdf_ms, char **ini, size_t *len, unsigned *slot_id, struct secret **recovery,
                      struct key_why *why);
int keystore_slot_remove(struct keystore *ks, const struct keystore_keys *keys, unsigned slot_id, char **ini,
                         size_t *len, struct key_why *why);

/* Looks a master key up by version; key gets it. Returns 0 or an error. */
typedef int master_lookup(void *arg, uint32_t version, uint8_t key[static LFS_KEY_BYTES]);
int keystore_keys_lookup(void *keys, uint32_t version, uint8_t key[static LFS_KEY_BYTES]);

/* The keys of a protected directory (pd_id NULL: the root's) for a mount, *out in locked memory. -ENOENT if
 * there is no such directory, LFS_ERR_AUTH if a wrapped key does not open. */
int keystore_unwrap_dir(const struct keystore *ks, const uint8_t *pd_id, master_lookup *lookup, void *arg,
                        struct keyset **out);

#endif
