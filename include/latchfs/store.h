/* The encrypted tree: what a FUSE daemon and the offline tools stand on. Plaintext names and bytes above,
 * a directory of ciphertext below. No FUSE here.
 *
 * Threads: every call may come from any thread. A node is an inode in memory, found again by (device, inode
 * number) of the backing file; references are counted, and the node stays valid while you hold one.
 * Creations use the calling thread's fsuid, fsgid and umask.
 *
 * Errors: see err.h. LFS_ERR_NOKEY everywhere while the volume is locked, but for the calls marked [locked].
 */
#ifndef LATCHFS_STORE_H
#define LATCHFS_STORE_H

#include "latchfs/format.h"
#include "latchfs/keyset.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>

struct volume;
struct node;

/* ---- volume ---- */

struct volume_options {
    bool read_only;         /* no journal is replayed in place, nothing is written */
    bool ignore_journal;    /* the override for a missing or unreadable journal */
    bool damaged_root;      /* opens although the root's record is missing or damaged, for check_volume */
    bool salvage;           /* a file opens although its seal does not fit; file_verify_seal tells */
    uint64_t journal_bytes; /* ring size; 0: 64 MiB */
    bool shared;            /* other mounts may change the volume at the same time: see below */
    bool kernel_times;      /* a write leaves mtime alone: the kernel sends it (writeback cache) */
    unsigned flush_seconds; /* the flusher's period; 0: 5 */
    bool no_flusher;        /* the caller calls volume_checkpoint itself (tests) */
    unsigned seal_seconds;  /* how long a file must have been idle before it is sealed; 0: 30; UINT_MAX:
                               no seals are made */
    bool bypass_journal;    /* everything goes in place at once, without any promise: to measure what the
                               journal costs (tests/bench) */
};

struct replay_report {
    bool unclean;            /* entries were found */
    uint64_t entries, files; /* applied, and files they changed */
    uint64_t skipped; /* entries not applied: older generation, or file not found and not known removed */
    uint64_t torn;    /* entries not applied: their fresh data never reached the disk */
};

/* Opens a volume directory with the keys of its root: takes the lock on the journal (LFS_ERR_BUSY), removes
 * latchfs.tmp.*, replays. Does not start threads (call volume_start after daemonizing). keys is copied. */
int volume_open(const char *path, const struct keyset *keys, const struct volume_options *o,
                struct replay_report *report, struct volume **out);

/* A shared volume is changed in turns: every call waits until this mount has the turn, at most 30 s
 * (LFS_ERR_TIMEOUT), and what another mount did in its turn is seen by the calls after it. A node whose inode
 * is gone answers -ESTALE, never with another file. What takes more than one call and
 * needs the volume to itself is not for these: freezes, rotations, checks, new protected directories. */

/* Whether what the kernel keeps of a regular file's content is still true: false once after others may have
 * changed it. Asked when it is opened. */
bool node_cache_holds(struct node *n);

/* Makes the root's directory record in an empty new volume directory (synced); the journal is made by the
 * first mount. latchfs.ini, put in place last by the caller, turns the directory into a volume. */
int volume_create(int dirfd, const struct keyset *keys);

/* Starts the flusher thread. */
int volume_start(struct volume *v);

/* Checkpoints everything, empties the journal, frees all. Returns the first error of that; v is gone all the
 * same. [locked] */
int volume_close(struct volume *v);

/* Everything durable and in place (syncfs, freeze, lock, before unmount). */
int volume_checkpoint(struct volume *v);

/* Freeze: everything durable and in place, the journal empty and as after an unmount, and no change to the
 * backing directory until thaw: changes wait, reads go on. So a snapshot or a copy of the volume taken
 * meanwhile is that of a clean volume. It ends by itself after seconds. LFS_ERR_BUSY when it is frozen
 * already; LFS_ERR_NOKEY while locked; -EROFS when nothing is written anyhow; else why something could not be
 * put in place. The caller makes the kernel write its dirty pages out first (syncfs on the mount).
 *
 * Locking (the volume or a protected directory) and closing end a freeze: what waits must reach the disk
 * before keys go. Thaw: -EINVAL if the volume is not frozen (any more): what was copied since then may not be
 * consistent. A read that would have to change something answers -EBUSY meanwhile (a file whose owner may not
 * read it, opened for its owner). Not from inside a change of the same thread. */
#define FREEZE_SECONDS_MAX 3600u
int volume_freeze(struct volume *v, unsigned seconds);
int volume_thaw(struct volume *v);
bool volume_is_frozen(const struct volume *v); /* [locked] */

/* For a caller that may not wait in a change: false when it would have to, now. Otherwise changes by this
 * thread do not wait, and no freeze begins, until volume_end_change. Nests. */
bool volume_try_change(struct volume *v);
void volume_end_change(struct volume *v);

/* Seals every file that waits for a seal, idle or not: those that a checkpoint has left with nothing pending.
 * What would have to be read in large amounts for it is left open. Part of volume_close. */
int volume_seal_all(struct volume *v);

/* The ciphertext path of a node's known place, relative to the volume, "" for its root. -ESTALE,
 * -ENAMETOOLONG.
 */
int node_cipher_path(struct node *n, char *path, size_t size);

/* The node and its plaintext path of a ciphertext path relative to the volume, with a reference: what a
 * backup tool names. A directory's record stands for the directory, the sidecar of a long name or target for
 * its entry. -ENOENT, LFS_ERR_AUTH where a name does not decrypt. out may be NULL: then the last name need
 * not be there. plain: PATH_MAX bytes. */
int volume_find_cipher(struct volume *v, const char *cipher_path, struct node **out, char *plain,
                       size_t size);

/* True once a failed sync has turned the volume read-only (every change then fails with -EROFS). [locked] */
bool volume_is_readonly(const struct volume *v);

struct volume_stats {
    uint64_t nodes, open_fds, pinned_fds;
    uint64_t journal_bytes, journal_used;
    uint64_t auth_failures; /* corrupt or unauthentic data seen since mount */
    uint64_t checkpoints, journal_syncs;
    uint64_t seals, seals_waiting; /* made since mount; files that wait for one */
    uint64_t checkpoint_at;        /* seconds since 1970 when the last checkpoint ended; 0: none yet */
    int failed_sync;               /* the error that turned the volume read-only, or 0 */
};
void volume_stats(struct volume *v, struct volume_stats *out); /* [locked] */

/* Locking, three steps by one thread that serves no requests: begin (from here new lookups, reads, opens get
 * LFS_ERR_NOKEY; writes of dirty pages still pass), the caller drops the kernel's caches until no write comes
 * any more, finish (checkpoint, waits for calls under way, wipes every key and cached plaintext). unlock
 * gives the keys back; nodes stay valid through all of it. [locked] */
int volume_lock_begin(struct volume *v);
int volume_lock_finish(struct volume *v);
int volume_unlock(struct volume *v, const struct keyset *keys);
bool volume_is_locked(const struct volume *v);

/* ---- protected directories ----
 *
 * Each directory belongs to one; the root's is the volume's own, and what locks the volume locks all. The
 * keys of others are given and taken one by one while the rest goes on. Without its keys a protected
 * directory's own name is there (it belongs to the parent), everything in it answers LFS_ERR_NOKEY. Renames
 * and links across answer -EXDEV.
 *
 * volume_lock_begin/_finish/_unlock above are about the whole volume. */

/* Gives the keys of one, or newer ones in place of those that are there (also for the root's, while it is
 * unlocked): from the return on no new header is made at an older version than keys->active. Headers that
 * stand keep theirs until volume_rewrap or volume_reencrypt: a version may be for files with new keys only.
 * LFS_ERR_NOKEY while the whole volume is locked. */
int volume_pd_unlock(struct volume *v, const struct keyset *keys);

/* As volume_lock_begin and _finish, for one that is not the root's; between them the caller drops the
 * kernel's caches of its nodes. Finish makes everything of it durable and in place, then wipes. */
int volume_pd_lock_begin(struct volume *v, const uint8_t pd_id[static ID_BYTES]);
int volume_pd_lock_finish(struct volume *v, const uint8_t pd_id[static ID_BYTES]);

/* Calls fn for each that has keys now, or had some since the volume was opened. */
struct pd_status {
    uint8_t id[ID_BYTES];
    bool locked;
    uint32_t active, least; /* 0 while locked */
    uint64_t last_use; /* seconds since 1970 of the last open, create, read of a directory or noted use in it;
                          0: none */
};
void volume_pd_each(struct volume *v, void (*fn)(const struct pd_status *st, void *arg), void *arg);

/* As volume_each_node, for the nodes in one protected directory, its topmost directories too. */
void volume_pd_each_node(struct volume *v, const uint8_t pd_id[static ID_BYTES],
                         void (*fn)(struct node *n, void *arg), void *arg);

/* The protected directory that a directory's entries belong to, or a file's own; without keys it is what the
 * record says. *top (may be NULL): the node is a topmost directory of it. [locked] */
int node_pd_id(struct node *n, uint8_t pd_id[static ID_BYTES], bool *top);

/* The plaintext of the name that n was last found by, and the directory it stands in (referenced), so that
 * the kernel can be told to forget it: also between volume_pd_lock_begin and _finish. -ESTALE if none is
 * known.
 */
int node_known_name(struct node *n, struct node **parent, char name[static NAME_PLAIN_MAX + 1]);

/* What is in n, or stands in the directory n, is used now (last_use). [locked] */
void node_note_use(struct node *n);

/* Makes an empty directory the top of the protected directory that keys are of (and gives the keys).
 * -ENOTEMPTY; LFS_ERR_MISUSE for the volume's root, or a top already. Durable when it returns. */
int node_protect(struct node *dir, const struct keyset *keys);

/* Wipes every buffer of this thread that may hold plaintext or keys (AEAD context, scratch). For the daemon's
 * threads after a lock. */
void volume_wipe_thread(void);

/* ---- rotation ----
 *
 * Each walks the ciphertext of the whole tree (no names are decrypted), works on files of one protected
 * directory, can be cut anywhere and called again, and changes nothing that is right already. Files that
 * their owner can't write are changed all the same; size and plaintext mtime stay. A damaged file is counted
 * and passed by; LFS_ERR_CORRUPT at the end then. Durable when it returns 0. LFS_ERR_NOKEY without the keys
 * of the protected directory (at any moment), LFS_ERR_BUSY while another one runs. Attributes of directories,
 * symlink targets and names are under the name key: no rotation touches them. */
struct rotate_progress;
struct rotate_options {
    uint8_t pd_id[ID_BYTES];
    uint64_t bytes_per_second; /* 0: no limit; a header counts as 4096 bytes */
    const atomic_bool *stop;   /* or NULL: -EINTR soon after it is set */
    void (*progress)(const struct rotate_progress *p, void *arg); /* or NULL; at most every 100 ms */
    void *arg;
};
struct rotate_progress {
    uint64_t files;       /* of the protected directory seen so far */
    uint64_t files_total; /* estimate; 0: not known, as always without a progress callback */
    uint64_t changed;     /* files that were not right yet */
    uint64_t damaged;     /* files that could not be read or authenticated, left as they were */
    uint64_t bytes;       /* of plaintext re-encrypted */
    uint64_t bytes_total; /* estimate, for volume_reencrypt */
    uint32_t least_found; /* least header version seen, after volume_rewrap 0 or the active version */
};

/* Rewraps every header below the active version. 0 only if the scan was whole and none is left (damaged == 0
 * but for files without any header). */
int volume_rewrap(struct volume *v, const struct rotate_options *o, struct rotate_progress *out);

/* Gives every file whose header is below the active version a new file key, chunk by chunk, xattrs too, and a
 * header at the active version. A file is done when its header has the active version and one filled place:
 * so the caller rotates the directory key first (EDIT_DIR_ROTATE for data), and a run that was cut is taken
 * up by calling again. Ends as volume_rewrap: 0 only if nothing is left. */
int volume_reencrypt(struct volume *v, const struct rotate_options *o, struct rotate_progress *out);

/* Only looks: least_found and counts. What it has seen is in place and on disk when it returns 0, but for a
 * volume that can't be written, where the headers that lie in place count. Those of damaged files count too,
 * as far as they can be read. LFS_ERR_BUSY: so much moved that files may have been missed. */
int volume_scan_versions(struct volume *v, const struct rotate_options *o, struct rotate_progress *out);

/* Calls fn for every node in memory (no reference is taken; fn must not call back into the store). */
void volume_each_node(struct volume *v, void (*fn)(struct node *n, void *arg), void *arg);

/* ---- nodes ---- */

struct node *volume_root(struct volume *v); /* borrowed; lives as long as the volume */
void node_ref(struct node *n);
void node_unref(struct node *n, uint64_t count);
mode_t node_type(const struct node *n); /* S_IFMT bits */
uint64_t node_ino(const struct node *n);

/* st_size is the plaintext's; st_ino, st_nlink, st_blocks, owner, mode, times as the backing file's. */
int node_getattr(struct node *n, struct stat *st);

/* valid: SET_* bits. atime/mtime tv_nsec may be UTIME_NOW. With SET_SIZE the file is truncated. SET_CTIME
 * sets nothing: st_ctim is what the caller has for it. */
enum { SET_MODE = 1, SET_UID = 2, SET_GID = 4, SET_SIZE = 8, SET_ATIME = 16, SET_MTIME = 32, SET_CTIME = 64 };
int node_setattr(struct node *n, const struct stat *want, unsigned valid, struct stat *st);

/* All that follow and answer a node give the caller one reference. Names are plaintext, NUL-terminated. */
int node_lookup(struct node *dir, const char *name, struct stat *st, struct node **out);
/* A regular file; with excl, -EEXIST when there. *created may be NULL. The file is not opened. */
int node_create(struct node *dir, const char *name, mode_t mode, bool excl, struct stat *st,
                struct node **out);
int node_mknod(struct node *dir, const char *name, mode_t mode, dev_t rdev, struct stat *st,
               struct node **out);
int node_mkdir(struct node *dir, const char *name, mode_t mode, struct stat *st, struct node **out);
int node_symlink(struct node *dir, const char *name, const char *target, struct stat *st, struct node **out);
/* *out is n, but for a symlink that is linked into another directory: its target is bound to its directory,
 * so a new symlink of the same owner and times is made there. */
int node_link(struct node *n, struct node *dir, const char *name, struct stat *st, struct node **out);
int node_unlink(struct node *dir, const char *name);
int node_rmdir(struct node *dir, const char *name);
int node_rename(struct node *dir, const char *name, struct node *newdir, const char *newname, unsigned flags);
int node_readlink(struct node *n, char target[static SYMLINK_PLAIN_MAX + 1]);

/* Directory streams. cookie: 0 to begin, else what an entry gave; stable while the stream is open. "." and
 * ".." are included. Entries whose names do not decrypt are left out and counted as auth failures. */
struct dir_stream;
struct dir_entry {
    char name[NAME_PLAIN_MAX + 1];
    char stored[NAME_CIPHER_MAX + 1]; /* in the backing directory */
    uint64_t ino;
    mode_t type;     /* S_IFMT bits, 0 if unknown */
    uint64_t cookie; /* position after this entry */
};
int dir_open(struct node *dir, struct dir_stream **out);
void dir_close(struct dir_stream *d);
int dir_next(struct dir_stream *d, uint64_t cookie, struct dir_entry *out); /* 1 entry, 0 end, < 0 error */
/* node_lookup of an entry just listed, which need not be encrypted again. */
int node_lookup_listed(struct node *dir, const struct dir_entry *e, struct stat *st, struct node **out);

/* Extended attributes, all namespaces but system. ones encrypted; system.posix_acl_* pass through. As
 * getxattr(2): size 0 asks for the length; -ERANGE, -ENODATA. */
ssize_t node_getxattr(struct node *n, const char *name, void *value, size_t size);
int node_setxattr(struct node *n, const char *name, const void *value, size_t size, int flags);
ssize_t node_listxattr(struct node *n, char *list, size_t size, bool with_trusted);
int node_removexattr(struct node *n, const char *name);

int volume_statfs(struct volume *v, struct statvfs *out);

/* ---- contents of regular files ---- */

/* Counts an opener: keeps keys and state of the file at hand, checks the header. writable: the file will
 * be written (-EROFS, LFS_ERR_CORRUPT, _AUTH early rather than late). */
int file_open(struct node *n, bool writable);
void file_close(struct node *n);

/* Like pread and pwrite: short only at end of file, holes as zeros; writes are whole or an error. Work with
 * or without file_open. */
ssize_t file_read(struct node *n, void *buf, size_t len, uint64_t off);
/* As file_read, but -EAGAIN rather than wait for content that the page cache does not have; the disk has been
 * asked for it then, and file_read finds it sooner. For short reads: what a long one had done is lost. Waits
 * all the same where the backing filesystem cannot say (tmpfs, network filesystems), for what is in the
 * journal, for the content of a small file whose header is in memory already, for an old seal to be checked,
 * and for whoever has the file's lock. */
ssize_t file_read_now(struct node *n, void *buf, size_t len, uint64_t off);
/* For a stream, after each of its reads: whoever has the plaintext in memory needs the ciphertext there no
 * longer, and the page cache drops what lies some megabytes behind. */
void file_passed(struct node *n, uint64_t off, size_t len);
ssize_t file_write(struct node *n, const void *buf, size_t len, uint64_t off);
ssize_t file_append(struct node *n, const void *buf, size_t len);
int file_truncate(struct node *n, uint64_t size);

/* mode as fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE[|KEEP_SIZE]; others -EOPNOTSUPP. */
int file_fallocate(struct node *n, int mode, uint64_t off, uint64_t len);
ssize_t file_copy_range(struct node *in, uint64_t off_in, struct node *out, uint64_t off_out, size_t len);

/* SEEK_DATA, SEEK_HOLE. */
int64_t file_seek(struct node *n, uint64_t off, int whence);

/* Whether the file has a seal, and if so, whether all its records are those that it was made of, whatever the
 * length of the file. 0, LFS_ERR_AUTH (then *sealed tells that the seal is what is wrong), any other error.
 */
int file_verify_seal(struct node *n, bool *sealed);

/* Durable when it returns: data, size, name and the directories up the path. */
int file_fsync(struct node *n, bool datasync);
int dir_fsync(struct node *dir);

#endif
