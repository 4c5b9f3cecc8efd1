#include "rotate_job.h"

#include "cli.h"
#include "keyd_conn.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 200
#define LINE_SECONDS 10 /* between lines in a log */
#define BAR_WIDTH 30
/* A mount looks for a latch-keyd that was restarted at least every 30 seconds. */
#define KEYS_WAIT_MS 40000

static atomic_bool stopped;

static void on_signal(int sig)
{
    (void)sig;
    atomic_store(&stopped, true);
}

/* ---- progress ---- */

struct shown {
    const struct rotate_job *j;
    bool bar;
    time_t last_line;
};

static unsigned percent_of(const struct rotate_progress *p)
{
    uint64_t done = p->bytes_total ? p->bytes : p->files;
    uint64_t all = p->bytes_total ? p->bytes_total : p->files_total;
    return all == 0 ? 0 : done >= all ? 100 : (unsigned)(done * 100 / all);
}

static void show_json(const struct rotate_job *j, const struct rotate_progress *p, bool over)
{
    printf("{\"act\":\"%s\",\"files\":%" PRIu64 ",\"files_total\":%" PRIu64 ",\"changed\":%" PRIu64
           ",\"damaged\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"bytes_total\":%" PRIu64 ",\"done\":%s}\n",
           j->what, p->files, p->files_total, p->changed, p->damaged, p->bytes, p->bytes_total,
           over ? "true" : "false");
    fflush(stdout);
}

static void show_bar(const struct rotate_job *j, const struct rotate_progress *p)
{
    char bar[BAR_WIDTH + 1];
    unsigned percent = percent_of(p), full = percent * BAR_WIDTH / 100;
    memset(bar, '#', full);
    memset(bar + full, '.', BAR_WIDTH - full);
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "\r%s [%s] %3u%% %" PRIu64 " files", j->what, bar, percent, p->files);
}

static void show(struct shown *s, const struct rotate_progress *p, bool over)
{
    time_t now = time(NULL);
    if (s->j->quiet)
        return;
    if (s->bar) {
        show_bar(s->j, p);
        if (over)
            fputc('\n', stderr);
        return;
    }
    if (!over && now - s->last_line < (s->j->json ? 1 : LINE_SECONDS))
        return;
    s->last_line = now;
    if (s->j->json)
        show_json(s->j, p, over);
    else
        fprintf(stderr, "%s: %u%%, %" PRIu64 " files, %" PRIu64 " changed\n", s->j->what,
                over ? 100 : percent_of(p), p->files, p->changed);
}

/* ---- in the mount ---- */

static bool is_the_same(const struct target *t, const struct rotate_job *j)
{
    struct mount_job_status st;
    return mountctl_job_status(t->socket, &st) == 0 && st.running && st.job == (uint8_t)j->job &&
           memcmp(st.pd_id, t->pd_id, ID_BYTES) == 0;
}

/* The mount has keys of the directory, but older ones. */
static bool has_older(const struct target *t, uint32_t version)
{
    struct pd_status st;
    return target_dir_in_mount(t, &st) && !st.locked && st.active < version;
}

/* A mount that lost its latch-keyd gets the new keys when it has found the present one. */
static int start_mounted(const struct target *t, const struct rotate_job *j)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
    int r;
    for (int waited = 0;; waited += POLL_MS) {
        r = mountctl_job_start(t->socket, j->job, t->pd_id, j->bytes_per_second, j->version);
        if (r != LFS_ERR_NOKEY || waited >= KEYS_WAIT_MS || atomic_load(&stopped) ||
            !has_older(t, j->version))
            break;
        nanosleep(&pause, NULL);
    }
    if (r == LFS_ERR_BUSY && is_the_same(t, j))
        r = 0; /* whoever started it is gone */
    return r;
}

static int run_mounted(struct target *t, const struct rotate_job *j, struct shown *s,
                       struct rotate_progress *out)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
    struct mount_job_status st = {0};
    int r = start_mounted(t, j);
    if (r)
        return r;
    bool told = false;
    for (struct timespec wait = {.tv_nsec = 2000000};;) {
        r = mountctl_job_status(t->socket, &st);
        if (r || !st.running)
            break;
        if (atomic_load(&stopped) && !told) {
            told = true;
            mountctl_job_stop(t->socket);
        }
        show(s, &st.progress, false);
        nanosleep(&wait, NULL);
        if (wait.tv_nsec < pause.tv_nsec)
            wait.tv_nsec *= 2;
    }
    if (r)
        return r;
    *out = st.progress;
    return st.result;
}

/* ---- in this process ---- */

static void on_progress(const struct rotate_progress *p, void *arg)
{
    show(arg, p, false);
}

static int open_volume(struct target *t, struct keyclient *kc, struct volume **out)
{
    CLEANUP(keyset_freep) struct keyset *root = NULL, *dir = NULL;
    const struct volume_options o = {0};
    unsigned lease_s;
    int r = keyclient_lease(kc, t->v.ks->volume_id, NULL, &root, &lease_s);
    if (!r && !target_is_root(t))
        r = keyclient_lease(kc, t->v.ks->volume_id, t->pd_id, &dir, &lease_s);
    if (!r)
        r = volume_open(t->volume, root, &o, NULL, out);
    if (!r && dir && (r = volume_pd_unlock(*out, dir)))
        volume_close(*out);
    return r;
}

static int run_here(struct target *t, struct keyclient *kc, const struct rotate_job *j, struct shown *s,
                    struct rotate_progress *out)
{
    struct volume *v;
    struct rotate_options o = {
        .bytes_per_second = j->bytes_per_second, .stop = &stopped, .progress = on_progress, .arg = s};
    memcpy(o.pd_id, t->pd_id, ID_BYTES);
    int r = open_volume(t, kc, &v);
    if (r)
        return r;
    r = volume_start(v);
    if (!r)
        r = j->job == MOUNT_JOB_REWRAP      ? volume_rewrap(v, &o, out)
            : j->job == MOUNT_JOB_REENCRYPT ? volume_reencrypt(v, &o, out)
                                            : volume_scan_versions(v, &o, out);
    int closed = volume_close(v);
    return r ? r : closed;
}

static int fail(const struct target *t, struct keyclient *kc, int err, const struct rotate_progress *p)
{
    char quoted[PATH_MAX];
    cli_quote(t->path, quoted, sizeof quoted);
    if (err == -EINTR)
        return cli_fail(LFS_EXIT_FAILURE, "%s: stopped; run the same command again to go on", quoted);
    if (p->damaged)
        return cli_fail(LFS_EXIT_CORRUPT,
                        "%s: %" PRIu64 " files are damaged and were left as they are, so old keys stay; "
                        "remove or restore them and run the same command again",
                        quoted, p->damaged);
    if (err == LFS_ERR_NOKEY && t->mounted)
        return cli_fail(LFS_EXIT_NOKEY,
                        "%s: the directory is locked, or its mount has not found the present latch-keyd; "
                        "unlock it and run the same command again",
                        quoted);
    if (err == LFS_ERR_BUSY)
        return cli_fail(LFS_EXIT_BUSY, "%s: another rotation or another mount is at work", quoted);
    return keyd_conn_fail(kc, err, t->path);
}

int rotate_job_run(struct target *t, struct keyclient *kc, const struct rotate_job *j,
                   struct rotate_progress *out)
{
    struct shown s = {.j = j, .bar = !j->json && isatty(STDERR_FILENO), .last_line = time(NULL)};
    struct sigaction act = {.sa_handler = on_signal}, old_int, old_term;
    *out = (struct rotate_progress){0};
    sigaction(SIGINT, &act, &old_int);
    sigaction(SIGTERM, &act, &old_term);
    int r = t->mounted ? run_mounted(t, j, &s, out) : run_here(t, kc, j, &s, out);
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    show(&s, out, true);
    return r ? fail(t, kc, r, out) : LFS_EXIT_OK;
}

bool rate_parse(const char *text, uint64_t *bytes_per_second)
{
    static const char units[] = "KMG";
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (errno || end == text || text[0] == '-' || (*end && (!unit || end[1])) || v == 0 ||
        v > UINT64_MAX >> 31)
        return false;
    *bytes_per_second = (uint64_t)v << shift;
    return true;
}
