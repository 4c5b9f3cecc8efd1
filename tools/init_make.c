/* The order on disk: latchfs.dir and latchfs.journal, then latchfs.ini by rename, last. Without latchfs.ini
 * there is no volume, so a cut leaves none that is half made. */
#include "init_make.h"

#include "cli.h"
#include "identity.h"
#include "keyd_conn.h"
#include "recovery.h"
#include "volume_files.h"

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

/* What has been made so far, to be undone when a later step fails. */
struct making {
    const struct init_args *args;
    int dirfd;
    bool made_dir, made_files, done;
    int recovery_fd;
};

static const char *last_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const char *store_name(const struct init_args *a)
{
    return a->config ? last_of(a->config) : KEYSTORE_NAME;
}

static void making_clear(struct making *m)
{
    if (!m->done && m->made_files && m->args->config) {
        unlinkat(m->dirfd, store_name(m->args), 0);
    } else if (!m->done && m->made_files) {
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

/* The same for the key store of a view, in a directory that has other things in it. */
static int open_beside(const struct init_args *a, bool create, struct making *m)
{
    char dir[PATH_MAX], quoted[PATH_MAX];
    AUTO_CLOSE int plain = open(a->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (plain < 0)
        return cli_fail_err(-errno, a->path, "name the directory to be shown encrypted");
    const char *name = last_of(a->config);
    if (!*name || snprintf(dir, sizeof dir, "%.*s", (int)(name - a->config), a->config) >= (int)sizeof dir)
        return cli_fail(LFS_EXIT_USAGE, "--config names the file for the new key store");
    AUTO_CLOSE int fd = open(*dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return cli_fail_err(-errno, dir, NULL);
    if (faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return cli_fail(LFS_EXIT_USAGE, "%s: is there already; 'latch view' without --init uses it",
                        cli_quote(a->config, quoted, sizeof quoted));
    if (create) {
        m->dirfd = fd;
        fd = -1;
    }
    return LFS_EXIT_OK;
}

static int open_place(const struct init_args *a, bool create, struct making *m)
{
    return a->config ? open_beside(a, create, m) : open_target(a->path, create, m);
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
    m->made_files = true;
    int r = volume_file_put(m->dirfd, store_name(m->args), ini, len, 0600, -1, -1);
    if (!r && m->made_dir)
        r = sync_parent_dir(m->args->path);
    if (!r)
        r = volume_file_verify(m->dirfd, store_name(m->args), ini, len);
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
    code = open_place(m->args, true, m);
    if (code == LFS_EXIT_OK && !m->args->config)
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

int init_make(const struct init_args *a)
{
    CLEANUP(making_clear) struct making m = {.args = a, .dirfd = -1, .recovery_fd = -1};
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    AUTO_CRED struct cred cred = {0};
    int code = open_place(a, false, &m);
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
    printf("%s: a new %s, suite %s%s\n", cli_quote(a->config ? a->config : a->path, quoted, sizeof quoted),
           a->config ? "key store for a view" : "volume", suite_name(a->suite),
           a->first.fast_kdf ? ", with a fast KDF: for tests only" : "");
    return LFS_EXIT_OK;
}
