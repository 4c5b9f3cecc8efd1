/* What a mount reads in latchfs.ini without any key: whose volume it is, and which protected directories
 * there are. */
#ifndef FS_MOUNT_PD_LIST_H
#define FS_MOUNT_PD_LIST_H

#include "latchfs/format.h"

#include <stddef.h>

struct pd_list {
    uint8_t volume_id[ID_BYTES];
    uint8_t root_id[ID_BYTES];
    uint8_t (*ids)[ID_BYTES]; /* those that can have keys, the root's too */
    size_t count;
};

/* LFS_ERR_NOTVOLUME, and the errors of keystore_parse. *out is filled on success only. */
int pd_list_read(const char *volume_path, struct pd_list *out);

void pd_list_clear(struct pd_list *l);

#endif
