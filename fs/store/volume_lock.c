/* Locking and unlocking a mounted volume: keys away and back while nodes stay. Statistics. */
#include "fs/store/file.h"

#include "latchfs/log.h"

#include <errno.h>
#include <string.h>

int volume_lock_begin(struct volume *v)
{
    int expected = VOLUME_UNLOCKED;
    atomic_compare_exchange_strong(&v->lock_state, &expected, VOLUME_LOCKING);
    return 0;
}

static void wipe_node(struct node *n, void *arg)
{
    (void)arg;
    pthread_mutex_lock(&n->file_lock);
    if (n->file)
        file_forget_keys(n->file);
    pthread_mutex_unlock(&n->file_lock);
}

int volume_lock_finish(struct volume *v)
{
    int r = volume_checkpoint(v);
    atomic_store(&v->lock_state, VOLUME_LOCKED);
    pthread_rwlock_wrlock(&v->key_lock); /* waits for the calls under way */
    if (!v->pd) {
        pthread_rwlock_unlock(&v->key_lock);
        return r;
    }
    if (!r && v->journal && !v->opt.read_only)
        r = checkpoint_run(v, true); /* writes that came while the first one ran */
    if (!r && v->journal && !v->opt.read_only && journal_used(v->journal) == 0)
        r = journal_park(v->journal);
    volume_each_node(v, wipe_node, NULL);
    if (v->journal)
        journal_forget_keys(v->journal);
    locked_free(v->pd);
    v->pd = NULL;
    siv_forget(); /* the name keys in every worker's cache */
    pthread_rwlock_unlock(&v->key_lock);
    return r;
}

int volume_unlock(struct volume *v, const struct keyset *keys)
{
    if (memcmp(keys->volume_id, v->id, ID_BYTES) || keys->suite != v->suite)
        return LFS_ERR_MISUSE;
    struct pd_keys *pd = volume_make_keys(keys);
    if (!pd)
        return -ENOMEM;
    pthread_rwlock_wrlock(&v->key_lock);
    int r = 0;
    if (v->journal)
        r = journal_set_key(v->journal, keys->journal_key);
    if (!r && v->journal && !v->opt.read_only && journal_ring(v->journal) == 0)
        r = volume_reset_journal(v);
    if (r) {
        if (v->journal)
            journal_forget_keys(v->journal);
        locked_free(pd);
    } else {
        locked_free(v->pd);
        v->pd = pd;
        atomic_store(&v->lock_state, VOLUME_UNLOCKED);
    }
    pthread_rwlock_unlock(&v->key_lock);
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
    *out = s;
}
