/* Seals: whether the records of a sealed file are those that the seal was made of. As file_verify_seal, but
 * what a check asks changes and counts nothing. */
#include "fs/store/check_int.h"
#include "fs/store/seal.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

struct sealed {
    struct check_item *item;
    struct file *f;
    struct seal_run *run;
    uint64_t generation; /* of the seal that the run is about */
};

static int compare(const struct sealed *s, struct hits *hits)
{
    uint8_t root[sizeof s->f->hdr.seal_root];
    seal_run_root(s->run, root);
    if (sodium_memcmp(root, s->f->hdr.seal_root, sizeof root) != 0)
        hits_add(hits, CHECK_BAD_SEAL, LFS_ERR_AUTH);
    return 0;
}

/* 1: there is more. A seal that was opened and made anew meanwhile is another one; one that is open says
 * nothing. */
static int some_locked(struct sealed *s, struct hits *hits)
{
    struct file *f = s->f;
    int fd;
    if (f->state != CONTENT_PAGED || f->hdr.seal_state != SEAL_SEALED || f->n->vol->journal_lost)
        return 0;
    if (s->run && s->generation != f->hdr.seal_generation) {
        seal_run_free(s->run);
        s->run = NULL;
    }
    if (!s->run && !(s->run = seal_run_new(f)))
        return -ENOMEM;
    s->generation = f->hdr.seal_generation;
    int r = node_fd_get(f->n, false, &fd);
    if (r)
        return r;
    r = seal_run_some(s->run, f, fd, false);
    node_fd_put(f->n);
    return r ? r : compare(s, hits);
}

static int some(struct check *c, struct sealed *s, struct hits *hits)
{
    struct file_look look;
    int r = volume_enter(c->v, false);
    if (r)
        return r;
    r = file_lock_check(s->f, &look);
    if (!r) {
        r = some_locked(s, hits);
        file_unlock_check(s->f, &look);
    }
    volume_leave(c->v);
    return r;
}

/* What can't be read for it can't be read as content either, and is told there. */
int check_seal(struct check *c, struct check_item *item, struct file *f, struct hits *hits)
{
    struct sealed s = {.item = item, .f = f};
    int r;
    do {
        r = check_stopped(c);
        if (!r)
            r = some(c, &s, hits);
    } while (r > 0);
    seal_run_free(s.run);
    return r == -EINTR || r == -ENOMEM ? r : 0;
}
