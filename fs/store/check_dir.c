/* Directories: their records and their attributes. */
#include "fs/store/check_int.h"
#include "fs/store/newdirs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static void hit(struct look *l, enum check_kind kind, int err)
{
    hits_add(&l->hits, kind, err);
}

/* What stands where the record should, when it could not be read. */
static void hit_unread(struct look *l, int fd, int err)
{
    struct stat st;
    if (fstatat(fd, DIRREC_NAME, &st, AT_SYMLINK_NOFOLLOW))
        hit(l, errno == ENOENT ? CHECK_MISSING_RECORD : CHECK_IO, errno == ENOENT ? LFS_ERR_CORRUPT : -errno);
    else if (!S_ISREG(st.st_mode))
        hit(l, CHECK_FOREIGN_TYPE, err);
    else
        hit(l, err > -4096 ? CHECK_IO : CHECK_BAD_RECORD, err);
}

/* The keys of what is in the directory, if its record is authentic and they are here. */
static int authenticate(struct look *l, struct node *n, int fd, struct dirrec *d)
{
    struct pd *pd = NULL, *none = NULL;
    int r = record_read_of(n, fd, d, &pd);
    if (r)
        return r;
    /* So that what is below finds its keys. Where the directory stands is another question, which every
     * lookup asks again. */
    atomic_compare_exchange_strong(&n->pd, &none, pd);
    l->dir_keyed = true;
    return 0;
}

static void check_dir_id(struct look *l, const struct node *n, const uint8_t *id)
{
    struct id_seen seen = {.ino = n->ino};
    memcpy(seen.id, id, ID_BYTES);
    if (l->lost || (l->f && l->f->lost)) /* put away for that, perhaps */
        return;
    if (id_set_add(&l->c->dirs, &seen) != ID_FRESH)
        hit(l, CHECK_DUPLICATE_ID, LFS_ERR_AUTH);
}

/* Not the id's owner. */
static void check_stray_id(struct look *l, const struct node *n, const uint8_t *id)
{
    bool known = id_set_has(&l->c->dirs, id);
    l->stray = !known;
    if (known)
        hit(l, CHECK_DUPLICATE_ID, LFS_ERR_AUTH);
}

static void check_record_at(struct look *l, struct node *n, int fd, const uint8_t *parent, const char *stored)
{
    struct dirrec d;
    if (stored && atomic_load(&n->newdir) == NEWDIR_NONE && copy_is_there(fd))
        hit(l, CHECK_UNSETTLED_RECORD, 0);
    int r = record_claim(l->c->v, fd, &d);
    if (r) {
        hit_unread(l, fd, r);
        return;
    }
    r = l->c->keyed ? authenticate(l, n, fd, &d) : 0;
    if (r == LFS_ERR_NOKEY) {
        hit(l, CHECK_NO_KEY, 0);
    } else if (r) {
        hit(l, CHECK_BAD_RECORD, r);
        return;
    }
    l->dir_id_known = true;
    memcpy(l->dir_id, d.id, ID_BYTES);
    if (!stored ? !dirrec_is_at(&d, d.id, NULL) : parent && !dirrec_is_at(&d, parent, stored)) {
        hit(l, CHECK_BAD_RECORD, LFS_ERR_AUTH);
        check_stray_id(l, n, d.id);
    } else {
        check_dir_id(l, n, d.id);
    }
    l->dir_pd_known = true;
    memcpy(l->dir_pd, d.pd_id, ID_BYTES);
}

void check_record(struct look *l, struct node *n, const uint8_t *parent, const char *stored)
{
    int fd, r = node_fd_get(n, false, &fd);
    if (r) {
        if (r != -ESTALE)
            hit(l, CHECK_IO, r);
        return;
    }
    check_record_at(l, n, fd, parent, stored);
    node_fd_put(n);
}

/* ---- ids that two have ---- */

#define STRAYS_MAX 1024u

static void remember(struct check *c, const struct look *l, const char *plain)
{
    struct stray *grown =
        c->stray_count < STRAYS_MAX ? realloc(c->strays, (c->stray_count + 1) * sizeof *grown) : NULL;
    if (!grown)
        return;
    c->strays = grown;
    grown += c->stray_count++;
    *grown = (struct stray){.cipher = strdup(c->cipher.s), .plain = plain ? strdup(plain) : NULL};
    memcpy(grown->id, l->dir_id, ID_BYTES);
}

static void tell_stray(struct check *c, const struct stray *s)
{
    struct hits h = {0};
    hits_add(&h, CHECK_DUPLICATE_ID, LFS_ERR_AUTH);
    if (s->cipher)
        check_tell(c, h.hit, h.count, s->cipher, s->plain);
}

void check_strays(struct look *l)
{
    struct check *c = l->c;
    bool named = l->f && l->f->plain_known && l->plain_known;
    if (l->stray && !l->moved && !l->gone) {
        remember(c, l, named ? c->plain.s : NULL);
        return;
    }
    for (size_t i = 0; l->dir_id_known && !l->stray && i < c->stray_count; i++)
        if (memcmp(c->strays[i].id, l->dir_id, ID_BYTES) == 0)
            tell_stray(c, &c->strays[i]);
}

void check_drop_strays(struct check *c)
{
    for (size_t i = 0; i < c->stray_count; i++) {
        free(c->strays[i].cipher);
        free(c->strays[i].plain);
    }
    free(c->strays);
}

/* ---- attributes ---- */

static void free_keysp(struct file_xattr_keys **k)
{
    locked_free(*k);
}

void check_dir_attributes(struct look *l)
{
    struct node *n = l->n;
    CLEANUP(free_keysp) struct file_xattr_keys *k = NULL;
    int fd;
    if (!l->dir_keyed || !l->c->contents || !(k = locked_alloc(sizeof *k)) || node_fd_get(n, false, &fd))
        return;
    dir_rdlock(n); /* which who makes it a protected one holds for writing */
    const struct pd_keys *keys = node_keys(n);
    memcpy(k->id, l->dir_id, ID_BYTES);
    k->count = 1;
    k->k[0].epoch = 1;
    if (keys) {
        memcpy(k->k[0].key, keys->names.xattr, LFS_KEY_BYTES);
        check_xattrs(l->c, fd, keys, k, KIND_DIR_XATTR, &l->hits);
    }
    dir_unlock(n);
    node_fd_put(n);
}
