/* The state of keyd as JSON. Its size is bounded: what does not fit is only counted, as "..._more". */
#include "server.h"

#include "config.h"
#include "json.h"
#include "latchfs/err.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Elements of lists are left out beyond this; the rest is for what closes them and for one mount point. */
#define ROOM (JSON_MAX - 65536u)
#define VOLUME_HEAD 8192u /* a volume without its lists, at most */
#define LEASES_SHOWN 16u  /* of one directory */

/* Ends an element that began when the text had that length: too long, and it is only counted. */
static void fit(struct json *j, size_t began, unsigned *more)
{
    if (j->len <= ROOM)
        return;
    json_cut(j, began);
    ++*more;
}

static void end_list(struct json *j, const char *more_name, unsigned more)
{
    json_close(j, ']');
    if (more)
        json_number(j, more_name, more);
}

static void put_id(struct json *j, const char *name, const uint8_t *id)
{
    char hex[2 * ID_BYTES + 1];
    id_to_hex(id, hex);
    json_string(j, name, hex);
}

static void put_time(struct json *j, const char *name, time_t t)
{
    if (t)
        json_number(j, name, (uint64_t)t);
}

/* ---- mounts ---- */

static unsigned count_leases(const struct conn *c, const uint8_t *volume_id)
{
    unsigned n = 0;
    for (const struct lease *l = c->leases; l; l = l->next)
        n += same_id(l->volume_id, volume_id);
    return n;
}

static void put_mount(struct json *j, const struct conn *c)
{
    json_open(j, NULL, '{');
    json_string(j, "mountpoint", c->mountpoint);
    json_number(j, "pid", (uint64_t)c->peer.pid);
    json_number(j, "uid", c->peer.uid);
    json_number(j, "leases", count_leases(c, c->volume_id));
    json_bool(j, "revoking", push_find(c, P_PUSH_REVOKE, NULL) != NULL);
    json_number(j, "held", c->held);
    json_number(j, "auth_failures", c->auth_failures);
    json_close(j, '}');
}

/* Who oversees all, and who may lease the directory, gets names and mounts; others what they mount
 * themselves. */
static bool sees(struct server *s, const struct conn *to, struct unlocked *u, const uint8_t *pd)
{
    char why[200];
    if (to->roles & (ROLE_OPERATOR | ROLE_KEYADMIN) || to->peer.uid == 0 || to->peer.uid == geteuid())
        return true;
    return u && lease_allowed(s, to, u, pd, why, sizeof why) == 0;
}

static void put_mounts(struct json *j, struct server *s, const struct conn *to, const uint8_t *volume_id,
                       struct unlocked *u)
{
    bool all = sees(s, to, u, u ? u->ks->root_id : NULL);
    unsigned more = 0;
    json_open(j, "mounts", '[');
    for (const struct conn *c = s->conns; c; c = c->next) {
        size_t began = j->len;
        if (!conn_mounts(c, volume_id))
            continue;
        if (!all && c->peer.uid != to->peer.uid) {
            more++;
            continue;
        }
        put_mount(j, c);
        fit(j, began, &more);
    }
    end_list(j, "mounts_more", more);
}

/* ---- directories ---- */

static void put_version(struct json *j, uint32_t version, unsigned state, uint64_t created)
{
    json_open(j, NULL, '{');
    json_number(j, "version", version);
    json_string(j, "state", key_state_name(state));
    json_number(j, "created", created);
    json_close(j, '}');
}

static void put_lease(struct json *j, const struct conn *c, const struct lease *l)
{
    int64_t left = l->until ? (l->until - now_ms()) / 1000 : 0;
    json_open(j, NULL, '{');
    json_number(j, "pid", (uint64_t)c->peer.pid);
    json_number(j, "uid", c->peer.uid);
    if (c->attached)
        json_string(j, "mountpoint", c->mountpoint);
    json_number(j, "version", l->version);
    if (l->until)
        json_number(j, "expires_in", left > 0 ? (uint64_t)left : 0);
    json_close(j, '}');
}

static void put_dir_leases(struct json *j, const struct server *s, const struct conn *to, bool all,
                           const uint8_t *volume_id, const uint8_t *pd_id)
{
    unsigned shown = 0, more = 0;
    json_open(j, "leases", '[');
    for (const struct conn *c = s->conns; c; c = c->next) {
        const struct lease *l = c->dead ? NULL : lease_find(c, volume_id, pd_id);
        size_t began = j->len;
        if (!l)
            continue;
        if ((!all && c->peer.uid != to->peer.uid) || shown++ >= LEASES_SHOWN) {
            more++;
            continue;
        }
        put_lease(j, c, l);
        fit(j, began, &more);
    }
    end_list(j, "leases_more", more);
}

static void put_dir(struct json *j, struct server *s, const struct conn *to, struct unlocked *u, uint32_t i)
{
    const struct keystore_dir *d = &u->ks->dirs[i];
    const struct keystore_dirkey *active = d->shredded ? NULL : keystore_active_dirkey(d);
    struct dir_note *n = &u->notes[i];
    const char *name = "";
    bool all = sees(s, to, u, d->id);
    json_open(j, NULL, '{');
    put_id(j, "id", d->id);
    if (all)
        volume_dir_name(s, u, n, &name);
    json_string(j, "name", name);
    json_bool(j, "root", same_id(d->id, u->ks->root_id));
    json_open(j, "versions", '[');
    for (uint32_t k = 0; k < d->count; k++)
        put_version(j, d->keys[k].version, d->keys[k].state, d->keys[k].created);
    json_close(j, ']');
    json_number(j, "active", active ? active->version : 0);
    json_number(j, "least", d->least);
    json_number(j, "data_version", d->data_version);
    json_number(j, "created", d->created);
    json_bool(j, "held", d->held);
    json_bool(j, "shredded", d->shredded);
    json_bool(j, "locked", marked(s, u->ks->volume_id, d->id, 0));
    put_dir_leases(j, s, to, all, u->ks->volume_id, d->id);
    put_time(j, "last_lease", n->last_lease);
    put_time(j, "last_use", n->last_use);
    json_close(j, '}');
}

static void put_dirs(struct json *j, struct server *s, const struct conn *to, struct unlocked *u)
{
    unsigned more = 0;
    json_open(j, "directories", '[');
    for (uint32_t i = 0; i < u->ks->dir_count; i++) {
        size_t began = j->len;
        put_dir(j, s, to, u, i);
        fit(j, began, &more);
    }
    end_list(j, "directories_more", more);
}

/* ---- volumes ---- */

static void put_unlocked(struct json *j, struct server *s, struct unlocked *u)
{
    const struct keystore *ks = u->ks;
    json_number(j, "generation", ks->generation);
    json_string(j, "environment", ks->environment);
    json_string(j, "keys", vault_in_kernel(u->vault) ? "keyring" : "memory");
    json_number(j, "rotation_overdue", store_overdue(s->policy, ks, time(NULL)));
    json_number(j, "auth_failures", u->auth_failures);
    json_open(j, "masters", '[');
    for (uint32_t i = 0; i < ks->master_count; i++)
        put_version(j, ks->masters[i].version, ks->masters[i].state, ks->masters[i].created);
    json_close(j, ']');
}

/* The mounts first: programs look for them, and there are fewer of them than of directories. */
static void put_volume(struct json *j, struct server *s, const struct conn *to, const uint8_t *id,
                       struct unlocked *u)
{
    json_open(j, NULL, '{');
    put_id(j, "id", id);
    json_bool(j, "unlocked", u != NULL);
    if (u)
        put_unlocked(j, s, u);
    put_mounts(j, s, to, id, u);
    if (u)
        put_dirs(j, s, to, u);
    json_close(j, '}');
}

static bool listed(struct server *s, const struct conn *c)
{
    bool yes = !c->attached || c->dead || volume_find(s, c->volume_id);
    for (const struct conn *o = s->conns; o != c && !yes; o = o->next)
        yes = conn_mounts(o, c->volume_id);
    return yes;
}

/* Unlocked ones, then those that are locked and mounted, each once. */
static void put_volumes(struct json *j, struct server *s, const struct conn *to)
{
    unsigned more = 0;
    json_open(j, "volumes", '[');
    for (struct unlocked *u = s->volumes; u; u = u->next) {
        if (j->len < ROOM - VOLUME_HEAD)
            put_volume(j, s, to, u->ks->volume_id, u);
        else
            more++;
    }
    for (const struct conn *c = s->conns; c; c = c->next) {
        if (listed(s, c))
            continue;
        if (j->len < ROOM - VOLUME_HEAD)
            put_volume(j, s, to, c->volume_id, NULL);
        else
            more++;
    }
    end_list(j, "volumes_more", more);
}

void handle_status(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct json j = {0};
    unsigned conns = 0;
    for (const struct conn *o = s->conns; o; o = o->next)
        conns += !o->dead;
    json_open(&j, NULL, '{');
    json_string(&j, "version", LATCHFS_VERSION);
    json_number(&j, "pid", (uint64_t)getpid());
    json_number(&j, "uid", geteuid());
    json_string(&j, "keys", vault_refusal() ? "memory" : "keyring");
    if (vault_refusal())
        json_string(&j, "keyring_refused", lfs_strerror(vault_refusal()));
    json_bool(&j, "memory_locked", secret_memory_is_locked());
    json_number(&j, "connections", conns);
    put_volumes(&j, s, c);
    json_close(&j, '}');
    struct proto_msg m = {.type = P_STATUS | P_REPLY,
                          .serial = q->serial,
                          .result = j.bad ? -ENOMEM : 0,
                          .json = {(const uint8_t *)j.p, j.len}};
    conn_send(s, c, &m);
    json_clear(&j);
}
