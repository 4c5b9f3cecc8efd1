#include "header_compare.h"

#include "latchfs/err.h"

#include <inttypes.h>
#include <string.h>

#define BACK "brought back"
#define LOST "lost"

static bool same_slot(const struct keystore *ks, const struct keystore_slot *s)
{
    const struct keystore_slot *other = keystore_slot(ks, s->id);
    return other && memcmp(other->public_key, s->public_key, sizeof s->public_key) == 0;
}

static void print_slots(const struct keystore *from, const struct keystore *other, const char *what, FILE *to)
{
    for (uint32_t i = 0; i < from->slot_count; i++) {
        const struct keystore_slot *s = &from->slots[i];
        if (!same_slot(other, s))
            fprintf(to, "%s: slot %u, %s%s%s\n", what, s->id, keystore_slot_type_name(s->type),
                    s->label[0] ? ", label " : "", s->label);
    }
}

/* ---- keys ---- */

static bool has_master(const struct keystore *ks, uint32_t version)
{
    const struct keystore_master *m = keystore_master(ks, version);
    return m && m->state != KEY_DESTROYED;
}

static void print_masters(const struct keystore *from, const struct keystore *other, const char *what,
                          FILE *to)
{
    for (uint32_t i = 0; i < from->master_count; i++) {
        uint32_t v = from->masters[i].version;
        if (has_master(from, v) && !has_master(other, v))
            fprintf(to, "%s: master key version %" PRIu32 "\n", what, v);
    }
}

static bool has_dirkey(const struct keystore *ks, const uint8_t *id, uint32_t version)
{
    const struct keystore_dir *d = keystore_dir(ks, id);
    const struct keystore_dirkey *k = d && !d->shredded ? keystore_dirkey(d, version) : NULL;
    return k && k->state != KEY_DESTROYED;
}

static void print_dirs(const struct keystore *from, const struct keystore *other, const char *what, FILE *to)
{
    for (uint32_t i = 0; i < from->dir_count; i++) {
        const struct keystore_dir *d = &from->dirs[i];
        char hex[2 * ID_BYTES + 1];
        id_to_hex(d->id, hex);
        for (uint32_t n = 0; n < d->count; n++)
            if (has_dirkey(from, d->id, d->keys[n].version) && !has_dirkey(other, d->id, d->keys[n].version))
                fprintf(to, "%s: key version %" PRIu32 " of protected directory %s%s\n", what,
                        d->keys[n].version, hex,
                        memcmp(d->id, from->root_id, ID_BYTES) == 0 ? " (root)" : "");
    }
}

/* A shredded directory comes back only where its keys do not lie with latch-keyd. */
static void print_shredded(const struct keystore *present, const struct keystore *backup, FILE *to)
{
    for (uint32_t i = 0; i < present->dir_count; i++) {
        const struct keystore_dir *now = &present->dirs[i], *then = keystore_dir(backup, now->id);
        char hex[2 * ID_BYTES + 1];
        id_to_hex(now->id, hex);
        if (now->shredded && then && !then->shredded)
            fprintf(to, "%s: the shredded protected directory %s%s\n", BACK, hex,
                    then->held ? ", but latch-keyd has destroyed its keys" : ", readable again");
    }
}

void header_compare_print(const struct keystore *present, const struct keystore *backup, FILE *to)
{
    print_slots(backup, present, BACK, to);
    print_masters(backup, present, BACK, to);
    print_dirs(backup, present, BACK, to);
    print_shredded(present, backup, to);
    print_slots(present, backup, LOST, to);
    print_masters(present, backup, LOST, to);
    print_dirs(present, backup, LOST, to);
    if (strcmp(present->environment, backup->environment) != 0)
        fprintf(to, "environment: %s, now %s\n", backup->environment[0] ? backup->environment : "none",
                present->environment[0] ? present->environment : "none");
}

bool header_would_lose(const struct keystore *present, const struct keystore *backup)
{
    for (uint32_t i = 0; i < present->dir_count; i++) {
        const struct keystore_dir *d = &present->dirs[i];
        for (uint32_t n = 0; n < d->count && !d->shredded; n++)
            if (d->keys[n].version >= d->least && d->keys[n].state != KEY_DESTROYED &&
                !has_dirkey(backup, d->id, d->keys[n].version))
                return true;
    }
    return false;
}
