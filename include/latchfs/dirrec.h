/* The directory record latchfs.dir, 512 bytes: which directory this is, whose child, and under which name. */
#ifndef LATCHFS_DIRREC_H
#define LATCHFS_DIRREC_H

#include "latchfs/format.h"
#include "latchfs/name.h"

#include <stdbool.h>

#define DIRREC_BYTES 512u
#define DIRREC_NAME_BYTES 16u
/* The attribute of a directory that has a copy of its record until the record is known to be on disk. It does
 * not begin as the names of encrypted attributes do, so nobody takes it for one. */
#define DIRREC_COPY "user.latchfs-record"

struct dirrec {
    uint8_t id[ID_BYTES];
    uint8_t parent[2][ID_BYTES]; /* [1] is zero but from a move or a change of name on; the root's [0] is its
                                    own id */
    uint8_t name[2][DIRREC_NAME_BYTES]; /* dirrec_name_tag of its name in parent[0] and parent[1]; zeros for
                                           the root, and where there is no parent */
    uint8_t pd_id[ID_BYTES];            /* protected directory it belongs to */
};

/* What a record keeps of the name that the directory has in the backing directory: unkeyed BLAKE2b-128. */
void dirrec_name_tag(const char *stored, uint8_t tag[static DIRREC_NAME_BYTES]);

/* True if one of the record's two places is this one. stored NULL: the volume's root, parent is its own id.
 */
bool dirrec_is_at(const struct dirrec *d, const uint8_t parent[static ID_BYTES], const char *stored);

/* The MAC (keyed BLAKE2b, NAME_SUB_DIRREC) goes in. */
void dirrec_encode(const struct dirrec *d, const struct name_keys *k, uint8_t out[static DIRREC_BYTES]);

/* Parse only (to learn the protected directory, whose key then checks): LFS_ERR_CORRUPT (a zero id or first
 * parent too, a name without its parent or the other way round), LFS_ERR_UNSUPPORTED. */
int dirrec_parse(const uint8_t in[static DIRREC_BYTES], struct dirrec *out);
int dirrec_check(const uint8_t in[static DIRREC_BYTES], const struct name_keys *k); /* LFS_ERR_AUTH */

#endif
