/* The log held against its state, at the start and when somebody else has touched it. */
#include "audit_log.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void audit_note_add(struct audit *a, struct audit_note note)
{
    a->trouble += note.alarm;
    if (a->note_count < AUDIT_NOTES_MAX)
        a->notes[a->note_count++] = note;
}

static void alarm_text(struct audit *a, const char *text)
{
    struct audit_note n = {.alarm = true};
    snprintf(n.text, sizeof n.text, "%s", text);
    audit_note_add(a, n);
}

bool audit_file_changed(const struct audit *a)
{
    struct stat here, named;
    if (fstat(a->fd, &here))
        return false;
    if (fstatat(a->dir, a->name, &named, AT_SYMLINK_NOFOLLOW) || named.st_ino != here.st_ino ||
        named.st_dev != here.st_dev)
        return true;
    return (uint64_t)here.st_size != a->st.offset;
}

/* ---- the end of the file ---- */

static int file_length(const struct audit *a, uint64_t *len)
{
    struct stat st;
    if (fstat(a->fd, &st))
        return -errno;
    *len = (uint64_t)st.st_size;
    return 0;
}

/* A power cut may leave zeros where lines were to be. */
static int strip_zeros(struct audit *a, uint64_t *len)
{
    char block[4096];
    uint64_t end = *len;
    while (end) {
        size_t want = end < sizeof block ? (size_t)end : sizeof block;
        ssize_t n = io_pread(a->fd, block, want, end - want);
        if (n < 0)
            return (int)n;
        if ((size_t)n != want)
            return -EIO;
        while (n && block[n - 1] == '\0')
            n--;
        end -= want - (size_t)n;
        if (n)
            break;
    }
    if (end == *len)
        return 0;
    *len = end;
    a->allocated = 0;
    return io_ftruncate(a->fd, end);
}

/* The last bytes of the file, at most AUDIT_LINE_MAX and not before from. */
static int read_tail(const struct audit *a, uint64_t from, uint64_t len, char *tail, size_t *n)
{
    size_t want = len - from < AUDIT_LINE_MAX ? (size_t)(len - from) : AUDIT_LINE_MAX;
    ssize_t got = io_pread(a->fd, tail, want, len - want);
    if (got < 0)
        return (int)got;
    *n = (size_t)got;
    return (size_t)got == want ? 0 : -EIO;
}

/* Cuts half a line off the end of what lies behind from; a text too long to be one of ours gets its end
 * instead. *len: the file's length then. */
static int end_last_line(struct audit *a, uint64_t from, uint64_t *len, size_t *cut)
{
    AUTO_FREE char *tail = malloc(AUDIT_LINE_MAX);
    size_t n = 0;
    *cut = 0;
    if (!tail)
        return -ENOMEM;
    int r = *len > from ? read_tail(a, from, *len, tail, &n) : 0;
    if (r || *len <= from || tail[n - 1] == '\n')
        return r;
    const char *nl = memrchr(tail, '\n', n);
    if (!nl && *len - from > n) {
        (*len)++;
        return write(a->fd, "\n", 1) == 1 ? 0 : -errno;
    }
    *cut = nl ? n - (size_t)(nl + 1 - tail) : n;
    *len -= *cut;
    a->allocated = 0;
    return io_ftruncate(a->fd, *len);
}

/* ---- forward from the state ---- */

static int state_fits(const struct audit *a, char *line, bool *fits)
{
    uint8_t hash[AUDIT_HASH_BYTES];
    uint32_t n = a->st.last_len;
    *fits = n == 0;
    if (n == 0)
        return 0;
    ssize_t got = io_pread(a->fd, line, n, a->st.offset - n);
    if (got < 0)
        return (int)got;
    audit_line_hash(line, n - 1, hash);
    *fits = (uint32_t)got == n && line[n - 1] == '\n' && memcmp(hash, a->st.hash, sizeof hash) == 0;
    return 0;
}

static bool is_next(const struct audit *a, const char *line, size_t len)
{
    struct audit_line l;
    uint8_t mac[AUDIT_HASH_BYTES];
    if (!audit_line_parse(line, len, &l) || l.seq != a->st.seq ||
        memcmp(l.prev, a->st.hash, sizeof l.prev) != 0)
        return false;
    audit_line_mac(a->st.key, line, len - AUDIT_MAC_TAIL_BYTES, mac);
    return sodium_memcmp(mac, l.mac, sizeof mac) == 0;
}

/* Takes over the records that were appended after the state was written. */
static int follow(struct audit *a, char *line, uint64_t len)
{
    while (a->st.offset < len) {
        ssize_t n = io_pread(a->fd, line, AUDIT_LINE_MAX, a->st.offset);
        if (n < 0)
            return (int)n;
        const char *nl = memchr(line, '\n', (size_t)n);
        if (!nl || !is_next(a, line, (size_t)(nl - line)))
            return 0;
        audit_line_hash(line, (size_t)(nl - line), a->st.hash);
        audit_key_next(a->st.key);
        a->st.seq++;
        a->st.last_len = (uint32_t)(nl + 1 - line);
        a->st.offset += a->st.last_len;
    }
    return 0;
}

/* What stands behind the last genuine record: half a line of ours, or somebody else's. */
static int look_behind(struct audit *a, uint64_t len)
{
    size_t cut;
    struct audit_note n = {0};
    int r = end_last_line(a, a->st.offset, &len, &cut);
    if (r)
        return r;
    if (cut) {
        snprintf(n.text, sizeof n.text, "half a record (%zu bytes) was cut off the end", cut);
        audit_note_add(a, n);
    }
    if (len > a->st.offset) {
        snprintf(n.text, sizeof n.text,
                 "%" PRIu64 " bytes that this program did not write stand behind record %" PRIu64,
                 len - a->st.offset, a->st.seq - 1);
        alarm_text(a, n.text);
        a->st.offset = len;
        a->st.last_len = 0;
    }
    return 0;
}

/* ---- the log is shorter or other than the state says ---- */

/* The number of the last record that is there; 0: none can be read. */
static int last_seq(const struct audit *a, uint64_t len, uint64_t *seq)
{
    AUTO_FREE char *tail = malloc(AUDIT_LINE_MAX);
    struct audit_line l;
    size_t n = 0;
    *seq = 0;
    if (!tail)
        return -ENOMEM;
    int r = len ? read_tail(a, 0, len, tail, &n) : 0;
    if (r || len == 0)
        return r;
    const char *nl = n > 1 ? memrchr(tail, '\n', n - 1) : NULL;
    const char *start = nl ? nl + 1 : tail;
    if (audit_line_parse(start, (size_t)(tail + n - start) - 1, &l))
        *seq = l.seq;
    return 0;
}

/* Lost with the machine, if it was started anew since and nothing of it had been synced. */
static bool may_be_lost(const struct audit *a, uint64_t from)
{
    return from >= a->st.synced && !sodium_is_zero(a->st.boot, sizeof a->st.boot) &&
           !sodium_is_zero(a->boot, sizeof a->boot) && memcmp(a->st.boot, a->boot, sizeof a->boot) != 0;
}

static void note_missing(struct audit *a, uint64_t from)
{
    struct audit_note n = {.from = from, .to = a->st.seq - 1, .lost = may_be_lost(a, from)};
    n.alarm = !n.lost;
    if (n.lost)
        snprintf(n.text, sizeof n.text,
                 "records %" PRIu64 " to %" PRIu64
                 " are missing: not synced yet when the machine ended uncleanly",
                 n.from, n.to);
    else
        snprintf(n.text, sizeof n.text, "records %" PRIu64 " to %" PRIu64 " are missing", n.from, n.to);
    audit_note_add(a, n);
}

static int go_on_behind(struct audit *a, uint64_t len)
{
    size_t cut;
    uint64_t seq;
    int r = end_last_line(a, 0, &len, &cut);
    if (!r)
        r = last_seq(a, len, &seq);
    if (r)
        return r;
    if (seq + 1 < a->st.seq && (seq || len == 0))
        note_missing(a, seq + 1);
    else
        alarm_text(a, "the log is not what was written: records before this one were changed or are missing");
    a->st.offset = len;
    a->st.last_len = 0;
    return 0;
}

int audit_recover(struct audit *a)
{
    AUTO_FREE char *line = malloc(AUDIT_LINE_MAX);
    uint64_t len;
    bool fits = false;
    int r = line ? file_length(a, &len) : -ENOMEM;
    if (!r)
        r = strip_zeros(a, &len);
    if (!r && len >= a->st.offset)
        r = state_fits(a, line, &fits);
    if (r)
        return r;
    if (!fits)
        return go_on_behind(a, len);
    r = follow(a, line, len);
    return r ? r : look_behind(a, len);
}
