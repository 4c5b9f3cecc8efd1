#include "server.h"

#include "config.h"
#include "json.h"
#include "latchfs/err.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static unsigned count_leases(const struct conn *c, const uint8_t *volume_id)
{
    unsigned n = 0;
    for (const struct lease *l = c->leases; l; l = l->next)
        n += memcmp(l->volume_id, volume_id, ID_BYTES) == 0;
    return n;
}

static void put_mounts(struct json *j, const struct server *s, const uint8_t *volume_id)
{
    json_open(j, "mounts", '[');
    for (const struct conn *c = s->conns; c; c = c->next) {
        if (!c->attached || c->dead || memcmp(c->volume_id, volume_id, ID_BYTES) != 0)
            continue;
        json_open(j, NULL, '{');
        json_string(j, "mountpoint", c->mountpoint);
        json_number(j, "pid", (uint64_t)c->peer.pid);
        json_number(j, "uid", c->peer.uid);
        json_number(j, "leases", count_leases(c, volume_id));
        json_bool(j, "revoking", c->revoke != 0);
        json_number(j, "held", c->held);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void put_volume(struct json *j, const struct server *s, const uint8_t *id, const struct unlocked *u)
{
    char hex[2 * ID_BYTES + 1];
    id_to_hex(id, hex);
    json_open(j, NULL, '{');
    json_string(j, "id", hex);
    json_bool(j, "unlocked", u != NULL);
    if (u) {
        json_number(j, "generation", u->ks->generation);
        json_number(j, "directories", u->ks->dir_count);
        json_string(j, "keys", vault_in_kernel(u->vault) ? "keyring" : "memory");
    }
    put_mounts(j, s, id);
    json_close(j, '}');
}

/* Unlocked ones, then those that are locked and mounted, each once. */
static void put_volumes(struct json *j, struct server *s)
{
    json_open(j, "volumes", '[');
    for (const struct unlocked *u = s->volumes; u; u = u->next)
        put_volume(j, s, u->ks->volume_id, u);
    for (const struct conn *c = s->conns; c; c = c->next) {
        bool seen = !c->attached || c->dead || volume_find(s, c->volume_id);
        for (const struct conn *o = s->conns; o != c && !seen; o = o->next)
            seen = o->attached && !o->dead && memcmp(o->volume_id, c->volume_id, ID_BYTES) == 0;
        if (!seen)
            put_volume(j, s, c->volume_id, NULL);
    }
    json_close(j, ']');
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
    put_volumes(&j, s);
    json_close(&j, '}');
    struct proto_msg m = {.type = P_STATUS | P_REPLY,
                          .serial = q->serial,
                          .result = j.bad ? -ENOMEM : 0,
                          .json = {(const uint8_t *)j.p, j.len}};
    conn_send(s, c, &m);
    json_clear(&j);
}
