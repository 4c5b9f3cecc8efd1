/* Values of keyd.ini that are more than a number. */
#include "policy_read.h"

#include "latchfs/keyedit.h"

#include <grp.h>
#include <pwd.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_BYTES 16384u /* of one user or group, with its members */

bool policy_refuse(struct reading *r, const char *fmt, ...)
{
    va_list ap;
    if (r->why[0])
        return false;
    int n = snprintf(r->why, POLICY_WHY_MAX, "line %u: ", r->line);
    va_start(ap, fmt);
    vsnprintf(r->why + n, POLICY_WHY_MAX - (size_t)n, fmt, ap);
    va_end(ap);
    return false;
}

bool policy_number(const char *s, unsigned long most, unsigned long *out)
{
    size_t n = strspn(s, "0123456789");
    if (n < 1 || n > 10 || s[n] || (n > 1 && s[0] == '0'))
        return false;
    *out = strtoul(s, NULL, 10);
    return *out <= most;
}

/* ---- users and groups ---- */

bool policy_read_uids(struct reading *r, const char *value)
{
    char copy[POLICY_LINE_MAX + 1], *save = NULL;
    snprintf(copy, sizeof copy, "%s", value);
    for (char *word = strtok_r(copy, " ,", &save); word; word = strtok_r(NULL, " ,", &save)) {
        unsigned long uid;
        if (!policy_number(word, UINT32_MAX - 1, &uid))
            return policy_refuse(r, "allow_uids takes numbers of users");
        if (r->c->allow_count == POLICY_UIDS_MAX)
            return policy_refuse(r, "too many users");
        r->c->allow[r->c->allow_count++] = (uid_t)uid;
    }
    return true;
}

static bool name_ok(const char *s)
{
    static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-$";
    size_t n = strspn(s, chars);
    return n >= 1 && n <= 64 && !s[n] && !strchr("0123456789-.$", s[0]);
}

static bool find_user(struct reading *r, const char *name, uid_t *uid)
{
    static char buf[ENTRY_BYTES];
    struct passwd pw, *found = NULL;
    if (!name_ok(name) || getpwnam_r(name, &pw, buf, sizeof buf, &found) || !found)
        return policy_refuse(r, "there is no user %.64s (say uid:N, gid:N, a name, or @ and a group)", name);
    *uid = pw.pw_uid;
    return true;
}

static bool find_group(struct reading *r, const char *name, gid_t *gid)
{
    static char buf[ENTRY_BYTES];
    struct group gr, *found = NULL;
    if (!name_ok(name) || getgrnam_r(name, &gr, buf, sizeof buf, &found) || !found)
        return policy_refuse(r, "there is no group %.64s", name);
    *gid = gr.gr_gid;
    return true;
}

static bool read_who(struct reading *r, const char *word, struct policy_who *out)
{
    unsigned long id;
    bool group = strncmp(word, "gid:", 4) == 0;
    if (group || strncmp(word, "uid:", 4) == 0) {
        if (!policy_number(word + 4, UINT32_MAX - 1, &id))
            return policy_refuse(r, "%.64s is no number of a user or group", word);
        *out = (struct policy_who){group ? WHO_GID : WHO_UID, (uint32_t)id};
        return true;
    }
    if (strcmp(word, "owner") == 0) {
        *out = (struct policy_who){WHO_OWNER, 0};
        return true;
    }
    out->kind = word[0] == '@' ? WHO_GID : WHO_UID;
    return word[0] == '@' ? find_group(r, word + 1, &out->id) : find_user(r, word, &out->id);
}

bool policy_read_list(struct reading *r, const char *value, struct policy_list *out)
{
    char copy[POLICY_LINE_MAX + 1], *save = NULL;
    struct policy_list list = {.first = r->c->who_count};
    snprintf(copy, sizeof copy, "%s", value);
    if (strcmp(value, "none") == 0) {
        *out = list;
        return true;
    }
    for (char *word = strtok_r(copy, " ,", &save); word; word = strtok_r(NULL, " ,", &save)) {
        if (r->c->who_count == POLICY_WHO_MAX)
            return policy_refuse(r, "too many users and groups in the file");
        if (!read_who(r, word, &r->c->who[r->c->who_count]))
            return false;
        r->who_line[r->c->who_count++] = r->line;
        list.count++;
    }
    if (list.count == 0)
        return policy_refuse(r, "the list is empty: say none");
    *out = list;
    return true;
}

/* ---- time windows ---- */

static int day_of(const char *s)
{
    static const char days[7][4] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
    for (int i = 0; i < 7; i++)
        if (strncmp(s, days[i], 3) == 0)
            return i;
    return -1;
}

/* "mon" or "fri-mon". */
static bool read_days(const char *s, uint8_t *out)
{
    int first = day_of(s), last = first;
    if (first < 0)
        return false;
    if (s[3] == '-')
        last = day_of(s + 4);
    if (last < 0 || (s[3] == '-' ? s[7] : s[3]))
        return false;
    *out = 0;
    for (int d = first;; d = (d + 1) % 7) {
        *out |= (uint8_t)(1u << d);
        if (d == last)
            return true;
    }
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "HH:MM", 00:00 to 24:00. */
static bool read_minute(const char *s, uint16_t *out)
{
    if (!digit(s[0]) || !digit(s[1]) || s[2] != ':' || !digit(s[3]) || !digit(s[4]))
        return false;
    int hour = (s[0] - '0') * 10 + s[1] - '0', minute = (s[3] - '0') * 10 + s[4] - '0';
    *out = (uint16_t)(hour * 60 + minute);
    return minute < 60 && *out <= 1440;
}

static bool read_times(const char *s, struct policy_window *w)
{
    return strlen(s) == 11 && s[5] == '-' && read_minute(s, &w->from) && read_minute(s + 6, &w->to) &&
           w->from < 1440 && w->from != w->to;
}

static bool read_window(char *text, struct policy_window *w)
{
    char *save = NULL, *first = strtok_r(text, " ", &save), *second = strtok_r(NULL, " ", &save);
    *w = (struct policy_window){.days = 0x7f};
    if (!first || strtok_r(NULL, " ", &save))
        return false;
    if (!second)
        return read_times(first, w);
    return read_days(first, &w->days) && read_times(second, w);
}

bool policy_read_windows(struct reading *r, const char *value, struct policy_rule *rule)
{
    char copy[POLICY_LINE_MAX + 1], *rest = copy;
    snprintf(copy, sizeof copy, "%s", value);
    while (rest) {
        char *one = strsep(&rest, ",");
        if (rule->window_count == POLICY_WINDOWS_MAX)
            return policy_refuse(r, "more than %u time windows", POLICY_WINDOWS_MAX);
        if (!read_window(one, &rule->windows[rule->window_count++]))
            return policy_refuse(r, "a time window is like mon-fri 08:00-18:00 or 22:00-06:00");
    }
    return true;
}

/* ---- approvals ---- */

bool policy_read_acts(struct reading *r, const char *value, uint32_t *out)
{
    char copy[POLICY_LINE_MAX + 1], *save = NULL;
    uint32_t acts = 0;
    snprintf(copy, sizeof copy, "%s", value);
    for (char *word = strtok_r(copy, " ,", &save); word; word = strtok_r(NULL, " ,", &save)) {
        unsigned op = 1;
        while (op <= EDIT_OP_MAX && !(key_edit_is_destructive(op) && strcmp(key_edit_name(op), word) == 0))
            op++;
        if (op > EDIT_OP_MAX)
            return policy_refuse(r, "%.64s is no act that approvals may be required for", word);
        acts |= 1u << op;
    }
    *out = acts;
    return acts ? true : policy_refuse(r, "acts names no act");
}

static bool key_ok(const char *hex, uint8_t key[static 32])
{
    size_t got;
    return strlen(hex) == 64 && sodium_hex2bin(key, 32, hex, 64, NULL, &got, NULL) == 0 && got == 32 &&
           crypto_core_ed25519_is_valid_point(key);
}

static bool admin_is_new(struct reading *r, const struct policy_admin_key *fresh)
{
    for (unsigned i = 0; i < r->c->admin_count; i++) {
        const struct policy_admin_key *other = &r->c->admins[i];
        if (strcmp(other->name, fresh->name) == 0)
            return policy_refuse(r, "this key stands twice");
        if (memcmp(other->public_key, fresh->public_key, sizeof fresh->public_key) == 0)
            return policy_refuse(r, "this is the public key of admin.%s, too", other->name);
        if (other->has_uid && fresh->has_uid && other->uid == fresh->uid)
            return policy_refuse(r, "this is the user of admin.%s, too", other->name);
    }
    return true;
}

/* PUBLICKEY [USER] */
bool policy_read_admin(struct reading *r, const char *name, const char *value)
{
    char copy[POLICY_LINE_MAX + 1], *save = NULL;
    struct policy_admin_key fresh = {0};
    struct policy_who who;
    snprintf(copy, sizeof copy, "%s", value);
    char *key = strtok_r(copy, " ", &save), *user = strtok_r(NULL, " ", &save);
    if (!name_ok(name) || strlen(name) > POLICY_ADMIN_NAME_MAX)
        return policy_refuse(r, "the name of an admin is at most %u letters and digits",
                             POLICY_ADMIN_NAME_MAX);
    snprintf(fresh.name, sizeof fresh.name, "%.*s", (int)POLICY_ADMIN_NAME_MAX, name);
    if (!key || !key_ok(key, fresh.public_key) || strtok_r(NULL, " ", &save))
        return policy_refuse(r, "an admin is a public key of 64 hex digits, and maybe a user behind it");
    if (user && !read_who(r, user, &who))
        return false;
    if (user && who.kind != WHO_UID)
        return policy_refuse(r, "an admin is one user");
    fresh.has_uid = user != NULL;
    fresh.uid = user ? (uid_t)who.id : 0;
    if (r->c->admin_count == POLICY_ADMINS_MAX)
        return policy_refuse(r, "more than %u admins", POLICY_ADMINS_MAX);
    if (!admin_is_new(r, &fresh))
        return false;
    r->c->admins[r->c->admin_count++] = fresh;
    return true;
}
