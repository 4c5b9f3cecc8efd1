/* Requests for destructive acts that wait for the signatures of others (keyd.ini(5), [approvals]). Each is a
 * file in statedir/approvals, so that it survives a restart; while keyd runs, memory is what counts. */
#ifndef KEYD_APPROVALS_H
#define KEYD_APPROVALS_H

#include "latchfs/keyedit.h"
#include "policy.h"

#define APPROVALS_MAX 64u        /* pending at a time */
#define APPROVALS_OF_ONE_MAX 16u /* of one requester */
#define APPROVAL_ID_CHARS 24u    /* hex: the first 12 bytes of the BLAKE2b-256 of the text */
#define APPROVAL_TEXT_MAX 512u

struct approvals;

/* Reads what is pending; makes the directory. p must live as long. A file there that is not as this module
 * writes it is left out, with a warning. LFS_ERR_DENIED: the directory is another user's or open to others;
 * LFS_ERR_CORRUPT: there are too many files. */
int approvals_open(int statedir, const struct policy *p, struct approvals **out);
void approvals_free(struct approvals *a);

/* May uid do this edit now? 0: it needs no approval, or has enough, and these are used up (durably, before
 * this returns: the act may still fail, and then needs new ones). LFS_ERR_APPROVAL: why names the request,
 * its signatures and its end; one is made if there was none for this act, target and requester. LFS_ERR_BUSY:
 * too many are pending; -errno: it could not be kept. */
int approvals_check(struct approvals *a, const uint8_t volume_id[static 16], const struct key_edit *e,
                    uid_t uid, time_t now, char *why, size_t why_size);

/* As approvals_check, but leaves the signatures: for what may still fail before the act is done. */
int approvals_ready(struct approvals *a, const uint8_t volume_id[static 16], const struct key_edit *e,
                    uid_t uid, time_t now, char *why, size_t why_size);

/* What approvals_sign would say, without keeping the signature. */
int approvals_may_sign(struct approvals *a, const char *id, const uint8_t pub[static 32],
                       const uint8_t sig[static 64], uid_t uid, time_t now, char *why, size_t n);

/* Adds a signature over the request's text. uid: of who brings it. -ENOENT: no such request, or it expired;
 * LFS_ERR_AUTH: the signature does not fit this request; LFS_ERR_DENIED: the key is no admin's, has signed
 * already, or is the requester's own. */
int approvals_sign(struct approvals *a, const char *id, const uint8_t pub[static 32],
                   const uint8_t sig[static 64], uid_t uid, time_t now, char *why, size_t n);

/* The pending ones as keyclient_approvals has them; malloc'ed. */
int approvals_json(struct approvals *a, time_t now, char **json);
unsigned approvals_pending(const struct approvals *a, time_t now);

#endif
