/* Opening and changing key stores with a slot's secret. Needs no daemon: latch-keyd and the offline tools
 * link it, latchfs does not. Key wraps and their associated data: docs/FORMAT.md, "Key store". */
#ifndef LATCHFS_KEYSLOTS_H
#define LATCHFS_KEYSLOTS_H

#include "latchfs/keyclient.h"
#include "latchfs/keyedit.h"
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
    uint32_t count;             /* of masters[]: those of the key store that are not destroyed */
    struct {
        uint32_t version;
        uint8_t key[LFS_KEY_BYTES];
    } masters[KEYSTORE_MASTERS_MAX];
};
void keystore_keys_free(struct keystore_keys *k);
void keystore_keys_freep(struct keystore_keys **k);

/* Parses, finds the slot that c opens (c->slot, or any of the type), checks the signature with the public key
 * from inside that slot, unwraps the signing key and every master key. A recipient's slot holds no such
 * public key: it is c->signing_public, or the file's own when that is NULL (whoever can write the file could
 * have made it: hold it against a pin). LFS_ERR_PASSPHRASE, _CORRUPT, _UNSUPPORTED, _AUTH (changed, or signed
 * by another), -ENOMEM. Takes as long as Argon2id of each passphrase slot tried. */
int keystore_open(const char *ini, size_t len, const struct credential *c, struct keystore **ks,
                  struct keystore_keys **keys, struct key_why *why);

/* A new key store with one protected directory, the root's. kdf_ms: the time that Argon2id is to take.
 * *recovery (if in->recovery): the printable key, NUL-terminated. */
int keystore_make(const struct keystore_init *in, unsigned kdf_ms, char **ini, size_t *len,
                  struct secret **recovery, struct key_why *why);

/* ---- directories whose keys latch-keyd holds ---- */

#define HELD_BLOBS_MAX KEYSET_VERSIONS_MAX
struct held_blob {
    uint8_t pd[ID_BYTES];
    uint32_t version;
    uint8_t wrapped[KEYSTORE_WRAPPED_BYTES]; /* the directory key, by what the key store's blob holds */
};
struct held_blobs {
    uint32_t count;
    struct held_blob blob[HELD_BLOBS_MAX];
};
/* Finds what latch-keyd keeps of a held directory; -ENOENT. */
typedef int held_lookup(void *arg, const uint8_t volume_id[static ID_BYTES],
                        const uint8_t pd[static ID_BYTES], uint32_t version,
                        uint8_t wrapped[static KEYSTORE_WRAPPED_BYTES]);
struct held_source { /* NULL find: there is none */
    held_lookup *find;
    void *arg;
};

/* One change of an opened store (keyedit.h): *ini is the new signed text, generation one higher. ks and keys
 * are changed with it, so that the next edit can follow; they are of no use after an error. *fresh gets the
 * blob that latch-keyd must keep durably before anybody sees the text (empty unless the directory is held).
 * Everything is unwrapped again before the text is signed; held keys that are not here are passed over.
 * LFS_ERR_DENIED with the reason in why, -ENOENT, -ENOSPC, LFS_ERR_NOKEY (a held key that is needed is not
 * here), LFS_ERR_AUTH. */
int keystore_edit(struct keystore *ks, struct keystore_keys *keys, const struct key_edit *e, unsigned kdf_ms,
                  const struct held_source *held, char **ini, size_t *len, struct key_edit_result *out,
                  struct held_blobs *fresh, struct key_why *why);

/* Opens every wrapped key of the store: 0 only if nothing is wrapped by a key that is not there. held NULL:
 * of held directories, only what the store itself has. With held, LFS_ERR_NOKEY when a blob is missing. */
int keystore_verify(const struct keystore *ks, const struct keystore_keys *keys,
                    const struct held_source *held, struct key_why *why);

/* Looks a master key up by version; key gets it. Returns 0 or an error. */
typedef int master_lookup(void *arg, uint32_t version, uint8_t key[static LFS_KEY_BYTES]);
int keystore_keys_lookup(void *keys, uint32_t version, uint8_t key[static LFS_KEY_BYTES]);

/* The keys of a protected directory (pd_id NULL: the root's) for a mount, *out in locked memory; versions
 * that are retired or destroyed are left out unless a header may still have them (>= least). held may be
 * NULL. -ENOENT if there is no such directory, LFS_ERR_NOKEY if it was shredded or its held key is not here,
 * LFS_ERR_AUTH if a wrapped key does not open. */
int keystore_unwrap_dir(const struct keystore *ks, const uint8_t *pd_id, master_lookup *lookup, void *arg,
                        const struct held_source *held, struct keyset **out);

/* The name of a protected directory, "" if it has none; the errors of keystore_unwrap_dir. */
int keystore_dir_label(const struct keystore *ks, const uint8_t *pd_id, const struct keyset *keys,
                       char label[static KEYSTORE_LABEL_MAX + 1]);

#endif
