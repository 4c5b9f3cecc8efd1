#include "fs/mount/pd_list.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/keystore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static int read_store(const char *volume_path, struct keystore **ks)
{
    AUTO_FREE char *ini = NULL;
    size_t len;
    AUTO_CLOSE int dir = open(volume_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = dir < 0 ? -errno : io_read_file(dir, KEYSTORE_NAME, KEYSTORE_MAX_BYTES, &ini, &len);
    if (r == -ENOENT || r == -ENOTDIR)
        r = LFS_ERR_NOTVOLUME;
    return r ? r : keystore_parse(ini, len, ks, NULL);
}

int pd_list_read(const char *volume_path, struct pd_list *out)
{
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    int r = read_store(volume_path, &ks);
    if (r)
        return r;
    struct pd_list l = {.ids = calloc(ks->dir_count, sizeof *l.ids)};
    if (!l.ids)
        return -ENOMEM;
    memcpy(l.volume_id, ks->volume_id, ID_BYTES);
    memcpy(l.root_id, ks->root_id, ID_BYTES);
    for (size_t i = 0; i < ks->dir_count; i++)
        if (!ks->dirs[i].shredded)
            memcpy(l.ids[l.count++], ks->dirs[i].id, ID_BYTES);
    *out = l;
    return 0;
}

void pd_list_clear(struct pd_list *l)
{
    free(l->ids);
    *l = (struct pd_list){0};
}
