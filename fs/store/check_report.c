/* What a check tells: findings, progress, its place; and its pace. */
#include "fs/store/check_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHOW_NS UINT64_C(200000000)
#define PLACE_NS UINT64_C(1000000000)
#define NAP_NS UINT64_C(20000000)

static const struct {
    const char *name;
    enum check_severity severity;
} kinds[] = {
    [CHECK_BAD_NAME] = {"bad-name", CHECK_WARNING},
    [CHECK_LEFTOVER] = {"leftover", CHECK_NOTE},
    [CHECK_ORPHAN_SIDECAR] = {"orphan-sidecar", CHECK_WARNING},
    [CHECK_MISSING_SIDECAR] = {"missing-sidecar", CHECK_DAMAGE},
    [CHECK_BAD_SIDECAR] = {"bad-sidecar", CHECK_DAMAGE},
    [CHECK_MISSING_RECORD] = {"missing-record", CHECK_DAMAGE},
    [CHECK_BAD_RECORD] = {"bad-record", CHECK_DAMAGE},
    [CHECK_DUPLICATE_ID] = {"duplicate-id", CHECK_DAMAGE},
    [CHECK_BAD_HEADER] = {"bad-header", CHECK_DAMAGE},
    [CHECK_BAD_LENGTH] = {"bad-length", CHECK_DAMAGE},
    [CHECK_TAIL] = {"tail", CHECK_WARNING},
    [CHECK_ZERO_PAGE] = {"zero-page", CHECK_WARNING},
    [CHECK_BAD_LINK] = {"bad-link", CHECK_DAMAGE},
    [CHECK_BAD_KEYSTORE] = {"bad-keystore", CHECK_DAMAGE},
    [CHECK_JOURNAL_MISSING] = {"journal-missing", CHECK_DAMAGE},
    [CHECK_JOURNAL_UNCLEAN] = {"journal-unclean", CHECK_NOTE},
    [CHECK_FOREIGN_TYPE] = {"foreign-type", CHECK_DAMAGE},
    [CHECK_UNDECRYPTABLE_NAME] = {"undecryptable-name", CHECK_DAMAGE},
    [CHECK_BAD_CHUNK] = {"bad-chunk", CHECK_DAMAGE},
    [CHECK_BAD_SEAL] = {"bad-seal", CHECK_DAMAGE},
    [CHECK_BAD_XATTR] = {"bad-xattr", CHECK_DAMAGE},
    [CHECK_WRONG_DIRECTORY] = {"wrong-directory", CHECK_DAMAGE},
    [CHECK_OLD_VERSION] = {"old-version", CHECK_DAMAGE},
    [CHECK_NO_KEY] = {"no-key", CHECK_NOTE},
    [CHECK_IO] = {"io", CHECK_DAMAGE},
    [CHECK_UNSETTLED_RECORD] = {"unsettled-record", CHECK_NOTE},
};

const char *check_kind_name(enum check_kind kind)
{
    return kind > 0 && kind < sizeof kinds / sizeof kinds[0] ? kinds[kind].name : "?";
}

/* ---- findings ---- */

struct hit *hits_add(struct hits *h, enum check_kind kind, int err)
{
    if (h->count == HITS_MAX)
        return NULL;
    h->hit[h->count] = (struct hit){.kind = kind, .severity = kinds[kind].severity, .err = err};
    return &h->hit[h->count++];
}

void hits_clear(struct hits *h)
{
    for (unsigned i = 0; i < h->count; i++)
        free(h->hit[i].moved_to);
    h->count = 0;
}

static _Thread_local struct check_progress *own;

void check_count_for(struct check_progress *to)
{
    own = to;
}

void check_progress_sum(struct check_progress *sum, const struct check_progress *more)
{
    sum->entries += more->entries;
    sum->files += more->files;
    sum->directories += more->directories;
    sum->bytes += more->bytes;
    sum->notes += more->notes;
    sum->warnings += more->warnings;
    sum->damage += more->damage;
    sum->repaired += more->repaired;
    sum->sealed += more->sealed;
    sum->open_seals += more->open_seals;
}

void check_count(struct check *c, const struct check_progress *more)
{
    pthread_mutex_lock(&c->lock);
    check_progress_sum(&c->p, more);
    pthread_mutex_unlock(&c->lock);
    if (own)
        check_progress_sum(own, more);
}

static void count(struct check *c, const struct hit *h)
{
    struct check_progress p = {
        .notes = h->severity == CHECK_NOTE,
        .warnings = h->severity == CHECK_WARNING,
        .damage = h->severity == CHECK_DAMAGE,
        .repaired = h->repaired,
    };
    check_count(c, &p);
    if (c->keyed && h->severity == CHECK_DAMAGE)
        volume_note(c->v, h->err);
}

void check_tell(struct check *c, const struct hit *first, size_t n, const char *cipher, const char *plain)
{
    for (const struct hit *hit = first; hit < first + n; hit++) {
        struct check_finding f = {
            .kind = hit->kind,
            .severity = hit->severity,
            .cipher_path = cipher,
            .plain_path = plain,
            .offset = hit->offset,
            .length = hit->length,
            .err = hit->err,
            .repair = hit->repair,
            .repaired = hit->repaired,
            .moved_to = hit->moved_to,
        };
        count(c, hit);
        pthread_mutex_lock(&c->telling);
        if (c->o->finding)
            c->o->finding(&f, c->o->arg);
        pthread_mutex_unlock(&c->telling);
    }
}

/* ---- progress and place ---- */

uint64_t check_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct check_progress progress_of(struct check *c)
{
    pthread_mutex_lock(&c->lock);
    struct check_progress p = c->p;
    pthread_mutex_unlock(&c->lock);
    return p;
}

void check_show(struct check *c, bool always)
{
    if (!c->o->progress)
        return;
    pthread_mutex_lock(&c->telling);
    uint64_t now = check_now_ns();
    if (always || now - c->shown_ns >= SHOW_NS) {
        struct check_progress p = progress_of(c);
        c->shown_ns = now;
        c->o->progress(&p, c->o->arg);
    }
    pthread_mutex_unlock(&c->telling);
}

void check_place(struct check *c, const char *where, const struct check_progress *done, bool always)
{
    if (!c->o->position)
        return;
    pthread_mutex_lock(&c->telling);
    uint64_t now = check_now_ns();
    if (always || now - c->placed_ns >= PLACE_NS) {
        c->placed_ns = now;
        c->o->position(where, done, c->o->arg);
    }
    pthread_mutex_unlock(&c->telling);
}

/* ---- pace and end ---- */

void check_fail(struct check *c, int err)
{
    pthread_mutex_lock(&c->lock);
    c->fatal = c->fatal ? c->fatal : err;
    pthread_mutex_unlock(&c->lock);
}

int check_stopped(struct check *c)
{
    pthread_mutex_lock(&c->lock);
    int r = c->fatal;
    pthread_mutex_unlock(&c->lock);
    return r ? r : c->o->stop && atomic_load(c->o->stop) ? -EINTR : 0;
}

/* How long the throttle asks to wait. */
static uint64_t due_ns(struct check *c, uint64_t charged)
{
    double due = (double)charged / (double)c->o->bytes_per_second * 1e9;
    double gone = (double)(check_now_ns() - c->began_ns);
    return due > gone ? (uint64_t)(due - gone) : 0;
}

void check_charge(struct check *c, uint64_t bytes)
{
    check_count(c, &(struct check_progress){.bytes = bytes});
    pthread_mutex_lock(&c->lock);
    c->charged += bytes;
    uint64_t charged = c->charged, wait;
    pthread_mutex_unlock(&c->lock);
    check_show(c, false);
    while (c->o->bytes_per_second && !check_stopped(c) && (wait = due_ns(c, charged)) > 0) {
        nanosleep(&(struct timespec){.tv_nsec = (long)(wait < NAP_NS ? wait : NAP_NS)}, NULL);
        check_show(c, false);
    }
}
