/* Rotation of a directory key: the header of every file is wrapped by the active version. */
#include "fs/store/rotate.h"

#include <errno.h>

#define HEADER_COST PAGE_BYTES /* for the throttle */
#define REWRAP_RESERVE UINT64_C(4096)

/* Also for a file with two places: its re-encryption goes on later. */
static bool is_active(const struct rotation *r, const struct file_header *h)
{
    return h->key_version >= r->active;
}

/* *done: it was wrapped now. Inside volume_enter. */
static int rewrap_file(struct rotation *r, struct node *n, bool *done)
{
    struct volume *v = r->v;
    struct file *f;
    int e = file_get(n, &f);
    if (e)
        return e;
    uint64_t reserved = REWRAP_RESERVE;
    e = file_reserve(v, reserved);
    reserved = e ? 0 : reserved;
    if (!e)
        e = file_lock_write(f);
    if (!e) {
        *done = f->state != CONTENT_NONE && f->hdr.key_version < r->active;
        if (*done)
            e = file_rewrap(f, &reserved);
        if (!e && f->state != CONTENT_NONE)
            rotate_found(r, f->hdr.key_version);
        file_unlock(f);
    }
    if (reserved)
        journal_unreserve(v->journal, reserved);
    file_put(f);
    return e;
}

static int rewrap(struct rotation *r, struct node *n)
{
    bool done = false;
    int e = rotate_enter(r);
    if (e)
        return e;
    e = rewrap_file(r, n, &done);
    rotate_leave(r);
    if (e || !done)
        return e;
    r->changed++;
    r->p.changed++;
    e = rotate_checkpoint(r);
    return e ? e : rotate_pace(r, HEADER_COST);
}

int volume_rewrap(struct volume *v, const struct rotate_options *o, struct rotate_progress *out)
{
    static const struct rotation_kind kind = {.changes = true, .is_right = is_active, .work = rewrap};
    struct rotation r = {0};
    return rotate_run(v, o, &kind, &r, out);
}

/* ---- only looking ---- */

static bool is_whole(const struct rotation *r, const struct file_header *h)
{
    return h->key_version >= r->active && !(h->place[0].epoch && h->place[1].epoch);
}

/* What is pending counts: the scan ends when it is in place, or looks there as well. */
static int look(struct rotation *r, struct node *n)
{
    struct file *f;
    int e = rotate_enter(r);
    if (e)
        return e;
    e = file_get(n, &f);
    if (!e) {
        e = file_lock_read(f);
        if (!e) {
            if (f->state != CONTENT_NONE) {
                rotate_found(r, f->hdr.key_version);
                r->p.changed += !is_whole(r, &f->hdr);
            }
            file_unlock(f);
        }
        file_put(f);
    }
    rotate_leave(r);
    return e;
}

int volume_scan_versions(struct volume *v, const struct rotate_options *o, struct rotate_progress *out)
{
    static const struct rotation_kind kind = {.is_right = is_whole, .work = look};
    struct rotation r = {0};
    return rotate_run(v, o, &kind, &r, out);
}
