#include "audit.h"
#include "json_read.h"
#include "keyd_conn.h"

#include "latchfs/buf.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define LOG_MAX ((size_t)1 << 31) /* read into memory as a whole */
#define HEAD_MAX 4096u

static int add(struct audit_source *s, const char *text, size_t len)
{
    if (len > LOG_MAX - s->len)
        return -EFBIG;
    char *grown = realloc(s->text, s->len + len + 1);
    if (!grown)
        return -ENOMEM;
    s->text = grown;
    if (len)
        memcpy(s->text + s->len, text, len);
    s->len += len;
    return 0;
}

static bool hex_member(struct json_value o, const char *name, uint8_t *out, size_t len)
{
    char hex[2 * AUDIT_HASH_BYTES + 2];
    size_t got;
    json_value_string(json_read_get(o, name), hex, sizeof hex);
    return sodium_hex2bin(out, len, hex, strlen(hex), NULL, &got, NULL) == 0 && got == len;
}

bool audit_head_parse(const char *json, size_t len, struct audit_head *out)
{
    struct audit_head h = {0};
    while (len && (json[len - 1] == '\n' || json[len - 1] == ' '))
        len--;
    struct json_value o = json_read(json, len);
    long long seq = json_value_number(json_read_get(o, "seq"), -1);
    if (seq < 0 || (uint64_t)seq > AUDIT_SEQ_MAX || !hex_member(o, "chain", h.chain, sizeof h.chain) ||
        !hex_member(o, "hash", h.hash, sizeof h.hash))
        return false;
    h.seq = (uint64_t)seq;
    *out = h;
    return true;
}

/* The head first: what is appended meanwhile does not matter then. */
static int from_keyd(struct audit_source *s)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    AUTO_FREE char *json = NULL;
    int code = keyd_conn_open(true, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_audit_head(kc, &json);
    if (!r && !audit_head_parse(json, strlen(json), &s->head))
        r = LFS_ERR_PROTO;
    for (size_t len = 1; !r && len;) {
        AUTO_FREE char *text = NULL;
        r = keyclient_audit_read(kc, s->len, &text, &len);
        if (!r)
            r = add(s, text, len);
    }
    return r ? keyd_conn_fail(kc, r, "the audit log") : LFS_EXIT_OK;
}

static int from_file(const char *path, struct audit_source *s)
{
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = io_read_file(AT_FDCWD, path, LOG_MAX, &text, &len);
    if (!r)
        r = add(s, text, len);
    return r ? cli_fail_err(r, path, NULL) : LFS_EXIT_OK;
}

int audit_source_read(const struct audit_args *a, struct audit_source *out)
{
    struct audit_source s = {0};
    int code = a->file_count ? LFS_EXIT_OK : from_keyd(&s);
    for (unsigned i = 0; code == LFS_EXIT_OK && i < a->file_count; i++)
        code = from_file(a->files[i], &s);
    if (code != LFS_EXIT_OK) {
        audit_source_clear(&s);
        return code;
    }
    *out = s;
    return code;
}

void audit_source_clear(struct audit_source *s)
{
    free(s->text);
    *s = (struct audit_source){0};
}
