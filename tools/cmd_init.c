/* latch init: a new volume. The order on disk: latchfs.dir and latchfs.journal, then latchfs.ini by rename,
 * last. Without latchfs.ini there is no volume, so a cut leaves none that is half made. */
#include "cli.h"
#include "fresh_slot.h"
#include "identity.h"
#include "keyd_conn.h"
#include "recovery.h"
#include "volume_files.h"

#include "latchfs/aead.h"
#include "latchfs/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct init_args {
    const char *path;
    enum suite suite;
    bool no_recovery;
    const char *recovery_file; /* the new recovery key goes there */
    const char *environment;
    const char *identity; /* private key of the recipient in first */
    struct fresh_source first;
};

/* What has been made so far, to be undone when a later step fails. */
struct making {
    const struct init_args *args;
    int dirfd;
    bool made_dir, made_files, done;
    int recovery_fd;
};

static void making_clear(struct making *m)
{
    if (!m->done && m->made_files) {
        unlinkat(m->dirfd, KEYSTORE_NAME, 0);
        unlinkat(m->dirfd, JOURNAL_NAME, 0);
        unlinkat(m->dirfd, DIRREC_NAME, 0);
    }
    if (!m->done && m->made_dir)
        rmdir(m->args->path);
    if (!m->done)
        recovery_abandon(m->args->recovery_file, m->recovery_fd);
    lfs_close_fd(&m->recovery_fd);
    lfs_close_fd(&m->dirfd);
}

static int not_empty(const char *path, bool volume, bool leftovers)
{
    char quoted[PATH_MAX];
    const char *why = volume ? "is a latchfs volume already"
                      : leftovers
                          ? "has the leftovers of an init that was cut; remove latchfs.* in it and try again"
                          : "is not empty; name a new or an empty directory";
    return cli_fail(LFS_EXIT_USAGE, "%s: %s", cli_quote(path, quoted, sizeof quoted), why);
}

static int check_empty(const char *path, int dirfd)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int err = -errno;
        lfs_close_fd(&fd);
        return cli_fail_err(err, path, NULL);
    }
    bool empty = true, volume = false, foreign = false;
    for (struct dirent *e; (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        empty = false;
        volume |= strcmp(e->d_name, KEYSTORE_NAME) == 0;
        foreign |= strncmp(e->d_name, RESERVED_PREFIX, strlen(RESERVED_PREFIX)) != 0;
    }
    closedir(dir);
    return empty ? LFS_EXIT_OK : not_empty(path, volume, !foreign);
}

/* Opens the directory if it is there: before any secret is asked, and again when it is time to write. */
static int open_target(const char *path, bool create, struct making *m)
{
    if (create && mkdir(path, 0700) == 0)
        m->made_dir = true;
    else if (create && errno != EEXIST)
        return cli_fail_err(-errno, path, NULL);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !create)
        return LFS_EXIT_OK;
    if (fd < 0)
        return cli_fail_err(-errno, path, errno == ENOTDIR ? "name a new or an empty directory" : NULL);
    if (flock(fd, LOCK_EX | LOCK_NB))
        return cli_fail(LFS_EXIT_BUSY, "%s: another command is at work there", path);
    int code = check_empty(path, fd);
    if (code == LFS_EXIT_OK && create) {
        m->dirfd = fd;
        fd = -1;
    }
    return code;
}

/* The root's directory record and the journal need its keys: a lease, as a mount takes one. */
static int put_tree(struct making *m, const uint8_t volume_id[static ID_BYTES])
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    CLEANUP(keyset_freep) struct keyset *keys = NULL;
    unsigned seconds;
    int code = keyd_conn_open(false, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_attach(kc, volume_id, m->args->path);
    if (!r)
        r = keyclient_lease(kc, volume_id, NULL, &keys, &seconds);
    if (r)
        return keyd_conn_fail(kc, r, m->args->path);
    m->made_files = true;
    r = volume_create(m->dirfd, keys);
    return r ? cli_fail_err(r, m->args->path, NULL) : LFS_EXIT_OK;
}

static int put_ini(struct making *m, const char *ini, size_t len)
{
    int r = volume_file_put(m->dirfd, KEYSTORE_NAME, ini, len, 0600, -1, -1);
    if (!r && m->made_dir)
        r = sync_parent_dir(m->args->path);
    if (!r)
        r = volume_file_verify(m->dirfd, KEYSTORE_NAME, ini, len);
    return r ? cli_fail_err(r, m->args->path, NULL) : LFS_EXIT_OK;
}

/* A printable recovery key as people give it: without the NUL behind it. */
static struct secret *recovery_text(const struct secret *key)
{
    return secret_new_copy(secret_const(key), strnlen((const char *)secret_const(key), secret_len(key)));
}

/* The recovery key must open the very bytes that are about to be put in place. */
static int hand_out_recovery(struct making *m, struct keyclient *kc, const char *ini, size_t len,
                             const struct secret *key)
{
    if (m->args->no_recovery)
        return LFS_EXIT_OK;
    AUTO_SECRET struct secret *text = recovery_text(key);
    if (!text)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    struct credential c = {.type = CRED_RECOVERY, .secret = text};
    int r = keyclient_slot_test(kc, ini, len, &c, NULL);
    return r ? keyd_conn_fail(kc, r, "recovery key")
             : recovery_hand_out(m->args->recovery_file, m->recovery_fd, key);
}

/* The root's keys are needed to make its files. A recipient's public key opens nothing: the private one does,
 * or the recovery key. */
static int unlock_new(struct making *m, struct keyclient *kc, const char *ini, size_t len,
                      const struct credential *first, const struct secret *recovery,
                      uint8_t id[static ID_BYTES])
{
    AUTO_SECRET struct secret *other = NULL;
    struct credential c = *first;
    int code = LFS_EXIT_OK;
    if (c.type == CRED_RECIPIENT && m->args->identity)
        code = identity_read(m->args->identity, &other);
    else if (c.type == CRED_RECIPIENT)
        other = recovery_text(recovery);
    if (code == LFS_EXIT_OK && c.type == CRED_RECIPIENT && !other)
        code = cli_fail(LFS_EXIT_FAILURE, "out of memory");
    if (code != LFS_EXIT_OK)
        return code;
    if (other)
        c = (struct credential){.type = m->args->identity ? CRED_RECIPIENT : CRED_RECOVERY, .secret = other};
    int r = keyclient_unlock(kc, ini, len, &c, false, id, NULL);
    return r ? keyd_conn_fail(kc, r, m->args->path) : LFS_EXIT_OK;
}

static int put_volume(struct making *m, struct keyclient *kc, const char *ini, size_t len,
                      const struct credential *cred, const struct secret *recovery)
{
    uint8_t id[ID_BYTES];
    unsigned held;
    int r, code = unlock_new(m, kc, ini, len, cred, recovery, id);
    if (code != LFS_EXIT_OK)
        return code;
    code = open_target(m->args->path, true, m);
    if (code == LFS_EXIT_OK)
        code = put_tree(m, id);
    if (code == LFS_EXIT_OK)
        code = hand_out_recovery(m, kc, ini, len, recovery);
    if (code == LFS_EXIT_OK)
        code = put_ini(m, ini, len);
    if (code == LFS_EXIT_OK && (r = keyclient_pin(kc, ini, len)) < 0)
        code = keyd_conn_fail(kc, r, m->args->path);
    keyclient_lock(kc, id, &held); /* whoever wants to use the volume unlocks it */
    return code;
}

static int make_volume(struct making *m, struct keyclient *kc, const struct credential *cred)
{
    const struct init_args *a = m->args;
    AUTO_FREE char *ini = NULL;
    AUTO_SECRET struct secret *recovery = NULL;
    size_t len = 0;
    struct keystore_init in = {.suite = a->suite,
                               .fast_kdf = a->first.fast_kdf,
                               .recovery = !a->no_recovery,
                               .first = *cred,
                               .label = a->first.label,
                               .environment = a->environment};
    int r = keyclient_init(kc, &in, &ini, &len, a->no_recovery ? NULL : &recovery);
    if (r)
        return keyd_conn_fail(kc, r, a->path);
    return put_volume(m, kc, ini, len, cred, recovery);
}

static void block_signals(void)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGPIPE};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++)
        sigaddset(&set, ending[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static int init_volume(const struct init_args *a)
{
    CLEANUP(making_clear) struct making m = {.args = a, .dirfd = -1, .recovery_fd = -1};
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    AUTO_CRED struct cred cred = {0};
    int code = open_target(a->path, false, &m);
    if (code == LFS_EXIT_OK)
        code = fresh_load(&a->first, a->path, &cred);
    if (code == LFS_EXIT_OK)
        code = keyd_conn_open(true, &kc);
    block_signals(); /* from here on nothing waits for a person, and everything can be undone */
    if (code == LFS_EXIT_OK && !a->no_recovery)
        code = recovery_prepare(a->recovery_file, &m.recovery_fd);
    if (code == LFS_EXIT_OK)
        code = make_volume(&m, kc, &cred.c);
    if (code != LFS_EXIT_OK)
        return code;
    m.done = true;
    char quoted[PATH_MAX];
    printf("%s: a new volume, suite %s%s\n", cli_quote(a->path, quoted, sizeof quoted), suite_name(a->suite),
           a->first.fast_kdf ? ", with a fast KDF: for tests only" : "");
    return LFS_EXIT_OK;
}

enum {
    OPT_SUITE = OPT_NEXT,
    OPT_FAST,
    OPT_NO_RECOVERY,
    OPT_LABEL,
    OPT_ENVIRONMENT,
    OPT_RECIPIENT,
};

static int take_option(struct init_args *a, int c, char **argv)
{
    switch (c) {
    case OPT_SUITE:
        if (suite_by_name(optarg, &a->suite))
            return cli_fail(LFS_EXIT_USAGE, "unknown suite; use auto, aes-256-gcm or chacha20-poly1305");
        return LFS_EXIT_OK;
    case OPT_FAST:
        a->first.fast_kdf = true;
        return LFS_EXIT_OK;
    case OPT_NO_RECOVERY:
        a->no_recovery = true;
        return LFS_EXIT_OK;
    case OPT_RECOVERY_FILE:
        a->recovery_file = optarg;
        return LFS_EXIT_OK;
    case OPT_LABEL:
        a->first.label = optarg;
        return label_check(optarg);
    case OPT_ENVIRONMENT:
        a->environment = optarg;
        return label_check(optarg);
    case OPT_RECIPIENT:
        a->first.recipient = optarg;
        return LFS_EXIT_OK;
    default:
        return cred_source_option(&a->first.from, c, optarg) ? LFS_EXIT_OK
                                                             : cli_bad_option(&cmd_init, c, argv);
    }
}

static int check(struct init_args *a)
{
    if (a->no_recovery && a->recovery_file)
        return cli_fail(LFS_EXIT_USAGE, "--recovery-file and --no-recovery exclude each other");
    if (a->first.recipient && a->no_recovery && !a->identity)
        return cli_fail(LFS_EXIT_USAGE,
                        "a public key alone cannot open the new volume to make its files; give "
                        "--identity FILE, or do without --no-recovery");
    return fresh_check(&a->first);
}

/* Options that open a volume elsewhere make its first slot here. */
static int parse(int argc, char **argv, struct init_args *a)
{
    static const struct option options[] = {
        {"suite", required_argument, NULL, OPT_SUITE},
        {"fast-kdf", no_argument, NULL, OPT_FAST},
        {"no-recovery", no_argument, NULL, OPT_NO_RECOVERY},
        {"recovery-file", required_argument, NULL, OPT_RECOVERY_FILE},
        {"label", required_argument, NULL, OPT_LABEL},
        {"environment", required_argument, NULL, OPT_ENVIRONMENT},
        {"recipient", required_argument, NULL, OPT_RECIPIENT},
        {"identity", required_argument, NULL, OPT_IDENTITY},
        {"command", required_argument, NULL, OPT_COMMAND},
        {"command-timeout", required_argument, NULL, OPT_COMMAND_TIMEOUT},
        PASSPHRASE_OPTIONS("", 0),
        {0},
    };
    struct cred_source *from = &a->first.from;
    int code = LFS_EXIT_OK;
    for (int c; code == LFS_EXIT_OK && (c = getopt_long(argc, argv, ":", options, NULL)) != -1;)
        code = take_option(a, c, argv);
    if (code != LFS_EXIT_OK)
        return code;
    if (from->identity && a->first.recipient)
        return cli_fail(LFS_EXIT_USAGE, "give one kind of new slot, not several");
    code = cred_source_check(from);
    if (code != LFS_EXIT_OK)
        return code;
    a->first.command = from->command;
    a->first.command_timeout = from->command_timeout;
    a->identity = from->identity;
    if (from->identity)
        a->first.recipient = from->identity;
    from->command = from->identity = NULL;
    return check(a);
}

static int run(int argc, char **argv)
{
    struct init_args a = {.suite = aead_best_suite()};
    int code = parse(argc, argv, &a);
    if (code == LFS_EXIT_OK)
        code = cli_want_args(&cmd_init, argc, 1, a.first.command ? argc : 1);
    if (code != LFS_EXIT_OK)
        return code;
    a.path = argv[optind];
    a.first.command_args = argv + optind + 1;
    return init_volume(&a);
}

const struct command cmd_init = {
    .name = "init",
    .synopsis = "[OPTION]... VOLUME [-- ARG...]",
    .summary = "make a new volume in a new or an empty directory",
    .help = "  --suite SUITE             auto (default), aes-256-gcm or chacha20-poly1305\n"
            "  --recovery-file FILE      write the recovery key into FILE (new, mode 0600), do not show it\n"
            "  --no-recovery             make no recovery key\n"
            "  --label TEXT              a name for the first slot\n"
            "  --environment NAME        production, staging, ...: latch-keyd may refuse other environments\n"
            "  --fast-kdf                weak passphrase protection, for tests only\n"
            "\n"
            "Without one of these the first slot's passphrase is asked on the terminal, twice:\n"
            "  --passphrase-file FILE    the passphrase is FILE's content; one trailing newline is cut\n"
            "  --passphrase-fd N         the same, read from descriptor N\n"
            "  --passphrase-command CMD  the same, from the standard output of CMD, run by /bin/sh\n"
            "  --keyfile FILE            the first slot is a key file slot, 32 to 8192 bytes\n"
            "  --recipient FILE          it is for the public key in FILE, or latch-recipient-... itself\n"
            "  --identity FILE           the same, by the private key in FILE\n"
            "  --command NAME            it is a command slot; the command gets what is behind --\n"
            "  --command-timeout SECONDS how long the command may take, 30 by default\n",
    .run = run,
};
