/* Answers about freezes, paths and online checks as bytes. */
#include "fs/mount/mountctl_int.h"

#include "latchfs/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- one number, one path ---- */

int mountctl_encode_serial(uint64_t serial, uint8_t *out, size_t size)
{
    struct wcur w = ctl_begin(MOUNTCTL_FREEZE, 0, out, size);
    wcur_u64(&w, serial);
    return serial ? ctl_end(&w) : LFS_ERR_MISUSE;
}

int mountctl_decode_serial(const uint8_t *in, size_t len, uint64_t *out)
{
    struct rcur r = rcur_over(in, len);
    int err = ctl_head(&r, MOUNTCTL_FREEZE);
    uint64_t serial = rcur_u64(&r);
    if (err || !rcur_done(&r) || !serial)
        return err ? err : LFS_ERR_PROTO;
    *out = serial;
    return 0;
}

int mountctl_encode_path(uint16_t kind, const char *path, uint8_t *out, size_t size)
{
    struct wcur w = ctl_begin(kind, 0, out, size);
    if (!ctl_path_is_plain(path))
        return LFS_ERR_MISUSE;
    ctl_put_string(&w, path);
    return ctl_end(&w);
}

int mountctl_decode_path(uint16_t kind, const uint8_t *in, size_t len, char *out)
{
    char path[PATH_MAX];
    struct rcur r = rcur_over(in, len);
    int err = ctl_head(&r, kind);
    if (err)
        return err;
    ctl_get_string(&r, path, sizeof path);
    if (!rcur_done(&r) || !ctl_path_is_plain(path))
        return LFS_ERR_PROTO;
    strcpy(out, path);
    return 0;
}

/* ---- the state of a check ---- */

#define PROGRESS_NUMBERS(p)                                                                                 \
    {                                                                                                       \
        &(p)->entries, &(p)->files, &(p)->directories, &(p)->bytes, &(p)->entries_total, &(p)->bytes_total, \
            &(p)->notes, &(p)->warnings, &(p)->damage, &(p)->repaired, &(p)->sealed, &(p)->open_seals       \
    }

int mountctl_encode_check(const struct mount_check_status *st, uint8_t *out, size_t size)
{
    struct wcur w = ctl_begin(MOUNTCTL_CHECK_STATUS, 0, out, size);
    const uint64_t *const numbers[] = PROGRESS_NUMBERS(&st->progress);
    wcur_u64(&w, st->serial);
    wcur_u8(&w, st->running);
    wcur_u32(&w, (uint32_t)st->result);
    ctl_put_numbers(&w, numbers, sizeof numbers / sizeof numbers[0]);
    ctl_put_string(&w, st->position);
    return ctl_end(&w);
}

int mountctl_decode_check(const uint8_t *in, size_t len, struct mount_check_status *out)
{
    AUTO_FREE struct mount_check_status *st = calloc(1, sizeof *st);
    if (!st)
        return -ENOMEM;
    struct rcur r = rcur_over(in, len);
    uint64_t *const numbers[] = PROGRESS_NUMBERS(&st->progress);
    int err = ctl_head(&r, MOUNTCTL_CHECK_STATUS);
    if (err)
        return err;
    st->serial = rcur_u64(&r);
    st->running = ctl_get_bool(&r);
    st->result = (int32_t)rcur_u32(&r);
    ctl_get_numbers(&r, numbers, sizeof numbers / sizeof numbers[0]);
    ctl_get_string(&r, st->position, sizeof st->position);
    bool possible = st->result <= 0 && (!st->running || !st->result) && (st->serial || !st->running);
    if (!rcur_done(&r) || !possible)
        return LFS_ERR_PROTO;
    *out = *st;
    return 0;
}

/* ---- findings ---- */

static void put_optional(struct wcur *w, const char *s)
{
    wcur_u8(w, s != NULL);
    if (s)
        ctl_put_string(w, s);
}

static void put_finding(struct wcur *w, const struct check_finding *f)
{
    wcur_u8(w, (uint8_t)f->kind);
    wcur_u8(w, (uint8_t)f->severity);
    wcur_u32(w, (uint32_t)f->err);
    wcur_u64(w, f->offset);
    wcur_u64(w, f->length);
    ctl_put_string(w, f->cipher_path);
    put_optional(w, f->plain_path);
    put_optional(w, f->repair);
}

/* The count stands before what shows how many there is room for. */
int mountctl_encode_findings(struct mount_findings *f, uint8_t *out, size_t size)
{
    struct wcur w = ctl_begin(MOUNTCTL_CHECK_FINDINGS, 0, out, size);
    wcur_u64(&w, f->serial);
    wcur_u64(&w, f->dropped);
    wcur_u64(&w, f->first);
    struct wcur count = w;
    size_t n = 0, want = f->count < MOUNTCTL_FINDINGS_MAX ? f->count : MOUNTCTL_FINDINGS_MAX;
    wcur_u16(&w, 0);
    for (; n < want; n++) {
        struct wcur next = w;
        put_finding(&next, &f->each[n]);
        if (next.bad)
            break;
        w = next;
    }
    if (w.bad || (want && !n))
        return LFS_ERR_MISUSE;
    wcur_u16(&count, (uint16_t)n);
    f->count = n;
    return ctl_end(&w);
}

/* A string into f->text, which is as large as an answer: what ends a string there takes less than its length
 * took here. */
static const char *get_text(struct rcur *r, struct mount_findings *f, size_t *used)
{
    char *at = f->text + *used;
    size_t room = sizeof f->text - *used;
    ctl_get_string(r, at, room < PATH_MAX ? room : PATH_MAX);
    *used += strlen(at) + 1;
    return at;
}

static bool is_known(unsigned kind, unsigned severity)
{
    return kind >= CHECK_BAD_NAME && kind <= CHECK_UNSETTLED_RECORD && severity <= CHECK_DAMAGE;
}

static void get_finding(struct rcur *r, struct mount_findings *f, struct check_finding *one, size_t *used)
{
    unsigned kind = rcur_u8(r), severity = rcur_u8(r);
    one->err = (int32_t)rcur_u32(r);
    one->offset = rcur_u64(r);
    one->length = rcur_u64(r);
    one->cipher_path = get_text(r, f, used);
    one->plain_path = ctl_get_bool(r) ? get_text(r, f, used) : NULL;
    one->repair = ctl_get_bool(r) ? get_text(r, f, used) : NULL;
    if (!is_known(kind, severity) || one->err > 0)
        r->bad = true;
    one->kind = r->bad ? CHECK_IO : (enum check_kind)kind;
    one->severity = r->bad ? CHECK_NOTE : (enum check_severity)severity;
}

int mountctl_decode_findings(const uint8_t *in, size_t len, struct mount_findings *out)
{
    struct rcur r = rcur_over(in, len);
    size_t used = 0;
    out->count = 0;
    if (len > sizeof out->text)
        return LFS_ERR_PROTO;
    int err = ctl_head(&r, MOUNTCTL_CHECK_FINDINGS);
    if (err)
        return err;
    out->serial = rcur_u64(&r);
    out->dropped = rcur_u64(&r);
    out->first = rcur_u64(&r);
    size_t n = rcur_u16(&r);
    if (n > MOUNTCTL_FINDINGS_MAX)
        return LFS_ERR_PROTO;
    memset(out->each, 0, sizeof out->each);
    for (size_t i = 0; i < n && !r.bad; i++)
        get_finding(&r, out, &out->each[i], &used);
    if (!rcur_done(&r))
        return LFS_ERR_PROTO;
    out->count = n;
    return 0;
}
