#include "edit.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "slot_type.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int (*const edits[EDIT_OP_MAX + 1])(struct edit *) = {
    [EDIT_SLOT_ADD] = edit_slot_add,
    [EDIT_SLOT_REMOVE] = edit_slot_remove,
    [EDIT_SLOT_REPLACE] = edit_slot_replace,
    [EDIT_SLOT_LABEL] = edit_slot_label,
    [EDIT_MASTER_ROTATE] = edit_master_rotate,
    [EDIT_MASTER_RETIRE] = edit_master_retire,
    [EDIT_MASTER_DESTROY] = edit_master_destroy,
    [EDIT_DIR_ADD] = edit_dir_add,
    [EDIT_DIR_NAME] = edit_dir_name,
    [EDIT_DIR_ROTATE] = edit_dir_rotate,
    [EDIT_DIR_FINISH] = edit_dir_finish,
    [EDIT_DIR_DESTROY] = edit_dir_destroy,
    [EDIT_DIR_SHRED] = edit_dir_shred,
    [EDIT_BACKUP_ADD] = edit_backup_add,
    [EDIT_BACKUP_REMOVE] = edit_backup_remove,
    [EDIT_ENVIRONMENT] = edit_environment,
    [EDIT_DIR_ACCEPT] = edit_dir_accept,
};

int edit_refuse(struct edit *e, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->why->text, sizeof e->why->text, fmt, ap);
    va_end(ap);
    return err;
}

int edit_deny(struct edit *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->why->text, sizeof e->why->text, fmt, ap);
    va_end(ap);
    return LFS_ERR_DENIED;
}

struct keystore_dir *edit_dir(struct edit *e, int *err)
{
    char hex[2 * ID_BYTES + 1];
    for (uint32_t i = 0; i < e->ks->dir_count; i++) {
        struct keystore_dir *d = &e->ks->dirs[i];
        if (memcmp(d->id, e->e->pd, ID_BYTES) != 0)
            continue;
        *err =
            d->shredded ? edit_deny(e, "this protected directory was shredded: it has no keys any more") : 0;
        return *err ? NULL : d;
    }
    id_to_hex(e->e->pd, hex);
    *err = edit_refuse(e, -ENOENT, "the volume has no protected directory %s", hex);
    return NULL;
}

/* What the edit made stands before what latch-keyd has. */
static int find_held(void *arg, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                     uint32_t version, uint8_t wrapped[static KEYSTORE_WRAPPED_BYTES])
{
    const struct edit *e = arg;
    for (uint32_t i = 0; i < e->fresh.count; i++) {
        const struct held_blob *b = &e->fresh.blob[i];
        if (b->version == version && memcmp(b->pd, pd, ID_BYTES) == 0) {
            memcpy(wrapped, b->wrapped, KEYSTORE_WRAPPED_BYTES);
            return 0;
        }
    }
    if (!e->held || !e->held->find)
        return -ENOENT;
    return e->held->find(e->held->arg, volume_id, pd, version, wrapped);
}

static int finish(struct edit *e, char **ini, size_t *len)
{
    struct held_source all = {find_held, e};
    if (e->ks->generation >= KEYSTORE_GENERATION_MAX)
        return edit_refuse(e, -ENOSPC, "the generation of the key store cannot grow any more");
    e->ks->generation++;
    int r = store_verify(e->ks, e->keys, &all, true, e->why);
    if (!r)
        r = keystore_encode_signed(e->ks, e->keys->signing_secret, ini, len);
    if (r == -E2BIG)
        return edit_refuse(e, -ENOSPC, "the key store would exceed %u KiB", KEYSTORE_MAX_BYTES / 1024);
    return r;
}

int keystore_edit(struct keystore *ks, struct keystore_keys *keys, const struct key_edit *e, unsigned kdf_ms,
                  const struct held_source *held, char **ini, size_t *len, struct key_edit_result *out,
                  struct held_blobs *fresh, struct key_why *why)
{
    why->text[0] = '\0';
    if (e->op > EDIT_OP_MAX || !edits[e->op])
        return LFS_ERR_MISUSE;
    struct edit w = {.ks = ks, .keys = keys, .e = e, .kdf_ms = kdf_ms, .held = held, .why = why};
    w.now = (uint64_t)time(NULL);
    w.mem = locked_alloc(sizeof *w.mem);
    int r = w.mem ? edits[e->op](&w) : -ENOMEM;
    if (!r)
        r = finish(&w, ini, len);
    locked_free(w.mem);
    if (r) {
        key_edit_result_clear(&w.result);
        return r;
    }
    why->text[0] = '\0';
    *out = w.result;
    *fresh = w.fresh;
    return 0;
}
