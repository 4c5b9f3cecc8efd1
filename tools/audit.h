/* latch audit: where the log comes from, and its subcommands. Each prints its own error and returns an exit
 * code. */
#ifndef TOOLS_AUDIT_H
#define TOOLS_AUDIT_H

#include "cli.h"

#include "latchfs/auditlog.h"

#define AUDIT_FILES_MAX 16u

struct audit_args {
    const char *files[AUDIT_FILES_MAX]; /* --log, oldest first; none: latch-keyd is asked */
    unsigned file_count;
    bool json;
    const char *key, *head, *out;     /* verify, export, enroll */
    const char *act, *volume, *user;  /* show */
    const char *since, *until, *last; /* show */
    bool failed;                      /* show */
};

/* ---- audit_source.c ---- */
struct audit_source {
    char *text; /* malloc'ed, not terminated */
    size_t len;
    struct audit_head head; /* latch-keyd's own, taken before the text; seq 0: from files, or none */
};
int audit_source_read(const struct audit_args *a, struct audit_source *out);
void audit_source_clear(struct audit_source *s);

/* A head as audit export writes it. */
bool audit_head_parse(const char *json, size_t len, struct audit_head *out);

/* ---- the subcommands ---- */
int audit_cmd_show(const struct audit_args *a);
int audit_cmd_verify(const struct audit_args *a);
int audit_cmd_export(const struct audit_args *a);
int audit_cmd_enroll(const struct audit_args *a);

#endif
