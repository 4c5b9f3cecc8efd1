/* latch status: latch-keyd and the mounts of this user. */
#include "cli.h"
#include "json_read.h"
#include "keyd_conn.h"
#include "status_host.h"

#include "latchfs/buf.h"
#include "latchfs/keystore.h"
#include "latchfs/mountctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* *json stays NULL when no latch-keyd runs, which is not an error. */
static int ask_keyd(char **json)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    struct keyclient_options o = {0};
    int r = keyclient_connect(&o, &kc);
    if (keyd_conn_is_absent(r))
        return LFS_EXIT_OK;
    if (r)
        return keyd_conn_open(false, &kc); /* for its words */
    r = keyclient_status(kc, json);
    return r ? keyd_conn_fail(kc, r, "latch-keyd") : LFS_EXIT_OK;
}

/* ---- JSON ---- */

/* As latch-keyd writes strings: a byte that is not printable ASCII as \u00XX. */
static void put_text(const char *value)
{
    putchar('"');
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if (*p < 0x20 || *p >= 0x7f || *p == '"' || *p == '\\')
            printf("\\u%04x", *p);
        else
            putchar(*p);
    }
    putchar('"');
}

static void put_string(const char *name, const char *value)
{
    printf("\"%s\":", name);
    put_text(value);
}

static void put_number(const char *name, uint64_t value)
{
    printf(",\"%s\":%" PRIu64, name, value);
}

static void put_bool(const char *name, bool value)
{
    printf(",\"%s\":%s", name, value ? "true" : "false");
}

static void put_replay(const struct replay_report *r)
{
    printf(",\"replay\":{\"unclean\":%s", r->unclean ? "true" : "false");
    put_number("entries", r->entries);
    put_number("files", r->files);
    put_number("skipped", r->skipped);
    put_number("torn", r->torn);
    putchar('}');
}

/* The protected directories as the mount has them; what it does not tell in time is left out. */
static void put_dirs(const char *socket_path)
{
    AUTO_FREE struct mount_dir *dirs = calloc(MOUNTCTL_DIRS_MAX, sizeof *dirs);
    size_t count = 0;
    char id[2 * ID_BYTES + 1];
    if (!dirs || mountctl_dirs(socket_path, dirs, MOUNTCTL_DIRS_MAX, &count))
        count = 0;
    printf(",\"directories\":[");
    for (size_t i = 0; i < count; i++) {
        id_to_hex(dirs[i].pd.id, id);
        printf("%s{", i ? "," : "");
        put_string("id", id);
        put_bool("locked", dirs[i].pd.locked);
        put_number("active", dirs[i].pd.active);
        put_number("least", dirs[i].pd.least);
        put_number("last_use", dirs[i].pd.last_use);
        put_number("open_files", dirs[i].open_files);
        putchar('}');
    }
    putchar(']');
}

static void put_host(const struct mount_status *st)
{
    struct host_advice a[HOST_ADVICE_MAX];
    size_t n = host_advice_for(st->mountpoint, st->read_only, a);
    printf(",\"host_advice\":[");
    for (size_t i = 0; i < n; i++) {
        printf("%s{", i ? "," : "");
        put_string("path", a[i].path);
        put_number("now", a[i].now);
        put_number("better", a[i].better);
        putchar(',');
        put_string("helps", a[i].helps);
        put_number("percent", a[i].percent);
        putchar('}');
    }
    putchar(']');
}

static int put_mount(const char *socket_path, const struct mount_status *st, void *arg)
{
    unsigned *count = arg;
    char id[2 * ID_BYTES + 1];
    id_to_hex(st->volume_id, id);
    printf("%s{", (*count)++ ? "," : "");
    put_string("mountpoint", st->mountpoint);
    putchar(',');
    put_string("volume", st->volume);
    putchar(',');
    put_string("volume_id", id);
    put_number("pid", st->pid);
    put_bool("locked", st->locked);
    put_bool("read_only", st->read_only);
    put_bool("failed", st->failed);
    put_bool("writeback", st->writeback);
    put_number("mounted_at", st->mounted_at);
    put_number("open_files", st->open_files);
    put_number("writes", st->writes);
    put_number("nodes", st->stats.nodes);
    put_number("open_fds", st->stats.open_fds);
    put_number("pinned_fds", st->stats.pinned_fds);
    put_number("journal_bytes", st->stats.journal_bytes);
    put_number("journal_used", st->stats.journal_used);
    put_number("journal_syncs", st->stats.journal_syncs);
    put_number("checkpoints", st->stats.checkpoints);
    put_number("checkpoint_at", st->stats.checkpoint_at);
    put_number("seals", st->stats.seals);
    put_number("seals_waiting", st->stats.seals_waiting);
    put_number("frozen_until", st->frozen_until);
    printf(",\"failed_sync\":");
    if (st->stats.failed_sync)
        put_text(lfs_strerror(st->stats.failed_sync));
    else
        printf("null");
    put_number("auth_failures", st->stats.auth_failures);
    put_replay(&st->replay);
    put_host(st);
    put_dirs(socket_path);
    putchar('}');
    return 0;
}

static int print_json(const char *keyd)
{
    unsigned count = 0;
    printf("{\"keyd\":%s,\"mounts\":[", keyd ? keyd : "null");
    int r = mountctl_each(put_mount, &count);
    puts("]}");
    return r ? cli_fail_err(r, "the mounts", NULL) : LFS_EXIT_OK;
}

/* ---- for people ---- */

static long long version_created(struct json_value dir, long long version)
{
    struct json_value list = json_read_get(dir, "versions");
    for (struct json_value v = json_read_next(list, (struct json_value){0}); json_value_there(v);
         v = json_read_next(list, v))
        if (json_value_number(json_read_get(v, "version"), 0) == version)
            return json_value_number(json_read_get(v, "created"), 0);
    return 0;
}

static const char *dir_state(struct json_value d)
{
    if (json_value_is_true(json_read_get(d, "shredded")))
        return "shredded";
    return json_value_is_true(json_read_get(d, "locked")) ? "locked" : "unlocked";
}

static unsigned count_of(struct json_value list)
{
    unsigned n = 0;
    for (struct json_value v = json_read_next(list, (struct json_value){0}); json_value_there(v);
         v = json_read_next(list, v))
        n++;
    return n;
}

static void print_dir(struct json_value d)
{
    char name[KEYSTORE_LABEL_MAX + 1], id[2 * ID_BYTES + 1], made[32], used[32];
    long long active = json_value_number(json_read_get(d, "active"), 0), created = version_created(d, active);
    long long age = created ? ((long long)time(NULL) - created) / 86400 : 0;
    json_value_string(json_read_get(d, "name"), name, sizeof name);
    json_value_string(json_read_get(d, "id"), id, sizeof id);
    bool root = json_value_is_true(json_read_get(d, "root"));
    printf("    %-32s %-9s key %-4lld %-17s %4lld days %6u  %s\n",
           root      ? "(root)"
           : name[0] ? name
                     : id,
           dir_state(d), active, cli_time(created, made, sizeof made), age,
           count_of(json_read_get(d, "leases")),
           cli_time(json_value_number(json_read_get(d, "last_use"), 0), used, sizeof used));
}

static void print_dirs(struct json_value volume)
{
    struct json_value dirs = json_read_get(volume, "directories");
    bool first = true;
    for (struct json_value d = json_read_next(dirs, (struct json_value){0}); json_value_there(d);
         d = json_read_next(dirs, d)) {
        if (first)
            printf("    %-32s %-9s %-8s %-17s %9s %6s  %s\n", "DIRECTORY", "STATE", "VERSION", "MADE", "AGE",
                   "LEASES", "LAST USE");
        first = false;
        print_dir(d);
    }
}

static void print_keyd(const char *text)
{
    char version[64], keys[32], id[2 * ID_BYTES + 1];
    if (!text) {
        puts("latch-keyd: not running, nothing is unlocked");
        return;
    }
    struct json_value all = json_read(text, strlen(text)), volumes = json_read_get(all, "volumes");
    json_value_string(json_read_get(all, "version"), version, sizeof version);
    json_value_string(json_read_get(all, "keys"), keys, sizeof keys);
    printf("latch-keyd: version %s, pid %lld, keys in the %s\n", version,
           json_value_number(json_read_get(all, "pid"), 0),
           strcmp(keys, "keyring") == 0 ? "kernel keyring" : "process's locked memory");
    for (struct json_value v = json_read_next(volumes, (struct json_value){0}); json_value_there(v);
         v = json_read_next(volumes, v)) {
        printf("  volume %s: %s%s\n", json_value_string(json_read_get(v, "id"), id, sizeof id),
               json_value_is_true(json_read_get(v, "unlocked")) ? "unlocked" : "locked",
               json_value_number(json_read_get(v, "rotation_overdue"), 0) > 0 ? ", rotation overdue" : "");
        print_dirs(v);
    }
}

static const char *state_of(const struct mount_status *st)
{
    if (st->locked)
        return "locked";
    if (st->frozen_until)
        return "frozen";
    return st->failed ? "failed, read-only" : st->read_only ? "read-only" : "unlocked";
}

static const char *clock_time(uint64_t seconds, char *out, size_t size)
{
    time_t t = (time_t)seconds;
    struct tm tm;
    if (!seconds || !localtime_r(&t, &tm) || !strftime(out, size, "%H:%M:%S", &tm))
        snprintf(out, size, "-");
    return out;
}

static void print_journal(const struct mount_status *st)
{
    const struct volume_stats *v = &st->stats;
    char at[32], day[32];
    if (st->frozen_until)
        printf("  frozen until %s at the latest; changes wait, 'latch thaw' lets them go on\n",
               clock_time(st->frozen_until, at, sizeof at));
    if (v->journal_bytes)
        printf("  journal: %" PRIu64 " of %" PRIu64 " KiB in use", v->journal_used / 1024,
               v->journal_bytes / 1024);
    else
        printf("  journal: empty");
    if (v->checkpoint_at)
        printf(", last put in place %.10s %s", cli_time((long long)v->checkpoint_at, day, sizeof day),
               clock_time(v->checkpoint_at, at, sizeof at));
    printf("\n  seals: %" PRIu64 " made, %" PRIu64 " file%s waiting for one\n", v->seals, v->seals_waiting,
           v->seals_waiting == 1 ? "" : "s");
}

/* What went wrong, before this mount or since. */
static void print_trouble(const struct mount_status *st)
{
    const struct replay_report *r = &st->replay;
    if (r->unclean)
        printf("  replayed at its start, after an unclean end: %" PRIu64 " changes of %" PRIu64 " files\n",
               r->entries, r->files);
    if (r->skipped || r->torn)
        printf("  at its start %" PRIu64 " changes of an unclean end could not be put in place: %" PRIu64
               " of files that were newer or gone, %" PRIu64 " whose data never reached the disk\n",
               r->skipped + r->torn, r->skipped, r->torn);
    if (st->stats.failed_sync)
        printf("  read-only since a sync failed: %s; unmount it, see to the disk, then 'latch fsck'\n",
               lfs_strerror(st->stats.failed_sync));
    if (st->stats.auth_failures)
        printf("  %" PRIu64 " times corrupt or changed data was met since the mount\n",
               st->stats.auth_failures);
}

/* What only root can change; root's own mounts have it already. */
static void print_host(const struct mount_status *st)
{
    struct host_advice a[HOST_ADVICE_MAX];
    size_t n = host_advice_for(st->mountpoint, st->read_only, a);
    for (size_t i = 0; i < n; i++) {
        printf("  root could write %lu to %s (now %lu)", a[i].better, a[i].path, a[i].now);
        if (a[i].percent)
            printf(": %s were up to %u %% faster where that was measured\n", a[i].helps, a[i].percent);
        else
            printf(": for %s; no gain was measured\n", a[i].helps);
    }
}

static int print_mount(const char *socket_path, const struct mount_status *st, void *arg)
{
    unsigned *count = arg;
    char mountpoint[PATH_MAX], volume[PATH_MAX], since[32] = "-";
    time_t t = (time_t)st->mounted_at;
    struct tm tm;
    if ((*count)++ == 0)
        printf("\n%-28s %-28s %-18s %-8s %5s %9s  %s\n", "MOUNT POINT", "VOLUME", "STATE", "PID", "OPEN",
               "JOURNAL", "SINCE");
    if (localtime_r(&t, &tm))
        strftime(since, sizeof since, "%Y-%m-%d %H:%M", &tm);
    uint64_t ring = st->stats.journal_bytes;
    printf("%-28s %-28s %-18s %-8" PRIu32 " %5" PRIu64 " %8u%%  %s\n",
           cli_quote(st->mountpoint, mountpoint, sizeof mountpoint),
           cli_quote(st->volume, volume, sizeof volume), state_of(st), st->pid, st->open_files,
           ring ? (unsigned)(st->stats.journal_used * 100 / ring) : 0, since);
    print_journal(st);
    print_trouble(st);
    print_host(st);
    return 0;
}

static int print_table(const char *keyd)
{
    unsigned count = 0;
    print_keyd(keyd);
    int r = mountctl_each(print_mount, &count);
    if (r)
        return cli_fail_err(r, "the mounts", NULL);
    if (count == 0)
        puts("no mounts");
    return LFS_EXIT_OK;
}

static int run(int argc, char **argv)
{
    enum { OPT_JSON = 1 };
    static const struct option options[] = {{"json", no_argument, NULL, OPT_JSON}, {0}};
    AUTO_FREE char *keyd = NULL;
    bool json = false;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c != OPT_JSON)
            return cli_bad_option(&cmd_status, c, argv);
        json = true;
    }
    int code = cli_want_args(&cmd_status, argc, 0, 0);
    if (code == LFS_EXIT_OK)
        code = ask_keyd(&keyd);
    if (code != LFS_EXIT_OK)
        return code;
    return json ? print_json(keyd) : print_table(keyd);
}

const struct command cmd_status = {
    .name = "status",
    .synopsis = "[--json]",
    .summary = "show latch-keyd and the mounts of this user",
    .help = "  --json                    one JSON object: keyd (null if none runs) and mounts\n",
    .run = run,
};
