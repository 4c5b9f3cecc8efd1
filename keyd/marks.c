/* Directories that are locked while their volume is not. */
#include "server.h"

#include "latchfs/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool marked(const struct server *s, const uint8_t *volume_id, const uint8_t *pd_id, pid_t pid)
{
    for (const struct dir_mark *m = s->marks; m; m = m->next)
        if (same_id(m->volume_id, volume_id) && same_id(m->pd_id, pd_id) && (!m->pid || m->pid == pid))
            return true;
    return false;
}

int mark_add(struct server *s, const uint8_t *volume_id, const uint8_t *pd_id, pid_t pid)
{
    if (marked(s, volume_id, pd_id, pid))
        return 0;
    if (s->mark_count >= MARKS_MAX)
        return LFS_ERR_BUSY;
    struct dir_mark *m = calloc(1, sizeof *m);
    if (!m)
        return -ENOMEM;
    memcpy(m->volume_id, volume_id, ID_BYTES);
    memcpy(m->pd_id, pd_id, ID_BYTES);
    m->pid = pid;
    m->next = s->marks;
    s->marks = m;
    s->mark_count++;
    return 0;
}

void marks_remove(struct server *s, const uint8_t *volume_id, const uint8_t *pd_id)
{
    for (struct dir_mark **at = &s->marks; *at;) {
        struct dir_mark *m = *at;
        if (!same_id(m->volume_id, volume_id) || (pd_id && !same_id(m->pd_id, pd_id))) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        s->mark_count--;
        free(m);
    }
}
