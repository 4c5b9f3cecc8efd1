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
    /* Per call; 0: 30000. Calls that open or make a slot get five minutes more (Argon2id takes a second or
     * more for each slot, and others may be first); locks get the time more that keyd waits for mounts. */
    int deadline_ms;
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

/* The numbers are those of enum keystore_slot_type. */
enum credential_type {
    CRED_PASSPHRASE = 1,
    CRED_KEYFILE = 2,
    CRED_RECOVERY = 3,
    CRED_RECIPIENT = 4,
    CRED_COMMAND = 5
};
struct credential {
    enum credential_type type;
    /* The passphrase, the key file's bytes (32..8192), the recovery key's text, the recipient's X25519
     * private key (32), the secret that the command's unwrap call answered (32). */
    const struct secret *secret;
    /* To make a slot. Recipient: no secret, but its public key. Command: its name and the blob that its wrap
     * call made of the secret. */
    const uint8_t *public_key; /* 32 bytes */
    const char *command;
    const uint8_t *blob;
    size_t blob_len;
    /* To open: the slot that is meant, 0: any of the type. Recipient: whose signature the owner of the
     * private key expects (Ed25519, 32 bytes), or NULL: whatever key the file names, held against the pin. */
    unsigned slot;
    const uint8_t *signing_public;
};

/* A new key store for a new volume. *ini is malloc'ed (caller frees); *recovery (NULL if not asked for) is
 * the printable recovery key, NUL-terminated in a secret. Nothing touches the volume. */
struct keystore_init {
    uint8_t suite; /* enum suite */
    bool fast_kdf; /* the floor of Argon2id, for tests; marked in the file */
    bool recovery;
    struct credential first;
    const char *label;       /* of the first slot, or NULL */
    const char *environment; /* "production", ..., or NULL */
};
int keyclient_init(struct keyclient *kc, const struct keystore_init *in, char **ini, size_t *ini_len,
                   struct secret **recovery);

/* Opens the key store bytes with a credential and keeps the master keys. LFS_ERR_PASSPHRASE, _CORRUPT, _AUTH,
 * _ROLLBACK (older than pinned; accept_older overrides). slot_id: the slot that opened; may be NULL. */
int keyclient_unlock(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                     bool accept_older, uint8_t volume_id[static ID_BYTES], unsigned *slot_id);

/* True if latch-keyd had not seen the volume before the last keyclient_unlock or keyclient_admin: nothing was
 * pinned that could tell a forged key store. */
bool keyclient_first_opening(const struct keyclient *kc);

/* Locks a volume: drops its master keys, revokes its leases, waits for the mounts' answers (bounded:
 * LFS_ERR_TIMEOUT when one does not answer; the master keys are gone all the same). *still_held: mounts that
 * reported files still open or mapped. LFS_ERR_NOKEY if it was not unlocked and no
 * attached mount may still have keys of it. */
int keyclient_lock(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], unsigned *still_held);

/* Which slot the credential opens. */
int keyclient_slot_test(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                        unsigned *slot_id);

/* Begins a session of administration on this connection: keyd opens the store with the credential and keeps
 * its key store key and signing key until the connection ends (or its policy's deadline). Errors as of
 * keyclient_unlock. */
int keyclient_admin(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                    bool accept_older, unsigned *slot_id);

/* One change (keyedit.h) in that session. The store must be the one that the session was begun with or what
 * the last edit made: keyd has it. *new_ini is malloc'ed: put it in place, then keyclient_pin; without that
 * the mounts do not see it. LFS_ERR_DENIED: policy, or refused by the store; LFS_ERR_APPROVAL: it waits for
 * signatures, keyclient_message says for which request. */
struct key_edit;
struct key_edit_result;
int keyclient_edit(struct keyclient *kc, const struct key_edit *e, char **new_ini, size_t *new_len,
                   struct key_edit_result *out);

/* Waits until every mount that leases this protected directory has said that it makes no header below version
 * any more. LFS_ERR_TIMEOUT after deadline_ms. LFS_ERR_MISUSE: version is not active yet (pin first);
 * LFS_ERR_NOKEY: the volume is locked, and a mount may have keys of it all the same. */
int keyclient_wait_rekeyed(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES],
                           const uint8_t pd_id[static ID_BYTES], uint32_t version);

/* Locks or unlocks one protected directory while the rest of the volume stays (not the root's: that is
 * LFS_ERR_MISUSE). Lock: as keyclient_lock, but *still_held counts files. Without force, LFS_ERR_BUSY when a
 * mount says that files are open there, LFS_ERR_TIMEOUT when one does not say, and nothing is locked;
 * *still_held counts them; LFS_ERR_BUSY with 0: somebody else is locking it just now. Unlock: leases of it
 * are given again (the volume must be unlocked, and policy must let the caller lease it). */
int keyclient_lock_dir(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES],
                       const uint8_t pd_id[static ID_BYTES], bool force, unsigned *still_held);
int keyclient_unlock_dir(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES],
                         const uint8_t pd_id[static ID_BYTES]);

/* Approvals: what waits, as JSON (malloc'ed): [{"id", "act", "volume", "directory", "version", "uid",
 * "created", "expires", "signatures": [names], "needed", "text"}]; text is what is signed. */
int keyclient_approvals(struct keyclient *kc, char **json);
int keyclient_approve(struct keyclient *kc, const char *id, const uint8_t public_key[static 32],
                      const uint8_t signature[static 64]);

/* The audit log as it is kept, from byte from on (at most 256 KiB a call; *len 0 at the end), and its head as
 * JSON. Only for role auditor. enroll: the first MAC key, once, then keyd forgets it (32 bytes). */
int keyclient_audit_read(struct keyclient *kc, uint64_t from, char **text, size_t *len);
int keyclient_audit_head(struct keyclient *kc, char **json);
int keyclient_audit_enroll(struct keyclient *kc, struct secret **key);

/* A lease for a tool or for another user (as root, for request-key): uid (uid_t)-1: the caller's. */
int keyclient_lease_for(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], const uint8_t *pd_id,
                        uid_t uid, struct keyset **out);

/* The caller has put these key store bytes in place (synced, read back): keyd pins generation and hash, and
 * leases from it if the volume is unlocked. LFS_ERR_ROLLBACK: not newer than what is pinned; LFS_ERR_NOKEY:
 * it has a new master key that keyd does not have: pin in a session that opened it. */
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
enum key_event_type {
    KEY_EVENT_NONE,
    KEY_EVENT_REVOKE,   /* lock; answer with keyclient_revoked */
    KEY_EVENT_UNLOCKED, /* lease again (pd zeros: the whole volume) */
    KEY_EVENT_REKEY,    /* lease this directory again, make no header below its active version any more, then
                           answer with keyclient_rekeyed */
    KEY_EVENT_HELD,     /* how many files are open in this directory? answer with keyclient_held */
};
struct key_event {
    enum key_event_type type;
    uint8_t volume_id[ID_BYTES];
    uint8_t pd_id[ID_BYTES]; /* zeros: the whole volume */
    uint32_t serial;         /* to answer with */
};
int keyclient_fd(const struct keyclient *kc);
int keyclient_event(struct keyclient *kc, struct key_event *ev); /* -ENOTCONN when keyd is gone */

/* active 0: this mount has no keys of the directory (it was refused them, and has locked it). */
int keyclient_rekeyed(struct keyclient *kc, uint32_t serial, const uint8_t pd_id[static ID_BYTES],
                      uint32_t active);
int keyclient_held(struct keyclient *kc, uint32_t serial, unsigned held);

/* Says that this mount locked a directory by itself (idle): keyd does not lease it again to this process
 * before keyclient_unlock_dir, or an unlock of the volume. */
int keyclient_locked_idle(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES],
                          const uint8_t pd_id[static ID_BYTES]);

/* Counters of this mount since it began, for alarms and metrics; and when each leased directory was last used
 * (seconds since 1970; n at most 256). */
struct key_use {
    uint8_t pd_id[ID_BYTES];
    uint64_t last_use;
};
int keyclient_report(struct keyclient *kc, uint64_t auth_failures, const struct key_use *uses, size_t n);

/* Policy's idle time of a leased directory, in seconds; 0: none. Known after keyclient_lease of it. */
unsigned keyclient_idle_s(const struct keyclient *kc);

/* Answers a REVOKE: keys are wiped; held: number of files still open or mapped by programs. */
int keyclient_revoked(struct keyclient *kc, uint32_t serial, unsigned held);

#endif
