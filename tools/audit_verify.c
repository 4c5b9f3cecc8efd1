/* latch audit verify, export and enroll. */
#include "audit.h"
#include "json_read.h"
#include "keyd_conn.h"
#include "keytext.h"
#include "secret_read.h"
#include "volume_files.h"

#include "latchfs/buf.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_TEXT_MAX 512u
#define HEAD_MAX 4096u

/* ---- verify ---- */

static int read_key(const char *path, struct secret **out)
{
    AUTO_LOCKED char *text = locked_alloc(KEY_TEXT_MAX);
    AUTO_SECRET struct secret *key = secret_new(LFS_KEY_BYTES);
    char quoted[PATH_MAX];
    if (!text || !key)
        return cli_fail_err(-ENOMEM, path, NULL);
    ssize_t n = secret_read_path(path, text, KEY_TEXT_MAX);
    if (n < 0)
        return cli_fail_err((int)n, path, NULL);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
        n--;
    int bad = keytext_parse(text, (size_t)n, secret_bytes(key));
    cli_quote(path, quoted, sizeof quoted);
    if (bad > 0)
        return cli_fail(LFS_EXIT_USAGE, "%s: group %d of the key has a typing error", quoted, bad);
    if (bad)
        return cli_fail(LFS_EXIT_USAGE, "%s: not a key as 'latch audit enroll' makes it", quoted);
    *out = key;
    key = NULL;
    return LFS_EXIT_OK;
}

static int read_head(const char *path, struct audit_head *head)
{
    AUTO_FREE char *text = NULL;
    size_t len;
    char quoted[PATH_MAX];
    int r = io_read_file(AT_FDCWD, path, HEAD_MAX, &text, &len);
    if (r)
        return cli_fail_err(r, path, NULL);
    if (!audit_head_parse(text, len, head))
        return cli_fail(LFS_EXIT_USAGE, "%s: not a head as 'latch audit export' makes it",
                        cli_quote(path, quoted, sizeof quoted));
    return LFS_EXIT_OK;
}

static const char *const kinds[] = {
    [AUDIT_CHANGED] = "changed",     [AUDIT_MISSING] = "missing", [AUDIT_LOST] = "lost",
    [AUDIT_CUT] = "cut-off",         [AUDIT_MOVED] = "reordered", [AUDIT_INSERTED] = "inserted",
    [AUDIT_COPY] = "copied",         [AUDIT_HALF] = "half",       [AUDIT_OTHER] = "other-log",
    [AUDIT_WRONG_KEY] = "wrong-key",
};

static void range(const struct audit_finding *f, char *out, size_t size)
{
    if (f->from == f->to)
        snprintf(out, size, "record %" PRIu64 " is", f->from);
    else
        snprintf(out, size, "records %" PRIu64 " to %" PRIu64 " are", f->from, f->to);
}

static void print_finding(const struct audit_finding *f)
{
    char what[64];
    range(f, what, sizeof what);
    printf("line %" PRIu64 ": ", f->line);
    switch (f->kind) {
    case AUDIT_CHANGED:
        printf("changed: record %" PRIu64 " is not what was written\n", f->from);
        break;
    case AUDIT_MISSING:
        printf("missing: %s missing%s\n", what, f->noted ? "; latch-keyd noticed it and went on" : "");
        break;
    case AUDIT_LOST:
        printf("lost: %s missing; not synced yet when the machine ended uncleanly, says latch-keyd\n", what);
        break;
    case AUDIT_CUT:
        printf("cut off: %s missing at the end\n", what);
        break;
    case AUDIT_MOVED:
        printf("reordered: record %" PRIu64 " stands in the wrong place\n", f->from);
        break;
    case AUDIT_INSERTED:
        if (f->from)
            printf("inserted: this line claims to be record %" PRIu64 " and is not\n", f->from);
        else
            puts("inserted: this line is no record");
        break;
    case AUDIT_COPY:
        printf("inserted: a copy of record %" PRIu64 "\n", f->from);
        break;
    case AUDIT_HALF:
        puts("cut off: the last line has no end");
        break;
    case AUDIT_OTHER:
        printf("other log: record %" PRIu64 " is not the one that the head was exported of\n", f->from);
        break;
    case AUDIT_WRONG_KEY:
        puts("wrong key: no record was written with this key; another log, or all of it made anew");
        break;
    }
}

static void print_json(const struct audit_verdict *v, bool keyed)
{
    printf("{\"good\":%s,\"lines\":%" PRIu64 ",\"records\":%" PRIu64 ",\"last\":%" PRIu64
           ",\"key\":%s,\"findings\":[",
           v->good ? "true" : "false", v->lines, v->records, v->last_seq, keyed ? "true" : "false");
    for (size_t i = 0; i < v->count; i++) {
        const struct audit_finding *f = &v->findings[i];
        printf("%s{\"kind\":\"%s\",\"line\":%" PRIu64 ",\"from\":%" PRIu64 ",\"to\":%" PRIu64
               ",\"noted\":%s}",
               i ? "," : "", kinds[f->kind], f->line, f->from, f->to ? f->to : f->from,
               f->noted ? "true" : "false");
    }
    puts("]}");
}

static void print_text(const struct audit_verdict *v, const struct audit_args *a)
{
    for (size_t i = 0; i < v->count; i++)
        print_finding(&v->findings[i]);
    if (!v->good)
        return;
    printf("the audit log is whole: %" PRIu64 " records, the last is %" PRIu64 "\n", v->records, v->last_seq);
    if (!a->key)
        puts("only hashes were checked: --key FILE (of 'latch audit enroll') proves who wrote them");
    if (!a->head && a->file_count)
        puts("nothing says how far it should go: --head FILE (of 'latch audit export') does");
}

/* What was exported earlier, and what latch-keyd itself says now: the log must hold against both. */
static int check(const struct audit_source *s, const struct secret *key, const struct audit_head *head,
                 struct audit_verdict *v)
{
    struct audit_check in = {
        .text = s->text ? s->text : "", .len = s->len, .first_key = key ? secret_const(key) : NULL};
    in.head = head->seq ? head : s->head.seq ? &s->head : NULL;
    int r = audit_check(&in, v);
    if (r || !v->good || !head->seq || !s->head.seq)
        return r;
    audit_verdict_clear(v);
    in.head = &s->head;
    return audit_check(&in, v);
}

int audit_cmd_verify(const struct audit_args *a)
{
    CLEANUP(audit_source_clear) struct audit_source s = {0};
    CLEANUP(audit_verdict_clear) struct audit_verdict v = {0};
    AUTO_SECRET struct secret *key = NULL;
    struct audit_head head = {0};
    int code = a->key ? read_key(a->key, &key) : LFS_EXIT_OK;
    if (code == LFS_EXIT_OK && a->head)
        code = read_head(a->head, &head);
    if (code == LFS_EXIT_OK)
        code = audit_source_read(a, &s);
    if (code != LFS_EXIT_OK)
        return code;
    int r = check(&s, key, &head, &v);
    if (r)
        return cli_fail_err(r, "the audit log", NULL);
    if (a->json)
        print_json(&v, key != NULL);
    else
        print_text(&v, a);
    fflush(stdout);
    if (v.good)
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_CORRUPT, "the audit log is not what latch-keyd wrote");
}

/* ---- export ---- */

int audit_cmd_export(const struct audit_args *a)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    AUTO_FREE char *json = NULL;
    int code = keyd_conn_open(true, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_audit_head(kc, &json);
    if (r)
        return keyd_conn_fail(kc, r, "the audit log");
    FILE *f = a->out ? fopen(a->out, "we") : stdout;
    if (!f)
        return cli_fail_err(-errno, a->out, NULL);
    bool bad = fprintf(f, "%s\n", json) < 0 || fflush(f) || (a->out && fsync(fileno(f)));
    r = bad ? -errno : 0;
    if (a->out)
        fclose(f);
    return r ? cli_fail_err(r, a->out ? a->out : "standard output", NULL) : LFS_EXIT_OK;
}

/* ---- enroll ---- */

/* Made, and as long as it will be, before the key is asked for: latch-keyd gives it only once. */
static int prepare(const char *path, int *fd)
{
    char blank[KEYTEXT_CHARS + 1];
    memset(blank, '-', sizeof blank);
    int made = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (made < 0)
        return -errno;
    int r = io_pwrite(made, blank, sizeof blank, 0);
    if (!r)
        r = io_fsync(made);
    if (!r)
        r = sync_parent_dir(path);
    if (r) {
        close(made);
        unlink(path);
        return r;
    }
    *fd = made;
    return 0;
}

static int write_key(int fd, const struct secret *key)
{
    AUTO_LOCKED char *text = locked_alloc(KEYTEXT_CHARS + 1);
    if (!text)
        return -ENOMEM;
    keytext_format(secret_const(key), text);
    text[KEYTEXT_CHARS] = '\n';
    int r = io_pwrite(fd, text, KEYTEXT_CHARS + 1, 0);
    return r ? r : io_fsync(fd);
}

int audit_cmd_enroll(const struct audit_args *a)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    AUTO_SECRET struct secret *key = NULL;
    AUTO_CLOSE int fd = -1;
    char quoted[PATH_MAX];
    if (!a->out)
        return cli_fail(LFS_EXIT_USAGE, "--out FILE says where the key goes: off this machine in the end");
    int code = keyd_conn_open(true, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = prepare(a->out, &fd);
    if (r)
        return cli_fail_err(r, a->out, NULL);
    r = keyclient_audit_enroll(kc, &key);
    if (r) {
        unlink(a->out);
        return keyd_conn_fail(kc, r, "the audit log");
    }
    r = secret_len(key) == LFS_KEY_BYTES ? write_key(fd, key) : LFS_ERR_PROTO;
    if (r)
        return cli_fail_err(r, a->out, "the key is lost: a new log needs a new start (latch-keyd(8))");
    printf("%s: keep it where those whom the log watches cannot read it\n",
           cli_quote(a->out, quoted, sizeof quoted));
    return LFS_EXIT_OK;
}
