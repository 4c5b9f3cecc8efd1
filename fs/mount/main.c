/* latchfs: mounts an encrypted volume. Sets everything up in order, waits for the end, takes it down in the
 * reverse order. */
#include "config.h"
#include "fs/mount/control.h"
#include "fs/mount/control_check.h"
#include "fs/mount/control_jobs.h"
#include "fs/mount/dir_streams.h"
#include "fs/mount/freezer.h"
#include "fs/mount/hooks.h"
#include "fs/mount/identity.h"
#include "fs/mount/keys.h"
#include "fs/mount/mountpoint.h"
#include "fs/mount/ops.h"
#include "fs/mount/options.h"
#include "fs/mount/pd_list.h"
#include "fs/mount/session.h"
#include "fs/mount/unlock.h"
#include "fs/mount/wipe.h"
#include "latchfs/background.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"
#include "latchfs/mountctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* The daemon of a mount that umount(8) has just ended still puts its journal in place. */
#define BUSY_TRIES 300
#define BUSY_WAIT_MS 100
/* How long programs that still use a mount may go on after SIGTERM. */
#define LINGER_MS 5000

struct parts { /* what is up, for taking it down */
    struct daemon *d;
    struct control *control;
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

static int read_ids(struct daemon *d)
{
    CLEANUP(pd_list_clear) struct pd_list list = {0};
    int r = pd_list_read(d->volume_path, &list);
    if (r) {
        log_error("%s: %s", d->volume_path, lfs_strerror(r));
        return r;
    }
    memcpy(d->volume_id, list.volume_id, ID_BYTES);
    memcpy(d->pd_id, list.root_id, ID_BYTES);
    return 0;
}

static int prepare(const struct options *o, struct daemon *d)
{
    int r = resolve(o->volume, d->volume_path);
    if (r == -ENOENT || r == -ENOTDIR)
        r = LFS_ERR_NOTVOLUME;
    if (!r)
        r = resolve(o->mountpoint, d->mountpoint);
    if (!r)
        r = mountpoint_check(d->mountpoint, d->volume_path, o->nonempty);
    if (!r)
        r = read_ids(d);
    d->read_only = o->read_only;
    d->shared = o->shared;
    d->want_writeback = !o->writethrough && !o->read_only;
    return r;
}

/* ---- set up ---- */

static int is_mounted_here(const char *socket_path, const struct mount_status *st, void *arg)
{
    const struct daemon *d = arg;
    return strcmp(st->volume, d->volume_path) == 0 && mountpoint_is_latchfs(st->mountpoint);
}

static int open_volume(struct daemon *d, const struct options *o, const struct keyset *set)
{
    const struct volume_options vo = {.read_only = o->read_only,
                                      .ignore_journal = o->ignore_journal,
                                      .shared = o->shared,
                                      .kernel_times = d->want_writeback,
                                      .seal_seconds = o->seal_seconds,
                                      .bypass_journal = o->bench_bypass};
    if (o->bench_bypass)
        log_warn("for a benchmark: nothing that is written here survives a crash");
    const struct timespec wait = {.tv_nsec = BUSY_WAIT_MS * 1000000};
    int r = LFS_ERR_BUSY;
    for (int i = 0; i < BUSY_TRIES && r == LFS_ERR_BUSY; i++) {
        if (i)
            nanosleep(&wait, NULL);
        r = volume_open(d->volume_path, set, &vo, &d->replay, &d->vol);
        if (r == LFS_ERR_BUSY && mountctl_each(is_mounted_here, d) > 0)
            break;
    }
    if (r)
        log_error("%s: %s", d->volume_path, lfs_strerror(r));
    return r;
}

/* Whoever can write the ciphertext can set modes and make device nodes there. So root's mounts have dev and
 * suid only where the filesystem below has them; an option given later counts more. */
static const char *default_flags(const struct daemon *d)
{
    struct statvfs below;
    if (geteuid() != 0 || statvfs(d->volume_path, &below))
        return "nodev,nosuid";
    bool dev = !(below.f_flag & ST_NODEV), suid = !(below.f_flag & ST_NOSUID);
    return dev ? suid ? "dev,suid" : "dev,nosuid" : suid ? "nodev,suid" : "nodev,nosuid";
}

/* The string for libfuse: commas and backslashes in the name are escaped there. */
static int mount_options(const struct daemon *d, const struct options *o, char **out)
{
    char *opts = NULL;
    AUTO_FREE char *name = NULL;
    if (asprintf(&name, "fsname=%s", o->fsname ? o->fsname : d->volume_path) < 0)
        return -ENOMEM;
    if (fuse_opt_add_opt(&opts, "default_permissions,subtype=latchfs") ||
        fuse_opt_add_opt_escaped(&opts, name) || (o->allow_other && fuse_opt_add_opt(&opts, "allow_other")) ||
        fuse_opt_add_opt(&opts, default_flags(d)) || (*o->kernel && fuse_opt_add_opt(&opts, o->kernel))) {
        free(opts);
        return -ENOMEM;
    }
    *out = opts;
    return 0;
}

static int mount_session(struct parts *p, const struct options *o)
{
    struct daemon *d = p->d;
    AUTO_FREE char *opts = NULL;
    struct fuse_lowlevel_ops ops = ops_table(d);
    int r = mount_options(d, o, &opts);
    if (!r)
        r = session_new(&daemon_hooks, d, &ops, opts, &d->session);
    if (!r)
        r = session_mount(d->session, d->mountpoint, o->uring);
    p->mounted = r == 0;
    if (r)
        log_error("%s: cannot mount: %s", d->mountpoint, lfs_strerror(r));
    return r;
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
    struct daemon *d = p->d;
    CLEANUP(keyset_freep) struct keyset *set = NULL;
    background_raise_file_limit();
    int r = background_take_signals(&p->signals);
    if (!r)
        r = keys_open(d, o->keyd_socket, &d->keys, &set);
    if (!r)
        r = open_volume(d, o, set);
    if (!r && (!(d->jobs = jobs_new(d->vol)) || !(d->checks = checks_new(d->vol)) ||
               !(d->freezer = freezer_new(d)) || !(d->streams = dir_streams_new())))
        r = -ENOMEM;
    if (!r)
        r = mount_session(p, o);
    return r ? r : identity_init();
}

/* ---- the mount's life ---- */

static void log_replay(const struct daemon *d)
{
    const struct replay_report *p = &d->replay;
    if (p->unclean)
        log_info(
            "%s: was not unmounted cleanly: replayed %llu entries of %llu files, skipped %llu, torn %llu",
            d->volume_path, (unsigned long long)p->entries, (unsigned long long)p->files,
            (unsigned long long)p->skipped, (unsigned long long)p->torn);
    if (!secret_memory_is_locked())
        log_warn("keys are not locked in memory: RLIMIT_MEMLOCK is too small");
}

/* To standard error, for who mounts, and to the system's log. From here on there are threads, and the log's
 * way does not change. */
static void switch_log(const struct parts *p)
{
    log_replay(p->d);
    if (p->report < 0)
        return;
    log_setup("latchfs", true, LOG_LEVEL_INFO);
    log_replay(p->d);
}

static int start_threads(struct parts *p, const struct options *o)
{
    struct daemon *d = p->d;
    int r = o->read_only ? 0 : volume_start(d->vol);
    if (!r)
        r = session_start(d->session);
    if (!r)
        r = keys_start(d->keys);
    wipe_thread(); /* this one has opened the volume, and holds no keys from here on */
    if (r)
        fprintf(stderr, "latchfs: cannot start: %s\n", lfs_strerror(r));
    return r;
}

/* Requests are answered now: the rest, and the user's command may return. */
static void go_live(struct parts *p)
{
    struct daemon *d = p->d;
    d->since = time(NULL);
    d->connection = mountpoint_connection(d->mountpoint);
    int r = control_start(d, &p->control);
    if (r)
        log_warn("no control socket: %s", lfs_strerror(r));
    mountpoint_tune(d->mountpoint);
    background_report(&p->report, LFS_EXIT_OK);
    log_info("%s: mounted on %s", d->volume_path, d->mountpoint);
}

/* Waits for a signal or for the end of the connection. True: a signal. */
static bool wait_for_end(const struct parts *p, int timeout_ms)
{
    struct freezer *freezer = p->d->freezer;
    struct pollfd f[3] = {{.fd = session_done_fd(p->d->session), .events = POLLIN},
                          {.fd = p->signals, .events = POLLIN},
                          {.fd = freezer_timer_fd(freezer), .events = POLLIN}};
    struct signalfd_siginfo info;
    for (int n; (n = poll(f, 3, timeout_ms)) != 0;) {
        if (n > 0 && f[2].revents)
            freezer_due(freezer);
        if ((n > 0 && (f[0].revents || f[1].revents)) || (n < 0 && errno != EINTR))
            break;
    }
    return !f[0].revents && f[1].revents && read(p->signals, &info, sizeof info) == (ssize_t)sizeof info;
}

static void live(const struct parts *p)
{
    struct daemon *d = p->d;
    bool busy = false;
    if (!wait_for_end(p, -1))
        return;
    freezer_hold(d->freezer, "the signal to end");
    int r = mountpoint_unmount(d->mountpoint, &busy);
    if (r)
        log_error("%s: cannot unmount: %s", d->mountpoint, lfs_strerror(r));
    else if (busy)
        log_warn("%s: programs still use the mount; waiting %d s for them", d->mountpoint, LINGER_MS / 1000);
    wait_for_end(p, LINGER_MS);
}

static int take_down(struct parts *p)
{
    struct daemon *d = p->d;
    int r = 0;
    control_free(p->control); /* first: its threads wait for keys and jobs */
    if (d->freezer)
        freezer_hold(d->freezer, "the unmounting"); /* a job may wait for it */
    jobs_join(d->jobs);
    checks_join(d->checks);
    keys_free(d->keys); /* a lock under way needs the workers for the kernel's dirty pages, and the jobs */
    jobs_free(d->jobs);
    checks_free(d->checks);
    if (d->session)
        session_stop(d->session);
    session_free(d->session);
    d->session = NULL;
    freezer_free(d->freezer);
    dir_streams_free(d->streams);
    if (d->vol)
        r = volume_close(d->vol);
    if (r)
        log_error("%s: closing: %s", d->volume_path, lfs_strerror(r));
    else if (d->since)
        log_info("%s: unmounted", d->volume_path);
    lfs_close_fd(&p->signals);
    return r;
}

static int run(struct daemon *d, const struct options *o)
{
    struct parts p = {.d = d, .report = -1, .signals = -1};
    int r = o->foreground ? 0 : background_enter(&p.report);
    if (!r)
        r = set_up(&p, o);
    if (!r) {
        switch_log(&p);
        r = start_threads(&p, o);
    }
    if (!r) {
        go_live(&p);
        live(&p);
    }
    bool busy;
    if (r && p.mounted)
        mountpoint_unmount(d->mountpoint, &busy);
    int closed = take_down(&p);
    background_report(&p.report, lfs_exit_code(r));
    return r ? r : closed;
}

int main(int argc, char **argv)
{
    struct options o;
    char error[256];
    log_setup("latchfs", false, LOG_LEVEL_INFO);
    fuse_set_log_func(libfuse_log);
    close_range(STDERR_FILENO + 1, ~0u, 0); /* whatever the caller forgot would stay open with the mount */
    int r = secret_harden_process(), code = LFS_EXIT_OK;
    if (r) {
        log_error("cannot protect the process: %s", lfs_strerror(r));
        return lfs_exit_code(r);
    }
    r = options_parse(argc, argv, geteuid() == 0, &o, error, sizeof error);
    if (r) {
        log_error("%s", r == LFS_ERR_MISUSE ? error : lfs_strerror(r));
        return lfs_exit_code(r);
    }
    if (o.act == OPTIONS_MOUNT) {
        struct daemon *d = calloc(1, sizeof *d);
        r = d ? prepare(&o, d) : -ENOMEM;
        if (!r)
            r = unlock_volume(&o, d->volume_path, &code);
        if (!r)
            r = run(d, &o);
        free(d);
    } else {
        fputs(o.act == OPTIONS_HELP ? options_usage : "latchfs " LATCHFS_VERSION "\n", stdout);
    }
    options_clear(&o);
    return code ? code : lfs_exit_code(r);
}
