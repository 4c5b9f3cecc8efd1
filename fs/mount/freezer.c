#include "fs/mount/freezer.h"

#include "fs/mount/mountpoint.h"
#include "fs/mount/session.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Writes that wait must not keep the kernel from reading. */
#define FROZEN_BACKGROUND 4096

struct freezer {
    struct daemon *d;
    int timer;
    pthread_mutex_t lock; /* guards the rest; held while the store freezes and thaws */
    uint64_t serial;      /* of the last freeze */
    unsigned held;
    _Atomic uint64_t until;
};

struct freezer *freezer_new(struct daemon *d)
{
    struct freezer *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->d = d;
    f->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    pthread_mutex_init(&f->lock, NULL);
    if (f->timer >= 0)
        return f;
    freezer_free(f);
    return NULL;
}

void freezer_free(struct freezer *f)
{
    if (!f)
        return;
    lfs_close_fd(&f->timer);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

int freezer_timer_fd(const struct freezer *f)
{
    return f->timer;
}

uint64_t freezer_until(struct freezer *f)
{
    return volume_is_frozen(f->d->vol) ? atomic_load(&f->until) : 0;
}

static int set_timer(struct freezer *f, unsigned seconds)
{
    const struct itimerspec t = {.it_value.tv_sec = seconds};
    return timerfd_settime(f->timer, 0, &t, NULL) ? -errno : 0;
}

int freezer_freeze(struct freezer *f, unsigned seconds, uint64_t *serial)
{
    struct daemon *d = f->d;
    pthread_mutex_lock(&f->lock);
    int r = f->held || volume_is_frozen(d->vol) ? LFS_ERR_BUSY : 0;
    if (!r) {
        mountpoint_background(d->connection, FROZEN_BACKGROUND);
        session_make_room(d->session);
        r = volume_freeze(d->vol, seconds);
    }
    if (!r) {
        set_timer(f, seconds); /* after the store's own deadline, so that this finds it over */
        atomic_store(&f->until, (uint64_t)time(NULL) + seconds);
        *serial = ++f->serial;
        log_info("%s: frozen, for %u s at most", d->volume_path, seconds);
    } else if (r != LFS_ERR_BUSY) {
        mountpoint_background(d->connection, MAX_BACKGROUND);
        session_wake(d->session); /* what came meanwhile */
    }
    pthread_mutex_unlock(&f->lock);
    return r;
}

/* why: for the log, NULL when it was asked for. lock is held. */
static int end_locked(struct freezer *f, const char *why)
{
    struct daemon *d = f->d;
    bool frozen = atomic_exchange(&f->until, 0) != 0;
    if (frozen)
        mountpoint_background(d->connection, MAX_BACKGROUND);
    int r = volume_thaw(d->vol);
    set_timer(f, 0);
    session_wake(d->session);
    if (frozen && why)
        log_warn("%s: the freeze was ended by %s", d->volume_path, why);
    else if (frozen)
        log_info("%s: thawed", d->volume_path);
    return r;
}

int freezer_thaw(struct freezer *f, uint64_t serial)
{
    pthread_mutex_lock(&f->lock);
    bool same = (!serial || serial == f->serial) && atomic_load(&f->until);
    int r = same ? end_locked(f, volume_is_frozen(f->d->vol) ? NULL : "its deadline") : -EINVAL;
    pthread_mutex_unlock(&f->lock);
    return r;
}

void freezer_due(struct freezer *f)
{
    uint64_t times;
    pthread_mutex_lock(&f->lock);
    if (read(f->timer, &times, sizeof times) == (ssize_t)sizeof times)
        end_locked(f, "its deadline");
    pthread_mutex_unlock(&f->lock);
}

void freezer_end(struct freezer *f, const char *why)
{
    pthread_mutex_lock(&f->lock);
    end_locked(f, why);
    pthread_mutex_unlock(&f->lock);
}

void freezer_hold(struct freezer *f, const char *why)
{
    pthread_mutex_lock(&f->lock);
    f->held++;
    end_locked(f, why);
    pthread_mutex_unlock(&f->lock);
}

void freezer_release(struct freezer *f)
{
    pthread_mutex_lock(&f->lock);
    f->held--;
    pthread_mutex_unlock(&f->lock);
}
