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
#define RESERVED_BYTES 352

static void compute_mac(const uint8_t *bytes, const struct name_keys *k, uint8_t mac[static MAC_BYTES])
{
    crypto_generichash(mac, MAC_BYTES, bytes, MAC_OFFSET, k->dirrec, LFS_KEY_BYTES);
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
    wcur_zeros(&w, SEAL_BYTES + RESERVED_BYTES);
    compute_mac(out, k, out + MAC_OFFSET);
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
    ok = rcur_zeros(&c, SEAL_BYTES + RESERVED_BYTES) && ok;
    rcur_view(&c, MAC_BYTES);
    /* Zero stands for "no directory", so it can't be an id. */
    if (!ok || !rcur_done(&c) || sodium_is_zero(d.id, ID_BYTES) || sodium_is_zero(d.parent[0], ID_BYTES))
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
