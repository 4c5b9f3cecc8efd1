/* Requests and answers of the control sockets as bytes. */
#include "fs/mount/mountctl_int.h"

#include "latchfs/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FLAG_LOCKED 1u
#define FLAG_READ_ONLY 2u
#define FLAG_FAILED 4u
#define FLAG_WRITEBACK 8u
#define FLAGS_ALL 15u

#define RESOLVED_TOP 1u
#define RESOLVED_LOCKED 2u

/* ---- pieces ---- */

void ctl_put_string(struct wcur *w, const char *s)
{
    size_t len = strlen(s);
    wcur_u16(w, (uint16_t)len);
    wcur_bytes(w, s, len);
}

void ctl_get_string(struct rcur *r, char *out, size_t size)
{
    size_t len = rcur_u16(r);
    if (len >= size)
        r->bad = true;
    rcur_bytes(r, out, r->bad ? 0 : len);
    out[r->bad ? 0 : len] = '\0';
    if (strlen(out) != len)
        r->bad = true;
}

void ctl_put_numbers(struct wcur *w, const uint64_t *const *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        wcur_u64(w, *numbers[i]);
}

void ctl_get_numbers(struct rcur *r, uint64_t *const *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        *numbers[i] = rcur_u64(r);
}

bool ctl_get_bool(struct rcur *r)
{
    uint8_t b = rcur_u8(r);
    if (b > 1)
        r->bad = true;
    return b;
}

struct wcur ctl_begin(uint16_t kind, int err, uint8_t *out, size_t size)
{
    struct wcur w = wcur_over(out, size);
    wcur_u16(&w, MOUNTCTL_VERSION);
    wcur_u16(&w, kind);
    wcur_u32(&w, (uint32_t)err);
    return w;
}

int ctl_end(const struct wcur *w)
{
    return w->bad ? LFS_ERR_MISUSE : (int)wcur_used(w);
}

/* The head of an answer; 0: a body follows. */
int ctl_head(struct rcur *r, uint16_t want)
{
    uint16_t version = rcur_u16(r), kind = rcur_u16(r);
    int32_t error = (int32_t)rcur_u32(r);
    if (r->bad || version != MOUNTCTL_VERSION || kind != want || error > 0 || (error && r->left))
        return LFS_ERR_PROTO;
    return error;
}

int mountctl_encode_plain(uint16_t kind, int err, uint8_t *out, size_t size)
{
    struct wcur w = ctl_begin(kind, err, out, size);
    return ctl_end(&w);
}

int mountctl_decode_plain(uint16_t kind, const uint8_t *in, size_t len)
{
    struct rcur r = rcur_over(in, len);
    int err = ctl_head(&r, kind);
    return err ? err : rcur_done(&r) ? 0 : LFS_ERR_PROTO;
}

/* ---- requests ---- */

/* Names that lead down from the mount point and nowhere else. */
bool ctl_path_is_plain(const char *path)
{
    if (!*path)
        return true;
    for (const char *name = path;;) {
        size_t len = strcspn(name, "/");
        if (len == 0 || len > NAME_PLAIN_MAX || (len == 1 && name[0] == '.') ||
            (len == 2 && name[0] == '.' && name[1] == '.'))
            return false;
        if (!name[len])
            return true;
        name += len + 1;
    }
}

enum { HAS_ID = 1, HAS_PATH = 2, HAS_JOB = 4, HAS_SECONDS = 8, HAS_NUMBER = 16, HAS_CHECK = 32 };

/* What a request of a kind carries; -1: unknown. */
static int parts_of(uint16_t kind)
{
    static const struct {
        uint16_t kind;
        int parts;
    } kinds[] = {
        {MOUNTCTL_STATUS, 0},
        {MOUNTCTL_RESOLVE, HAS_PATH},
        {MOUNTCTL_PROTECT, HAS_ID | HAS_PATH},
        {MOUNTCTL_DIRS, 0},
        {MOUNTCTL_JOB_START, HAS_JOB | HAS_ID},
        {MOUNTCTL_JOB_STATUS, 0},
        {MOUNTCTL_JOB_STOP, 0},
        {MOUNTCTL_FREEZE, HAS_SECONDS},
        {MOUNTCTL_THAW, HAS_NUMBER},
        {MOUNTCTL_CIPHER_PATH, HAS_PATH},
        {MOUNTCTL_PLAIN_PATH, HAS_PATH},
        {MOUNTCTL_CHECK_START, HAS_CHECK | HAS_PATH},
        {MOUNTCTL_CHECK_STATUS, 0},
        {MOUNTCTL_CHECK_FINDINGS, HAS_NUMBER},
        {MOUNTCTL_CHECK_STOP, 0},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].kind == kind)
            return kinds[i].parts;
    return -1;
}

static bool job_is_known(uint8_t job)
{
    return job >= MOUNT_JOB_REWRAP && job <= MOUNT_JOB_SCAN;
}

/* What encoder and decoder refuse alike. */
static bool request_is_valid(const struct mountctl_request *q, int parts)
{
    return !((parts & HAS_PATH) && !ctl_path_is_plain(q->path)) &&
           !((parts & HAS_JOB) && !job_is_known(q->job)) &&
           !((parts & HAS_SECONDS) && (q->seconds < 1 || q->seconds > FREEZE_SECONDS_MAX)) &&
           !((parts & HAS_CHECK) && (q->flags & ~CHECK_CONTENTS));
}

int mountctl_encode_request(const struct mountctl_request *q, uint8_t *out, size_t size)
{
    struct wcur w = wcur_over(out, size);
    int parts = parts_of(q->kind);
    if (parts < 0 || !request_is_valid(q, parts))
        return LFS_ERR_MISUSE;
    wcur_u16(&w, MOUNTCTL_VERSION);
    wcur_u16(&w, q->kind);
    if (parts & HAS_JOB)
        wcur_u8(&w, q->job);
    if (parts & HAS_ID)
        wcur_bytes(&w, q->pd_id, ID_BYTES);
    if (parts & HAS_JOB) {
        wcur_u64(&w, q->bytes_per_second);
        wcur_u32(&w, q->version);
    }
    if (parts & HAS_SECONDS)
        wcur_u32(&w, q->seconds);
    if (parts & HAS_NUMBER)
        wcur_u64(&w, q->number);
    if (parts & HAS_CHECK) {
        wcur_u8(&w, q->flags);
        wcur_u32(&w, q->workers);
        wcur_u64(&w, q->bytes_per_second);
    }
    if (parts & HAS_PATH)
        ctl_put_string(&w, q->path);
    if (parts & HAS_CHECK)
        ctl_put_string(&w, q->resume);
    return ctl_end(&w);
}

static void get_request(struct rcur *r, int parts, struct mountctl_request *q)
{
    if (parts & HAS_JOB)
        q->job = rcur_u8(r);
    if (parts & HAS_ID)
        rcur_bytes(r, q->pd_id, ID_BYTES);
    if (parts & HAS_JOB) {
        q->bytes_per_second = rcur_u64(r);
        q->version = rcur_u32(r);
    }
    if (parts & HAS_SECONDS)
        q->seconds = rcur_u32(r);
    if (parts & HAS_NUMBER)
        q->number = rcur_u64(r);
    if (parts & HAS_CHECK) {
        q->flags = rcur_u8(r);
        q->workers = rcur_u32(r);
        q->bytes_per_second = rcur_u64(r);
    }
    if (parts & HAS_PATH)
        ctl_get_string(r, q->path, sizeof q->path);
    if (parts & HAS_CHECK)
        ctl_get_string(r, q->resume, sizeof q->resume);
    if (!request_is_valid(q, parts))
        r->bad = true;
}

int mountctl_decode_request(const uint8_t *in, size_t len, struct mountctl_request *out)
{
    AUTO_FREE struct mountctl_request *q = calloc(1, sizeof *q);
    if (!q)
        return -ENOMEM;
    struct rcur r = rcur_over(in, len);
    uint16_t version = rcur_u16(&r);
    q->kind = rcur_u16(&r);
    if (r.bad)
        return LFS_ERR_PROTO;
    int parts = version == MOUNTCTL_VERSION ? parts_of(q->kind) : -1;
    if (parts >= 0) {
        get_request(&r, parts, q);
        if (!rcur_done(&r))
            return LFS_ERR_PROTO;
    }
    *out = *q;
    return parts < 0 ? LFS_ERR_UNSUPPORTED : 0;
}

/* ---- status ---- */

/* Where the numbers of a status stand, in their order; v: its stats. */
#define STATUS_NUMBERS(st, v)                                                                              \
    {                                                                                                      \
        &(v)->nodes, &(v)->open_fds, &(v)->pinned_fds, &(v)->journal_bytes, &(v)->journal_used,            \
            &(v)->auth_failures, &(v)->checkpoints, &(v)->journal_syncs, &(v)->seals, &(v)->seals_waiting, \
            &(v)->checkpoint_at, &(st)->open_files, &(st)->writes, &(st)->frozen_until                     \
    }

static uint32_t flags_of(const struct mount_status *st)
{
    return (st->locked ? FLAG_LOCKED : 0) | (st->read_only ? FLAG_READ_ONLY : 0) |
           (st->failed ? FLAG_FAILED : 0) | (st->writeback ? FLAG_WRITEBACK : 0);
}

int mountctl_encode_status(const struct mount_status *st, uint8_t *out, size_t size)
{
    struct wcur w = ctl_begin(MOUNTCTL_STATUS, 0, out, size);
    const struct volume_stats *v = &st->stats;
    const uint64_t *const numbers[] = STATUS_NUMBERS(st, v);
    wcur_bytes(&w, st->volume_id, ID_BYTES);
    wcur_u32(&w, st->pid);
    wcur_u32(&w, flags_of(st));
    wcur_u64(&w, st->mounted_at);
    ctl_put_numbers(&w, numbers, sizeof numbers / sizeof numbers[0]);
    wcur_u32(&w, (uint32_t)v->failed_sync);
    wcur_u8(&w, st->replay.unclean);
    wcur_u64(&w, st->replay.entries);
    wcur_u64(&w, st->replay.files);
    wcur_u64(&w, st->replay.skipped);
    wcur_u64(&w, st->replay.torn);
    ctl_put_string(&w, st->volume);
    ctl_put_string(&w, st->mountpoint);
    return ctl_end(&w);
}

static void get_status(struct rcur *r, struct mount_status *st)
{
    struct volume_stats *v = &st->stats;
    uint64_t *const numbers[] = STATUS_NUMBERS(st, v);
    rcur_bytes(r, st->volume_id, ID_BYTES);
    st->pid = rcur_u32(r);
    uint32_t flags = rcur_u32(r);
    st->locked = flags & FLAG_LOCKED;
    st->read_only = flags & FLAG_READ_ONLY;
    st->failed = flags & FLAG_FAILED;
    st->writeback = flags & FLAG_WRITEBACK;
    st->mounted_at = rcur_u64(r);
    ctl_get_numbers(r, numbers, sizeof numbers / sizeof numbers[0]);
    v->failed_sync = (int32_t)rcur_u32(r);
    st->replay.unclean = ctl_get_bool(r);
    st->replay.entries = rcur_u64(r);
    st->replay.files = rcur_u64(r);
    st->replay.skipped = rcur_u64(r);
    st->replay.torn = rcur_u64(r);
    ctl_get_string(r, st->volume, sizeof st->volume);
    ctl_get_string(r, st->mountpoint, sizeof st->mountpoint);
    if ((flags & ~FLAGS_ALL) || v->failed_sync > 0)
        r->bad = true;
}

int mountctl_decode_status(const uint8_t *in, size_t len, struct mount_status *out)
{
    AUTO_FREE struct mount_status *st = calloc(1, sizeof *st);
    if (!st)
        return -ENOMEM;
    struct rcur r = rcur_over(in, len);
    int err = ctl_head(&r, MOUNTCTL_STATUS);
    if (err)
        return err;
    get_status(&r, st);
    if (!rcur_done(&r))
        return LFS_ERR_PROTO;
    *out = *st;
    return 0;
}

/* ---- protected directories ---- */

int mountctl_encode_resolved(const struct mount_resolved *m, uint8_t *out, size_t size)
{
    struct wcur w = ctl_begin(MOUNTCTL_RESOLVE, 0, out, size);
    wcur_bytes(&w, m->pd_id, ID_BYTES);
    wcur_u8(&w, (uint8_t)((m->top ? RESOLVED_TOP : 0) | (m->locked ? RESOLVED_LOCKED : 0)));
    return ctl_end(&w);
}

int mountctl_decode_resolved(const uint8_t *in, size_t len, struct mount_resolved *out)
{
    struct mount_resolved m = {0};
    struct rcur r = rcur_over(in, len);
    int err = ctl_head(&r, MOUNTCTL_RESOLVE);
    if (err)
        return err;
    rcur_bytes(&r, m.pd_id, ID_BYTES);
    uint8_t flags = rcur_u8(&r);
    m.top = flags & RESOLVED_TOP;
    m.locked = flags & RESOLVED_LOCKED;
    if (!rcur_done(&r) || (flags & ~(RESOLVED_TOP | RESOLVED_LOCKED)))
        return LFS_ERR_PROTO;
    *out = m;
    return 0;
}

int mountctl_encode_dirs(const struct mount_dir *dirs, size_t count, uint8_t *out, size_t size)
{
    struct wcur w = ctl_begin(MOUNTCTL_DIRS, 0, out, size);
    if (count > MOUNTCTL_DIRS_MAX)
        return LFS_ERR_MISUSE;
    wcur_u16(&w, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        const struct pd_status *st = &dirs[i].pd;
        wcur_bytes(&w, st->id, ID_BYTES);
        wcur_u8(&w, st->locked);
        wcur_u32(&w, st->active);
        wcur_u32(&w, st->least);
        wcur_u64(&w, st->last_use);
        wcur_u64(&w, dirs[i].open_files);
    }
    return ctl_end(&w);
}

static struct mount_dir get_dir(struct rcur *r)
{
    struct mount_dir dir = {0};
    rcur_bytes(r, dir.pd.id, ID_BYTES);
    dir.pd.locked = ctl_get_bool(r);
    dir.pd.active = rcur_u32(r);
    dir.pd.least = rcur_u32(r);
    dir.pd.last_use = rcur_u64(r);
    dir.open_files = rcur_u64(r);
    return dir;
}

int mountctl_decode_dirs(const uint8_t *in, size_t len, struct mount_dir *out, size_t room, size_t *count)
{
    AUTO_FREE struct mount_dir *all = calloc(MOUNTCTL_DIRS_MAX, sizeof *all);
    if (!all)
        return -ENOMEM;
    struct rcur r = rcur_over(in, len);
    int err = ctl_head(&r, MOUNTCTL_DIRS);
    if (err)
        return err;
    size_t n = rcur_u16(&r);
    if (n > MOUNTCTL_DIRS_MAX)
        return LFS_ERR_PROTO;
    for (size_t i = 0; i < n; i++)
        all[i] = get_dir(&r);
    if (!rcur_done(&r))
        return LFS_ERR_PROTO;
    if (n > room)
        return -E2BIG;
    memcpy(out, all, n * sizeof *all);
    *count = n;
    return 0;
}

/* ---- jobs ---- */

int mountctl_encode_job(const struct mount_job_status *st, uint8_t *out, size_t size)
{
    struct wcur w = ctl_begin(MOUNTCTL_JOB_STATUS, 0, out, size);
    const struct rotate_progress *p = &st->progress;
    wcur_u8(&w, st->job);
    wcur_u8(&w, st->running);
    wcur_u32(&w, (uint32_t)st->result);
    wcur_bytes(&w, st->pd_id, ID_BYTES);
    wcur_u64(&w, p->files);
    wcur_u64(&w, p->files_total);
    wcur_u64(&w, p->changed);
    wcur_u64(&w, p->damaged);
    wcur_u64(&w, p->bytes);
    wcur_u64(&w, p->bytes_total);
    wcur_u32(&w, p->least_found);
    return ctl_end(&w);
}

int mountctl_decode_job(const uint8_t *in, size_t len, struct mount_job_status *out)
{
    struct mount_job_status st = {0};
    struct rcur r = rcur_over(in, len);
    int err = ctl_head(&r, MOUNTCTL_JOB_STATUS);
    if (err)
        return err;
    st.job = rcur_u8(&r);
    st.running = ctl_get_bool(&r);
    st.result = (int32_t)rcur_u32(&r);
    rcur_bytes(&r, st.pd_id, ID_BYTES);
    st.progress.files = rcur_u64(&r);
    st.progress.files_total = rcur_u64(&r);
    st.progress.changed = rcur_u64(&r);
    st.progress.damaged = rcur_u64(&r);
    st.progress.bytes = rcur_u64(&r);
    st.progress.bytes_total = rcur_u64(&r);
    st.progress.least_found = rcur_u32(&r);
    bool known = st.job == 0 ? !st.running && !st.result : job_is_known(st.job);
    if (!rcur_done(&r) || !known || st.result > 0)
        return LFS_ERR_PROTO;
    *out = st;
    return 0;
}
