/* latchfs-view: shows a plain directory as an encrypted volume. Sets everything up in order, waits for the
 * end, takes it down in the reverse order. */
#include "config.h"
#include "fs/view/keys.h"
#include "fs/view/mounts.h"
#include "fs/view/ops.h"
#include "fs/view/options.h"
#include "fs/view/prune.h"
#include "latchfs/background.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/keystore.h"
#include "latchfs/log.h"
#include "latchfs/unmount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct parts { /* what is up, for taking it down */
    struct view *v;
    struct keys *keys;
    struct fuse_session *se;
    struct workers *workers;
    struct prune *prune;
    int report; /* of background_enter, or -1 */
    int signals;
    bool mounted;
};

/* ---- before the fork ---- */

static int resolve(const char *path, char out[static PATH_MAX])
{
    if (realpath(path, out))
        return 0;
    int err = errno;
    log_error("%s: %s", path,
              err == ENOTCONN ? "a dead mount; 'fusermount3 -u' removes it" : strerrordesc_np(err));
    return -err;
}

/* What follows top in path; NULL if it is not in there. */
static const char *below(const char *path, const char *top)
{
    size_t len = strlen(top);
    if (strcmp(top, "/") == 0)
        return path + 1;
    if (strncmp(path, top, len) != 0 || (path[len] != '/' && path[len] != '\0'))
        return NULL;
    return path + len + (path[len] == '/');
}

static int refuse(const char *path, const char *why, int err)
{
    log_error("%s: %s", path, why);
    return err;
}

static int check_mountpoint(const struct view *v)
{
    DIR *d = opendir(v->mountpoint);
    int entries = 0;
    if (!d) {
        int err = -errno;
        return refuse(v->mountpoint, lfs_strerror(err), err);
    }
    while (entries < 3 && readdir(d))
        entries++;
    closedir(d);
    if (entries > 2)
        return refuse(v->mountpoint, "not empty; name an empty directory", LFS_ERR_BUSY);
    if (below(v->plain, v->mountpoint))
        return refuse(v->mountpoint, "the plain directory lies inside the mount point", LFS_ERR_MISUSE);
    return 0;
}

/* Of the key store: its place, whose volume it is, and since when there is one. */
static int read_config(struct view *v, const char *given)
{
    char path[PATH_MAX + sizeof VIEW_KEYSTORE_NAME];
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    AUTO_FREE char *ini = NULL;
    size_t len = 0;
    snprintf(path, sizeof path, "%s/" VIEW_KEYSTORE_NAME, v->plain);
    if (!given && access(path, F_OK) && errno == ENOENT)
        return refuse(v->plain, "no key store of a view; 'latch view --init' makes one", LFS_ERR_NOTVOLUME);
    int r = resolve(given ? given : path, v->config);
    if (!r)
        r = io_read_file(AT_FDCWD, v->config, KEYSTORE_MAX_BYTES, &ini, &len);
    if (!r)
        r = keystore_parse(ini, len, &ks, NULL);
    if (r)
        return refuse(v->config[0] ? v->config : path, lfs_strerror(r), r);
    memcpy(v->volume_id, ks->volume_id, ID_BYTES);
    v->created = (time_t)ks->created;
    return 0;
}

static int hide(struct view *v)
{
    const char *mount = below(v->mountpoint, v->plain), *config = below(v->config, v->plain);
    int n = 0;
    if (mount)
        n = snprintf(v->hidden[0], PATH_MAX, "%s", mount);
    if (config)
        n = snprintf(v->hidden[1], PATH_MAX, "%s", config);
    if (config)
        n = snprintf(v->hidden[2], PATH_MAX, "%s.bak", config);
    return n >= PATH_MAX ? refuse(v->config, lfs_strerror(-ENAMETOOLONG), -ENAMETOOLONG) : 0;
}

static int open_plain(struct view *v)
{
    struct stat st;
    v->root_fd = open(v->plain, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (v->root_fd < 0 || fstat(v->root_fd, &st)) {
        int err = -errno;
        return refuse(v->plain, lfs_strerror(err), err);
    }
    v->root_dev = st.st_dev;
    return 0;
}

static int prepare(struct view *v, struct options *o)
{
    int r = resolve(o->plain, v->plain);
    if (!r)
        r = resolve(o->mountpoint, v->mountpoint);
    if (!r)
        r = check_mountpoint(v);
    if (!r)
        r = read_config(v, o->config);
    if (!r)
        r = hide(v);
    if (!r)
        r = open_plain(v);
    v->one_file_system = o->one_file_system;
    v->exclude = o->exclude;
    o->exclude = NULL;
    v->nodes = vtable_new();
    v->groups = groups_new();
    v->longnames = longnames_new();
    return r ? r : v->nodes && v->groups && v->longnames && v->crowded >= 0 ? 0 : -ENOMEM;
}

static struct view *view_new(void)
{
    struct view *v = calloc(1, sizeof *v);
    pthread_rwlockattr_t attr;
    if (!v)
        return NULL;
    v->root_fd = -1;
    v->crowded = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    /* A lock does not wait for a stream of readers. */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&v->gate, &attr);
    pthread_rwlockattr_destroy(&attr);
    return v;
}

static void view_free(struct view *v)
{
    if (!v)
        return;
    vtable_free(v->nodes);
    groups_free(v->groups);
    longnames_free(v->longnames);
    exclude_free(v->exclude);
    lfs_close_fd(&v->root_fd);
    lfs_close_fd(&v->crowded);
    pthread_rwlock_destroy(&v->gate);
    free(v);
}

/* ---- set up ---- */

/* The string for libfuse: commas and backslashes in the name are escaped there. */
static int mount_options(const struct view *v, const struct options *o, char **out)
{
    char *opts = NULL;
    AUTO_FREE char *name = NULL;
    if (asprintf(&name, "fsname=%s", o->fsname ? o->fsname : v->plain) < 0)
        return -ENOMEM;
    if (fuse_opt_add_opt(&opts, "ro,nosuid,nodev,default_permissions,subtype=latchfs-view") ||
        fuse_opt_add_opt_escaped(&opts, name) || (o->allow_other && fuse_opt_add_opt(&opts, "allow_other"))) {
        free(opts);
        return -ENOMEM;
    }
    *out = opts;
    return 0;
}

static int mount_session(struct parts *p, const struct options *o)
{
    const struct fuse_lowlevel_ops ops = ops_table();
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    AUTO_FREE char *opts = NULL;
    int r = mount_options(p->v, o, &opts);
    if (r)
        return r;
    if (!fuse_opt_add_arg(&args, "latchfs-view") && !fuse_opt_add_arg(&args, "-o") &&
        !fuse_opt_add_arg(&args, opts))
        p->se = fuse_session_new(&args, &ops, sizeof ops, p->v);
    fuse_opt_free_args(&args);
    if (!p->se)
        return -EINVAL;
    errno = 0;
    if (fuse_session_mount(p->se, p->v->mountpoint)) {
        r = errno ? -errno : -EIO;
        log_error("%s: cannot mount: %s", p->v->mountpoint, lfs_strerror(r));
        return r;
    }
    p->mounted = true;
    return 0;
}

__attribute__((format(printf, 2, 0))) static void libfuse_log(enum fuse_log_level level, const char *fmt,
                                                              va_list ap)
{
    char line[512];
    vsnprintf(line, sizeof line, fmt, ap);
    line[strcspn(line, "\n")] = '\0';
    log_msg(level <= FUSE_LOG_ERR ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN, "%s", line);
}

static int set_up(struct parts *p, const struct options *o)
{
    background_raise_file_limit();
    int r = background_take_signals(&p->signals);
    if (!r)
        r = keys_open(p->v, o->keyd_socket, &p->keys);
    if (!r)
        r = mount_session(p, o);
    if (r)
        return r;
    if (!secret_memory_is_locked())
        log_warn("keys are not locked in memory: RLIMIT_MEMLOCK is too small");
    if (p->report >= 0)
        log_setup("latchfs-view", true, LOG_LEVEL_INFO);
    r = workers_start(p->se, &p->workers);
    if (!r)
        r = prune_start(p->v, p->se, o->inodes ? o->inodes : PRUNE_NODES_DEFAULT, &p->prune);
    return r ? r : keys_start(p->keys);
}

/* ---- the view's life ---- */

static void live(struct parts *p)
{
    struct pollfd f[2] = {{.fd = workers_done_fd(p->workers), .events = POLLIN},
                          {.fd = p->signals, .events = POLLIN}};
    background_report(&p->report, LFS_EXIT_OK);
    log_info("%s: its view is mounted on %s", p->v->plain, p->v->mountpoint);
    while (poll(f, 2, -1) < 0 && errno == EINTR)
        ;
    log_info("%s: its view ends; it had %llu inodes at most", p->v->plain,
             (unsigned long long)vtable_peak(p->v->nodes));
}

static bool connection_is_over(struct fuse_session *se)
{
    struct pollfd p = {.fd = fuse_session_fd(se)};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

/* While requests are still answered. A mount that is in use leaves the tree, and ends with this process. */
static void unmount(const struct parts *p)
{
    const char *at = p->v->mountpoint;
    if (!p->mounted || connection_is_over(p->se) || !mounts_view_at(at))
        return;
    int r = unmount_path(at, false);
    if (r == -EBUSY)
        r = unmount_path(at, true);
    if (r)
        log_error("%s: cannot unmount: %s", at, lfs_strerror(r));
}

static void take_down(struct parts *p)
{
    prune_free(p->prune);
    unmount(p);
    workers_free(p->workers);
    keys_free(p->keys);
    /* Of a live connection libfuse would unmount the path, whatever is mounted there by now. */
    if (p->mounted && connection_is_over(p->se))
        fuse_session_unmount(p->se);
    if (p->se)
        fuse_session_destroy(p->se);
    lfs_close_fd(&p->signals);
}

static int run(struct view *v, const struct options *o)
{
    struct parts p = {.v = v, .report = -1, .signals = -1};
    int r = o->foreground ? 0 : background_enter(&p.report);
    if (!r)
        r = set_up(&p, o);
    if (!r)
        live(&p);
    take_down(&p);
    background_report(&p.report, lfs_exit_code(r));
    return r;
}

static int mount_view(struct options *o)
{
    struct view *v = view_new();
    int r = v ? prepare(v, o) : -ENOMEM;
    if (!r)
        r = run(v, o);
    view_free(v);
    return r;
}

int main(int argc, char **argv)
{
    struct options o;
    char error[PATH_MAX + 256];
    log_setup("latchfs-view", false, LOG_LEVEL_INFO);
    fuse_set_log_func(libfuse_log);
    close_range(STDERR_FILENO + 1, ~0u, 0); /* whatever the caller forgot would stay open with the mount */
    int r = secret_harden_process();
    if (r) {
        log_error("cannot protect the process: %s", lfs_strerror(r));
        return lfs_exit_code(r);
    }
    r = options_parse(argc, argv, &o, error, sizeof error);
    if (r)
        log_error("%s", error[0] ? error : lfs_strerror(r));
    else if (o.act == OPTIONS_MOUNT)
        r = mount_view(&o);
    else
        fputs(o.act == OPTIONS_HELP ? options_usage : "latchfs-view " LATCHFS_VERSION "\n", stdout);
    options_clear(&o);
    return lfs_exit_code(r);
}
