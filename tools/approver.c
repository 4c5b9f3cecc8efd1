#include "approver.h"

#include "cli.h"

#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD "latchfs-approver 1\n"
#define SEED_HEX (2 * crypto_sign_SEEDBYTES)
#define FILE_BYTES (sizeof HEAD - 1 + SEED_HEX + 1)

void approver_clear(struct approver *a)
{
    secret_free(a->secret_key);
}

static int from_seed(const uint8_t *seed, struct approver *a)
{
    a->secret_key = secret_new(crypto_sign_SECRETKEYBYTES);
    if (!a->secret_key)
        return -ENOMEM;
    crypto_sign_seed_keypair(a->public_key, secret_bytes(a->secret_key), seed);
    return 0;
}

int approver_make(const char *path, char public_hex[static 2 * crypto_sign_PUBLICKEYBYTES + 1])
{
    CLEANUP(secret_freep) struct secret *seed = secret_new_random(crypto_sign_SEEDBYTES);
    CLEANUP(secret_freep) struct secret *text = secret_new(FILE_BYTES + 1);
    CLEANUP(approver_clear) struct approver a = {0};
    int r = seed && text ? from_seed(secret_const(seed), &a) : -ENOMEM;
    if (r)
        return cli_fail_err(r, path, NULL);
    char *at = (char *)secret_bytes(text);
    memcpy(at, HEAD, sizeof HEAD - 1);
    sodium_bin2hex(at + sizeof HEAD - 1, SEED_HEX + 1, secret_const(seed), crypto_sign_SEEDBYTES);
    at[FILE_BYTES - 1] = '\n';
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return cli_fail_err(-errno, path, errno == EEXIST ? "choose another name" : NULL);
    r = io_pwrite(fd, at, FILE_BYTES, 0);
    if (!r)
        r = io_fsync(fd);
    if (r) {
        unlink(path);
        return cli_fail_err(r, path, NULL);
    }
    sodium_bin2hex(public_hex, 2 * crypto_sign_PUBLICKEYBYTES + 1, a.public_key, sizeof a.public_key);
    return LFS_EXIT_OK;
}

static int decode(const char *text, size_t len, struct approver *a)
{
    size_t got;
    CLEANUP(secret_freep) struct secret *seed = secret_new(crypto_sign_SEEDBYTES);
    if (!seed)
        return -ENOMEM;
    if (len != FILE_BYTES || memcmp(text, HEAD, sizeof HEAD - 1) != 0 || text[len - 1] != '\n' ||
        sodium_hex2bin(secret_bytes(seed), crypto_sign_SEEDBYTES, text + sizeof HEAD - 1, SEED_HEX, NULL,
                       &got, NULL) ||
        got != crypto_sign_SEEDBYTES)
        return LFS_ERR_CORRUPT;
    return from_seed(secret_const(seed), a);
}

int approver_load(const char *path, struct approver *a)
{
    struct stat st;
    char quoted[1024];
    CLEANUP(secret_freep) struct secret *text = secret_new(FILE_BYTES + 1);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st))
        return cli_fail_err(-errno, path, NULL);
    if (!S_ISREG(st.st_mode) || st.st_mode & 077)
        return cli_fail(LFS_EXIT_USAGE,
                        "%s: a signing key is a file that only its owner may read (chmod 600)",
                        cli_quote(path, quoted, sizeof quoted));
    ssize_t n = text ? io_pread(fd, secret_bytes(text), FILE_BYTES + 1, 0) : -ENOMEM;
    int r = n < 0 ? (int)n : decode((const char *)secret_const(text), (size_t)n, a);
    return r ? cli_fail_err(r, path,
                            r == LFS_ERR_CORRUPT ? "it is not a key of 'latch approve new-key'" : NULL)
             : LFS_EXIT_OK;
}

void approver_sign(const struct approver *a, const void *text, size_t len,
                   uint8_t signature[static crypto_sign_BYTES])
{
    crypto_sign_detached(signature, NULL, text, len, secret_const(a->secret_key));
}
