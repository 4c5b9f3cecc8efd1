/* What names, links, attributes and directories are made of, through the store: as bytes, and as plaintext
 * that authenticates and says what no writer of ours would.
 *
 * Input: what u8 | text. With the highest bit of what the text is encrypted, or made authentic. */
#include "store_fuzz.h"

#include "latchfs/io.h"
#include "latchfs/symlink.h"
#include "latchfs/xattr.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { RECORD, NAME, SIDECAR, LINK, LINK_SIDECAR, FILE_ATTRIBUTE, DIR_ATTRIBUTE, ATTRIBUTE_NAME, KINDS };

#define LINK_FILE LONG_LINK_PREFIX "00000000000000000000000000000000"

static const char *dir;
static struct volume *v;
static struct name_keys keys;
static uint8_t root_id[ID_BYTES];
static struct aead *aead;
static char entry[NAME_CIPHER_MAX + 1]; /* stored name of a file, below which things are tried */
static char sub[NAME_CIPHER_MAX + 1], record_path[600];
static uint8_t sub_record[DIRREC_BYTES];

static void full_path(char path[static 800], const char *name)
{
    snprintf(path, 800, "%s/%s", dir, name);
}

/* A file with a header, so that it may have attributes. */
static void make_file(void)
{
    uint8_t image[HEADER_BYTES];
    struct file_header h = {
        .suite = SUITE_CHACHA20_POLY1305, .state = FILE_PAGED, .file_id = {9}, .key_version = 1};
    h.place[0].epoch = 1;
    memcpy(h.pd_id, fuzz_keys()->pd_id, ID_BYTES);
    header_encode(&h, image);
    fuzz_authentic_header(image);
    fuzz_put(dir, entry, image, sizeof image, sizeof image);
}

static void make_sub(void)
{
    struct dirrec d = {.id = {7}};
    char path[800];
    memcpy(d.parent[0], root_id, ID_BYTES);
    memcpy(d.pd_id, fuzz_keys()->pd_id, ID_BYTES);
    dirrec_name_tag(sub, d.name[0]);
    dirrec_encode(&d, &keys, sub_record);
    full_path(path, sub);
    MUST(mkdir(path, 0700) == 0);
    snprintf(record_path, sizeof record_path, "%s/" DIRREC_NAME, sub);
    fuzz_put(dir, record_path, sub_record, sizeof sub_record, sizeof sub_record);
}

static void begin(void)
{
    dir = fuzz_volume_new();
    MUST((aead = aead_new()) && fuzz_open(dir, true, &v) == 0);
    root_id[0] = 6;
    name_keys_derive(fuzz_keys()->name_key, &keys);
    fuzz_stored(v, "file", entry);
    fuzz_stored(v, "sub", sub);
    make_file();
    make_sub();
}

/* ---- plaintext that authenticates ---- */

/* The encoding of any bytes as a name; 0 if too long. */
static size_t as_name(const uint8_t *text, size_t len, char out[static 600])
{
    uint8_t sealed[400 + 16];
    if (len < 1 || len > 400 || siv_seal(keys.siv, root_id, ID_BYTES, text, len, sealed))
        return 0;
    return b64_encode(sealed, len + 16, out);
}

static size_t as_target(const uint8_t *text, size_t len, char out[static SYMLINK_ENCODED_MAX + 100])
{
    uint8_t blob[SYMLINK_BLOB_MAX] = {0}, ad[34] = {KIND_SYMLINK, SUITE_CHACHA20_POLY1305};
    if (len > SYMLINK_PLAIN_MAX || aead_set_key(aead, SUITE_CHACHA20_POLY1305, keys.symlink))
        return 0;
    memcpy(ad + 2, root_id, ID_BYTES);
    if (aead_seal(aead, blob + 16, ad, sizeof ad, text, len, blob + 28, blob + 28 + len))
        return 0;
    return b64_encode(blob, len + SYMLINK_OVERHEAD, out);
}

static void authentic_record(uint8_t bytes[static DIRREC_BYTES])
{
    struct dirrec d;
    if (dirrec_parse(bytes, &d) == 0)
        dirrec_encode(&d, &keys, bytes);
}

/* ---- trying ---- */

static void see_all(void)
{
    fuzz_read_all(volume_root(v));
    fuzz_check(dir, v);
}

static void try_entry(const char *name, const char *target)
{
    char path[800];
    full_path(path, name);
    if (!*name || strlen(name) > NAME_CIPHER_MAX || strchr(name, '/') || access(path, F_OK) == 0)
        return;
    if (target ? symlink(target, path) : mknod(path, S_IFREG | 0600, 0))
        return;
    see_all();
    unlink(path);
}

static void try_record(const uint8_t *data, size_t size, bool authentic)
{
    uint8_t bytes[DIRREC_BYTES];
    memcpy(bytes, sub_record, sizeof bytes);
    memcpy(bytes, data, size < sizeof bytes ? size : sizeof bytes);
    if (authentic)
        authentic_record(bytes);
    fuzz_put(dir, record_path, bytes, sizeof bytes, !authentic && size > sizeof bytes ? size : sizeof bytes);
    see_all();
}

static void try_sidecar(const char *text, size_t len)
{
    char stored[NAME_CIPHER_MAX + 1], beside[600], path[800];
    name_long_stored(text, len, stored);
    snprintf(beside, sizeof beside, "%s" LONG_NAME_SUFFIX, stored);
    fuzz_put(dir, beside, (const uint8_t *)text, len, len);
    try_entry(stored, NULL);
    full_path(path, beside);
    unlink(path);
}

static void try_link_sidecar(const char *text, size_t len)
{
    char stored[NAME_CIPHER_MAX + 1], path[800];
    fuzz_stored(v, "link", stored);
    fuzz_put(dir, LINK_FILE, (const uint8_t *)text, len, len);
    try_entry(stored, LINK_FILE);
    full_path(path, LINK_FILE);
    unlink(path);
}

static void try_attribute(const char *owner, const char *name, const void *value, size_t len)
{
    char path[800];
    full_path(path, owner);
    if (setxattr(path, name, value, len, 0))
        return;
    see_all();
    removexattr(path, name);
}

static void try_value(bool of_file, const uint8_t *data, size_t size, bool authentic)
{
    static uint8_t sealed[65536];
    uint8_t file_key[LFS_KEY_BYTES], key[LFS_KEY_BYTES], id[ID_BYTES] = {of_file ? 9 : 7};
    struct xattr_owner o = {of_file ? KIND_XATTR : KIND_DIR_XATTR, SUITE_CHACHA20_POLY1305, 1, id};
    char name[256];
    fuzz_file_key(1, file_key);
    file_subkey(file_key, FILE_SUB_XATTR, key);
    if (xattr_name_encrypt(&keys, id, "user.name", name) || size > sizeof sealed - XATTR_OVERHEAD)
        return;
    if (authentic) {
        MUST(aead_set_key(aead, SUITE_CHACHA20_POLY1305, of_file ? key : keys.xattr) == 0);
        MUST(xattr_value_seal(aead, &o, "user.name", data, size, sealed) == 0);
        size += XATTR_OVERHEAD;
    }
    try_attribute(of_file ? entry : sub, name, authentic ? sealed : data, size);
}

static void try_attribute_name(const uint8_t *data, size_t size, bool authentic)
{
    uint8_t ad[1 + ID_BYTES] = {KIND_XATTR, 9}, sealed[300];
    char name[600] = XATTR_STORED_PREFIX;
    size_t at = strlen(name);
    if (size > 180)
        return;
    if (authentic && size && siv_seal(keys.siv, ad, sizeof ad, data, size, sealed) == 0)
        b64_encode(sealed, size + 16, name + at);
    else
        memcpy(name + at, data, size);
    try_attribute(entry, name, "x", 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[SYMLINK_ENCODED_MAX + 100];
    if (!dir)
        begin();
    if (size < 1 || size > 5000)
        return 0;
    bool authentic = *data >> 7;
    unsigned what = *data++ % KINDS;
    size--;
    memset(text, 0, sizeof text);
    memcpy(text, data, size);
    size_t len = size;
    if (authentic && (what == NAME || what == SIDECAR))
        len = as_name(data, size, text);
    if (authentic && (what == LINK || what == LINK_SIDECAR))
        len = as_target(data, size, text);
    char link[NAME_CIPHER_MAX + 1];
    fuzz_stored(v, "link", link);
    switch (what) {
    case RECORD:
        try_record(data, size, authentic);
        break;
    case NAME:
        try_entry(text, NULL);
        break;
    case SIDECAR:
        try_sidecar(text, len);
        break;
    case LINK:
        try_entry(link, text);
        break;
    case LINK_SIDECAR:
        try_link_sidecar(text, len);
        break;
    case ATTRIBUTE_NAME:
        try_attribute_name(data, size, authentic);
        break;
    default:
        try_value(what == FILE_ATTRIBUTE, data, size, authentic);
        break;
    }
    return 0;
}
