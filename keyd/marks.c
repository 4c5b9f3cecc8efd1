/* Directories that are locked while their volume is not. */
#include "server.h"

#include "latchfs/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool marked(const struct server *s, const uint8_t *volume_id, const uint8_t *pd_id, uint64_t conn_id)
{
    for (const struct dir_mark *m = s->marks; m; m = m->next)
        if (same_id(m->volume_id, volume_id) && same_id(m->pd_id, pd_id) &&
            (!m->conn_id || m->conn_id == conn_id))
            return true;
    return false;
}

int mark_add(struct server *s, const uint8_t *volume_id, const uint8_t *pd_id, uint64_t conn_id)
{
    if (marked(s, volume_id, pd_id, conn_id))
        return 0;
    if (!conn_id && s->mark_count >= MARKS_MAX) /* a connection marks the directories of one volume only */
        return LFS_ERR_BUSY;
    struct dir_mark *m = calloc(1, sizeof *m);
    if (!m)
        return -ENOMEM;
    memcpy(m->volume_id, volume_id, ID_BYTES);
    memcpy(m->pd_id, pd_id, ID_BYTES);
    m->conn_id = conn_id;
    m->next = s->marks;
    s->marks = m;
    s->mark_count += !conn_id;
    return 0;
}

static void mark_free(struct server *s, struct dir_mark **at)
{
    struct dir_mark *m = *at;
    *at = m->next;
    s->mark_count -= !m->conn_id;
    free(m);
}

void marks_remove(struct server *s, const uint8_t *volume_id, const uint8_t *pd_id)
{
    for (struct dir_mark **at = &s->marks; *at;) {
        struct dir_mark *m = *at;
        if (same_id(m->volume_id, volume_id) && (!pd_id || same_id(m->pd_id, pd_id)))
            mark_free(s, at);
        else
            at = &m->next;
    }
}

void marks_conn_gone(struct server *s, uint64_t conn_id)
{
    for (struct dir_mark **at = &s->marks; *at;) {
        if ((*at)->conn_id == conn_id)
            mark_free(s, at);
        else
            at = &(*at)->next;
    }
}
