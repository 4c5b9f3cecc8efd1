#include "latchfs/dirrec.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <sodium.h>
#include <string.h>

#define MAGIC "LATCHDIR"
#define MAGIC_BYTES 8
#define MAC_BYTES 32
#define MAC_OFFSET (DIRREC_BYTES - MAC_BYTES)
#define SEAL_BYTES 48 /* kept for a seal over the directory's entries */
#define RESERVED_BYTES 320

static void compute_mac(const uint8_t *bytes, const struct name_keys *k, uint8_t mac[static MAC_BYTES])
{
    crypto_generichash(mac, MAC_BYTES, bytes, MAC_OFFSET, k->dirrec, LFS_KEY_BYTES);
}

void dirrec_name_tag(const char *stored, uint8_t tag[static DIRREC_NAME_BYTES])
{
    crypto_generichash(tag, DIRREC_NAME_BYTES, (const uint8_t *)stored, strlen(stored), NULL, 0);
}

bool dirrec_is_at(const struct dirrec *d, const uint8_t parent[static ID_BYTES], const char *stored)
{
    uint8_t tag[DIRREC_NAME_BYTES] = {0};
    if (stored)
        dirrec_name_tag(stored, tag);
    for (int i = 0; i < 2; i++)
        if (memcmp(d->parent[i], parent, ID_BYTES) == 0 && memcmp(d->name[i], tag, sizeof tag) == 0)
            return true;
    return false;
}

void dirrec_encode(const struct dirrec *d, const struct name_keys *k, uint8_t out[static DIRREC_BYTES])
{
    struct wcur w = wcur_over(out, DIRREC_BYTES);
    wcur_bytes(&w, MAGIC, MAGIC_BYTES);
    wcur_u16(&w, FORMAT_VERSION);
    wcur_u16(&w, 0); /* flags */
    wcur_zeros(&w, 4);
    wcur_bytes(&w, d->id, ID_BYTES);
    wcur_bytes(&w, d->parent[0], ID_BYTES);
    wcur_bytes(&w, d->parent[1], ID_BYTES);
    wcur_bytes(&w, d->pd_id, ID_BYTES);
    wcur_zeros(&w, SEAL_BYTES);
    wcur_bytes(&w, d->name[0], DIRREC_NAME_BYTES);
    wcur_bytes(&w, d->name[1], DIRREC_NAME_BYTES);
    wcur_zeros(&w, RESERVED_BYTES);
    compute_mac(out, k, out + MAC_OFFSET);
}

/* The root has no name; a second place has both or neither. */
static bool places_ok(const struct dirrec *d)
{
    bool root = memcmp(d->parent[0], d->id, ID_BYTES) == 0;
    bool second = !sodium_is_zero(d->parent[1], ID_BYTES);
    return root == sodium_is_zero(d->name[0], DIRREC_NAME_BYTES) && !(root && second) &&
           second == !sodium_is_zero(d->name[1], DIRREC_NAME_BYTES);
}

int dirrec_parse(const uint8_t in[static DIRREC_BYTES], struct dirrec *out)
{
    struct dirrec d;
    struct rcur c = rcur_over(in, DIRREC_BYTES);
    const uint8_t *magic = rcur_view(&c, MAGIC_BYTES);
    if (!magic || memcmp(magic, MAGIC, MAGIC_BYTES) != 0)
        return LFS_ERR_CORRUPT;
    if (rcur_u16(&c) != FORMAT_VERSION || rcur_u16(&c) != 0)
        return LFS_ERR_UNSUPPORTED;
    bool ok = rcur_zeros(&c, 4);
    rcur_bytes(&c, d.id, ID_BYTES);
    rcur_bytes(&c, d.parent[0], ID_BYTES);
    rcur_bytes(&c, d.parent[1], ID_BYTES);
    rcur_bytes(&c, d.pd_id, ID_BYTES);
    ok = rcur_zeros(&c, SEAL_BYTES) && ok;
    rcur_bytes(&c, d.name[0], DIRREC_NAME_BYTES);
    rcur_bytes(&c, d.name[1], DIRREC_NAME_BYTES);
    ok = rcur_zeros(&c, RESERVED_BYTES) && ok;
    rcur_view(&c, MAC_BYTES);
    /* Zero stands for "no directory", so it can't be an id. */
    if (!ok || !rcur_done(&c) || sodium_is_zero(d.id, ID_BYTES) || sodium_is_zero(d.parent[0], ID_BYTES) ||
        !places_ok(&d))
        return LFS_ERR_CORRUPT;
    *out = d;
    return 0;
}

int dirrec_check(const uint8_t in[static DIRREC_BYTES], const struct name_keys *k)
{
    uint8_t mac[MAC_BYTES];
    compute_mac(in, k, mac);
    return sodium_memcmp(mac, in + MAC_OFFSET, MAC_BYTES) ? LFS_ERR_AUTH : 0;
}
