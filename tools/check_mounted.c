/* A check in the mount that has the volume: this process asks it for what it finds. */
#include "check_job.h"

#include "cli.h"

#include "latchfs/buf.h"
#include "latchfs/mountctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_MS 200

/* Everything found since the last question. */
static int take_findings(struct check_job *j, const char *socket)
{
    AUTO_FREE struct mount_findings *f = malloc(sizeof *f);
    if (!f)
        return -ENOMEM;
    for (;;) {
        int r = mountctl_check_findings(socket, j->place.seen, f);
        if (r)
            return r;
        if (f->serial != j->place.serial)
            return LFS_ERR_BUSY; /* another check has begun since */
        if (f->dropped)
            cli_fail(LFS_EXIT_FAILURE, "%llu findings were lost: more came than the mount keeps",
                     (unsigned long long)f->dropped);
        if (f->count == 0)
            return 0;
        for (size_t i = 0; i < f->count; i++)
            check_report_finding(&j->report, &f->each[i]);
        j->place.seen = f->first + f->count - 1;
    }
}

/* Until it is over; the first wait is short, for small volumes. */
static int follow(struct check_job *j, const char *socket, struct check_progress *p)
{
    struct mount_check_status st;
    struct timespec wait = {.tv_nsec = 2000000};
    const long most = POLL_MS * 1000000L;
    for (bool told = false;;) {
        int r = mountctl_check_status(socket, &st);
        if (!r && st.serial != j->place.serial)
            r = LFS_ERR_BUSY;
        if (!r)
            r = take_findings(j, socket);
        if (r)
            return r;
        *p = st.progress;
        check_report_progress(&j->report, p);
        if (st.position[0])
            check_job_position(j, st.position, p);
        if (!st.running)
            return st.result;
        if (check_job_stopped() && !told) {
            told = true;
            mountctl_check_stop(socket);
        }
        nanosleep(&wait, NULL);
        wait.tv_nsec = wait.tv_nsec * 2 < most ? wait.tv_nsec * 2 : most;
    }
}

/* The check of a command that was killed: it went on by itself, and this one takes it up. */
static bool is_ours(const struct check_place *p, const struct target *t, const char *socket)
{
    struct mount_check_status st;
    return p->found && p->serial && p->mount_pid == t->pid && mountctl_check_status(socket, &st) == 0 &&
           st.serial == p->serial && (st.running || st.result == 0);
}

static int start(struct check_job *j, const struct target *t, const char *subtree)
{
    const struct mount_check c = {
        .flags = j->flags,
        .workers = j->workers,
        .bytes_per_second = j->bytes_per_second,
        .subtree = subtree,
        .resume = j->place.where[0] ? j->place.where : NULL,
    };
    struct mount_check_status st;
    int r = mountctl_check_start(t->socket, &c);
    if (!r)
        r = mountctl_check_status(t->socket, &st);
    if (r)
        return r;
    j->place.mount_pid = t->pid;
    j->place.serial = st.serial;
    j->place.seen = 0;
    return 0;
}

static int find_subtree(const struct check_job *j, const struct target *t, char path[static PATH_MAX])
{
    const char *given = j->subtree ? j->subtree + strspn(j->subtree, "/") : "";
    const char *inside = t->rel ? t->rel : "";
    int n;
    if (j->cipher)
        return *given ? mountctl_plain_path(t->socket, given, path) : (path[0] = '\0', 0);
    n = snprintf(path, PATH_MAX, "%s%s%s", inside, *inside && *given ? "/" : "", given);
    if (n < 0 || n >= PATH_MAX)
        return -ENAMETOOLONG;
    while (n > 0 && path[n - 1] == '/')
        path[--n] = '\0';
    return 0;
}

static int begin(struct check_job *j, const struct target *t, const char *subtree)
{
    struct check_progress base = j->place.base;
    bool taken_up = is_ours(&j->place, t, t->socket);
    int r = taken_up ? 0 : start(j, t, subtree);
    if (r)
        return r;
    check_job_begin(j);
    if (taken_up) { /* its counts are those since it began, not since the last look */
        j->report.before = base;
        j->place.base = base;
    }
    check_place_save(&j->place);
    return 0;
}

static int fail(const struct check_job *j, const struct target *t, int err)
{
    char quoted[4 * PATH_MAX];
    cli_quote(t->path, quoted, sizeof quoted);
    if (err == LFS_ERR_BUSY)
        return cli_fail(LFS_EXIT_BUSY, "%s: another check is running in this mount", quoted);
    if (err == LFS_ERR_NOKEY)
        return cli_fail(LFS_EXIT_NOKEY, "%s: locked; unlock it and run the same command again", quoted);
    return cli_fail_err(err, j->subtree ? j->subtree : t->path, NULL);
}

int check_job_mounted(struct check_job *j, const struct target *t)
{
    struct check_progress p = {0};
    char subtree[PATH_MAX];
    int code = check_job_place(j, t->v.ks->volume_id);
    if (code != LFS_EXIT_OK)
        return code;
    int r = find_subtree(j, t, subtree);
    check_job_catch_signals();
    if (!r)
        r = begin(j, t, subtree);
    if (r)
        return fail(j, t, r);
    return check_job_end(j, &p, follow(j, t->socket, &p));
}
