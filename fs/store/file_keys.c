/* The keys of a file: from its header, of a new one, and for its attributes. */
#include "fs/store/file.h"
#include "fs/store/pd.h"
#include "fs/store/seal.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

void file_forget_keys(struct file *f)
{
    seal_later_drop(f);
    locked_free(file_keys_swap(f, NULL));
    f->loaded = false;
}

struct file_keys *file_keys_new(void)
{
    static _Atomic uint64_t serials;
    struct file_keys *keys = locked_alloc(sizeof *keys);
    if (keys)
        keys->serial = atomic_fetch_add(&serials, 1) + 1;
    return keys;
}

struct file_keys *file_keys_swap(struct file *f, struct file_keys *keys)
{
    pthread_mutex_lock(&f->key_lock);
    struct file_keys *was = f->keys;
    f->keys = keys;
    pthread_mutex_unlock(&f->key_lock);
    return was;
}

bool file_key_ahead(struct file *f, struct aead *a, struct key_name *name)
{
    pthread_mutex_lock(&f->key_lock);
    const struct file_keys *keys = f->keys;
    if (keys) {
        *name = (struct key_name){.serial = keys->serial, .epoch = keys->k[0].epoch, .suite = keys->suite};
        memcpy(name->file_id, keys->file_id, ID_BYTES);
    }
    bool loaded = keys && aead_set_key(a, keys->suite, keys->k[0].content) == 0;
    pthread_mutex_unlock(&f->key_lock);
    return loaded;
}

const uint8_t *file_content_key(const struct file *f, uint16_t epoch)
{
    for (int i = 0; f->keys && i < f->keys->count; i++)
        if (f->keys->k[i].epoch == epoch)
            return f->keys->k[i].content;
    return NULL;
}

/* The directory key of a version, NULL if there is none. */
static const uint8_t *dir_key(const struct keyset *set, uint32_t version)
{
    for (uint32_t i = 0; i < set->count && i < KEYSET_VERSIONS_MAX; i++)
        if (set->versions[i].version == version)
            return set->versions[i].key;
    return NULL;
}

const uint8_t *file_dir_key(const struct file *f, uint32_t version)
{
    const struct pd_keys *pd = node_keys(f->n);
    return pd ? dir_key(&pd->set, version) : NULL;
}

uint32_t file_active_version(const struct file *f)
{
    const struct pd_keys *pd = node_keys(f->n);
    return pd ? pd->set.active : 0;
}

void file_derive_keys(struct file_keys *keys, int i, uint16_t epoch, const uint8_t *file_key)
{
    keys->k[i].epoch = epoch;
    file_subkey(file_key, FILE_SUB_CONTENT, keys->k[i].content);
    file_subkey(file_key, FILE_SUB_XATTR, keys->k[i].xattr);
    if (i == 0) {
        file_subkey(file_key, FILE_SUB_HEADER, keys->header);
        file_subkey(file_key, FILE_SUB_SEAL, keys->seal);
    }
    keys->count = i + 1;
}

static void name_keys(struct file_keys *keys, const struct file_header *h)
{
    memcpy(keys->file_id, h->file_id, ID_BYTES);
    keys->suite = h->suite;
}

int file_open_keys(struct node *n, const struct file_header *h, struct file_keys **out)
{
    const struct pd_keys *pd = node_keys(n);
    if (!pd)
        return LFS_ERR_NOKEY;
    const uint8_t *dk = dir_key(&pd->set, h->key_version);
    bool ours = memcmp(h->pd_id, pd->set.pd_id, ID_BYTES) == 0;
    if (ours && h->key_version < pd->set.least)
        return LFS_ERR_ROLLBACK;
    /* Not LFS_ERR_NOKEY, which says "locked": no key that this directory ever had fits such a header. */
    if (!ours || !dk)
        return LFS_ERR_AUTH;
    struct file_keys *keys = file_keys_new();
    uint8_t *file_key = locked_alloc(LFS_KEY_BYTES);
    int newest = header_newest(h), r = keys && file_key ? 0 : -ENOMEM;
    if (!r)
        name_keys(keys, h);
    for (int i = 0; !r && i < 2; i++) {
        int place = i == 0 ? newest : 1 - newest;
        if (!h->place[place].epoch)
            continue;
        r = header_unwrap_key(h, place, dk, file_key);
        if (!r)
            file_derive_keys(keys, i, h->place[place].epoch, file_key);
    }
    if (!r)
        r = header_check_mac(h, keys->header);
    locked_free(file_key);
    if (r)
        locked_free(keys);
    else
        *out = keys;
    return r;
}

/* What is random and no secret comes out of the pool that nonces come from. */
static void draw_public(struct aead *a, uint8_t *out, size_t len)
{
    uint8_t piece[NONCE_BYTES];
    for (size_t at = 0; at < len; at += sizeof piece) {
        aead_nonce(a, piece);
        memcpy(out + at, piece, len - at < sizeof piece ? len - at : sizeof piece);
    }
}

/* A key of the file's own, wrapped. */
static int draw_key(struct file_header *h, const uint8_t *dk, uint8_t *file_key)
{
    uint8_t nonce[KEYWRAP_NONCE_BYTES];
    struct aead *a = thread_aead();
    if (!a)
        return -ENOMEM;
    draw_public(a, h->file_id, ID_BYTES);
    draw_public(a, nonce, sizeof nonce);
    randombytes_buf(file_key, LFS_KEY_BYTES);
    return header_wrap_key_with(h, 0, 1, nonce, dk, file_key);
}

int file_new_header(struct file *f, enum content_state state, struct file_header *h)
{
    const struct pd_keys *pd = node_keys(f->n);
    const uint8_t *dk = pd ? dir_key(&pd->set, pd->set.active) : NULL;
    struct file_keys *keys = file_keys_new();
    uint8_t *file_key = locked_alloc(LFS_KEY_BYTES);
    int r = !dk ? LFS_ERR_NOKEY : keys && file_key ? 0 : -ENOMEM;
    if (!r) {
        *h = (struct file_header){.suite = f->n->vol->suite, .key_version = pd->set.active};
        h->state = state == CONTENT_PAGED ? FILE_PAGED : FILE_INLINE;
        memcpy(h->pd_id, pd->set.pd_id, ID_BYTES);
        r = draw_key(h, dk, file_key);
    }
    if (!r) {
        name_keys(keys, h);
        file_derive_keys(keys, 0, 1, file_key);
    }
    locked_free(file_key);
    locked_free(r ? keys : file_keys_swap(f, keys));
    return r;
}

void file_encode_header(const struct file *f, struct file_header *h, uint8_t image[static HEADER_BYTES])
{
    h->generation = journal_generation(f->n->vol->journal);
    header_set_mac(h, f->keys->header);
    header_encode(h, image);
}

/* ---- attributes ---- */

/* An attribute reaches the disk on its own: the key that it is under must be there before. */
int file_key_durable(struct file *f)
{
    int r = f->rekey_seq ? journal_sync(f->n->vol->journal, f->rekey_seq) : 0;
    if (r)
        volume_fail_readonly(f->n->vol, r, "syncing the journal");
    return r;
}

static int born_for_xattr(struct file *f)
{
    int fd, r = file_lock_write(f);
    if (r)
        return r;
    if (f->state == CONTENT_NONE && !(r = node_fd_get(f->n, true, &fd))) {
        r = file_born(f, fd, NULL, 0, 0);
        node_fd_put(f->n);
    }
    thread_forget_key();
    file_unlock(f);
    return r;
}

/* The lock for reading, of a file with a header. */
static int lock_with_header(struct file *f, bool writing)
{
    int r;
    while ((r = file_lock_read(f)) == 0 && f->state == CONTENT_NONE) {
        file_unlock(f);
        r = writing ? born_for_xattr(f) : -ENODATA;
        if (r)
            break;
    }
    return r;
}

int file_xattr_begin(struct node *n, bool writing, struct file_xattr_keys *k, struct file **held)
{
    struct file *f;
    int r = file_get(n, &f);
    if (r)
        return r;
    r = lock_with_header(f, writing);
    if (!r && writing && (r = file_key_durable(f)))
        file_unlock(f);
    if (r) {
        file_put(f);
        return r;
    }
    memcpy(k->id, f->hdr.file_id, ID_BYTES);
    k->count = f->keys->count;
    for (int i = 0; i < k->count; i++) {
        k->k[i].epoch = f->keys->k[i].epoch;
        memcpy(k->k[i].key, f->keys->k[i].xattr, LFS_KEY_BYTES);
    }
    *held = f;
    return 0;
}

void file_xattr_end(struct file *held)
{
    file_unlock(held);
    file_put(held);
}
