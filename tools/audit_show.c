/* latch audit show: the records, for people or as they are. */
#include "audit.h"
#include "json_read.h"
#include "volume_files.h"

#include "latchfs/buf.h"
#include "latchfs/keystore.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIME_CHARS 24 /* 2026-01-02T03:04:05.678Z: in UTC, so that the order of texts is that of times */

struct filter {
    const char *act;
    char volume[2 * ID_BYTES + 1]; /* "": any */
    char since[32], until[32];     /* "": any */
    long long uid;                 /* -1: any */
    bool failed;
};

/* ---- what is asked for ---- */

/* "90m", "12h", "7d": so long ago; a date, or a date and time, of this machine's clock; with Z of UTC. */
static bool read_time(const char *text, char out[static 32])
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
                                        "%Y-%m-%d %H:%M", "%Y-%m-%d"};
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    time_t at = -1;
    struct tm tm;
    if (end > text && end[0] && !end[1] && strchr("smhd", end[0]) && n < 1000000)
        at = time(NULL) - (time_t)n * (end[0] == 's' ? 1 : end[0] == 'm' ? 60 : end[0] == 'h' ? 3600 : 86400);
    for (size_t i = 0; at == -1 && i < sizeof forms / sizeof *forms; i++) {
        tm = (struct tm){.tm_isdst = -1};
        const char *rest = strptime(text, forms[i], &tm);
        if (rest && (strcmp(rest, "Z") == 0 || !*rest))
            at = *rest ? timegm(&tm) : mktime(&tm);
    }
    if (at == -1 || !gmtime_r(&at, &tm))
        return false;
    strftime(out, 32, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
    return true;
}

static int read_user(const char *text, long long *uid)
{
    char *end, quoted[128];
    *uid = strtoll(text, &end, 10);
    if (*text && !*end && *uid >= 0)
        return LFS_EXIT_OK;
    const struct passwd *pw = getpwnam(text);
    if (!pw)
        return cli_fail(LFS_EXIT_USAGE, "there is no user '%s'", cli_quote(text, quoted, sizeof quoted));
    *uid = pw->pw_uid;
    return LFS_EXIT_OK;
}

/* An id, or the directory of a volume. */
static int read_volume(const char *text, char hex[static 2 * ID_BYTES + 1])
{
    uint8_t id[ID_BYTES];
    AUTO_VOLUME struct volume_files v = {.dirfd = -1};
    int code = LFS_EXIT_OK;
    if (id_from_hex(text, id)) {
        id_to_hex(id, hex);
        return code;
    }
    code = volume_files_open(text, &v);
    if (code == LFS_EXIT_OK)
        id_to_hex(v.ks->volume_id, hex);
    return code;
}

static int read_filter(const struct audit_args *a, struct filter *f)
{
    char quoted[128];
    int code = LFS_EXIT_OK;
    *f = (struct filter){.act = a->act, .uid = -1, .failed = a->failed};
    if (a->since && !read_time(a->since, f->since))
        return cli_fail(LFS_EXIT_USAGE, "'%s' is no time; 2026-01-31, \"2026-01-31 08:00\" or 12h are",
                        cli_quote(a->since, quoted, sizeof quoted));
    if (a->until && !read_time(a->until, f->until))
        return cli_fail(LFS_EXIT_USAGE, "'%s' is no time; 2026-01-31, \"2026-01-31 08:00\" or 12h are",
                        cli_quote(a->until, quoted, sizeof quoted));
    if (a->user)
        code = read_user(a->user, &f->uid);
    if (code == LFS_EXIT_OK && a->volume)
        code = read_volume(a->volume, f->volume);
    return code;
}

/* ---- records ---- */

/* An alarm's result is that of the act behind it, and the first record has none. */
static bool has_failed(struct json_value o)
{
    char text[64];
    if (strcmp(json_value_string(json_read_get(o, "act"), text, sizeof text), "alarm") == 0)
        return true;
    json_value_string(json_read_get(o, "result"), text, sizeof text);
    return text[0] && strcmp(text, "ok") != 0;
}

static bool passes(const struct filter *f, struct json_value o)
{
    char text[512];
    if (f->act && strcmp(json_value_string(json_read_get(o, "act"), text, sizeof text), f->act) != 0)
        return false;
    if (f->volume[0] &&
        strcmp(json_value_string(json_read_get(o, "volume"), text, sizeof text), f->volume) != 0)
        return false;
    if (f->uid >= 0 && json_value_number(json_read_get(o, "uid"), -1) != f->uid)
        return false;
    if (f->failed && !has_failed(o))
        return false;
    json_value_string(json_read_get(o, "time"), text, sizeof text);
    if (f->since[0] && strcmp(text, f->since) < 0)
        return false;
    return !f->until[0] || strcmp(text, f->until) <= 0;
}

static void put_member(struct json_value o, const char *name, const char *before, const char *after)
{
    char text[2048], quoted[8192];
    if (!json_value_there(json_read_get(o, name)))
        return;
    json_value_string(json_read_get(o, name), text, sizeof text);
    printf("%s%s%s", before, cli_quote(text, quoted, sizeof quoted), after);
}

static void print_record(struct json_value o)
{
    long long uid = json_value_number(json_read_get(o, "uid"), -1);
    printf("%6lld  ", json_value_number(json_read_get(o, "seq"), 0));
    put_member(o, "time", "", "  ");
    put_member(o, "act", "", "");
    put_member(o, "event", " ", "");
    put_member(o, "result", ": ", "");
    if (uid >= 0)
        printf("  uid %lld pid %lld", uid, json_value_number(json_read_get(o, "pid"), 0));
    put_member(o, "exe", " ", "");
    put_member(o, "volume", "  volume ", "");
    put_member(o, "directory", "  directory ", "");
    put_member(o, "detail", "  (", ")");
    putchar('\n');
}

static bool printable(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] < ' ' || p[i] > '~')
            return false;
    return true;
}

/* True if the line is a record; prints it if it passes and print is set. */
static bool one_line(const struct filter *f, const char *p, size_t len, bool json, bool print, bool *passed)
{
    struct json_value o = {0};
    *passed = false;
    if (len < AUDIT_LINE_MAX && printable(p, len))
        o = json_read(p, len);
    if (!json_value_there(o) || !json_value_there(json_read_get(o, "act")))
        return false;
    *passed = passes(f, o);
    if (*passed && print && json)
        printf("%.*s\n", (int)len, p);
    else if (*passed && print)
        print_record(o);
    return true;
}

/* Returns how many lines pass; print those from number `from` of them on. */
static uint64_t each_line(const struct filter *f, const struct audit_source *s, bool json, bool print,
                          uint64_t from, uint64_t *bad)
{
    const char *p = s->text, *end = s->text + s->len;
    uint64_t n = 0;
    *bad = 0;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t len = nl ? (size_t)(nl - p) : (size_t)(end - p);
        bool passed;
        *bad += !one_line(f, p, len, json, print && n >= from, &passed);
        n += passed;
        p += len + 1;
    }
    return n;
}

int audit_cmd_show(const struct audit_args *a)
{
    CLEANUP(audit_source_clear) struct audit_source s = {0};
    struct filter f;
    uint64_t bad, last = 0;
    char *end = NULL;
    if (a->last && ((last = strtoull(a->last, &end, 10)) == 0 || *end))
        return cli_fail(LFS_EXIT_USAGE, "--last takes a number");
    int code = read_filter(a, &f);
    if (code == LFS_EXIT_OK)
        code = audit_source_read(a, &s);
    if (code != LFS_EXIT_OK)
        return code;
    uint64_t count = last ? each_line(&f, &s, false, false, 0, &bad) : 0;
    each_line(&f, &s, a->json, true, last && count > last ? count - last : 0, &bad);
    if (bad)
        return cli_fail(
            LFS_EXIT_CORRUPT,
            "the audit log has %" PRIu64 " lines that are no records; 'latch audit verify' says where", bad);
    return LFS_EXIT_OK;
}
