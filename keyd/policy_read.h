/* Inside of the reader of keyd.ini: lines (policy_parse.c), values (policy_values.c), and what only the whole
 * file can tell (policy_check.c). */
#ifndef KEYD_POLICY_READ_H
#define KEYD_POLICY_READ_H

#include "policy.h"

#define POLICY_LINE_MAX 199u /* inih takes the tail of a longer line as a new one */
#define POLICY_KEYS_MAX 64u  /* of the tables in policy_parse.c */

struct reading {
    struct policy *c;
    char *why;
    unsigned line;
    const char *section;               /* as inih sees it: "rule" for [volume] and [directory] */
    struct policy_rule *rule;          /* the section that the line stands in, or NULL */
    unsigned seen[POLICY_KEYS_MAX];    /* line of each key; 0: none */
    unsigned who_line[POLICY_WHO_MAX]; /* line of each name */
};

/* "line N: ..." into why, unless there is a reason already. Returns false. */
bool policy_refuse(struct reading *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A number without sign, blanks or leading zeros. */
bool policy_number(const char *s, unsigned long most, unsigned long *out);

/* Each takes the text of a value; false after policy_refuse. */
bool policy_read_uids(struct reading *r, const char *value);
bool policy_read_list(struct reading *r, const char *value, struct policy_list *out);
bool policy_read_windows(struct reading *r, const char *value, struct policy_rule *rule);
bool policy_read_acts(struct reading *r, const char *value, uint32_t *out);
bool policy_read_admin(struct reading *r, const char *name, const char *value);

/* [volume ...] or [directory ...]: the text between the brackets. */
bool policy_read_rule(struct reading *r, const char *text);

/* Line of a key (0: it is not there), for the checks of the whole. */
unsigned policy_key_line(const struct reading *r, const char *section, const char *name);
bool policy_check(struct reading *r);

/* Seconds for which the windows stay open; 0: they are shut. No end: UINT_MAX. */
unsigned policy_windows_left(const struct policy_window *w, unsigned count, time_t now);

#endif
