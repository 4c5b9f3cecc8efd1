/* The directory record latchfs.dir, 512 bytes: which directory this is and whose child it is. */
#ifndef LATCHFS_DIRREC_H
#define LATCHFS_DIRREC_H

#include "latchfs/format.h"
#include "latchfs/name.h"

#define DIRREC_BYTES 512u

struct dirrec {
    uint8_t id[ID_BYTES];
    uint8_t parent[2][ID_BYTES]; /* [1] is zero but while a move is under way; the root's [0] is its own id */
    uint8_t pd_id[ID_BYTES];     /* protected directory it belongs to */
};

/* The MAC (keyed BLAKE2b, NAME_SUB_DIRREC) goes in. */
void dirrec_encode(const struct dirrec *d, const struct name_keys *k, uint8_t out[static DIRREC_BYTES]);

/* Parse only (to learn the protected directory, whose key then checks): LFS_ERR_CORRUPT (a zero id or first
 * parent too), LFS_ERR_UNSUPPORTED. */
int dirrec_parse(const uint8_t in[static DIRREC_BYTES], struct dirrec *out);
int dirrec_check(const uint8_t in[static DIRREC_BYTES], const struct name_keys *k); /* LFS_ERR_AUTH */

#endif
