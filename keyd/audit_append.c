/* One record more: chain, MAC, append, state; and what a full disk does to it. */
#include "audit_log.h"

#include "latchfs/err.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void audit_put_time(struct json *j)
{
    struct timespec now;
    struct tm tm;
    char text[64], whole[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, sizeof text, "%s.%03uZ", whole, (unsigned)(now.tv_nsec / 1000000) % 1000);
    json_string(j, "time", text);
}

void audit_record_begin(struct audit *a, struct json *j)
{
    json_open(j, NULL, '{');
    json_number(j, "seq", a->st.seq);
    audit_put_time(j);
}

/* ---- room ---- */

/* Keeps blocks allocated behind the end, without a change of the file's length. Where the file system cannot,
 * a full disk is met at the write. */
static bool make_room(struct audit *a, size_t len)
{
    uint64_t need = a->st.offset + len + AUDIT_RESERVE;
    if (a->allocated >= need)
        return true;
    uint64_t want = need + AUDIT_STEP;
    int r = io_fallocate(a->fd, FALLOC_FL_KEEP_SIZE, a->st.offset, want - a->st.offset);
    if (r == -ENOSPC || r == -EDQUOT)
        r = io_fallocate(a->fd, FALLOC_FL_KEEP_SIZE, a->st.offset, (want = need) - a->st.offset);
    if (r == -ENOSPC || r == -EDQUOT)
        return false;
    a->allocated = want;
    return true;
}

bool audit_is_full(struct audit *a)
{
    a->in_reserve = !make_room(a, AUDIT_LINE_MAX);
    if (!a->in_reserve)
        a->reserve_used = 0;
    return a->in_reserve;
}

/* Ordinary acts leave the last of the reserve to refusals and alarms. */
static bool may_write(struct audit *a, bool own)
{
    if (!audit_is_full(a))
        return true;
    return own || a->reserve_used < AUDIT_RESERVE - AUDIT_RESERVE_LAST;
}

/* ---- the record ---- */

static int finish_line(const struct audit *a, struct json *j)
{
    uint8_t mac[AUDIT_HASH_BYTES];
    char hex[2 * AUDIT_HASH_BYTES + 1];
    json_string(j, "prev", sodium_bin2hex(hex, sizeof hex, a->st.hash, sizeof a->st.hash));
    if (j->bad)
        return -ENOMEM;
    audit_line_mac(a->st.key, j->p, j->len, mac);
    json_string(j, "mac", sodium_bin2hex(hex, sizeof hex, mac, sizeof mac));
    json_close(j, '}');
    json_raw(j, "\n");
    return j->bad ? -ENOMEM : j->len > AUDIT_LINE_MAX ? -E2BIG : 0;
}

/* Half a record is taken back; with it go the blocks behind it. */
static int append(struct audit *a, const struct json *j)
{
    ssize_t n;
    do
        n = write(a->fd, j->p, j->len);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)j->len)
        return 0;
    int err = n < 0 ? -errno : -ENOSPC;
    int r = n > 0 ? io_ftruncate(a->fd, a->st.offset) : 0;
    a->allocated = 0;
    return r ? r : err;
}

static void advance(struct audit *a, const struct json *j)
{
    audit_line_hash(j->p, j->len - 1, a->st.hash);
    audit_key_next(a->st.key);
    a->st.seq++;
    a->st.offset += j->len;
    a->st.last_len = (uint32_t)j->len;
    memcpy(a->st.boot, a->boot, sizeof a->st.boot);
    if (a->in_reserve)
        a->reserve_used += j->len;
}

/* The log is on the disk before a state that says so; a state that is not synced may get there before the
 * log, and then says by .synced from where on that is no wonder. */
static int settle(struct audit *a, bool sync)
{
    int r = sync ? io_fdatasync(a->fd) : 0;
    if (sync && !r)
        a->st.synced = a->st.seq;
    int s = audit_state_store(a->state_fd, &a->st);
    if (sync && !r && !s)
        s = io_fdatasync(a->state_fd);
    return r ? r : s;
}

int audit_record_end(struct audit *a, struct json *j, bool own, bool sync)
{
    int r = finish_line(a, j);
    if (!r && !may_write(a, own))
        r = -ENOSPC;
    if (!r)
        r = append(a, j);
    if (r) {
        a->failures++;
        json_clear(j);
        return r;
    }
    advance(a, j);
    json_clear(j);
    r = settle(a, sync);
    a->failures += r != 0;
    return r;
}

/* ---- notes ---- */

static int record_note(struct audit *a, const struct audit_note *n)
{
    struct json j = {0};
    audit_record_begin(a, &j);
    json_string(&j, "act", n->alarm ? "alarm" : n->lost ? "audit-lost" : "audit-repair");
    if (n->from) {
        json_number(&j, "from", n->from);
        json_number(&j, "to", n->to);
    }
    if (n->alarm)
        json_string(&j, "event", "audit");
    json_string(&j, "result", n->alarm ? "alarm" : "ok");
    json_string(&j, "detail", n->text);
    return audit_record_end(a, &j, true, true);
}

void audit_notes_flush(struct audit *a)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < a->note_count; i++) {
        struct audit_note *n = &a->notes[i];
        if (!n->recorded)
            n->recorded = record_note(a, n) == 0;
        if (!n->told && a->watch) {
            if (n->alarm)
                a->watch(a->watch_arg, n->text);
            n->told = true;
        }
        if (!n->recorded || !n->told)
            a->notes[kept++] = *n;
    }
    a->note_count = kept;
}
