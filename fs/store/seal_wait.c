/* The files that wait for a seal, in the order in which they became clean. volume.dirty_lock guards the list.
 */
#include "fs/store/seal.h"

#include <limits.h>
#include <stdlib.h>
#include <time.h>

#define SEAL_SECONDS 30
#define WAITING_MAX 16384u /* with more the oldest is due at once */
#define KEEPING_MAX 4096u  /* of them with their file state, for its hashes */

int64_t seal_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

int64_t seal_seconds(const struct volume *v)
{
    return v->opt.seal_seconds ? v->opt.seal_seconds : SEAL_SECONDS;
}

bool seal_is_wanted(const struct file *f)
{
    return seal_is_on(f->n->vol) && f->state == CONTENT_PAGED && f->hdr.seal_state == SEAL_OPEN &&
           !atomic_load(&f->n->removed);
}

/* ---- the list ---- */

static void append(struct volume *v, struct seal_waiter *w)
{
    w->prev = v->seal_last;
    w->next = NULL;
    *(w->prev ? &w->prev->next : &v->seal_first) = w;
    v->seal_last = w;
    v->seal_waiting++;
    v->seal_keeping += w->f != NULL;
    w->n->waiter = w;
}

static void detach(struct volume *v, struct seal_waiter *w)
{
    *(w->prev ? &w->prev->next : &v->seal_first) = w->next;
    *(w->next ? &w->next->prev : &v->seal_last) = w->prev;
    v->seal_waiting--;
    v->seal_keeping -= w->f != NULL;
    w->prev = w->next = NULL;
    w->n->waiter = NULL;
}

void seal_waiter_free(struct seal_waiter *w)
{
    if (!w)
        return;
    struct node *n = w->n;
    if (w->f)
        file_put(w->f);
    free(w);
    node_unref(n, 1);
}

/* n is held, so is f. What can't be had is left out: a seal is never owed. */
static struct seal_waiter *waiter_new(struct node *n, struct file *f)
{
    struct seal_waiter *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    node_ref(n);
    w->n = n;
    if (f) {
        pthread_mutex_lock(&n->file_lock);
        f->users++;
        pthread_mutex_unlock(&n->file_lock);
        w->f = f;
    }
    return w;
}

void seal_wait(struct node *n, struct file *f, bool synced)
{
    struct volume *v = n->vol;
    bool keep =
        f && (seal_is_asked_later(f) || (seal_keeps_pages(f) && atomic_load(&v->seal_keeping) < KEEPING_MAX));
    struct seal_waiter *w = waiter_new(n, keep ? f : NULL), *old;
    if (!w)
        return;
    w->synced = synced;
    w->since = seal_now();
    pthread_mutex_lock(&v->dirty_lock);
    old = n->waiter;
    if (old && !synced) { /* more is known of it already */
        pthread_mutex_unlock(&v->dirty_lock);
        seal_waiter_free(w);
        return;
    }
    if (old)
        detach(v, old);
    append(v, w);
    if (v->seal_waiting == 1 || v->seal_waiting > WAITING_MAX)
        pthread_cond_signal(&v->flusher_wake);
    pthread_mutex_unlock(&v->dirty_lock);
    seal_waiter_free(old);
}

void seal_forget(struct node *n)
{
    struct volume *v = n->vol;
    pthread_mutex_lock(&v->dirty_lock);
    struct seal_waiter *w = n->waiter;
    if (w)
        detach(v, w);
    pthread_mutex_unlock(&v->dirty_lock);
    seal_waiter_free(w);
}

void seal_wait_free(struct volume *v)
{
    for (struct seal_waiter *w; (w = v->seal_first);) {
        detach(v, w);
        seal_waiter_free(w);
    }
}

bool seal_waits(struct volume *v)
{
    pthread_mutex_lock(&v->dirty_lock);
    bool waits = v->seal_waiting > 0;
    pthread_mutex_unlock(&v->dirty_lock);
    return waits;
}

int64_t seal_due(const struct volume *v)
{
    if (!v->seal_first || atomic_load(&v->read_only) || atomic_load(&v->seal_asked))
        return -1;
    int64_t now = seal_now(), at = v->seal_first->since + seal_seconds(v);
    return v->seal_waiting > WAITING_MAX || at <= now ? 0 : at - now;
}

/* ---- turns ---- */

struct seal_waiter *seal_take(struct volume *v, struct seal_turn *t)
{
    struct seal_waiter *list = NULL, **end = &list;
    size_t count = 0;
    pthread_mutex_lock(&v->dirty_lock);
    if (v->seal_waiting > WAITING_MAX)
        t->before = INT64_MAX;
    for (struct seal_waiter *w = v->seal_first, *next; w && count < t->files; w = next) {
        next = w->next;
        if (w->since > t->before)
            break;
        if (t->only && atomic_load(&w->n->pd) != t->only)
            continue;
        detach(v, w);
        *end = w;
        end = &w->next;
        count++;
    }
    pthread_mutex_unlock(&v->dirty_lock);
    return list;
}

void seal_put_back(struct volume *v, struct seal_waiter *list)
{
    struct seal_waiter *drop = NULL;
    pthread_mutex_lock(&v->dirty_lock);
    for (struct seal_waiter *w = list, *next; w; w = next) {
        next = w->next;
        if (!w->n->waiter) {
            append(v, w);
        } else { /* it was changed and became clean again meanwhile */
            w->next = drop;
            drop = w;
        }
    }
    pthread_mutex_unlock(&v->dirty_lock);
    for (struct seal_waiter *w = drop, *next; w; w = next) {
        next = w->next;
        seal_waiter_free(w);
    }
}
