/* latchfs.ini, as latch-keyd opens it. The slot is a key file, which costs no stretching. */
#include "tamper.h"

#include "latchfs/buf.h"
#include "latchfs/io.h"
#include "latchfs/keyslots.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct secret *key_file(void)
{
    uint8_t bytes[KEYFILE_MIN];
    memset(bytes, 7, sizeof bytes);
    return secret_new_copy(bytes, sizeof bytes);
}

static void put(const char *dir, const char *name, const char *text, size_t len)
{
    AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || io_replace_file(fd, name, text, len, 0600))
        tamper_die("writing %s/%s", dir, name);
}

static void make_one(const char *dir, const char *name, const char *newer)
{
    struct secret *file = key_file();
    struct keystore_init in = {.suite = SUITE_AES_256_GCM, .first = {CRED_KEYFILE, file}, .label = "first"};
    struct key_why why = {""};
    char *ini, *next;
    size_t len, next_len;
    if (keystore_make(&in, 10, &ini, &len, NULL, &why))
        tamper_die("making a key store: %s", why.text);
    put(dir, name, ini, len);
    if (newer) {
        CLEANUP(keystore_freep) struct keystore *ks = NULL;
        CLEANUP(keystore_keys_freep) struct keystore_keys *keys = NULL;
        struct key_edit e = {.op = EDIT_DIR_ADD, .label = "papers"};
        struct key_edit_result out = {0};
        struct held_blobs fresh = {0};
        struct held_source none = {0};
        if (keystore_open(ini, len, &in.first, &ks, &keys, &why) ||
            keystore_edit(ks, keys, &e, 10, &none, &next, &next_len, &out, &fresh, &why))
            tamper_die("changing a key store: %s", why.text);
        put(dir, newer, next, next_len);
        key_edit_result_clear(&out);
        free(next);
    }
    free(ini);
    secret_free(file);
}

void tamper_make_ini(const char *dir)
{
    make_one(dir, "older.ini", "now.ini");
    make_one(dir, "other.ini", NULL);
}

int tamper_check_ini(const char *path)
{
    char *ini;
    size_t len;
    struct key_why why = {""};
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    CLEANUP(keystore_keys_freep) struct keystore_keys *keys = NULL;
    int r = io_read_file(AT_FDCWD, path, KEYSTORE_MAX_BYTES, &ini, &len);
    if (r)
        return r;
    struct secret *file = key_file();
    struct credential c = {CRED_KEYFILE, file};
    r = keystore_open(ini, len, &c, &ks, &keys, &why);
    if (!r)
        r = keystore_verify(ks, keys, NULL, &why);
    secret_free(file);
    free(ini);
    return r;
}
