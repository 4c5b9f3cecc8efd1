#include "policy.h"

#include "latchfs/err.h"

#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 199u /* inih takes the tail of a longer line as a new one */

void policy_defaults(struct policy *c)
{
    *c = (struct policy){.idle_exit_s = 300, .max_connections = 128, .kdf_ms = 1000, .revoke_wait_s = 20};
}

enum value_type { V_NUMBER, V_PATH, V_UIDS };

static const struct key {
    const char *section, *name;
    enum value_type type;
    size_t offset;
    unsigned least, most;
} keys[] = {
    {"keyd", "idle_exit_seconds", V_NUMBER, offsetof(struct policy, idle_exit_s), 0, 31536000},
    {"keyd", "max_connections", V_NUMBER, offsetof(struct policy, max_connections), 4, 4096},
    {"keyd", "log", V_PATH, offsetof(struct policy, log), 0, 0},
    {"slots", "kdf_milliseconds", V_NUMBER, offsetof(struct policy, kdf_ms), 100, 10000},
    {"lease", "lease_seconds", V_NUMBER, offsetof(struct policy, lease_s), 0, 31536000},
    {"lease", "grace_seconds", V_NUMBER, offsetof(struct policy, grace_s), 0, 31536000},
    {"lease", "revoke_wait_seconds", V_NUMBER, offsetof(struct policy, revoke_wait_s), 1, 600},
    {"access", "allow_uids", V_UIDS, 0, 0, 0},
};
#define KEYS (sizeof keys / sizeof *keys)

struct reading {
    struct policy *c;
    char *why;
    unsigned line;
    bool seen[KEYS];
};

static bool refuse(struct reading *r, const char *what)
{
    snprintf(r->why, POLICY_WHY_MAX, "line %u: %s", r->line, what);
    return false;
}

/* A number without sign, blanks or leading zeros. */
static bool number(const char *s, unsigned long most, unsigned long *out)
{
    size_t n = strspn(s, "0123456789");
    if (n < 1 || n > 10 || s[n] || (n > 1 && s[0] == '0'))
        return false;
    *out = strtoul(s, NULL, 10);
    return *out <= most;
}

static bool set_uids(struct reading *r, const char *value)
{
    char copy[LINE_MAX_BYTES + 1], *save = NULL;
    snprintf(copy, sizeof copy, "%s", value);
    for (char *word = strtok_r(copy, " ,", &save); word; word = strtok_r(NULL, " ,", &save)) {
        unsigned long uid;
        if (!number(word, 4294967294, &uid))
            return refuse(r, "allow_uids takes numbers of users");
        if (r->c->allow_count == POLICY_UIDS_MAX)
            return refuse(r, "too many users");
        r->c->allow[r->c->allow_count++] = (uid_t)uid;
    }
    return true;
}

static bool set(struct reading *r, const struct key *k, const char *value)
{
    unsigned long v;
    switch (k->type) {
    case V_NUMBER:
        if (!number(value, k->most, &v) || v < k->least) {
            char what[120];
            snprintf(what, sizeof what, "%s takes a number from %u to %u", k->name, k->least, k->most);
            return refuse(r, what);
        }
        *(unsigned *)(void *)((char *)r->c + k->offset) = (unsigned)v;
        return true;
    case V_PATH:
        if (value[0] != '/')
            return refuse(r, "a path begins with /");
        snprintf((char *)r->c + k->offset, PATH_MAX, "%s", value);
        return true;
    case V_UIDS:
        return set_uids(r, value);
    }
    return false;
}

static int on_key(void *arg, const char *section, const char *name, const char *value)
{
    struct reading *r = arg;
    if (r->why[0])
        return 0;
    for (size_t i = 0; i < KEYS; i++) {
        if (strcmp(keys[i].section, section) != 0 || strcmp(keys[i].name, name) != 0)
            continue;
        if (r->seen[i])
            return refuse(r, "this key stands twice");
        r->seen[i] = true;
        return set(r, &keys[i], value);
    }
    return refuse(r, "unknown key");
}

static bool known_section(const char *name, size_t len)
{
    for (size_t i = 0; i < KEYS; i++)
        if (strlen(keys[i].section) == len && memcmp(keys[i].section, name, len) == 0)
            return true;
    return false;
}

/* What inih would bend into something else: long lines, continuation lines, text after a section's name. */
static const char *bad_line(const char *s, size_t len)
{
    if (len > LINE_MAX_BYTES)
        return "the line is longer than 199 bytes";
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < ' ' || s[i] == 127)
            return "the line has a control character";
    if (len == 0 || s[0] == '#' || s[0] == ';')
        return NULL;
    if (s[0] == ' ')
        return "the line begins with a blank";
    if (s[0] == '[')
        return s[len - 1] == ']' && known_section(s + 1, len - 2) ? NULL : "unknown section";
    if (memchr(s, ';', len))
        return "a comment stands on a line of its own";
    return memchr(s, '=', len) ? NULL : "not a section, a comment or key = value";
}

/* Lines go to inih one at a time, each behind its section, so that an error has the right line number. */
static bool one_line(struct reading *r, char section[static LINE_MAX_BYTES + 1], const char *s, size_t len)
{
    char text[2 * LINE_MAX_BYTES + 4];
    const char *bad = bad_line(s, len);
    if (bad)
        return refuse(r, bad);
    if (len == 0 || s[0] == '#' || s[0] == ';')
        return true;
    if (s[0] == '[') {
        snprintf(section, LINE_MAX_BYTES + 1, "%.*s", (int)len, s);
        return true;
    }
    if (!section[0])
        return refuse(r, "a key before any section");
    snprintf(text, sizeof text, "%s\n%.*s\n", section, (int)len, s);
    if (ini_parse_string(text, on_key, r) == 0)
        return true;
    return r->why[0] ? false : refuse(r, "not key = value");
}

int policy_parse(const char *text, size_t len, struct policy *c, char why[static POLICY_WHY_MAX])
{
    struct policy read = *c;
    struct reading r = {.c = &read, .why = why};
    char section[LINE_MAX_BYTES + 1] = "";
    why[0] = '\0';
    for (size_t at = 0; at < len;) {
        const char *nl = memchr(text + at, '\n', len - at);
        size_t n = nl ? (size_t)(nl - (text + at)) : len - at;
        r.line++;
        if (!one_line(&r, section, text + at, n))
            return LFS_ERR_MISUSE;
        at += n + 1;
    }
    *c = read;
    return 0;
}
