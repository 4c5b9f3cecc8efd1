#include "proto.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keyclient.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

enum kind { K_U8, K_U32, K_ID, K_BLOB, K_STRING, K_KEYS };

enum field {
    END,
    VOLUME,
    PD,
    SUITE,
    CRED,
    SECRET,
    FRESH_CRED,
    FRESH,
    FLAGS,
    SLOT,
    HELD,
    PUSH,
    LEASE_S,
    GRACE_S,
    PID,
    INI,
    JSON,
    RECOVERY,
    LABEL,
    PATH,
    KEYS,
    FIELDS
};

#define AT(member) offsetof(struct proto_msg, member)

/* least and most: of the number, or of the length. */
static const struct {
    enum kind kind;
    size_t offset;
    uint32_t least, most;
} fields[FIELDS] = {
    [VOLUME] = {K_ID, AT(volume), 0, 0},
    [PD] = {K_ID, AT(pd), 0, 0},
    [SUITE] = {K_U8, AT(suite), 1, 255},
    [CRED] = {K_U8, AT(cred), CRED_PASSPHRASE, CRED_RECOVERY},
    [SECRET] = {K_BLOB, AT(secret), 1, PROTO_SECRET_MAX},
    [FRESH_CRED] = {K_U8, AT(fresh_cred), CRED_PASSPHRASE, CRED_RECOVERY},
    [FRESH] = {K_BLOB, AT(fresh), 0, PROTO_SECRET_MAX},
    [FLAGS] = {K_U32, AT(flags), 0, PF_ALL},
    [SLOT] = {K_U32, AT(slot), 0, KEYSTORE_SLOT_ID_MAX},
    [HELD] = {K_U32, AT(held), 0, UINT32_MAX},
    [PUSH] = {K_U32, AT(push), 0, UINT32_MAX},
    [LEASE_S] = {K_U32, AT(lease_s), 0, UINT32_MAX},
    [GRACE_S] = {K_U32, AT(grace_s), 0, UINT32_MAX},
    [PID] = {K_U32, AT(pid), 0, UINT32_MAX},
    [INI] = {K_BLOB, AT(ini), 1, KEYSTORE_MAX_BYTES},
    [JSON] = {K_BLOB, AT(json), 0, PROTO_JSON_MAX},
    [RECOVERY] = {K_BLOB, AT(recovery), 0, 256},
    [LABEL] = {K_STRING, AT(label), 0, KEYSTORE_LABEL_MAX},
    [PATH] = {K_STRING, AT(path), 0, PROTO_PATH_MAX},
    [KEYS] = {K_KEYS, AT(keys), 0, 0},
};

#define FIELDS_MAX 9
static const struct shape {
    uint16_t type;
    const char *name;
    uint8_t request[FIELDS_MAX], reply[FIELDS_MAX]; /* enum field, ended by END */
} shapes[] = {
    {P_HELLO, "hello", {END}, {PID}},
    {P_INIT, "init", {SUITE, FLAGS, CRED, SECRET, LABEL}, {INI, RECOVERY}},
    {P_UNLOCK, "unlock", {INI, CRED, SECRET, FLAGS}, {VOLUME, SLOT}},
    {P_LOCK, "lock", {VOLUME}, {HELD}},
    {P_SLOT_TEST, "slot-test", {INI, CRED, SECRET}, {SLOT}},
    {P_SLOT_ADD, "slot-add", {INI, CRED, SECRET, FLAGS, FRESH_CRED, FRESH, LABEL}, {INI, SLOT, RECOVERY}},
    {P_SLOT_REMOVE, "slot-remove", {INI, CRED, SECRET, SLOT}, {INI}},
    {P_PIN, "pin", {INI}, {END}},
    {P_STATUS, "status", {END}, {JSON}},
    {P_ATTACH, "attach", {VOLUME, PATH}, {GRACE_S}},
    {P_LEASE, "lease", {VOLUME, PD}, {LEASE_S, KEYS}},
    {P_RENEW, "renew", {VOLUME, PD}, {LEASE_S}},
    {P_REVOKED, "revoked", {PUSH, HELD}, {END}},
    {P_PUSH_REVOKE, "push-revoke", {VOLUME, PD}, {END}},
    {P_PUSH_UNLOCKED, "push-unlocked", {VOLUME}, {END}},
};

static const struct shape *shape_of(uint16_t type)
{
    uint16_t base = type & (uint16_t)~P_REPLY;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].type == base && !(type & P_REPLY && base >= P_PUSH_REVOKE))
            return &shapes[i];
    return NULL;
}

const char *proto_type_name(uint16_t type)
{
    const struct shape *s = shape_of(type);
    return s ? s->name : "unknown";
}

void proto_msg_clear(struct proto_msg *m)
{
    keyset_freep(&m->keys);
}

/* ---- decoding ---- */

static bool get_blob(struct rcur *c, bool string, uint32_t least, uint32_t most, struct proto_blob *out)
{
    uint32_t len = string ? rcur_u16(c) : rcur_u32(c);
    if (len < least || len > most)
        return false;
    out->p = rcur_view(c, len);
    out->len = len;
    return out->p && !(string && memchr(out->p, '\0', len));
}

static struct keyset *get_keys(struct rcur *c)
{
    struct keyset *k = keyset_new();
    if (!k)
        return NULL;
    rcur_bytes(c, k->volume_id, ID_BYTES);
    rcur_bytes(c, k->pd_id, ID_BYTES);
    k->suite = rcur_u8(c);
    k->active = rcur_u32(c);
    k->least = rcur_u32(c);
    k->count = rcur_u32(c);
    if (k->count < 1 || k->count > KEYSET_VERSIONS_MAX) {
        c->bad = true;
        return k;
    }
    for (uint32_t i = 0; i < k->count; i++) {
        k->versions[i].version = rcur_u32(c);
        rcur_bytes(c, k->versions[i].key, LFS_KEY_BYTES);
    }
    rcur_bytes(c, k->name_key, LFS_KEY_BYTES);
    rcur_bytes(c, k->journal_key, LFS_KEY_BYTES);
    return k;
}

static bool get_field(struct rcur *c, enum field f, struct proto_msg *m)
{
    uint8_t *at = (uint8_t *)m + fields[f].offset;
    uint32_t v = 0;
    switch (fields[f].kind) {
    case K_U8:
        v = *at = rcur_u8(c);
        break;
    case K_U32:
        v = rcur_u32(c);
        memcpy(at, &v, sizeof v);
        break;
    case K_ID:
        rcur_bytes(c, at, ID_BYTES);
        return true;
    case K_BLOB:
    case K_STRING:
        return get_blob(c, fields[f].kind == K_STRING, fields[f].least, fields[f].most, (void *)at);
    case K_KEYS:
        return !m->keys && (m->keys = get_keys(c));
    }
    return v >= fields[f].least && v <= fields[f].most;
}

static bool get_all(struct rcur *c, const uint8_t *list, struct proto_msg *m)
{
    for (; *list != END; list++)
        if (!get_field(c, (enum field) * list, m))
            return false;
    return true;
}

int proto_decode(uint16_t type, uint32_t serial, const uint8_t *data, size_t len, struct proto_msg *out)
{
    const struct shape *s = shape_of(type);
    struct proto_msg m = {.type = type, .serial = serial};
    struct rcur c = rcur_over(data, len);
    bool ok = s != NULL;
    if (ok && type & P_REPLY) {
        m.result = (int32_t)rcur_u32(&c);
        ok = m.result <= 0 && get_blob(&c, true, 0, PROTO_TEXT_MAX, &m.text);
    }
    if (ok && m.result == 0)
        ok = get_all(&c, type & P_REPLY ? s->reply : s->request, &m);
    if (!ok || !rcur_done(&c)) {
        proto_msg_clear(&m);
        return LFS_ERR_PROTO;
    }
    *out = m;
    return 0;
}

/* ---- encoding ---- */

static void put_keys(struct wcur *c, const struct keyset *k)
{
    wcur_bytes(c, k->volume_id, ID_BYTES);
    wcur_bytes(c, k->pd_id, ID_BYTES);
    wcur_u8(c, k->suite);
    wcur_u32(c, k->active);
    wcur_u32(c, k->least);
    wcur_u32(c, k->count);
    for (uint32_t i = 0; i < k->count; i++) {
        wcur_u32(c, k->versions[i].version);
        wcur_bytes(c, k->versions[i].key, LFS_KEY_BYTES);
    }
    wcur_bytes(c, k->name_key, LFS_KEY_BYTES);
    wcur_bytes(c, k->journal_key, LFS_KEY_BYTES);
}

static bool put_blob(struct wcur *c, bool string, uint32_t least, uint32_t most, const struct proto_blob *b)
{
    if (b->len < least || b->len > most)
        return false;
    if (string)
        wcur_u16(c, (uint16_t)b->len);
    else
        wcur_u32(c, (uint32_t)b->len);
    if (b->len)
        wcur_bytes(c, b->p, b->len);
    return true;
}

static bool put_field(struct wcur *c, enum field f, const struct proto_msg *m)
{
    const uint8_t *at = (const uint8_t *)m + fields[f].offset;
    uint32_t v = 0;
    switch (fields[f].kind) {
    case K_U8:
        v = *at;
        wcur_u8(c, *at);
        break;
    case K_U32:
        memcpy(&v, at, sizeof v);
        wcur_u32(c, v);
        break;
    case K_ID:
        wcur_bytes(c, at, ID_BYTES);
        return true;
    case K_BLOB:
    case K_STRING:
        return put_blob(c, fields[f].kind == K_STRING, fields[f].least, fields[f].most, (const void *)at);
    case K_KEYS:
        if (!m->keys || m->keys->count > KEYSET_VERSIONS_MAX)
            return false;
        put_keys(c, m->keys);
        return true;
    }
    return v >= fields[f].least && v <= fields[f].most;
}

static size_t room_for(const struct proto_msg *m)
{
    return m->text.len + m->ini.len + m->json.len + m->secret.len + m->fresh.len + m->recovery.len +
           m->label.len + m->path.len + sizeof(struct keyset) + 256;
}

int proto_encode(const struct proto_msg *m, struct proto_body *body)
{
    const struct shape *s = shape_of(m->type);
    size_t room = room_for(m);
    proto_body_clear(body);
    if (!s || room > PROTO_BODY_MAX)
        return LFS_ERR_MISUSE;
    body->p = sodium_malloc(room);
    if (!body->p)
        return -ENOMEM;
    body->cap = room;
    struct wcur c = wcur_over(body->p, room);
    bool ok = true;
    if (m->type & P_REPLY) {
        wcur_u32(&c, (uint32_t)m->result);
        ok = put_blob(&c, true, 0, PROTO_TEXT_MAX, &m->text);
    }
    const uint8_t *list = m->type & P_REPLY ? s->reply : s->request;
    for (; ok && m->result == 0 && *list != END; list++)
        ok = put_field(&c, (enum field) * list, m);
    if (!ok || c.bad) {
        proto_body_clear(body);
        return LFS_ERR_MISUSE;
    }
    body->len = wcur_used(&c);
    return 0;
}
