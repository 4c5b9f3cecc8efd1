#include "identity.h"

#include "cli.h"
#include "keyd_conn.h"
#include "secret_read.h"
#include "volume_files.h"

#include "latchfs/buf.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IDENTITY_PREFIX "latch-identity-"
#define COMMENT                                                     \
    "# A private key of latchfs. Whoever has this file opens the\n" \
    "# volumes that have a slot for it.\n# public: "
#define FILE_MAX 4096u

void recipient_text(const uint8_t public_key[static KEYTEXT_KEY], char text[static RECIPIENT_CHARS + 1])
{
    memcpy(text, RECIPIENT_PREFIX, sizeof RECIPIENT_PREFIX - 1);
    keytext_format(public_key, text + sizeof RECIPIENT_PREFIX - 1);
    text[RECIPIENT_CHARS] = '\0';
}

/* ---- reading ---- */

/* The line of a file that begins with prefix, what is behind it up to the line's end. */
static const char *find_line(const char *text, size_t len, const char *prefix, size_t *rest_len)
{
    size_t n = strlen(prefix);
    for (const char *p = text, *end = text + len; p < end;) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        size_t line = (size_t)((eol ? eol : end) - p);
        if (line >= n && memcmp(p, prefix, n) == 0) {
            size_t rest = line - n;
            while (rest > 0 && (p[n + rest - 1] == '\r' || p[n + rest - 1] == ' '))
                rest--;
            *rest_len = rest;
            return p + n;
        }
        p += line + 1;
    }
    return NULL;
}

static int parse_key(const char *path, const char *text, size_t len, int code,
                     uint8_t key[static KEYTEXT_KEY])
{
    char quoted[PATH_MAX];
    int r = keytext_parse(text, len, key);
    if (r > 0)
        return cli_fail(code, "%s: group %d of the key has a typing error",
                        cli_quote(path, quoted, sizeof quoted), r);
    if (r < 0)
        return cli_fail(code, "%s: the key has too few or too many characters",
                        cli_quote(path, quoted, sizeof quoted));
    return LFS_EXIT_OK;
}

static int read_key_file(const char *path, char *buf, size_t *len)
{
    ssize_t n = secret_read_path(path, buf, FILE_MAX);
    if (n < 0 && n != -E2BIG)
        return cli_fail_err((int)n, path, NULL);
    *len = n < 0 ? 0 : (size_t)n; /* too long: nothing that we wrote */
    return LFS_EXIT_OK;
}

static int private_of(const char *path, const char *buf, size_t len, struct secret **out)
{
    char quoted[PATH_MAX];
    size_t n = 0;
    const char *text = find_line(buf, len, IDENTITY_PREFIX, &n);
    if (!text)
        return cli_fail(LFS_EXIT_PASSPHRASE, "%s: no private key of latch recipient new%s",
                        cli_quote(path, quoted, sizeof quoted),
                        find_line(buf, len, RECIPIENT_PREFIX, &n) ? "; this is the public one" : "");
    AUTO_SECRET struct secret *key = secret_new(KEYTEXT_KEY);
    if (!key)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    int code = parse_key(path, text, n, LFS_EXIT_PASSPHRASE, secret_bytes(key));
    if (code == LFS_EXIT_OK) {
        *out = key;
        key = NULL;
    }
    return code;
}

int identity_read(const char *path, struct secret **private_key)
{
    size_t len = 0;
    AUTO_LOCKED char *buf = locked_alloc(FILE_MAX);
    if (!buf)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    int code = read_key_file(path, buf, &len);
    return code == LFS_EXIT_OK ? private_of(path, buf, len, private_key) : code;
}

int recipient_read(const char *what, uint8_t public_key[static KEYTEXT_KEY])
{
    size_t len = 0, n = 0;
    if (strncmp(what, RECIPIENT_PREFIX, sizeof RECIPIENT_PREFIX - 1) == 0) {
        const char *text = what + sizeof RECIPIENT_PREFIX - 1;
        return parse_key("the recipient", text, strlen(text), LFS_EXIT_USAGE, public_key);
    }
    AUTO_LOCKED char *buf = locked_alloc(FILE_MAX);
    if (!buf)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    int code = read_key_file(what, buf, &len);
    if (code != LFS_EXIT_OK)
        return code;
    const char *text = find_line(buf, len, RECIPIENT_PREFIX, &n);
    if (text)
        return parse_key(what, text, n, LFS_EXIT_USAGE, public_key);
    AUTO_SECRET struct secret *key = NULL;
    code = private_of(what, buf, len, &key);
    if (code != LFS_EXIT_OK)
        return code;
    return crypto_scalarmult_base(public_key, secret_const(key))
               ? cli_fail(LFS_EXIT_FAILURE, "%s: no key", what)
               : LFS_EXIT_OK;
}

/* ---- making ---- */

static int put_file(const char *path, const void *data, size_t len, mode_t mode)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return cli_fail_err(-errno, path, errno == EEXIST ? "name a new file" : NULL);
    int r = io_pwrite(fd, data, len, 0);
    if (!r)
        r = io_fsync(fd);
    if (!r)
        r = sync_parent_dir(path);
    if (!r)
        return LFS_EXIT_OK;
    unlink(path);
    return cli_fail_err(r, path, NULL);
}

static int put_private(const char *path, const struct secret *key, const char *public_text)
{
    size_t head = strlen(COMMENT) + RECIPIENT_CHARS + 1 + strlen(IDENTITY_PREFIX);
    size_t len = head + KEYTEXT_CHARS + 1;
    AUTO_LOCKED char *buf = locked_alloc(len + 1);
    if (!buf)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    snprintf(buf, len + 1, COMMENT "%s\n" IDENTITY_PREFIX, public_text);
    keytext_format(secret_const(key), buf + head);
    buf[len - 1] = '\n';
    return put_file(path, buf, len, 0600);
}

int identity_make(const char *path, char text[static RECIPIENT_CHARS + 1])
{
    char pub_path[PATH_MAX], line[RECIPIENT_CHARS + 2];
    uint8_t public_key[KEYTEXT_KEY];
    AUTO_SECRET struct secret *key = secret_new_random(KEYTEXT_KEY);
    if (snprintf(pub_path, sizeof pub_path, "%s.pub", path) >= (int)sizeof pub_path)
        return cli_fail_err(-ENAMETOOLONG, path, NULL);
    if (!key || crypto_scalarmult_base(public_key, secret_const(key)))
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    recipient_text(public_key, text);
    snprintf(line, sizeof line, "%s\n", text);
    int code = put_file(pub_path, line, strlen(line), 0644);
    if (code != LFS_EXIT_OK)
        return code;
    code = put_private(path, key, text);
    if (code != LFS_EXIT_OK)
        unlink(pub_path);
    return code;
}
