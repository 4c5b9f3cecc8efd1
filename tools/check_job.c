#include "check_job.h"

#include "check_opened.h"
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SAVE_SECONDS 2

static atomic_bool stopped;
static time_t last_save;

static void on_signal(int sig)
{
    (void)sig;
    atomic_store(&stopped, true);
}

bool check_job_stopped(void)
{
    return atomic_load(&stopped);
}

void check_job_catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

bool check_job_workers(const char *text, unsigned *out)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || n < 1 || n > CHECK_WORKERS_MAX)
        return false;
    *out = (unsigned)n;
    return true;
}

/* ---- the place ---- */

int check_job_place(struct check_job *j, const uint8_t volume_id[static ID_BYTES])
{
    return j->kind ? check_place_open(&j->place, j->kind, j->state, volume_id, j->restart) : LFS_EXIT_OK;
}

void check_job_begin(struct check_job *j)
{
    struct check_place *p = &j->place;
    j->report.subject.continued = p->found;
    j->report.before = p->done;
    p->base = p->done;
    last_save = time(NULL);
    check_report_begin(&j->report);
}

void check_job_position(struct check_job *j, const char *where, const struct check_progress *p)
{
    struct check_place *place = &j->place;
    if (strlen(where) >= sizeof place->where)
        return;
    strcpy(place->where, where);
    j->placed = *p;
    place->done = place->base;
    check_progress_add(&place->done, p);
    if (time(NULL) - last_save < SAVE_SECONDS)
        return;
    last_save = time(NULL);
    check_place_save(place); /* the next one may work; the last one's error is told */
}

int check_job_end(struct check_job *j, const struct check_progress *p, int err)
{
    /* What was looked at behind the place will be looked at again. */
    int code = check_report_end(&j->report, err && j->kind ? &j->placed : p, err);
    if (!err) {
        check_place_done(&j->place);
        return code;
    }
    int r = check_place_save(&j->place);
    if (r && r != err)
        cli_fail_err(r, j->place.path, "the place was not kept");
    else if (err == -EINTR && j->place.path[0] && j->report.style != REPORT_LOG)
        cli_fail(code, "stopped; the same command goes on from here");
    else if (err == -EINTR && j->report.style != REPORT_LOG)
        cli_fail(code, "stopped before the end");
    return code;
}

/* ---- in this process ---- */

static void on_finding(const struct check_finding *f, void *arg)
{
    struct check_job *j = arg;
    check_report_finding(&j->report, f);
}

static void on_progress(const struct check_progress *p, void *arg)
{
    struct check_job *j = arg;
    check_report_progress(&j->report, p);
}

static void on_position(const char *where, const struct check_progress *p, void *arg)
{
    check_job_position(arg, where, p);
}

static struct check_options options_of(struct check_job *j)
{
    return (struct check_options){
        .flags = j->flags,
        .workers = j->workers,
        .bytes_per_second = j->bytes_per_second,
        .resume = j->place.where[0] ? j->place.where : NULL,
        .stop = &stopped,
        .finding = on_finding,
        .progress = on_progress,
        .position = on_position,
        .arg = j,
    };
}

/* path without slashes at its ends; "" and "/" mean all: NULL. */
static const char *trimmed(const char *path, char out[static PATH_MAX])
{
    if (!path)
        return NULL;
    path += strspn(path, "/");
    size_t n = strlen(path);
    while (n && path[n - 1] == '/')
        n--;
    if (n == 0 || n >= PATH_MAX)
        return NULL;
    memcpy(out, path, n);
    out[n] = '\0';
    return out;
}

/* Without one of these there is nothing to be checked, however damaged. */
static int refuse_no_volume(const char *path)
{
    static const char *const names[] = {KEYSTORE_NAME, KEYSTORE_BAK_NAME, JOURNAL_NAME, DIRREC_NAME};
    char quoted[4 * PATH_MAX];
    bool found = false;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT && errno != ENOTDIR)
        return cli_fail_err(-errno, path, NULL);
    for (size_t i = 0; fd >= 0 && i < sizeof names / sizeof names[0] && !found; i++)
        found = faccessat(fd, names[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (found)
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_NOTVOLUME, "%s: %s", cli_quote(path, quoted, sizeof quoted),
                    fd < 0 ? "there is no such directory; name the directory of a volume"
                           : "not a latchfs volume: it has no " KEYSTORE_NAME);
}

int check_job_structure(struct check_job *j)
{
    struct check_progress p = {0};
    char subtree[PATH_MAX];
    int code = refuse_no_volume(j->report.subject.volume);
    if (code == LFS_EXIT_OK)
        code = offline_check_free(j->report.subject.volume); /* others' changes would look like damage */
    if (code != LFS_EXIT_OK)
        return code;
    struct check_options o = options_of(j);
    o.subtree = trimmed(j->subtree, subtree);
    check_job_catch_signals();
    check_job_begin(j);
    return check_job_end(j, &p, check_structure(j->report.subject.volume, &o, &p));
}

/* The ciphertext path of what is to be checked. */
static int find_subtree(struct check_job *j, struct offline *o, char path[static PATH_MAX], const char **out)
{
    struct node *n = NULL;
    *out = trimmed(j->subtree, path);
    if (!*out || j->cipher)
        return LFS_EXIT_OK;
    int code = offline_lookup(o, *out, &n);
    if (code != LFS_EXIT_OK)
        return code;
    int r = node_cipher_path(n, path, PATH_MAX);
    node_unref(n, 1);
    return r ? cli_fail_err(r, j->subtree, NULL) : LFS_EXIT_OK;
}

static int open_volume(struct check_job *j, struct offline *vol, struct check_opened *opened)
{
    const char *path = j->report.subject.volume;
    const bool repair = j->flags & CHECK_REPAIR;
    const struct volume_options want = {.read_only = !repair, .no_flusher = true, .damaged_root = true};
    int code = offline_check_free(path);
    if (code == LFS_EXIT_OK)
        code = offline_keys(path, &j->open, vol);
    if (code == LFS_EXIT_OK)
        code = check_job_place(j, vol->ks->volume_id);
    if (code != LFS_EXIT_OK)
        return code;
    int r = repair ? check_opened_before(path, opened) : 0;
    return r ? cli_fail_err(r, path, NULL) : offline_volume(vol, &want);
}

int check_job_offline(struct check_job *j)
{
    AUTO_OFFLINE struct offline vol = {.files.dirfd = -1};
    AUTO_CHECK_OPENED struct check_opened opened = {0};
    struct check_progress p = {0};
    char subtree[PATH_MAX];
    int code = open_volume(j, &vol, &opened);
    if (code != LFS_EXIT_OK)
        return code;
    struct check_options o = options_of(j);
    code = find_subtree(j, &vol, subtree, &o.subtree);
    if (code != LFS_EXIT_OK)
        return code;
    check_job_catch_signals();
    check_job_begin(j);
    if (j->flags & CHECK_REPAIR)
        check_opened_tell(j->report.subject.volume, &opened, &vol.replay, &j->report);
    int r = check_volume(vol.volume, &o, &p);
    int closed = volume_close(vol.volume);
    vol.volume = NULL;
    return check_job_end(j, &p, r ? r : closed);
}
