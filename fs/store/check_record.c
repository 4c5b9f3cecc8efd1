/* A new record for a directory that has lost its own. Only its id matters: names and links in it are bound to
 * that. It stands in what is left of the record, in the records of its subdirectories and in the headers of
 * its files; the names that decrypt with it prove it, all of them. */
#include "fs/store/check_int.h"
#include "fs/store/newdirs.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CANDIDATES_MAX 32u
#define ENTRIES_MAX 1024u /* that are asked */
#define PROOFS_MAX 1024u  /* names that are tried */
#define SIDECAR_NAME_MAX (NAME_CIPHER_MAX + sizeof LONG_NAME_SUFFIX)

struct search {
    struct check *c;
    int fd; /* of the directory */
    uint8_t id[CANDIDATES_MAX][ID_BYTES];
    unsigned ids, names, proofs;
    struct pd *pd; /* whose keys proved the id; NULL: none yet */
    uint8_t found[ID_BYTES];
};

static void add_id(struct search *s, const uint8_t *id)
{
    for (unsigned i = 0; i < s->ids; i++)
        if (memcmp(s->id[i], id, ID_BYTES) == 0)
            return;
    if (s->ids < CANDIDATES_MAX && !sodium_is_zero(id, ID_BYTES))
        memcpy(s->id[s->ids++], id, ID_BYTES);
}

/* The bytes where the id of a record stands (docs/FORMAT.md), whatever became of the rest. */
#define ID_AT 16

static void add_own(struct search *s)
{
    uint8_t bytes[DIRREC_BYTES];
    AUTO_CLOSE int fd = fd_openat(s->c->v, s->fd, DIRREC_NAME, O_RDONLY | O_NONBLOCK, 0);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        io_pread(fd, bytes, sizeof bytes, 0) >= ID_AT + (ssize_t)ID_BYTES)
        add_id(s, bytes + ID_AT);
}

/* A subdirectory's authentic record names its parents. */
static void add_parents(struct search *s, const char *name)
{
    struct dirrec d;
    struct pd *pd;
    AUTO_CLOSE int fd = fd_openat(s->c->v, s->fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 || record_read(s->c->v, fd, &d, &pd))
        return;
    for (int i = 0; i < 2; i++)
        if (dirrec_is_at(&d, d.parent[i], name))
            add_id(s, d.parent[i]);
}

/* Nobody vouches for what a header says, but a name will. */
static void add_homes(struct search *s, const char *name)
{
    uint8_t image[HEADER_BYTES];
    struct file_header h;
    struct stat st;
    AUTO_CLOSE int fd = fd_openat(s->c->v, s->fd, name, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) ||
        io_pread(fd, image, sizeof image, 0) != sizeof image || header_decode(image, &h))
        return;
    for (unsigned i = 0; i < HEADER_HOMES; i++)
        add_id(s, h.home[i]);
}

static int collect(const char *name, unsigned char type, void *arg)
{
    struct search *s = arg;
    enum stored_kind kind = name_stored_kind(name);
    if (kind != STORED_NAME && kind != STORED_LONG)
        return 0;
    if (s->names++ >= ENTRIES_MAX || s->ids == CANDIDATES_MAX)
        return 0;
    add_parents(s, name);
    add_homes(s, name);
    return 0;
}

static bool proves(const struct search *s, struct pd *pd, const uint8_t *id, const char *encoded)
{
    char plain[NAME_PLAIN_MAX + 1];
    const struct pd_keys *keys = pd_keys(pd);
    bool yes = keys && name_decrypt(&keys->names, id, encoded, strlen(encoded), plain) == 0;
    sodium_memzero(plain, sizeof plain);
    return yes;
}

/* True if the name decrypts with an id and the keys of a protected directory. The first one that does is
 * found. */
static bool prove(struct search *s, const char *encoded)
{
    const struct pd_table *t = s->c->v->pds;
    if (s->pd)
        return proves(s, s->pd, s->found, encoded);
    for (unsigned p = 0; p < atomic_load(&t->count); p++)
        for (unsigned i = 0; i < s->ids; i++)
            if (proves(s, t->of[p], s->id[i], encoded)) {
                s->pd = t->of[p];
                memcpy(s->found, s->id[i], ID_BYTES);
                return true;
            }
    return false;
}

/* Every name must say the same: one that was copied here from another directory proves that one's id. */
static int try_name(const char *name, unsigned char type, void *arg)
{
    struct search *s = arg;
    char encoded[NAME_ENCODED_MAX + 1];
    enum stored_kind kind = name_stored_kind(name);
    if (kind == STORED_NAME)
        strcpy(encoded, name);
    else if (kind != STORED_LONG || long_name_read(s->c->v, s->fd, name, encoded))
        return 0;
    if (!prove(s, encoded))
        return LFS_ERR_AUTH;
    return ++s->proofs == PROOFS_MAX;
}

/* An empty directory may get a new id; but which protected directory it belonged to only its record said. */
static int draw_id(struct search *s, const struct look *l)
{
    if (s->names || l->dir_keyed || !l->f || atomic_load(&s->c->v->pds->count) != 1)
        return LFS_ERR_CORRUPT;
    randombytes_buf(s->found, ID_BYTES);
    s->pd = atomic_load(&l->f->n->pd);
    return s->pd ? 0 : LFS_ERR_NOKEY;
}

static int find_id(struct search *s, const struct look *l)
{
    if (!l->dir_keyed)
        add_own(s);
    int r = dir_scan(s->fd, collect, s);
    if (r)
        return r;
    if (!s->names)
        return draw_id(s, l);
    r = dir_scan(s->fd, try_name, s);
    if (r < 0 || !s->pd)
        return r < 0 ? r : LFS_ERR_CORRUPT;
    /* Another directory's; or its own, which then stands where it must not. */
    bool taken = id_set_has(&s->c->dirs, s->found);
    return taken || (l->dir_keyed && memcmp(s->found, l->dir_id, ID_BYTES) == 0) ? LFS_ERR_AUTH : 0;
}

static int write_record(const struct search *s, struct look *l)
{
    struct dirrec d = {0};
    memcpy(d.id, s->found, ID_BYTES);
    memcpy(d.parent[0], l->f ? l->f->id : s->found, ID_BYTES);
    if (l->f)
        dirrec_name_tag(l->name, d.name[0]);
    memcpy(d.pd_id, s->pd->id, ID_BYTES);
    return record_replace(s->c->v, s->fd, &d, pd_keys(s->pd));
}

static int rebuild(struct look *l, int fd)
{
    struct search s = {.c = l->c, .fd = fd};
    int r = find_id(&s, l);
    return r ? r : write_record(&s, l);
}

/* A directory is known by its parent's id: so that must be right first. An authentic record in the wrong
 * place may be another directory's that was copied over this one's. */
int record_rebuild(struct look *l)
{
    struct volume *v = l->c->v;
    if (!l->n || (l->f && !l->f->keyed))
        return LFS_ERR_CORRUPT;
    int fd, r = volume_enter(v, false);
    if (r)
        return r;
    r = node_fd_get(l->n, false, &fd);
    if (!r) {
        AUTO_CLOSE int own = fd_openat(v, fd, ".", O_RDONLY | O_DIRECTORY, 0);
        r = own < 0 ? own : rebuild(l, own);
        node_fd_put(l->n);
    }
    volume_leave(v);
    return r;
}

static int settle(struct volume *v, struct node *n)
{
    struct newdirs_round round = {.count = 1, .dir = malloc(sizeof(struct node *))};
    if (!round.dir)
        return -ENOMEM;
    node_ref(n);
    round.dir[0] = n;
    int r = record_mend(n);
    if (!r && (r = newdirs_sync(v, &round)))
        volume_fail_readonly(v, r, "syncing a directory record");
    bool done = !r && round.count;
    newdirs_end(v, &round, done);
    return r ? r : done ? 0 : -EIO;
}

int record_settle(struct look *l)
{
    struct volume *v = l->c->v;
    int r = l->n ? volume_enter(v, false) : LFS_ERR_CORRUPT;
    if (r)
        return r;
    r = settle(v, l->n);
    volume_leave(v);
    return r;
}
