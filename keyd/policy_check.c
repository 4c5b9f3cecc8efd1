/* Sections [volume] and [directory], and what only the whole file shows: what contradicts itself, and what
 * can never have an effect. Either is a mistake of whoever wrote it. */
#include "policy_read.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HEX (2 * ID_BYTES)

/* ---- the name of a section ---- */

static bool read_id(const char *s, size_t len, uint8_t id[static ID_BYTES])
{
    char hex[HEX + 1];
    if (len != HEX)
        return false;
    snprintf(hex, sizeof hex, "%.*s", (int)len, s);
    return id_from_hex(hex, id);
}

/* VOLUME/DIRECTORY: 32 hex digits are an id, / is the root's, anything else a name. */
static bool read_directory(const char *s, struct policy_rule *rule)
{
    const char *slash = strchr(s, '/');
    if (!slash || !read_id(s, (size_t)(slash - s), rule->volume))
        return false;
    const char *name = slash + 1;
    rule->level = LEVEL_DIRECTORY_ID;
    if (read_id(name, strlen(name), rule->pd))
        return true;
    rule->level = LEVEL_DIRECTORY_NAME;
    if (strcmp(name, "/") != 0 && !keystore_label_ok(name))
        return false;
    snprintf(rule->name, sizeof rule->name, "%s", name);
    return true;
}

static bool read_volume(const char *s, struct policy_rule *rule)
{
    rule->level = strcmp(s, "*") == 0 ? LEVEL_ANY_VOLUME : LEVEL_VOLUME;
    return rule->level == LEVEL_ANY_VOLUME || read_id(s, strlen(s), rule->volume);
}

static bool same_place(const struct policy_rule *a, const struct policy_rule *b)
{
    return a->level == b->level && memcmp(a->volume, b->volume, ID_BYTES) == 0 &&
           memcmp(a->pd, b->pd, ID_BYTES) == 0 && strcmp(a->name, b->name) == 0;
}

bool policy_read_rule(struct reading *r, const char *text)
{
    struct policy_rule fresh = {.line = r->line};
    if (text[0] == 'v' && !read_volume(text + sizeof "volume " - 1, &fresh))
        return policy_refuse(r, "[volume ...] takes * or the 32 hex digits of a volume");
    if (text[0] == 'd' && !read_directory(text + sizeof "directory " - 1, &fresh))
        return policy_refuse(r, "[directory ...] takes the volume's 32 hex digits, /, and a name or id");
    for (unsigned i = 0; i < r->c->rule_count; i++)
        if (same_place(&r->c->rules[i], &fresh))
            return policy_refuse(r, "this section stands in line %u, too", r->c->rules[i].line);
    if (r->c->rule_count == POLICY_RULES_MAX)
        return policy_refuse(r, "more than %u sections of volumes and directories", POLICY_RULES_MAX);
    r->rule = &r->c->rules[r->c->rule_count++];
    *r->rule = fresh;
    return true;
}

/* ---- the whole ---- */

static bool refuse_at(struct reading *r, unsigned line, const char *what)
{
    r->line = line;
    return policy_refuse(r, "%s", what);
}

static bool check_pairs(struct reading *r)
{
    static const struct {
        const char *section, *name, *needs, *what;
    } pairs[] = {
        {"keyd", "metrics_seconds", "metrics", "metrics_seconds has no effect without metrics"},
        {"approvals", "acts", "required", "acts has no effect without required"},
        {"approvals", "expire_seconds", "required", "expire_seconds has no effect without required"},
        {"approvals", "own_signature", "required", "own_signature has no effect without required"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        unsigned line = policy_key_line(r, pairs[i].section, pairs[i].name);
        if (line && !policy_key_line(r, pairs[i].section, pairs[i].needs))
            return refuse_at(r, line, pairs[i].what);
    }
    return true;
}

static bool check_approvals(struct reading *r)
{
    unsigned line = policy_key_line(r, "approvals", "required");
    if (!line && r->c->admin_count)
        return policy_refuse(r, "admins are named, but [approvals] has no required");
    if (r->c->approvals_required > r->c->admin_count) {
        r->line = line;
        return policy_refuse(r, "%u approvals are required, but %u admins are named",
                             r->c->approvals_required, r->c->admin_count);
    }
    return true;
}

static bool is_owner(const struct reading *r, const struct policy_who *w)
{
    return w->kind == WHO_UID && (w->id == 0 || w->id == r->c->owner);
}

/* Who restricts root or the owner by naming them must not be left in that belief. */
static bool check_roles(struct reading *r)
{
    struct policy *c = r->c;
    unsigned line = 0;
    for (unsigned i = 0; i < POLICY_ROLES; i++) {
        for (unsigned k = 0; k < c->roles[i].count; k++) {
            unsigned at = c->roles[i].first + k;
            c->owner_named |= c->who[at].kind == WHO_OWNER;
            if (!line && is_owner(r, &c->who[at]))
                line = r->who_line[at];
        }
    }
    return c->owner_named || !line
               ? true
               : refuse_at(r, line, "root and the owner have every role unless the word owner stands here");
}

static bool may_be_user(const struct reading *r, uint32_t uid)
{
    const struct policy *c = r->c;
    for (unsigned i = 0; i < c->allow_count; i++)
        if (c->allow[i] == uid)
            return true;
    for (unsigned i = 0; i < c->roles[0].count; i++) {
        const struct policy_who *w = &c->who[c->roles[0].first + i];
        if (w->kind == WHO_GID || (w->kind == WHO_UID && w->id == uid)) /* of a group: who knows */
            return true;
        if (w->kind == WHO_OWNER && (uid == 0 || uid == c->owner))
            return true;
    }
    return !c->owner_named && (uid == 0 || uid == c->owner);
}

static bool check_allow(struct reading *r, const struct policy_rule *rule)
{
    if (rule->allow.count == 0 && rule->set & (RULE_LEASE | RULE_IDLE | RULE_RATE | RULE_REQUEST_KEY))
        return refuse_at(r, rule->line, "nobody is allowed here: the keys about leases have no effect");
    for (unsigned i = 0; i < rule->allow.count; i++) {
        const struct policy_who *w = &r->c->who[rule->allow.first + i];
        if (w->kind != WHO_UID || may_be_user(r, w->id))
            continue;
        r->line = r->who_line[rule->allow.first + i];
        return policy_refuse(r, "user %u is allowed here, but has not the role user", w->id);
    }
    return true;
}

/* A volume is locked with all its directories. */
static bool check_suspend(struct reading *r, const struct policy_rule *rule)
{
    struct policy_ask whole = {.volume_id = rule->volume};
    if (rule->level < LEVEL_DIRECTORY_NAME || !(rule->set & RULE_SUSPEND) || rule->lock_on_suspend ||
        !policy_locks_on_suspend(r->c, &whole))
        return true;
    return refuse_at(r, rule->line, "lock_on_suspend = no has no effect: the whole volume is locked");
}

bool policy_check(struct reading *r)
{
    r->c->metrics_line = policy_key_line(r, "keyd", "metrics");
    r->c->alert_line = policy_key_line(r, "keyd", "alert_command");
    if (!check_pairs(r) || !check_approvals(r) || !check_roles(r))
        return false;
    for (unsigned i = 0; i < r->c->rule_count; i++) {
        const struct policy_rule *rule = &r->c->rules[i];
        if (!rule->set)
            return refuse_at(r, rule->line, "the section says nothing");
        if (rule->set & RULE_ALLOW && !check_allow(r, rule))
            return false;
        if (!check_suspend(r, rule))
            return false;
    }
    return true;
}
