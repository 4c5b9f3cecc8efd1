/* keyd.ini, the policy of latch-keyd (keyd.ini(5)): who may ask what, and which keys he may lease. Read whole
 * or not at all; afterwards it never changes. Names of users and groups are looked up while it is read, so
 * that deciding needs no file. */
#ifndef KEYD_POLICY_H
#define KEYD_POLICY_H

#include "latchfs/keystore.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#define POLICY_BYTES_MAX 65536u
#define POLICY_UIDS_MAX 64u   /* of allow_uids */
#define POLICY_RULES_MAX 256u /* sections [volume] and [directory] */
#define POLICY_WHO_MAX 1024u  /* names in all lists together */
#define POLICY_WINDOWS_MAX 8u /* of one section */
#define POLICY_ADMINS_MAX 16u /* keys that approve */
#define POLICY_ADMIN_NAME_MAX 32u

enum role {
    ROLE_USER = 1,     /* unlock, lease, attach */
    ROLE_OPERATOR = 2, /* lock, status */
    ROLE_KEYADMIN = 4, /* new volumes, slots, rotation, pins; gives no key to read with */
    ROLE_AUDITOR = 8,  /* reads the log, nothing else */
    ROLE_ALL = 15,
};
#define POLICY_ROLES 4u

enum who_kind { WHO_UID = 1, WHO_GID = 2, WHO_OWNER = 3 };
struct policy_who {
    uint32_t kind; /* enum who_kind */
    uint32_t id;
};
struct policy_list { /* a part of policy.who */
    unsigned first, count;
};

struct policy_window {
    uint8_t days;      /* on which it begins: bit 0 Sunday ... bit 6 Saturday */
    uint16_t from, to; /* minutes of the local day, 0..1440; to <= from: it ends on the day after */
};

/* Which keys a section has. */
enum {
    RULE_ALLOW = 1,
    RULE_LEASE = 2,
    RULE_IDLE = 4,
    RULE_RATE = 8,
    RULE_WINDOW = 16,
    RULE_SUSPEND = 32,
    RULE_REQUEST_KEY = 64,
};
enum rule_level { /* ascending: what is more specific is larger */
                  LEVEL_ANY_VOLUME = 1,
                  LEVEL_VOLUME = 2,
                  LEVEL_DIRECTORY_NAME = 3, /* also the root's, by the name "/" */
                  LEVEL_DIRECTORY_ID = 4,
};
struct policy_rule { /* one section [volume] or [directory] */
    unsigned line;
    uint8_t level; /* enum rule_level */
    uint8_t volume[ID_BYTES], pd[ID_BYTES];
    char name[KEYSTORE_LABEL_MAX + 1];
    unsigned set; /* RULE_* */
    struct policy_list allow;
    unsigned lease_s, idle_s, per_minute;
    bool lock_on_suspend, request_key;
    unsigned window_count;
    struct policy_window windows[POLICY_WINDOWS_MAX];
};

struct policy_admin_key { /* who may approve */
    char name[POLICY_ADMIN_NAME_MAX + 1];
    uint8_t public_key[32]; /* Ed25519 */
    bool has_uid;           /* the user that this admin is known to be */
    uid_t uid;
};

struct policy {
    /* [keyd] */
    uid_t owner;                              /* the user that runs latch-keyd, not from the file */
    unsigned idle_exit_s;                     /* 0: never */
    unsigned max_connections;                 /* of one uid */
    char log[PATH_MAX];                       /* audit log; "": audit.log in the state directory */
    char environment[KEYSTORE_LABEL_MAX + 1]; /* "": any volume */
    unsigned admin_s;                         /* idle end of a session of administration */
    char metrics[PATH_MAX];                   /* OpenMetrics file; "": none */
    unsigned metrics_line, alert_line;        /* where these paths stand */
    unsigned metrics_s;
    char alert_command[PATH_MAX];         /* "": none */
    unsigned master_days, directory_days; /* an active key older than this is overdue; 0: never */
    /* [slots] */
    unsigned kdf_ms; /* Argon2id of new passphrase slots */
    /* [lease]: where no rule says otherwise */
    unsigned lease_s; /* 0: no end */
    unsigned grace_s; /* 0: no end */
    unsigned revoke_wait_s;
    /* [access] */
    uid_t allow[POLICY_UIDS_MAX]; /* besides the owner; they have role user */
    unsigned allow_count;
    /* [roles] */
    struct policy_list roles[POLICY_ROLES]; /* of role 1 << index */
    bool owner_named;                       /* owner and root have no role of their own */
    /* [approvals] */
    unsigned approvals_required, approvals_expire_s;
    uint32_t approvals_acts;      /* bit of enum key_edit_op */
    bool approvals_own_signature; /* the requester's own counts */
    struct policy_admin_key admins[POLICY_ADMINS_MAX];
    unsigned admin_count;
    /* [alerts]: more than so many in alert_s seconds raise an alarm; 0: none does */
    unsigned alert_s;
    unsigned alert_unlock_failures; /* wrong secrets of one user */
    unsigned alert_leases;          /* leases given to one user */
    unsigned alert_bulk;            /* different directories leased to one user */
    unsigned alert_auth_failures;   /* chunks and headers found changed, reported by one mount */
    bool alert_new_peer;            /* keys to a program and user never seen before */
    /* [volume], [directory] */
    struct policy_rule rules[POLICY_RULES_MAX];
    unsigned rule_count;
    struct policy_who who[POLICY_WHO_MAX];
    unsigned who_count;
};

void policy_defaults(struct policy *c);

/* c has the defaults. LFS_ERR_MISUSE with the line and the reason in why, and c as it was. */
#define POLICY_WHY_MAX 200
int policy_parse(const char *text, size_t len, struct policy *c, char why[static POLICY_WHY_MAX]);

/* The file must be this user's or root's and not writable for others. path NULL: policy_path, where a missing
 * file means the defaults. */
int policy_load(const char *path, struct policy *c, char why[static POLICY_WHY_MAX]);

/* $LATCH_KEYD_CONFIG, for root SYSCONFDIR/latchfs/keyd.ini, else $XDG_CONFIG_HOME/latchfs/keyd.ini or
 * ~/.config/latchfs/keyd.ini; "" if there is no home. */
int policy_path(char path[static PATH_MAX]);

/* ---- decisions ---- */

/* Roles of a user with these groups (of the process that asks, its own group among them); 0: none, he may not
 * connect. */
unsigned policy_roles(const struct policy *p, uid_t uid, const gid_t *gids, size_t n, uid_t owner);

/* True if somebody besides root and the owner may have a role: the socket must be open to others. */
bool policy_open_to_others(const struct policy *p);

struct policy_ask {
    uid_t uid;
    const gid_t *gids;
    size_t ngids;
    const uint8_t *volume_id, *pd_id; /* pd_id NULL: the volume as a whole */
    bool is_root_dir;                 /* pd_id is the root's */
    const char *environment;          /* the volume's; NULL or "": none */
    const char *dir_name;             /* or NULL */
    time_t now;
    bool via_request_key; /* root asks for uid: his role is decided here */
};
struct policy_lease {
    unsigned lease_s; /* at most to the end of the time window; 0: no end */
    unsigned idle_s;  /* 0: none */
    unsigned
        per_minute; /* leases of this directory that this user may get; 0: any number. The caller counts */
};

/* Does policy let this user lease any directory of the volume, at whatever time? pd_id is not looked at. */
bool policy_may_lease(const struct policy *p, const struct policy_ask *a);

/* May he lease? 0 or LFS_ERR_DENIED, then why says which line refuses. To be asked again when a lease is
 * renewed: windows end. */
int policy_lease(const struct policy *p, const struct policy_ask *a, struct policy_lease *out, char *why,
                 size_t why_size);

/* May this keyd open the volume at all (unlock)? Only the environment. 0 or LFS_ERR_DENIED. */
int policy_environment(const struct policy *p, const char *environment, char *why, size_t why_size);

/* May a session of administration begin: environment (a volume without label may be administered anywhere, or
 * it could never be given one), and the windows of the volume's sections. 0 or LFS_ERR_DENIED. */
int policy_admin(const struct policy *p, const struct policy_ask *a, char *why, size_t why_size);

/* How many approvals an edit (enum key_edit_op) needs. 0: none */
unsigned policy_approvals_needed(const struct policy *p, unsigned edit_op);

/* Is the volume (pd_id NULL) or directory to be locked before the machine sleeps? Of a only volume_id, pd_id,
 * is_root_dir, dir_name count. */
bool policy_locks_on_suspend(const struct policy *p, const struct policy_ask *a);

/* Does any section say so? */
bool policy_minds_suspend(const struct policy *p);

#endif
