/* Where the master keys of unlocked volumes lie: user keys in the kernel keyring, one closed ring per volume,
 * in a private session keyring; in locked memory where the kernel refuses. */
#ifndef KEYD_VAULT_H
#define KEYD_VAULT_H

#include "latchfs/keyslots.h"

/* Joins a new session keyring. Call once, after daemonizing, before any thread starts. Never fails: without
 * keyring, memory serves. */
void vault_init(void);

struct vault; /* the master keys of one volume */
int vault_store(const uint8_t volume_id[static ID_BYTES], const struct keystore_keys *keys,
                struct vault **out);
void vault_free(struct vault *v); /* the keys are gone at once, here and in the kernel */

/* A master_lookup over a struct vault. LFS_ERR_NOKEY when the key is not there (revoked, expired, unknown).
 */
int vault_lookup(void *vault, uint32_t version, uint8_t key[static LFS_KEY_BYTES]);

bool vault_in_kernel(const struct vault *v);

/* Why the kernel's keyring is not used: an error, or 0 while it is (or nobody tried). */
int vault_refusal(void);

#endif
