/* What the metrics file says of the server's present state. */
#include "server.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <stdlib.h>
#include <string.h>

#define DAY_S 86400

static bool too_old(uint64_t created, unsigned days, time_t now)
{
    return days && (uint64_t)now > created && (uint64_t)now - created > (uint64_t)days * DAY_S;
}

unsigned store_overdue(const struct policy *p, const struct keystore *ks, time_t now)
{
    const struct keystore_master *m = keystore_active_master(ks);
    unsigned n = m && too_old(m->created, p->master_days, now);
    for (uint32_t i = 0; i < ks->dir_count; i++) {
        const struct keystore_dirkey *k = ks->dirs[i].shredded ? NULL : keystore_active_dirkey(&ks->dirs[i]);
        n += k && too_old(k->created, p->directory_days, now);
    }
    return n;
}

static void count_mounts(const struct server *s, struct metrics_volume *v)
{
    for (const struct conn *c = s->conns; c; c = c->next) {
        v->mounts += conn_mounts(c, v->id);
        for (const struct lease *l = c->leases; l; l = l->next)
            v->leases += same_id(l->volume_id, v->id);
    }
}

static bool seen(const struct metrics_volume *v, size_t n, const uint8_t *id)
{
    for (size_t i = 0; i < n; i++)
        if (same_id(v[i].id, id))
            return true;
    return false;
}

/* Unlocked volumes, then those that are only mounted. */
static size_t list_volumes(struct server *s, struct metrics_volume *v, size_t room, time_t now)
{
    size_t n = 0;
    for (const struct unlocked *u = s->volumes; u && n < room; u = u->next)
        v[n++] = (struct metrics_volume){.id = u->ks->volume_id,
                                         .ks = u->ks,
                                         .auth_failures = u->auth_failures,
                                         .rotation_overdue = store_overdue(s->policy, u->ks, now)};
    for (const struct conn *c = s->conns; c && n < room; c = c->next)
        if (c->attached && !c->dead && !seen(v, n, c->volume_id))
            v[n++] = (struct metrics_volume){.id = c->volume_id};
    for (size_t i = 0; i < n; i++)
        count_mounts(s, &v[i]);
    return n;
}

void gauges_write(struct server *s)
{
    struct metrics_view view = {.alert = s->alert, .audit = s->audit, .now = time(NULL)};
    size_t room = 0;
    view.approvals_pending = s->approvals ? approvals_pending(s->approvals, view.now) : 0;
    for (const struct unlocked *u = s->volumes; u; u = u->next)
        room++;
    for (const struct conn *c = s->conns; c; c = c->next) {
        view.connections += !c->dead;
        room += c->attached;
    }
    AUTO_FREE struct metrics_volume *v = calloc(room + 1, sizeof *v);
    if (!v || !s->metrics)
        return;
    view.volumes = v;
    view.count = list_volumes(s, v, room, view.now);
    int r = metrics_write(s->metrics, &view, s->policy->metrics);
    if (r)
        log_warn("metrics: %s", lfs_strerror(r));
}
