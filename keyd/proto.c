#include "proto.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keyclient.h"
#include "latchfs/keyedit.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

enum kind { K_U8, K_U32, K_U64, K_BYTES, K_BLOB, K_STRING, K_KEYS };

enum field {
    END,
    VOLUME,
    PD,
    SUITE,
    CRED,
    SECRET,
    SLOT,
    SIGNER,
    FRESH_CRED,
    FRESH,
    PUBLIC,
    COMMAND,
    BLOB,
    OP,
    NUMBER,
    DONE,
    FLAGS,
    HELD,
    PUSH,
    LEASE_S,
    IDLE_S,
    GRACE_S,
    WAIT_S,
    WAIT_MS,
    PID,
    UID,
    OFFSET,
    FAILURES,
    SIGNATURE,
    INI,
    JSON,
    LOG,
    RECOVERY,
    KEY,
    USES,
    LABEL,
    ENVIRONMENT,
    APPROVAL,
    PATH,
    KEYS,
    FIELDS
};

#define AT(member) offsetof(struct proto_msg, member)

/* least and most: of the number, or of the length; a blob's length is a multiple of step. K_BYTES: most
 * bytes. */
static const struct {
    enum kind kind;
    size_t offset;
    uint32_t least, most, step;
} fields[FIELDS] = {
    [VOLUME] = {K_BYTES, AT(volume), 0, ID_BYTES, 0},
    [PD] = {K_BYTES, AT(pd), 0, ID_BYTES, 0},
    [SUITE] = {K_U8, AT(suite), 1, 255, 0},
    [CRED] = {K_U8, AT(cred), CRED_PASSPHRASE, CRED_COMMAND, 0},
    [SECRET] = {K_BLOB, AT(secret), 1, PROTO_SECRET_MAX, 1},
    [SLOT] = {K_U32, AT(slot), 0, KEYSTORE_SLOT_ID_MAX, 0},
    [SIGNER] = {K_BYTES, AT(signing_public), 0, KEYSTORE_PUBLIC_BYTES, 0},
    [FRESH_CRED] = {K_U8, AT(fresh_cred), 0, CRED_COMMAND, 0},
    [FRESH] = {K_BLOB, AT(fresh), 0, PROTO_SECRET_MAX, 1},
    [PUBLIC] = {K_BYTES, AT(public_key), 0, KEYSTORE_PUBLIC_BYTES, 0},
    [COMMAND] = {K_STRING, AT(command), 0, KEYSTORE_COMMAND_MAX, 1},
    [BLOB] = {K_BLOB, AT(blob), 0, KEYSTORE_BLOB_MAX, 1},
    [OP] = {K_U8, AT(op), 1, EDIT_OP_MAX, 0},
    [NUMBER] = {K_U32, AT(number), 0, UINT32_MAX, 0},
    [DONE] = {K_U8, AT(done), 0, 1, 0},
    [FLAGS] = {K_U32, AT(flags), 0, PF_ALL, 0},
    [HELD] = {K_U32, AT(held), 0, UINT32_MAX, 0},
    [PUSH] = {K_U32, AT(push), 0, UINT32_MAX, 0},
    [LEASE_S] = {K_U32, AT(lease_s), 0, UINT32_MAX, 0},
    [IDLE_S] = {K_U32, AT(idle_s), 0, UINT32_MAX, 0},
    [GRACE_S] = {K_U32, AT(grace_s), 0, UINT32_MAX, 0},
    [WAIT_S] = {K_U32, AT(wait_s), 0, UINT32_MAX, 0},
    [WAIT_MS] = {K_U32, AT(wait_ms), 0, PROTO_WAIT_MS_MAX, 0},
    [PID] = {K_U32, AT(pid), 0, UINT32_MAX, 0},
    [UID] = {K_U32, AT(uid), 0, UINT32_MAX, 0},
    [OFFSET] = {K_U64, AT(offset), 0, 0, 0},
    [FAILURES] = {K_U64, AT(failures), 0, 0, 0},
    [SIGNATURE] = {K_BYTES, AT(signature), 0, KEYSTORE_SIGNATURE_BYTES, 0},
    [INI] = {K_BLOB, AT(ini), 1, KEYSTORE_MAX_BYTES, 1},
    [JSON] = {K_BLOB, AT(json), 0, PROTO_JSON_MAX, 1},
    [LOG] = {K_BLOB, AT(log), 0, PROTO_LOG_MAX, 1},
    [RECOVERY] = {K_BLOB, AT(recovery), 0, 256, 1},
    [KEY] = {K_BLOB, AT(key), LFS_KEY_BYTES, LFS_KEY_BYTES, 1},
    [USES] = {K_BLOB, AT(uses), 0, PROTO_USES_MAX *PROTO_USE_BYTES, PROTO_USE_BYTES},
    [LABEL] = {K_STRING, AT(label), 0, KEYSTORE_LABEL_MAX, 1},
    [ENVIRONMENT] = {K_STRING, AT(environment), 0, KEYSTORE_LABEL_MAX, 1},
    [APPROVAL] = {K_STRING, AT(id), 1, PROTO_APPROVAL_ID_MAX, 1},
    [PATH] = {K_STRING, AT(path), 0, PROTO_PATH_MAX, 1},
    [KEYS] = {K_KEYS, AT(keys), 0, 0, 0},
};

/* How a store is opened, and what a new slot is made of. */
#define OPEN INI, CRED, SECRET, SLOT, SIGNER
#define NEW_SLOT FRESH_CRED, FRESH, PUBLIC, COMMAND, BLOB

#define FIELDS_MAX 12
static const struct shape {
    uint16_t type;
    const char *name;
    uint8_t request[FIELDS_MAX], reply[FIELDS_MAX]; /* enum field, ended by END */
} shapes[] = {
    {P_HELLO, "hello", {END}, {PID, WAIT_S}},
    {P_INIT, "init", {SUITE, FLAGS, NEW_SLOT, LABEL, ENVIRONMENT}, {INI, RECOVERY}},
    {P_UNLOCK, "unlock", {OPEN, FLAGS}, {VOLUME, SLOT, FLAGS}},
    {P_LOCK, "lock", {VOLUME}, {HELD}},
    {P_SLOT_TEST, "slot-test", {OPEN}, {SLOT}},
    {P_ADMIN, "admin", {OPEN, FLAGS}, {SLOT, FLAGS}},
    {P_EDIT, "edit", {OP, PD, NUMBER, FLAGS, LABEL, NEW_SLOT}, {INI, NUMBER, PD, RECOVERY}},
    {P_PIN, "pin", {INI}, {END}},
    {P_STATUS, "status", {END}, {JSON}},
    {P_ATTACH, "attach", {VOLUME, PATH}, {GRACE_S}},
    {P_LEASE, "lease", {VOLUME, PD}, {LEASE_S, IDLE_S, KEYS}},
    {P_RENEW, "renew", {VOLUME, PD}, {LEASE_S}},
    {P_REVOKED, "revoked", {PUSH, HELD}, {END}},
    {P_WAIT_REKEYED, "wait-rekeyed", {VOLUME, PD, NUMBER, WAIT_MS}, {END}},
    {P_LOCK_DIR, "lock-dir", {VOLUME, PD, FLAGS}, {DONE, HELD}},
    {P_UNLOCK_DIR, "unlock-dir", {VOLUME, PD}, {END}},
    {P_APPROVALS, "approvals", {END}, {JSON}},
    {P_APPROVE, "approve", {APPROVAL, PUBLIC, SIGNATURE}, {END}},
    {P_AUDIT_READ, "audit-read", {OFFSET}, {LOG}},
    {P_AUDIT_HEAD, "audit-head", {END}, {JSON}},
    {P_AUDIT_ENROLL, "audit-enroll", {END}, {KEY}},
    {P_LEASE_FOR, "lease-for", {VOLUME, PD, UID}, {LEASE_S, IDLE_S, KEYS}},
    {P_REKEYED, "rekeyed", {PUSH, PD, NUMBER}, {END}},
    {P_HELD, "held", {PUSH, HELD}, {END}},
    {P_LOCKED_IDLE, "locked-idle", {VOLUME, PD}, {END}},
    {P_REPORT, "report", {FAILURES, USES}, {END}},
    {P_PUSH_REVOKE, "push-revoke", {VOLUME, PD}, {END}},
    {P_PUSH_UNLOCKED, "push-unlocked", {VOLUME, PD}, {END}},
    {P_PUSH_REKEY, "push-rekey", {VOLUME, PD}, {END}},
    {P_PUSH_HELD, "push-held", {VOLUME, PD}, {END}},
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

static bool get_blob(struct rcur *c, bool string, uint32_t least, uint32_t most, uint32_t step,
                     struct proto_blob *out)
{
    uint32_t len = string ? rcur_u16(c) : rcur_u32(c);
    if (len < least || len > most || len % step)
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
    uint64_t wide;
    switch (fields[f].kind) {
    case K_U8:
        v = *at = rcur_u8(c);
        break;
    case K_U32:
        v = rcur_u32(c);
        memcpy(at, &v, sizeof v);
        break;
    case K_U64:
        wide = rcur_u64(c);
        memcpy(at, &wide, sizeof wide);
        return true;
    case K_BYTES:
        rcur_bytes(c, at, fields[f].most);
        return true;
    case K_BLOB:
    case K_STRING:
        return get_blob(c, fields[f].kind == K_STRING, fields[f].least, fields[f].most, fields[f].step,
                        (void *)at);
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
        ok = m.result <= 0 && get_blob(&c, true, 0, PROTO_TEXT_MAX, 1, &m.text);
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

size_t proto_keys_encode(const struct keyset *k, uint8_t *out, size_t room)
{
    struct wcur c = wcur_over(out, room);
    if (k->count > KEYSET_VERSIONS_MAX)
        return 0;
    put_keys(&c, k);
    return c.bad ? 0 : wcur_used(&c);
}

static bool put_blob(struct wcur *c, bool string, uint32_t least, uint32_t most, uint32_t step,
                     const struct proto_blob *b)
{
    if (b->len < least || b->len > most || b->len % step)
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
    uint64_t wide;
    switch (fields[f].kind) {
    case K_U8:
        v = *at;
        wcur_u8(c, *at);
        break;
    case K_U32:
        memcpy(&v, at, sizeof v);
        wcur_u32(c, v);
        break;
    case K_U64:
        memcpy(&wide, at, sizeof wide);
        wcur_u64(c, wide);
        return true;
    case K_BYTES:
        wcur_bytes(c, at, fields[f].most);
        return true;
    case K_BLOB:
    case K_STRING:
        return put_blob(c, fields[f].kind == K_STRING, fields[f].least, fields[f].most, fields[f].step,
                        (const void *)at);
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
    return m->text.len + m->ini.len + m->json.len + m->log.len + m->secret.len + m->fresh.len + m->blob.len +
           m->recovery.len + m->key.len + m->uses.len + m->label.len + m->environment.len + m->command.len +
           m->id.len + m->path.len + sizeof(struct keyset) + 512;
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
        ok = put_blob(&c, true, 0, PROTO_TEXT_MAX, 1, &m->text);
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
