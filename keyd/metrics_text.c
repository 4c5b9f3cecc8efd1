/* The text of OpenMetrics 1.0: each family in one piece, counters end in _total, the whole in # EOF. */
#include "config.h"
#include "metrics_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void family(FILE *f, const char *name, const char *type, const char *unit, const char *help)
{
    fprintf(f, "# TYPE latchfs_%s %s\n", name, type);
    if (unit)
        fprintf(f, "# UNIT latchfs_%s %s\n", name, unit);
    fprintf(f, "# HELP latchfs_%s %s\n", name, help);
}

static void single(FILE *f, const char *name, const char *help, uint64_t value)
{
    family(f, name, "gauge", NULL, help);
    fprintf(f, "latchfs_%s %" PRIu64 "\n", name, value);
}

static void counter(FILE *f, const char *name, const char *help, uint64_t value)
{
    family(f, name, "counter", NULL, help);
    fprintf(f, "latchfs_%s_total %" PRIu64 "\n", name, value);
}

/* ---- volumes ---- */

enum volume_value { UNLOCKED, MOUNTS, LEASES, GENERATION, OVERDUE, AUTH_FAILURES };

static uint64_t value_of(const struct metrics_volume *v, enum volume_value which)
{
    switch (which) {
    case UNLOCKED:
        return v->ks != NULL;
    case MOUNTS:
        return v->mounts;
    case LEASES:
        return v->leases;
    case GENERATION:
        return v->ks ? v->ks->generation : 0;
    case OVERDUE:
        return v->rotation_overdue;
    case AUTH_FAILURES:
        return v->auth_failures;
    }
    return 0;
}

static void per_volume(FILE *f, const struct metrics_view *view)
{
    static const struct {
        enum volume_value which;
        const char *name, *type, *suffix, *help;
        bool unlocked; /* known only then */
    } families[] = {
        {UNLOCKED, "volume_unlocked", "gauge", "", "Whether master keys of the volume are held.", false},
        {MOUNTS, "volume_mounts", "gauge", "", "Mounts that are connected.", false},
        {LEASES, "volume_leases", "gauge", "", "Leases of directory keys that mounts hold.", false},
        {GENERATION, "volume_generation", "gauge", "", "Generation of the key store.", true},
        {OVERDUE, "rotation_overdue", "gauge", "", "Active keys older than policy wants them.", true},
        {AUTH_FAILURES, "auth_failures", "counter", "_total",
         "Times that mounts met corrupt or changed data, since this latch-keyd began.", false},
    };
    char hex[2 * ID_BYTES + 1];
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        family(f, families[i].name, families[i].type, NULL, families[i].help);
        for (size_t n = 0; n < view->count; n++) {
            const struct metrics_volume *v = &view->volumes[n];
            if (families[i].unlocked && !v->ks)
                continue;
            id_to_hex(v->id, hex);
            fprintf(f, "latchfs_%s%s{volume=\"%s\"} %" PRIu64 "\n", families[i].name, families[i].suffix, hex,
                    value_of(v, families[i].which));
        }
    }
}

/* ---- key versions ---- */

static void one_age(FILE *f, const struct metrics_view *view, const char *volume, const char *directory,
                    uint32_t version, unsigned state, uint64_t created)
{
    uint64_t now = view->now > 0 ? (uint64_t)view->now : 0;
    if (state == KEY_DESTROYED)
        return;
    fprintf(f,
            "latchfs_key_age_seconds{volume=\"%s\",kind=\"%s\",directory=\"%s\",version=\"%" PRIu32
            "\",state=\"%s\"} %" PRIu64 "\n",
            volume, directory[0] ? "directory" : "master", directory, version, key_state_name(state),
            now > created ? now - created : 0);
}

static void ages(FILE *f, const struct metrics_view *view)
{
    char volume[2 * ID_BYTES + 1], dir[2 * ID_BYTES + 1];
    family(f, "key_age_seconds", "gauge", "seconds",
           "Age of a key version by its kind and state; a volume that is locked has none here.");
    for (size_t n = 0; n < view->count; n++) {
        const struct keystore *ks = view->volumes[n].ks;
        if (!ks)
            continue;
        id_to_hex(view->volumes[n].id, volume);
        for (uint32_t i = 0; i < ks->master_count; i++)
            one_age(f, view, volume, "", ks->masters[i].version, ks->masters[i].state,
                    ks->masters[i].created);
        for (uint32_t d = 0; d < ks->dir_count; d++) {
            id_to_hex(ks->dirs[d].id, dir);
            for (uint32_t i = 0; i < ks->dirs[d].count; i++)
                one_age(f, view, volume, dir, ks->dirs[d].keys[i].version, ks->dirs[d].keys[i].state,
                        ks->dirs[d].keys[i].created);
        }
    }
}

/* ---- what is counted ---- */

static void counters(FILE *f, const struct metrics *m)
{
    static const struct {
        const char *name, *help;
    } what[METRICS] = {
        [METRIC_UNLOCKS] = {"unlocks", "Volumes opened with a slot."},
        [METRIC_UNLOCK_FAILURES] = {"unlock_failures", "Wrong passphrases, key files and other secrets."},
        [METRIC_LEASES] = {"leases", "Leases of directory keys given."},
        [METRIC_LEASE_REFUSALS] = {"lease_refusals", "Leases refused."},
        [METRIC_EDITS] = {"key_store_edits", "Changes made to key stores."},
        [METRIC_PROTOCOL_ERRORS] = {"protocol_errors",
                                    "Connections ended for a request out of the protocol."},
    };
    for (size_t i = 0; i < METRICS; i++)
        counter(f, what[i].name, what[i].help, m->counts[i]);
}

static void histogram(FILE *f, const char *name, const char *help, const struct metrics_histogram *h)
{
    uint64_t below = 0;
    family(f, name, "histogram", "seconds", help);
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        below += h->buckets[i];
        fprintf(f, "latchfs_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, metrics_bounds[i], below);
    }
    below += h->buckets[METRICS_BUCKETS];
    fprintf(f, "latchfs_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, below);
    fprintf(f, "latchfs_%s_count %" PRIu64 "\nlatchfs_%s_sum %.9f\n", name, below, name, h->sum);
}

static void audit_and_alarms(FILE *f, const struct metrics_view *v)
{
    struct audit_counts n;
    if (v->audit) {
        audit_counts(v->audit, &n);
        counter(f, "audit_records", "Records in the chain of the audit log.", n.records);
        counter(f, "audit_write_failures", "Records that could not be written or synced.", n.failures);
        counter(f, "audit_findings", "Times that the audit log was found cut, changed or replaced.",
                n.trouble);
        single(f, "audit_disk_full", "Whether the audit log has only its reserve left.", n.in_reserve);
    }
    if (!v->alert)
        return;
    family(f, "alarms", "counter", NULL, "Alarms raised.");
    for (int i = 0; i < ALERT_EVENTS; i++)
        fprintf(f, "latchfs_alarms_total{event=\"%s\"} %" PRIu64 "\n", alert_event_name((enum alert_event)i),
                alert_count(v->alert, (enum alert_event)i));
}

static void print_all(FILE *f, const struct metrics *m, const struct metrics_view *v)
{
    family(f, "keyd", "info", NULL, "Version of latch-keyd.");
    fprintf(f, "latchfs_keyd_info{version=\"%s\"} 1\n", LATCHFS_VERSION);
    per_volume(f, v);
    ages(f, v);
    counters(f, m);
    histogram(f, "wrap_seconds", "Time to wrap a key.", &m->timers[METRIC_WRAP]);
    histogram(f, "unwrap_seconds", "Time to unwrap a key.", &m->timers[METRIC_UNWRAP]);
    audit_and_alarms(f, v);
    single(f, "approvals_pending", "Requests that wait for approval.", v->approvals_pending);
    single(f, "connections", "Clients and mounts that are connected.", v->connections);
    family(f, "written_timestamp_seconds", "gauge", "seconds", "When this file was written.");
    fprintf(f, "latchfs_written_timestamp_seconds %" PRId64 "\n# EOF\n", v->now);
}

int metrics_text(const struct metrics *m, const struct metrics_view *v, char **text, size_t *len)
{
    char *p = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&p, &n);
    if (!f)
        return -errno;
    print_all(f, m, v);
    bool bad = ferror(f);
    if (fclose(f) || bad) {
        free(p);
        return -ENOMEM;
    }
    *text = p;
    *len = n;
    return 0;
}
