/* The files of a volume that the command line itself reads and replaces: latchfs.ini and its .bak. */
#ifndef TOOLS_VOLUME_FILES_H
#define TOOLS_VOLUME_FILES_H

#include "latchfs/buf.h"
#include "latchfs/keystore.h"

#include <stdbool.h>
#include <stddef.h>

struct volume_files {
    const char *path; /* as the user gave it; borrowed */
    const char *name; /* of the key store: latchfs.ini, or of a plain directory that of its view; static */
    int dirfd;
    char *ini; /* malloc'ed, NUL behind it */
    size_t ini_len;
    struct keystore *ks; /* parsed from it */
};

/* Opens the directory and reads latchfs.ini (in a plain directory that has none, .latchfs-view.ini), checking
 * its grammar and that it is signed by the key it names (damage; who may sign only keyd can tell). Prints its
 * own error, which names latchfs.ini.bak where that can help. Returns an exit code; clear *v in any case. */
int volume_files_open(const char *path, struct volume_files *v);
void volume_files_clear(struct volume_files *v);

/* The same to read a copy, with header (or NULL) in place of latchfs.ini. Without it, latchfs.ini.bak serves
 * where latchfs.ini is missing or damaged, and standard error says so. */
int volume_files_open_copy(const char *path, const char *header, struct volume_files *v);
#define AUTO_VOLUME CLEANUP(volume_files_clear)

/* True for the key store of a view: there is no volume in the directory. */
bool volume_files_is_view(const struct volume_files *v);

/* Before a change that will end in volume_files_replace: keeps other commands from changing the key store at
 * the same time (LFS_EXIT_BUSY), until v is cleared, and reads latchfs.ini anew. */
int volume_files_lock(struct volume_files *v);

/* Puts new bytes in place of v->ini: the old ones become latchfs.ini.bak, each by temporary file, sync,
 * rename and sync of the directory; then reads back and compares. Owner and mode stay. Prints its own error;
 * on failure latchfs.ini is the old or the new one, whole. v then holds the new bytes. */
int volume_files_replace(struct volume_files *v, const char *ini, size_t len);

/* After keys were destroyed: the .bak is the key store of a moment ago and would bring them back. Prints its
 * own error; returns an exit code. */
int volume_files_drop_bak(const struct volume_files *v);

/* Writes one file of the volume durably (as above). owner: -1 to leave. 0 or an error. */
int volume_file_put(int dirfd, const char *name, const void *data, size_t len, unsigned mode, int uid,
                    int gid);

/* Makes the name path itself durable: syncs the directory it stands in. 0 or an error. */
int sync_parent_dir(const char *path);

/* 0 if dirfd/name reads back as exactly these bytes, else an error. */
int volume_file_verify(int dirfd, const char *name, const void *data, size_t len);

#endif
