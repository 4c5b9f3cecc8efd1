/* The lines of keyd.ini, one at a time. */
#include "policy_read.h"

#include "latchfs/err.h"

#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS_MAX 31536000u

enum value_type { V_NUMBER, V_BOOL, V_PATH, V_LABEL, V_UIDS, V_LIST, V_WINDOWS, V_ACTS };

static const struct key {
    const char *section, *name; /* "rule": offset is in struct policy_rule, and bit says that it is set */
    enum value_type type;
    size_t offset;
    unsigned least, most;
    unsigned bit;
} keys[] = {
    {"keyd", "idle_exit_seconds", V_NUMBER, offsetof(struct policy, idle_exit_s), 0, SECONDS_MAX, 0},
    {"keyd", "max_connections", V_NUMBER, offsetof(struct policy, max_connections), 4, 4096, 0},
    {"keyd", "log", V_PATH, offsetof(struct policy, log), 0, 0, 0},
    {"keyd", "environment", V_LABEL, offsetof(struct policy, environment), 0, 0, 0},
    {"keyd", "admin_seconds", V_NUMBER, offsetof(struct policy, admin_s), 10, 86400, 0},
    {"keyd", "metrics", V_PATH, offsetof(struct policy, metrics), 0, 0, 0},
    {"keyd", "metrics_seconds", V_NUMBER, offsetof(struct policy, metrics_s), 1, 86400, 0},
    {"keyd", "alert_command", V_PATH, offsetof(struct policy, alert_command), 0, 0, 0},
    {"keyd", "master_max_days", V_NUMBER, offsetof(struct policy, master_days), 0, 36500, 0},
    {"keyd", "directory_max_days", V_NUMBER, offsetof(struct policy, directory_days), 0, 36500, 0},
    {"slots", "kdf_milliseconds", V_NUMBER, offsetof(struct policy, kdf_ms), 100, 10000, 0},
    {"lease", "lease_seconds", V_NUMBER, offsetof(struct policy, lease_s), 0, SECONDS_MAX, 0},
    {"lease", "grace_seconds", V_NUMBER, offsetof(struct policy, grace_s), 0, SECONDS_MAX, 0},
    {"lease", "revoke_wait_seconds", V_NUMBER, offsetof(struct policy, revoke_wait_s), 1, 600, 0},
    {"access", "allow_uids", V_UIDS, 0, 0, 0, 0},
    {"roles", "user", V_LIST, offsetof(struct policy, roles[0]), 0, 0, 0},
    {"roles", "operator", V_LIST, offsetof(struct policy, roles[1]), 0, 0, 0},
    {"roles", "key-admin", V_LIST, offsetof(struct policy, roles[2]), 0, 0, 0},
    {"roles", "auditor", V_LIST, offsetof(struct policy, roles[3]), 0, 0, 0},
    {"approvals", "required", V_NUMBER, offsetof(struct policy, approvals_required), 1, POLICY_ADMINS_MAX, 0},
    {"approvals", "expire_seconds", V_NUMBER, offsetof(struct policy, approvals_expire_s), 1, SECONDS_MAX, 0},
    {"approvals", "acts", V_ACTS, offsetof(struct policy, approvals_acts), 0, 0, 0},
    {"approvals", "own_signature", V_BOOL, offsetof(struct policy, approvals_own_signature), 0, 0, 0},
    {"alerts", "seconds", V_NUMBER, offsetof(struct policy, alert_s), 1, 86400, 0},
    {"alerts", "unlock_failures", V_NUMBER, offsetof(struct policy, alert_unlock_failures), 0, 100000, 0},
    {"alerts", "leases", V_NUMBER, offsetof(struct policy, alert_leases), 0, 100000, 0},
    {"alerts", "bulk_directories", V_NUMBER, offsetof(struct policy, alert_bulk), 0, 100000, 0},
    {"alerts", "auth_failures", V_NUMBER, offsetof(struct policy, alert_auth_failures), 0, 100000, 0},
    {"alerts", "new_peers", V_BOOL, offsetof(struct policy, alert_new_peer), 0, 0, 0},
    {"rule", "allow", V_LIST, offsetof(struct policy_rule, allow), 0, 0, RULE_ALLOW},
    {"rule", "lease_seconds", V_NUMBER, offsetof(struct policy_rule, lease_s), 0, SECONDS_MAX, RULE_LEASE},
    {"rule", "idle_seconds", V_NUMBER, offsetof(struct policy_rule, idle_s), 0, SECONDS_MAX, RULE_IDLE},
    {"rule", "leases_per_minute", V_NUMBER, offsetof(struct policy_rule, per_minute), 0, 6000, RULE_RATE},
    {"rule", "window", V_WINDOWS, 0, 0, 0, RULE_WINDOW},
    {"rule", "lock_on_suspend", V_BOOL, offsetof(struct policy_rule, lock_on_suspend), 0, 0, RULE_SUSPEND},
    {"rule", "request_key", V_BOOL, offsetof(struct policy_rule, request_key), 0, 0, RULE_REQUEST_KEY},
};
#define KEYS (sizeof keys / sizeof *keys)
_Static_assert(KEYS <= POLICY_KEYS_MAX, "seen[] has a place for each key");

#define ADMIN_PREFIX "admin."

static bool set_number(struct reading *r, const struct key *k, const char *value, unsigned *out)
{
    unsigned long v;
    if (!policy_number(value, k->most, &v) || v < k->least)
        return policy_refuse(r, "%s takes a number from %u to %u", k->name, k->least, k->most);
    *out = (unsigned)v;
    return true;
}

static bool set_bool(struct reading *r, const struct key *k, const char *value, bool *out)
{
    *out = strcmp(value, "yes") == 0;
    return *out || strcmp(value, "no") == 0 ? true : policy_refuse(r, "%s takes yes or no", k->name);
}

static bool set_path(struct reading *r, const char *value, char *out)
{
    if (value[0] != '/')
        return policy_refuse(r, "a path begins with /");
    snprintf(out, PATH_MAX, "%s", value);
    return true;
}

static bool set_label(struct reading *r, const struct key *k, const char *value, char *out)
{
    if (!keystore_label_ok(value))
        return policy_refuse(r, "%s takes at most %u letters, digits, spaces and . _ @ + -", k->name,
                             KEYSTORE_LABEL_MAX);
    snprintf(out, KEYSTORE_LABEL_MAX + 1, "%s", value);
    return true;
}

static bool set(struct reading *r, const struct key *k, const char *value)
{
    void *at = (char *)(k->bit ? (void *)r->rule : (void *)r->c) + k->offset;
    switch (k->type) {
    case V_NUMBER:
        return set_number(r, k, value, at);
    case V_BOOL:
        return set_bool(r, k, value, at);
    case V_PATH:
        return set_path(r, value, at);
    case V_LABEL:
        return set_label(r, k, value, at);
    case V_UIDS:
        return policy_read_uids(r, value);
    case V_LIST:
        return policy_read_list(r, value, at);
    case V_WINDOWS:
        return policy_read_windows(r, value, r->rule);
    case V_ACTS:
        return policy_read_acts(r, value, at);
    }
    return false;
}

static bool seen_before(struct reading *r, size_t key)
{
    if (keys[key].bit) {
        bool before = r->rule->set & keys[key].bit;
        r->rule->set |= keys[key].bit;
        return before;
    }
    bool before = r->seen[key];
    r->seen[key] = r->line;
    return before;
}

static int on_key(void *arg, const char *section, const char *name, const char *value)
{
    struct reading *r = arg;
    if (r->why[0])
        return 0;
    if (strcmp(section, "approvals") == 0 && strncmp(name, ADMIN_PREFIX, sizeof ADMIN_PREFIX - 1) == 0)
        return policy_read_admin(r, name + sizeof ADMIN_PREFIX - 1, value);
    for (size_t i = 0; i < KEYS; i++) {
        if (strcmp(keys[i].section, section) != 0 || strcmp(keys[i].name, name) != 0)
            continue;
        return seen_before(r, i) ? policy_refuse(r, "this key stands twice") : set(r, &keys[i], value);
    }
    return policy_refuse(r, "unknown key");
}

unsigned policy_key_line(const struct reading *r, const char *section, const char *name)
{
    for (size_t i = 0; i < KEYS; i++)
        if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
            return r->seen[i];
    return 0;
}

/* What inih would bend into something else: long lines, continuation lines, text after a section's name. */
static const char *bad_line(const char *s, size_t len)
{
    if (len > POLICY_LINE_MAX)
        return "the line is longer than 199 bytes";
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < ' ' || s[i] == 127)
            return "the line has a control character";
    if (len == 0 || s[0] == '#' || s[0] == ';')
        return NULL;
    if (s[0] == ' ')
        return "the line begins with a blank";
    if (s[0] == '[')
        return s[len - 1] == ']' ? NULL : "unknown section";
    if (memchr(s, ';', len))
        return "a comment stands on a line of its own";
    return memchr(s, '=', len) ? NULL : "not a section, a comment or key = value";
}

/* s: "[...]". inih never sees it: it cuts long names. */
static bool section_line(struct reading *r, const char *s, size_t len)
{
    char text[POLICY_LINE_MAX + 1];
    snprintf(text, sizeof text, "%.*s", (int)len - 2, s + 1);
    r->rule = NULL;
    if (strncmp(text, "volume ", 7) == 0 || strncmp(text, "directory ", 10) == 0) {
        r->section = "rule";
        return policy_read_rule(r, text);
    }
    for (size_t i = 0; i < KEYS && !keys[i].bit; i++) {
        r->section = keys[i].section;
        if (strcmp(r->section, text) == 0)
            return true;
    }
    return policy_refuse(r, "unknown section");
}

/* Lines go to inih one at a time, each behind its section, so that an error has the right line number. */
static bool one_line(struct reading *r, const char *s, size_t len)
{
    char text[POLICY_LINE_MAX + 32];
    const char *bad = bad_line(s, len);
    if (bad)
        return policy_refuse(r, "%s", bad);
    if (len == 0 || s[0] == '#' || s[0] == ';')
        return true;
    if (s[0] == '[')
        return section_line(r, s, len);
    if (!r->section)
        return policy_refuse(r, "a key before any section");
    snprintf(text, sizeof text, "[%s]\n%.*s\n", r->section, (int)len, s);
    if (ini_parse_string(text, on_key, r) == 0)
        return true;
    return policy_refuse(r, "not key = value");
}

static bool lines(struct reading *r, const char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        const char *nl = memchr(text + at, '\n', len - at);
        size_t n = nl ? (size_t)(nl - (text + at)) : len - at;
        r->line++;
        if (!one_line(r, text + at, n))
            return false;
        at += n + 1;
    }
    return policy_check(r);
}

int policy_parse(const char *text, size_t len, struct policy *c, char why[static POLICY_WHY_MAX])
{
    struct reading *r = calloc(1, sizeof *r);
    struct policy *read = malloc(sizeof *read);
    int result = LFS_ERR_MISUSE;
    snprintf(why, POLICY_WHY_MAX, "%s", !r || !read ? "out of memory" : "");
    if (r && read) {
        memcpy(read, c, sizeof *read);
        r->c = read;
        r->why = why;
        result = len <= POLICY_BYTES_MAX && lines(r, text, len) ? 0 : LFS_ERR_MISUSE;
        if (len > POLICY_BYTES_MAX)
            snprintf(why, POLICY_WHY_MAX, "the file is longer than %u bytes", POLICY_BYTES_MAX);
    }
    if (!result)
        memcpy(c, read, sizeof *c);
    free(read);
    free(r);
    return result;
}
