/* Changes of a key store, one at a time: what an administrator asks of latch-keyd, and what the offline tools
 * do without it. An edit turns the bytes of latchfs.ini into new, signed bytes of the next generation;
 * whoever asked puts them in place. Docs: docs/FORMAT.md (the key store), docs/PROTOCOL-keyd.md (the
 * request). */
#ifndef LATCHFS_KEYEDIT_H
#define LATCHFS_KEYEDIT_H

#include "latchfs/keyclient.h"
#include "latchfs/keystore.h"

/* The numbers stand in the protocol and in approvals. What each takes from struct key_edit -> what it
 * answers. */
enum key_edit_op {
    EDIT_SLOT_ADD = 1,       /* fresh, label -> slot, recovery */
    EDIT_SLOT_REMOVE = 2,    /* slot, force (for the last one); replaces the key store key */
    EDIT_SLOT_REPLACE = 3,   /* slot, fresh: same number and label; replaces the key store key -> recovery */
    EDIT_SLOT_LABEL = 4,     /* slot, label ("" takes it away) */
    EDIT_MASTER_ROTATE = 5,  /* -> version; every wrapped key is rewrapped, the key store key replaced */
    EDIT_MASTER_RETIRE = 6,  /* version: decrypt-only, and nothing is wrapped by it */
    EDIT_MASTER_DESTROY = 7, /* version: not the active one; nothing is wrapped by it, no backup needs it */
    EDIT_DIR_ADD = 8,        /* label (its name, unique), held -> pd, held blob */
    EDIT_DIR_NAME = 9,       /* pd, label (unique; "" takes it away) */
    /* pd, number 0 for headers, 1 for data -> version, now active; the name key rewrapped (held: blob). If a
     * rotation of the same sort is under way (active > least), the answer is that version and only the
     * generation changes. Headers while one for data is under way: LFS_ERR_DENIED (finish that first). Data
     * while one for headers is under way: a newer version. */
    EDIT_DIR_ROTATE = 10,
    /* pd, version = active: a full scan found no header below; least = version, older ones become retired. */
    EDIT_DIR_FINISH = 11,
    EDIT_DIR_DESTROY = 12,   /* pd, version: below least, retired, and no registered backup needs it */
    EDIT_DIR_SHRED = 13,     /* pd: all its keys go, and what backups needed of it; not the root's */
    EDIT_BACKUP_ADD = 14,    /* label -> backup number */
    EDIT_BACKUP_REMOVE = 15, /* number */
    EDIT_ENVIRONMENT = 16,   /* label: "production", ...; "" takes it away */
    /* pd, version below least, not destroyed: headers from it on are taken again, because files were put back
     * from a backup; least = version until the next rotation has finished. */
    EDIT_DIR_ACCEPT = 17,
    EDIT_OP_MAX = 17
};

/* "slot-add", ...; NULL if unknown. */
const char *key_edit_name(unsigned op);

/* True for edits that approvals may be demanded for: 7, 12, 13. */
bool key_edit_is_destructive(unsigned op);

struct key_edit {
    uint8_t op; /* enum key_edit_op */
    uint8_t pd[ID_BYTES];
    uint32_t number; /* slot, version or backup */
    uint32_t above;  /* EDIT_DIR_ROTATE of a held directory: the new version is greater */
    bool force, held, fast_kdf;
    const char *label;       /* or NULL */
    struct credential fresh; /* with what else a slot type needs (keyclient.h) */
};

struct key_edit_result {
    uint32_t number; /* slot, version or backup */
    uint8_t pd[ID_BYTES];
    struct secret *recovery; /* or NULL */
};
void key_edit_result_clear(struct key_edit_result *r); /* frees the recovery key, zeroes all */

#endif
