/* The command line of latchfs, parsed and checked; nothing is opened or looked up here. Also what mount(8)
 * and fstab put into -o. */
#ifndef FS_MOUNT_OPTIONS_H
#define FS_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum options_act { OPTIONS_MOUNT, OPTIONS_HELP, OPTIONS_VERSION };

/* How `latch unlock` is to open the volume before the mount; latchfs itself never reads these files nor runs
 * the command. */
enum options_unlock {
    UNLOCK_NOT,
    UNLOCK_PASSPHRASE_FILE,
    UNLOCK_KEYFILE,
    UNLOCK_RECOVERY_FILE,
    UNLOCK_IDENTITY,
    UNLOCK_COMMAND,
};

struct options {
    enum options_act act;
    char *volume, *mountpoint; /* as given */
    bool foreground;
    bool allow_other;
    bool read_only;
    bool writethrough;     /* no writeback cache in the kernel */
    bool shared;           /* as in struct volume_options; implies writethrough */
    bool uring;            /* requests come by io_uring where the host has that switched on */
    bool nonempty;         /* a mount point with entries is accepted */
    bool ignore_journal;   /* as in struct volume_options */
    unsigned seal_seconds; /* the same; 0: the default */
    bool bench_bypass;     /* bypass_journal, for tests/bench */
    enum options_unlock unlock;
    char *unlock_with; /* a file, absolute or relative to the starting directory, or a command's name */
    char *keyd_socket; /* NULL: the default */
    char *fsname;      /* NULL: the volume's path */
    char *kernel;      /* flags for the kernel, comma separated, in the order given ("" if none) */
};

/* privileged: root, whose mounts default to allow_other, dev and suid. 0, or LFS_ERR_MISUSE or -ENOMEM with
 * one line in error. *out is filled on success only. */
int options_parse(int argc, char *const argv[], bool privileged, struct options *out, char *error,
                  size_t size);

void options_clear(struct options *o);

extern const char options_usage[];

#endif
