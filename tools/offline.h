/* A volume, a copy of one, or a part of one, opened by latch itself: no daemon, no mount. The secret opens a
 * slot here and nothing is kept after the command. */
#ifndef TOOLS_OFFLINE_H
#define TOOLS_OFFLINE_H

#include "passphrase.h"
#include "volume_files.h"

#include "latchfs/keyslots.h"
#include "latchfs/store.h"

struct offline {
    struct volume_files files; /* opened */
    struct keystore *ks;
    struct keyset **sets; /* of every protected directory whose keys are here; [0] is the root's */
    size_t count;
    unsigned without_keys; /* protected directories left out: held by latch-keyd, or shredded */
    bool ignore_journal;
    struct volume *volume; /* NULL until offline_volume */
    struct replay_report replay;
};
void offline_clear(struct offline *o);
#define AUTO_OFFLINE CLEANUP(offline_clear)

/* The options every such command has, beside OPENING_OPTIONS. */
struct offline_options {
    struct cred_source cred;
    const char *header;  /* --header FILE: a header backup in place of latchfs.ini */
    const char *held;    /* --held-dir DIR: latch-keyd's state directory, for held directories */
    bool ignore_journal; /* --ignore-journal: a copy without one, or with a broken one */
    bool salvage;        /* of offline_open: files are read although their seals do not fit */
};

/* Values of getopt_long; a command's own begin at OPT_OFFLINE_NEXT. */
enum { OPT_HEADER = OPT_NEXT, OPT_HELD_DIR, OPT_IGNORE_JOURNAL, OPT_OFFLINE_NEXT };

/* Elements of a struct option table, OPENING_OPTIONS included. */
#define OFFLINE_OPTIONS                                               \
    OPENING_OPTIONS, {"header", required_argument, NULL, OPT_HEADER}, \
        {"held-dir", required_argument, NULL, OPT_HELD_DIR},          \
    {                                                                 \
        "ignore-journal", no_argument, NULL, OPT_IGNORE_JOURNAL       \
    }
#define OFFLINE_HELP                                                                                  \
    "  --header FILE             a header backup in place of the volume's latchfs.ini\n"              \
    "  --held-dir DIR            latch-keyd's state directory, for directories whose keys it holds\n" \
    "  --ignore-journal          go on although latchfs.journal is missing or broken\n"

/* Takes an option of OFFLINE_OPTIONS. False if it is none of these. */
bool offline_option(struct offline_options *opt, int c, const char *arg);

/* LFS_EXIT_BUSY, with the mount point named, if the volume is mounted for writing here or another command has
 * it open so; else LFS_EXIT_OK. Asked before the secret is. */
int offline_check_free(const char *path);

/* Reads the key store, gets the secret, unwraps what it opens. Where latchfs.ini is missing or damaged its
 * .bak serves, and standard error says so. Prints its own error; returns an exit code. */
int offline_keys(const char *path, const struct offline_options *opt, struct offline *o);

/* Opens the volume with all keysets. With want->read_only through the journal's overlay, writing nothing; a
 * missing journal is then no error, only said. Says where it is mounted if it is (LFS_EXIT_BUSY). Prints its
 * own error; returns an exit code. */
int offline_volume(struct offline *o, const struct volume_options *want);

/* The three above for commands that only read. */
int offline_open(const char *path, const struct offline_options *opt, struct offline *o);

/* The node of a plaintext path below the volume's root ("" or "/": the root), symbolic links not followed.
 * Prints its own error, which names the ciphertext that is missing; returns an exit code. */
int offline_lookup(struct offline *o, const char *path, struct node **out);

/* Why n (plain is its path) can't be read, on standard error: err, and what to do about it. Returns the exit
 * code. */
int offline_explain(struct offline *o, struct node *n, const char *plain, int err);

/* Why there is no node for the name plain, err: the same. */
int offline_explain_name(struct offline *o, const char *plain, int err);

/* Whether the seal of an opened regular file fits all its records; if not, says on standard error that some
 * of it may be older than the rest. Returns an exit code. */
int offline_seal(struct offline *o, struct node *n, const char *plain);

/* To be called for an opened regular file: its size, which the header says (the length of the backing file
 * may be another after an unclean end). Content that never reached the disk reads as empty; that is said on
 * standard error. 0 or an error. */
int offline_size(struct offline *o, struct node *n, const char *plain, uint64_t *size);

/* Of two exit codes of a command that goes on after errors, the one that matters more: damage, then missing
 * keys, then others. */
int offline_worse(int a, int b);

#endif
