/* What the policy decides. */
#include "policy.h"
#include "policy_read.h"

#include "latchfs/err.h"
#include "latchfs/keyedit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DESTRUCTIVE (1u << EDIT_MASTER_DESTROY | 1u << EDIT_DIR_DESTROY | 1u << EDIT_DIR_SHRED)

void policy_defaults(struct policy *c)
{
    memset(c, 0, sizeof *c);
    c->owner = geteuid();
    c->idle_exit_s = 300;
    c->max_connections = 128;
    c->kdf_ms = 1000;
    c->revoke_wait_s = 20;
    c->admin_s = 300;
    c->metrics_s = 60;
    c->approvals_expire_s = 86400;
    c->approvals_acts = DESTRUCTIVE;
    c->alert_s = 60;
    c->alert_unlock_failures = 5;
    c->alert_leases = 300;
    c->alert_bulk = 32;
    c->alert_auth_failures = 1;
}

/* ---- roles ---- */

static bool list_has(const struct policy *p, const struct policy_list *list, uid_t uid, const gid_t *gids,
                     size_t n, uid_t owner)
{
    for (unsigned i = 0; i < list->count; i++) {
        const struct policy_who *w = &p->who[list->first + i];
        if (w->kind == WHO_UID && w->id == uid)
            return true;
        if (w->kind == WHO_OWNER && (uid == owner || uid == 0))
            return true;
        for (size_t k = 0; w->kind == WHO_GID && k < n; k++)
            if (gids[k] == w->id)
                return true;
    }
    return false;
}

unsigned policy_roles(const struct policy *p, uid_t uid, const gid_t *gids, size_t n, uid_t owner)
{
    unsigned roles = 0;
    if (!p->owner_named && (uid == owner || uid == 0))
        return ROLE_ALL;
    for (unsigned i = 0; i < POLICY_ROLES; i++)
        if (list_has(p, &p->roles[i], uid, gids, n, owner))
            roles |= 1u << i;
    for (unsigned i = 0; i < p->allow_count; i++)
        if (p->allow[i] == uid)
            roles |= ROLE_USER;
    return roles;
}

bool policy_open_to_others(const struct policy *p)
{
    for (unsigned i = 0; i < POLICY_ROLES; i++)
        for (unsigned k = 0; k < p->roles[i].count; k++)
            if (p->who[p->roles[i].first + k].kind != WHO_OWNER)
                return true;
    return p->allow_count > 0;
}

/* ---- rules ---- */

static bool matches(const struct policy_rule *rule, const struct policy_ask *a)
{
    if (rule->level == LEVEL_ANY_VOLUME)
        return true;
    if (memcmp(rule->volume, a->volume_id, ID_BYTES) != 0)
        return false;
    if (rule->level == LEVEL_VOLUME)
        return true;
    if (!a->pd_id)
        return false;
    if (rule->level == LEVEL_DIRECTORY_ID)
        return memcmp(rule->pd, a->pd_id, ID_BYTES) == 0;
    if (strcmp(rule->name, "/") == 0)
        return a->is_root_dir;
    return a->dir_name && strcmp(rule->name, a->dir_name) == 0;
}

/* The most specific section that has this key; NULL: none. No two of one level match (policy_check.c). */
static const struct policy_rule *rule_for(const struct policy *p, const struct policy_ask *a, unsigned key)
{
    const struct policy_rule *best = NULL;
    for (unsigned i = 0; i < p->rule_count; i++) {
        const struct policy_rule *rule = &p->rules[i];
        if (rule->set & key && matches(rule, a) && (!best || rule->level > best->level))
            best = rule;
    }
    return best;
}

static int deny(char *why, size_t size, unsigned line, const char *what)
{
    if (line)
        snprintf(why, size, "keyd.ini, section of line %u: %s", line, what);
    else
        snprintf(why, size, "keyd.ini: %s", what);
    return LFS_ERR_DENIED;
}

int policy_environment(const struct policy *p, const char *environment, char *why, size_t why_size)
{
    const char *its = environment ? environment : "";
    if (!p->environment[0] || strcmp(p->environment, its) == 0)
        return 0;
    snprintf(why, why_size, "this latch-keyd serves environment %s, the volume is of %s%s", p->environment,
             its[0] ? "environment " : "none", its);
    return LFS_ERR_DENIED;
}

static int check_windows(const struct policy *p, const struct policy_ask *a, unsigned *left, char *why,
                         size_t size)
{
    const struct policy_rule *rule = rule_for(p, a, RULE_WINDOW);
    *left = rule ? policy_windows_left(rule->windows, rule->window_count, a->now) : UINT_MAX;
    return *left ? 0 : deny(why, size, rule->line, "not at this time of the day or week");
}

static int check_who(const struct policy *p, const struct policy_ask *a, char *why, size_t size)
{
    const struct policy_rule *rule = rule_for(p, a, RULE_REQUEST_KEY);
    if (a->via_request_key && !(rule && rule->request_key))
        return deny(why, size, rule ? rule->line : 0, "no leases by request-key");
    if (a->via_request_key && !(policy_roles(p, a->uid, a->gids, a->ngids, p->owner) & ROLE_USER))
        return deny(why, size, 0, "the asking user has not the role user");
    rule = rule_for(p, a, RULE_ALLOW);
    if (rule && !list_has(p, &rule->allow, a->uid, a->gids, a->ngids, p->owner))
        return deny(why, size, rule->line, "this user is not allowed");
    return 0;
}

bool policy_may_lease(const struct policy *p, const struct policy_ask *a)
{
    struct policy_ask whole = *a;
    whole.pd_id = NULL;
    const struct policy_rule *rule = rule_for(p, &whole, RULE_ALLOW);
    bool may = !rule || list_has(p, &rule->allow, a->uid, a->gids, a->ngids, p->owner);
    for (unsigned i = 0; !may && i < p->rule_count; i++) {
        rule = &p->rules[i];
        may = rule->set & RULE_ALLOW && rule->level > LEVEL_VOLUME &&
              memcmp(rule->volume, a->volume_id, ID_BYTES) == 0 &&
              list_has(p, &rule->allow, a->uid, a->gids, a->ngids, p->owner);
    }
    return may;
}

int policy_lease(const struct policy *p, const struct policy_ask *a, struct policy_lease *out, char *why,
                 size_t why_size)
{
    struct policy_lease l = {.lease_s = p->lease_s};
    const struct policy_rule *rule;
    unsigned left;
    int r = policy_environment(p, a->environment, why, why_size);
    if (!r)
        r = check_who(p, a, why, why_size);
    if (!r)
        r = check_windows(p, a, &left, why, why_size);
    if (r)
        return r;
    if ((rule = rule_for(p, a, RULE_LEASE)))
        l.lease_s = rule->lease_s;
    if (left != UINT_MAX && (l.lease_s == 0 || left < l.lease_s))
        l.lease_s = left;
    if ((rule = rule_for(p, a, RULE_IDLE)))
        l.idle_s = rule->idle_s;
    if ((rule = rule_for(p, a, RULE_RATE)))
        l.per_minute = rule->per_minute;
    *out = l;
    return 0;
}

int policy_admin(const struct policy *p, const struct policy_ask *a, char *why, size_t why_size)
{
    struct policy_ask whole = *a;
    unsigned left;
    bool labelled = a->environment && a->environment[0];
    int r = labelled ? policy_environment(p, a->environment, why, why_size) : 0;
    whole.pd_id = NULL;
    return r ? r : check_windows(p, &whole, &left, why, why_size);
}

unsigned policy_approvals_needed(const struct policy *p, unsigned edit_op)
{
    return edit_op <= EDIT_OP_MAX && p->approvals_acts & 1u << edit_op ? p->approvals_required : 0;
}

bool policy_locks_on_suspend(const struct policy *p, const struct policy_ask *a)
{
    const struct policy_rule *rule = rule_for(p, a, RULE_SUSPEND);
    return rule && rule->lock_on_suspend;
}

bool policy_minds_suspend(const struct policy *p)
{
    for (unsigned i = 0; i < p->rule_count; i++)
        if (p->rules[i].set & RULE_SUSPEND && p->rules[i].lock_on_suspend)
            return true;
    return false;
}
