/* keyd.ini, the policy of latch-keyd (keyd.ini(5)). Read whole or not at all. */
#ifndef KEYD_POLICY_H
#define KEYD_POLICY_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define POLICY_BYTES_MAX 65536u
#define POLICY_UIDS_MAX 64u

struct policy {
    unsigned idle_exit_s;     /* 0: never */
    unsigned max_connections; /* of one uid */
    unsigned kdf_ms;          /* Argon2id of new passphrase slots */
    char log[PATH_MAX];       /* audit log; "": audit.log in the state directory */
    unsigned lease_s;         /* 0: no end */
    unsigned grace_s;         /* 0: no end */
    unsigned revoke_wait_s;
    uid_t allow[POLICY_UIDS_MAX]; /* besides the owner */
    unsigned allow_count;
};

void policy_defaults(struct policy *c);

/* c has the defaults. LFS_ERR_MISUSE with the line and the reason in why. */
#define POLICY_WHY_MAX 200
int policy_parse(const char *text, size_t len, struct policy *c, char why[static POLICY_WHY_MAX]);

/* The file must be this user's or root's and not writable for others. path NULL: policy_path, where a missing
 * file means the defaults. */
int policy_load(const char *path, struct policy *c, char why[static POLICY_WHY_MAX]);

/* $LATCH_KEYD_CONFIG, for root SYSCONFDIR/latchfs/keyd.ini, else $XDG_CONFIG_HOME/latchfs/keyd.ini or
 * ~/.config/latchfs/keyd.ini; "" if there is no home. */
int policy_path(char path[static PATH_MAX]);

#endif
