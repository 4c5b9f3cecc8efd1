/* A session of administration at latch-keyd, and the changes made in it: every command that changes the key
 * store of a volume goes this way. */
#ifndef TOOLS_ADMIN_H
#define TOOLS_ADMIN_H

#include "cred.h"
#include "volume_files.h"

#include "latchfs/keyedit.h"

struct admin {
    struct volume_files *v; /* borrowed; holds the present bytes after every edit */
    struct keyclient *kc;   /* NULL while paused */
    unsigned slot_id;       /* that opened */
    struct cred cred;       /* kept for admin_resume */
};
#define AUTO_ADMIN CLEANUP(admin_clear)

/* Gets the secret (asks up to three times if it is typed), keeps other commands from changing the key store
 * (volume_files_lock: v is read anew) and begins the session. All that waits for a person is over
 * afterwards; what a new slot needs must be asked before. Prints its own error; returns an exit code. Clear
 * *a in any case. */
int admin_begin(struct volume_files *v, const struct cred_source *source, struct admin *a);
void admin_clear(struct admin *a);

/* One change: asks latch-keyd, replaces latchfs.ini (the old bytes become the .bak), then pins, so that the
 * mounts see it. *out (may be NULL) is the caller's to clear (key_edit_result_clear), filled on success only.
 * Prints its own error, also what to do when the file was replaced but could not be pinned, and returns an
 * exit code: LFS_EXIT_APPROVAL when the change waits for others. */
int admin_edit(struct admin *a, const struct key_edit *e, struct key_edit_result *out);

/* The same in two steps, for what must happen in between (a recovery key is handed out before the store that
 * has its slot is put in place). A session whose change is not put in place is of no further use. */
struct admin_change {
    char *ini;
    size_t len;
    struct key_edit_result result;
};
#define AUTO_CHANGE CLEANUP(admin_change_clear)
int admin_ask(struct admin *a, const struct key_edit *e, struct admin_change *out);
int admin_put(struct admin *a, const struct admin_change *c);
void admin_change_clear(struct admin_change *c);

/* For long work between two edits: ends the session and lets other commands change the key store; then reads
 * it anew and begins another session, with the same secret. */
void admin_pause(struct admin *a);
int admin_resume(struct admin *a);

#endif
