/* Locking and unlocking a mounted volume: keys away and back while nodes stay. Statistics. */
#include "fs/store/pd.h"
#include "fs/store/seal.h"
#include "fs/store/share.h"

#include "latchfs/log.h"

#include <errno.h>
#include <string.h>

int volume_lock_begin(struct volume *v)
{
    int expected = VOLUME_UNLOCKED;
    atomic_compare_exchange_strong(&v->lock_state, &expected, VOLUME_LOCKING);
    freeze_end(v); /* from here on no other begins */
    return 0;
}

/* Nobody is inside any more, and nobody can enter. */
static int lock_all(struct volume *v, int r)
{
    bool ours = v->journal && !v->opt.read_only && !v->share;
    if (!r && ours)
        r = checkpoint_run(v, true); /* writes that came while the first one ran */
    if (!r && ours && journal_used(v->journal) == 0)
        r = journal_park(v->journal);
    pd_wipe_all(v);
    if (v->journal)
        journal_forget_keys(v->journal);
    return r;
}

int volume_lock_finish(struct volume *v)
{
    freeze_end(v);
    pthread_mutex_lock(&v->pd_lock);
    int r = volume_checkpoint(v);
    seal_before_lock(v, NULL);
    atomic_store(&v->lock_state, VOLUME_LOCKED);
    gate_wait(&v->gate);
    int e = share_bar(v);
    r = r ? r : e;
    if (pd_keys(pd_root(v)))
        r = lock_all(v, r);
    pthread_mutex_unlock(&v->pd_lock);
    return r;
}

static int unlock_journal(struct volume *v, const struct keyset *keys)
{
    int r = v->journal ? journal_set_key(v->journal, keys->journal_key) : 0;
    bool ours = v->journal && !v->opt.read_only && !v->share;
    if (!r && ours && journal_ring(v->journal) == 0)
        r = volume_reset_journal(v);
    return r;
}

int volume_unlock(struct volume *v, const struct keyset *keys)
{
    if (memcmp(keys->volume_id, v->id, ID_BYTES) || keys->suite != v->suite ||
        memcmp(keys->pd_id, pd_root(v)->id, ID_BYTES))
        return LFS_ERR_MISUSE;
    pthread_mutex_lock(&v->pd_lock);
    bool locked = atomic_load(&v->lock_state) == VOLUME_LOCKED;
    int r = locked ? unlock_journal(v, keys) : 0;
    if (!r)
        r = pd_set_keys(v, keys);
    if (!r) {
        atomic_store(&v->lock_state, VOLUME_UNLOCKED);
        share_unbar(v);
    } else if (locked && v->journal) {
        journal_forget_keys(v->journal);
    }
    pthread_mutex_unlock(&v->pd_lock);
    return r;
}

bool volume_is_locked(const struct volume *v)
{
    return atomic_load(&v->lock_state) != VOLUME_UNLOCKED;
}

void volume_stats(struct volume *v, struct volume_stats *out)
{
    struct volume_stats s = {0};
    node_tables_stats(v, &s);
    if (v->journal) {
        s.journal_bytes = journal_ring(v->journal);
        s.journal_used = journal_used(v->journal);
        s.journal_syncs = journal_syncs(v->journal);
    }
    s.auth_failures = atomic_load(&v->auth_failures);
    s.checkpoints = atomic_load(&v->checkpoints);
    s.checkpoint_at = atomic_load(&v->checkpoint_at);
    s.failed_sync = atomic_load(&v->failed_sync);
    s.seals = atomic_load(&v->seals);
    pthread_mutex_lock(&v->dirty_lock);
    s.seals_waiting = v->seal_waiting;
    pthread_mutex_unlock(&v->dirty_lock);
    *out = s;
}
