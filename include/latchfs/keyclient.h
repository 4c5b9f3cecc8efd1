/* Client of latch-keyd: used by latch (administration) and by latchfs (leases). Every call has a deadline;
 * on a broken connection calls return -ENOTCONN and the caller connects again. Not thread safe: one
 * keyclient per thread. Bytes on the wire: docs/PROTOCOL-keyd.md. */
#ifndef LATCHFS_KEYCLIENT_H
#define LATCHFS_KEYCLIENT_H

#include "latchfs/format.h"
#include "latchfs/keyset.h"
#include "latchfs/secret.h"

#include <stdbool.h>
#include <sys/types.h>

struct keyclient;

struct keyclient_options {
    const char *socket_path; /* NULL: keyclient_default_socket() */
    const char *keyd_path;   /* program to start when none answers; NULL: do not start one */
    int deadline_ms;         /* per call; 0: 30000 (Argon2id takes a second or more) */
};

/* The socket of this user's keyd: $LATCH_KEYD_SOCKET if set, /run/latchfs/keyd.sock for root,
 * $XDG_RUNTIME_DIR/latchfs/keyd.sock, else /tmp/latchfs-UID/keyd.sock (directory mode 0700, owner checked).
 */
int keyclient_default_socket(char path[static 108]);

/* Connects, starting keyd_path when nothing listens (without keyd_path: -ENOENT, -ECONNREFUSED). Refuses a
 * socket whose peer is neither this user nor root (LFS_ERR_DENIED): a squatter never sees a passphrase. */
int keyclient_connect(const struct keyclient_options *o, struct keyclient **out);

/* Why the last keyclient_connect of this thread failed, one line; "" if the error says it all. */
const char *keyclient_connect_message(void);

void keyclient_free(struct keyclient *kc);
void keyclient_freep(struct keyclient **kc);

/* The server's own words on the last refusal, one line without secrets; "" if none. Valid until the next
 * call. */
const char *keyclient_message(const struct keyclient *kc);

enum credential_type { CRED_PASSPHRASE = 1, CRED_KEYFILE = 2, CRED_RECOVERY = 3 };
struct credential {
    enum credential_type type;
    const struct secret
        *secret; /* the passphrase, the key file's bytes (32..8192), the recovery key's text */
};

/* A new key store for a new volume. *ini is malloc'ed (caller frees); *recovery (NULL if not asked for) is
 * the printable recovery key, NUL-terminated in a secret. Nothing touches the volume. */
struct keystore_init {
    uint8_t suite; /* enum suite */
    bool fast_kdf; /* the floor of Argon2id, for tests; marked in the file */
    bool recovery;
    struct credential first;
    const char *label; /* of the first slot, or NULL */
};
int keyclient_init(struct keyclient *kc, const struct keystore_init *in, char **ini, size_t *ini_len,
                   struct secret **recovery);

/* Opens the key store bytes with a credential and keeps the master keys. LFS_ERR_PASSPHRASE, _CORRUPT, _AUTH,
 * _ROLLBACK (older than pinned; accept_older overrides). slot_id: the slot that opened; may be NULL. */
int keyclient_unlock(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                     bool accept_older, uint8_t volume_id[static ID_BYTES], unsigned *slot_id);

/* Locks a volume: drops its master keys, revokes its leases, waits for the mounts' answers (bounded:
 * LFS_ERR_TIMEOUT when one does not answer; the master keys are gone all the same). *still_held: mounts that
 * reported files still open or mapped. LFS_ERR_NOKEY if it was not unlocked and no
 * attached mount may still have keys of it. */
int keyclient_lock(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], unsigned *still_held);

/* Slots. Each takes the key store bytes and a credential that opens them; add and remove answer new bytes
 * (malloc'ed) that the caller puts in place and then confirms with keyclient_pin. */
int keyclient_slot_test(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                        unsigned *slot_id);
struct slot_add {
    struct credential fresh; /* CRED_RECOVERY with secret NULL: keyd makes one, in *recovery */
    const char *label;
    bool fast_kdf;
};
int keyclient_slot_add(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                       const struct slot_add *add, char **new_ini, size_t *new_len, unsigned *slot_id,
                       struct secret **recovery);
/* Replaces the key store key. Refuses the last slot (LFS_ERR_DENIED). */
int keyclient_slot_remove(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                          unsigned slot_id, char **new_ini, size_t *new_len);

/* The caller has put these key store bytes in place (synced, read back): keyd pins generation and hash. */
int keyclient_pin(struct keyclient *kc, const char *ini, size_t len);

/* State of keyd as JSON text (malloc'ed): volumes, leases, keyring or locked memory, version, pid. */
int keyclient_status(struct keyclient *kc, char **json);

/* ---- mounts ---- */

/* Registers this connection as a mount of a volume; pushes come on it from now on. */
int keyclient_attach(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], const char *mountpoint);

/* How long, by policy, a mount may keep its keys when keyd is gone, in seconds; 0: as long as it likes. Known
 * after keyclient_attach. */
unsigned keyclient_grace(const struct keyclient *kc);

/* Keys of a protected directory; pd_id NULL: of the root. *out is locked memory, keyset_free. *lease_s: how
 * long it holds unless renewed (0: no end). LFS_ERR_NOKEY while the volume is locked, LFS_ERR_DENIED. */
int keyclient_lease(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], const uint8_t *pd_id,
                    struct keyset **out, unsigned *lease_s);
/* LFS_ERR_NOKEY when keyd does not know the lease (any more): lease again. */
int keyclient_renew(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], const uint8_t *pd_id);

/* Descriptor to poll for pushes; keyclient_event takes one without blocking. */
enum key_event_type { KEY_EVENT_NONE, KEY_EVENT_REVOKE, KEY_EVENT_UNLOCKED };
struct key_event {
    enum key_event_type type;
    uint8_t volume_id[ID_BYTES];
    uint8_t pd_id[ID_BYTES]; /* zeros: the whole volume */
    uint32_t serial;         /* to answer with */
};
int keyclient_fd(const struct keyclient *kc);
int keyclient_event(struct keyclient *kc, struct key_event *ev); /* -ENOTCONN when keyd is gone */

/* Answers a REVOKE: keys are wiped; held: number of files still open or mapped by programs. */
int keyclient_revoked(struct keyclient *kc, uint32_t serial, unsigned held);

#endif
