/* What those who ask for edits and those who make them share. */
#include "latchfs/keyedit.h"

#include <string.h>

const char *key_edit_name(unsigned op)
{
    static const char *const names[EDIT_OP_MAX + 1] = {
        [EDIT_SLOT_ADD] = "slot-add",
        [EDIT_SLOT_REMOVE] = "slot-remove",
        [EDIT_SLOT_REPLACE] = "slot-replace",
        [EDIT_SLOT_LABEL] = "slot-label",
        [EDIT_MASTER_ROTATE] = "master-rotate",
        [EDIT_MASTER_RETIRE] = "master-retire",
        [EDIT_MASTER_DESTROY] = "master-destroy",
        [EDIT_DIR_ADD] = "dir-add",
        [EDIT_DIR_NAME] = "dir-name",
        [EDIT_DIR_ROTATE] = "dir-rotate",
        [EDIT_DIR_FINISH] = "dir-finish",
        [EDIT_DIR_DESTROY] = "dir-destroy",
        [EDIT_DIR_SHRED] = "dir-shred",
        [EDIT_BACKUP_ADD] = "backup-add",
        [EDIT_BACKUP_REMOVE] = "backup-remove",
        [EDIT_ENVIRONMENT] = "environment",
        [EDIT_DIR_ACCEPT] = "dir-accept",
    };
    return op <= EDIT_OP_MAX ? names[op] : NULL;
}

bool key_edit_is_destructive(unsigned op)
{
    return op == EDIT_MASTER_DESTROY || op == EDIT_DIR_DESTROY || op == EDIT_DIR_SHRED;
}

void key_edit_result_clear(struct key_edit_result *r)
{
    secret_free(r->recovery);
    memset(r, 0, sizeof *r);
}
