#include "check_report.h"

#include "check_json.h"
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH 30

const char *check_depth_name(const struct check_subject *s)
{
    return s->structure ? "structure" : s->contents ? "contents" : "headers";
}

void check_progress_add(struct check_progress *sum, const struct check_progress *more)
{
    check_progress_sum(sum, more);
    sum->entries_total = more->entries_total;
    sum->bytes_total = more->bytes_total;
}

static const char *size_text(uint64_t bytes, char *out, size_t len)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    for (; value >= 1024 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        value /= 1024;
    snprintf(out, len, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* ---- progress ---- */

static unsigned percent_of(const struct check_progress *p)
{
    uint64_t done = p->bytes_total ? p->bytes : p->entries;
    uint64_t all = p->bytes_total ? p->bytes_total : p->entries_total;
    if (all == 0)
        return 0;
    return done >= all ? 99 : (unsigned)((double)done * 100 / (double)all);
}

static void hide_bar(struct check_report *r)
{
    if (r->bar_shown)
        fputs("\r\033[K", stderr);
    r->bar_shown = false;
}

void check_report_progress(struct check_report *r, const struct check_progress *p)
{
    char bar[BAR_WIDTH + 1], size[32];
    struct check_progress all = r->before;
    pthread_mutex_lock(&r->lock);
    if (r->bar && r->begun) {
        check_progress_add(&all, p);
        unsigned percent = percent_of(&all), full = percent * BAR_WIDTH / 100;
        memset(bar, '#', full);
        memset(bar + full, '.', BAR_WIDTH - full);
        bar[BAR_WIDTH] = '\0';
        fprintf(stderr, "\r%s [%s] %3u%% %" PRIu64 " files, %s\033[K", r->subject.command, bar, percent,
                all.files, size_text(all.bytes, size, sizeof size));
        r->bar_shown = true;
    }
    pthread_mutex_unlock(&r->lock);
}

/* ---- findings ---- */

static const char *severity_text(enum check_severity s)
{
    return s == CHECK_DAMAGE ? "damage" : s == CHECK_WARNING ? "warning" : "note";
}

/* What systemd's journal takes for the priority of a line. */
static const char *priority(enum check_severity s)
{
    return s == CHECK_DAMAGE ? "<3>" : s == CHECK_WARNING ? "<4>" : "<5>";
}

static void put_where(FILE *to, const struct check_finding *f, bool with_plain)
{
    char quoted[4 * PATH_MAX];
    const char *cipher = f->cipher_path[0] ? f->cipher_path : ".";
    if (with_plain && f->plain_path)
        fprintf(to, "%s (ciphertext ",
                cli_quote(f->plain_path[0] ? f->plain_path : ".", quoted, sizeof quoted));
    fputs(cli_quote(cipher, quoted, sizeof quoted), to);
    if (with_plain && f->plain_path)
        fputc(')', to);
    if (f->length)
        fprintf(to, ", bytes %" PRIu64 " to %" PRIu64, f->offset, f->offset + f->length - 1);
}

/* What a kind means where no error says it. */
static const char *meaning(enum check_kind kind)
{
    static const char *const of[] = {
        [CHECK_BAD_NAME] = "not a name that a volume has",
        [CHECK_LEFTOVER] = "half made and left behind",
        [CHECK_ORPHAN_SIDECAR] = "what it belongs to is gone",
        [CHECK_DUPLICATE_ID] = "a copy of another file of this volume",
        [CHECK_TAIL] = "longer than its header says; the rest was never committed",
        [CHECK_ZERO_PAGE] = "its content never reached the disk; it reads as empty",
        [CHECK_JOURNAL_UNCLEAN] = "changes wait in it; the next mount puts them in place",
        [CHECK_FOREIGN_TYPE] = "no such thing belongs there",
        [CHECK_UNSETTLED_RECORD] = "made just before a power cut; its record has a copy that serves",
        [CHECK_NO_KEY] = "its keys are not here, so it was passed by",
    };
    return kind < sizeof of / sizeof of[0] ? of[kind] : NULL;
}

static void put_repair(FILE *to, const struct check_finding *f, bool with_plain)
{
    char quoted[4 * PATH_MAX];
    if (f->repair)
        fprintf(to, "; %s%s", f->repaired ? "repaired: " : "to repair: ", f->repair);
    else if (f->repaired)
        fputs("; repaired", to);
    if (f->moved_to && with_plain)
        fprintf(to, "; now %s", cli_quote(f->moved_to, quoted, sizeof quoted));
}

static void put_line(FILE *to, const struct check_report *r, const struct check_finding *f)
{
    bool log = r->style == REPORT_LOG;
    char quoted[4 * PATH_MAX];
    if (log)
        fprintf(to, "%slatch %s: %s: ", priority(f->severity), r->subject.command,
                cli_quote(r->subject.volume, quoted, sizeof quoted));
    fprintf(to, "%s: %s: ", severity_text(f->severity), check_kind_name(f->kind));
    put_where(to, f, !log);
    const char *why = f->err ? lfs_strerror(f->err) : f->repaired ? NULL : meaning(f->kind);
    fprintf(to, "%s%s", why ? ": " : "", why ? why : "");
    put_repair(to, f, !log);
    fputc('\n', to);
}

static void count(struct check_report *r, const struct check_finding *f)
{
    r->findings++;
    if (f->severity == CHECK_NOTE)
        r->notes++;
    else if (f->severity == CHECK_WARNING)
        r->warnings++;
    else if (f->repaired)
        r->damage_repaired++;
    else
        r->damage_left++;
}

void check_report_finding(struct check_report *r, const struct check_finding *f)
{
    pthread_mutex_lock(&r->lock);
    hide_bar(r);
    if (r->style == REPORT_JSON)
        check_json_finding(stdout, f, r->findings == 0);
    else
        put_line(r->style == REPORT_LOG ? stderr : stdout, r, f);
    if (r->style == REPORT_TEXT)
        fflush(stdout);
    count(r, f);
    pthread_mutex_unlock(&r->lock);
}

/* ---- beginning and end ---- */

void check_report_begin(struct check_report *r)
{
    pthread_mutex_lock(&r->lock);
    r->begun = true;
    r->bar = r->style == REPORT_TEXT && isatty(STDERR_FILENO);
    if (r->style == REPORT_JSON)
        check_json_begin(stdout, &r->subject);
    pthread_mutex_unlock(&r->lock);
}

static void put_counts(FILE *to, const struct check_report *r)
{
    uint64_t damage = r->damage_left + r->damage_repaired + r->before.damage;
    uint64_t warnings = r->warnings + r->before.warnings, notes = r->notes + r->before.notes;
    if (damage)
        fprintf(to, "%" PRIu64 " damaged", damage);
    else
        fputs("no damage", to);
    if (r->damage_repaired)
        fprintf(to, " (%" PRIu64 " repaired)", r->damage_repaired);
    if (warnings)
        fprintf(to, ", %" PRIu64 " warning%s", warnings, plural(warnings));
    if (notes)
        fprintf(to, ", %" PRIu64 " note%s", notes, plural(notes));
}

static void put_summary(FILE *to, const struct check_report *r, const struct check_progress *all)
{
    char size[32];
    fprintf(to, "%" PRIu64 " file%s and %" PRIu64 " director%s, %s read", all->files, plural(all->files),
            all->directories, all->directories == 1 ? "y" : "ies", size_text(all->bytes, size, sizeof size));
    if (!r->subject.structure && all->sealed + all->open_seals)
        fprintf(to, "; %" PRIu64 " sealed, %" PRIu64 " not", all->sealed, all->open_seals);
    fputs(": ", to);
    put_counts(to, r);
}

static const char *what_was_left_out(const struct check_subject *s)
{
    if (s->structure)
        return "Only the structure was looked at: names, headers and contents need the keys.";
    if (!s->contents)
        return "Structure and headers were looked at; --contents also reads and authenticates every byte.";
    return NULL;
}

static void end_text(const struct check_report *r, const struct check_progress *all, int err)
{
    char quoted[4 * PATH_MAX];
    const char *left_out = what_was_left_out(&r->subject);
    printf("%s: ", cli_quote(r->subject.volume, quoted, sizeof quoted));
    put_summary(stdout, r, all);
    puts(err ? "; not finished" : "");
    if (!err && left_out)
        puts(left_out);
}

static void end_log(const struct check_report *r, const struct check_progress *all, int err)
{
    char quoted[4 * PATH_MAX];
    bool bad = r->damage_left + r->before.damage > 0;
    fprintf(stderr, "%slatch %s: %s: ",
            bad   ? "<3>"
            : err ? "<4>"
                  : "<6>",
            r->subject.command, cli_quote(r->subject.volume, quoted, sizeof quoted));
    put_summary(stderr, r, all);
    if (err)
        fprintf(stderr, "; not finished: %s", err == -EINTR ? "stopped" : lfs_strerror(err));
    fputc('\n', stderr);
}

static int exit_code(const struct check_report *r, int err)
{
    if (r->damage_left + r->before.damage)
        return LFS_EXIT_CORRUPT;
    if (err == -EINTR) /* a timer's unit that is stopped has not failed */
        return r->style == REPORT_LOG ? LFS_EXIT_OK : LFS_EXIT_FAILURE;
    if (err)
        return lfs_exit_code(err);
    return r->damage_repaired ? LFS_EXIT_REPAIRED : LFS_EXIT_OK;
}

int check_report_end(struct check_report *r, const struct check_progress *p, int err)
{
    struct check_progress all = r->before;
    int code = exit_code(r, err);
    check_progress_add(&all, p);
    if (!r->begun) /* nothing to report on: just why */
        return cli_fail_err(err, r->subject.volume, NULL);
    pthread_mutex_lock(&r->lock);
    hide_bar(r);
    if (r->style == REPORT_JSON)
        check_json_end(stdout, r, &all, err, code);
    else if (r->style == REPORT_LOG)
        end_log(r, &all, err);
    else
        end_text(r, &all, err);
    pthread_mutex_unlock(&r->lock);
    if (err && err != -EINTR && r->style != REPORT_LOG)
        cli_fail_err(err, r->subject.volume, "the check could not go on");
    return code;
}
