/* latch-keyd: the key helper of latchfs. */
#include "config.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"
#include "listen.h"
#include "sandbox.h"
#include "server.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

struct options {
    const char *socket, *state_dir, *config;
    int ready_fd; /* -1: none */
    bool check;
};

static const char usage[] =
    "usage: latch-keyd [--socket PATH] [--state-dir DIR] [--config FILE] [--ready-fd N]\n"
    "       latch-keyd --check-config [--config FILE]\n"
    "       latch-keyd --help | --version\n";

/* Returns -1 to go on, else an exit code. */
static int parse_options(int argc, char **argv, struct options *o)
{
    enum { SOCKET = 1, STATE_DIR, CONFIG, READY_FD, CHECK, HELP, VERSION };
    static const struct option longs[] = {
        {"socket", required_argument, NULL, SOCKET}, {"state-dir", required_argument, NULL, STATE_DIR},
        {"config", required_argument, NULL, CONFIG}, {"ready-fd", required_argument, NULL, READY_FD},
        {"check-config", no_argument, NULL, CHECK},  {"help", no_argument, NULL, HELP},
        {"version", no_argument, NULL, VERSION},     {0},
    };
    char *end;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == SOCKET)
            o->socket = optarg;
        else if (c == STATE_DIR)
            o->state_dir = optarg;
        else if (c == CONFIG)
            o->config = optarg;
        else if (c == CHECK)
            o->check = true;
        else if (c == READY_FD && (o->ready_fd = (int)strtol(optarg, &end, 10)) > 2 && !*end)
            continue;
        else if (c == HELP || c == VERSION) {
            fputs(c == HELP ? usage : "latch-keyd " LATCHFS_VERSION "\n", stdout);
            return LFS_EXIT_OK;
        } else {
            fputs(usage, stderr);
            return LFS_EXIT_USAGE;
        }
    }
    if (optind == argc)
        return -1;
    fputs(usage, stderr);
    return LFS_EXIT_USAGE;
}

/* One line to whoever started this program. */
static void report(const struct options *o, const char *line)
{
    if (o->ready_fd < 0)
        return;
    ssize_t n = write(o->ready_fd, line, strlen(line));
    (void)n; /* a starter that is gone needs no answer */
    close(o->ready_fd);
}

static int load_policy(const struct options *o, struct policy *p, char *why)
{
    char text[POLICY_WHY_MAX], path[PATH_MAX] = "";
    policy_defaults(p);
    int r = policy_load(o->config, p, text);
    if (r && !o->config)
        policy_path(path);
    if (r)
        snprintf(why, PROTO_TEXT_MAX, "%.150s: %s", o->config ? o->config : path, text);
    return r;
}

static int catch_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL))
        return -errno;
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static void allow_descriptors(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

static int open_state(const struct options *o, const struct policy *p, struct server *s, char *why)
{
    char path[PATH_MAX];
    int r = 0;
    if (o->state_dir)
        snprintf(path, sizeof path, "%s", o->state_dir);
    else
        r = statedir_path(path);
    if (!r)
        r = statedir_open(path, &s->statedir);
    if (!r)
        r = audit_open(s->statedir, p->log, &s->audit);
    if (!r)
        r = approvals_open(s->statedir, p, &s->approvals);
    if (!r)
        r = alert_remember(s->alert, s->statedir);
    if (r)
        snprintf(why, PROTO_TEXT_MAX, "state directory, audit log or approvals: %s", lfs_strerror(r));
    return r;
}

static int listen_there(const struct options *o, const struct policy *p, struct listen *l, char *why)
{
    char path[108];
    int r = o->socket ? 0 : keyclient_default_socket(path);
    return r ? r : listen_open(o->socket ? o->socket : path, policy_open_to_others(p), l, why);
}

/* What keyd can do without. */
static void start_extras(struct server *s)
{
    s->metrics = metrics_new();
    int r = policy_minds_suspend(s->policy) ? suspend_start(locks_before_sleep, s, &s->suspend) : 0;
    if (r)
        log_info("nothing is locked before the machine sleeps: %s", lfs_strerror(r));
    alert_watch(s->alert, s->audit);
}

static void free_all(struct server *s)
{
    worker_stop(s->worker);
    suspend_free(s->suspend);
    metrics_free(s->metrics);
    approvals_free(s->approvals);
    audit_free(s->audit);
    alert_free(s->alert);
}

static int serve(const struct options *o, const struct policy *p, char *why)
{
    struct server s = {.policy = p, .statedir = -1};
    struct listen l;
    int r = alert_start(p, &s.alert); /* before anything secret is here */
    if (!r)
        r = listen_there(o, p, &l, why); /* waits for a keyd that is just ending, and has the log */
    if (r) {
        alert_free(s.alert);
        return r;
    }
    r = open_state(o, p, &s, why);
    vault_init();
    s.listener = l.fd;
    s.signals = r ? -1 : catch_signals();
    if (!r)
        r = s.signals < 0 ? s.signals : worker_start(&s.worker);
    if (!r)
        start_extras(&s);
    if (!r)
        r = audit_write(s.audit, &(struct audit_act){.act = "start"}, true);
    int boxed = r ? 0 : sandbox_enter();
    if (boxed)
        log_warn("running without a system call filter: %s", lfs_strerror(boxed));
    if (!r) {
        report(o, "ok\n");
        r = server_run(&s);
        audit_write(s.audit, &(struct audit_act){.act = "stop", .result = r}, false);
    }
    listen_close(&l);
    free_all(&s);
    return r;
}

int main(int argc, char **argv)
{
    struct options o = {.ready_fd = -1};
    struct policy p;
    char why[PROTO_TEXT_MAX] = "";
    int r = secret_harden_process();
    int code = parse_options(argc, argv, &o);
    if (code >= 0)
        return code;
    log_setup("latch-keyd", o.ready_fd >= 0, LOG_LEVEL_INFO);
    if (!r)
        r = load_policy(&o, &p, why);
    if (o.check || (r && why[0] == '\0')) {
        if (r)
            fprintf(stderr, "latch-keyd: %s\n", why[0] ? why : lfs_strerror(r));
        return r ? LFS_EXIT_USAGE : LFS_EXIT_OK;
    }
    umask(077);
    allow_descriptors();
    if (!r && chdir("/"))
        r = -errno;
    if (!r)
        r = serve(&o, &p, why);
    if (r) {
        log_error("%s", why[0] ? why : lfs_strerror(r));
        report(&o, why[0] ? why : lfs_strerror(r));
    }
    return r ? lfs_exit_code(r) : LFS_EXIT_OK;
}
