/* Repairs of entries: what can be done about each kind of finding, and doing it. After each repair the entry
 * is looked at again, since one kind of damage hides another. */
#include "fs/store/check_int.h"
#include "latchfs/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIDECAR_NAME_MAX (NAME_CIPHER_MAX + sizeof LONG_NAME_SUFFIX)
#define ROUNDS_MAX 6u

/* ---- removing what nobody misses ---- */

static int remove_entry(struct look *l)
{
    struct volume *v = l->c->v;
    struct stat st;
    int fd, r = node_fd_get(l->f->n, false, &fd);
    if (r)
        return r;
    dir_wrlock(l->f->n);
    tmp_discard(v, fd, l->name);
    r = fstatat(fd, l->name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? -ENOTEMPTY : dir_fd_sync(v, fd);
    dir_unlock(l->f->n);
    node_fd_put(l->f->n);
    l->gone = !r;
    return r;
}

static void sidecar_of(const char *stored, char out[static SIDECAR_NAME_MAX])
{
    snprintf(out, SIDECAR_NAME_MAX, "%s" LONG_NAME_SUFFIX, stored);
}

/* The entry that the sidecar's content is the name of. */
static int named_by(struct look *l, int fd, const char *sidecar, char stored[static NAME_CIPHER_MAX + 1])
{
    char encoded[NAME_ENCODED_MAX + 1], entry[NAME_CIPHER_MAX + 1];
    size_t len = strlen(sidecar) - strlen(LONG_NAME_SUFFIX);
    if (len > NAME_CIPHER_MAX)
        return LFS_ERR_CORRUPT;
    memcpy(entry, sidecar, len);
    entry[len] = '\0';
    int r = long_name_read(l->c->v, fd, entry, encoded);
    if (!r)
        name_long_stored(encoded, strlen(encoded), stored);
    return r;
}

/* An orphan whose content is the name of another entry here that has none takes its place. */
static int hand_over(struct look *l, int fd)
{
    char stored[NAME_CIPHER_MAX + 1], side[SIDECAR_NAME_MAX], has[NAME_CIPHER_MAX + 1];
    struct stat st;
    if (name_stored_kind(l->name) != STORED_LONG_SIDECAR || named_by(l, fd, l->name, stored) ||
        fstatat(fd, stored, &st, AT_SYMLINK_NOFOLLOW))
        return -ENOENT;
    sidecar_of(stored, side);
    if (strcmp(side, l->name) == 0 || (named_by(l, fd, side, has) == 0 && strcmp(has, stored) == 0))
        return -ENOENT;
    if (renameat(fd, l->name, fd, side))
        return -errno;
    return dir_fd_sync(l->c->v, fd);
}

/* True for a symbolic link without a target: a sidecar that no link names may be what it lost. */
static int is_broken_link(const char *name, unsigned char type, void *arg)
{
    struct look *l = arg;
    struct look link = {.c = l->c, .f = l->f, .name = name, .fd = l->fd, .keys = l->keys};
    if (type != DT_LNK && type != DT_UNKNOWN)
        return 0;
    if (fstatat(l->fd, name, &link.st, AT_SYMLINK_NOFOLLOW) || !S_ISLNK(link.st.st_mode))
        return 0;
    check_link(&link);
    return link.hits.count > 0;
}

static int has_broken_link(struct look *l)
{
    AUTO_CLOSE int own = fd_openat(l->c->v, l->fd, ".", O_RDONLY | O_DIRECTORY, 0);
    return own < 0 ? own : dir_scan(own, is_broken_link, l);
}

static int drop_orphan(struct look *l)
{
    int r = node_fd_get(l->f->n, false, &l->fd);
    if (r)
        return r;
    dir_wrlock(l->f->n);
    int given = hand_over(l, l->fd);
    dir_unlock(l->f->n);
    if (given && name_stored_kind(l->name) != STORED_LONG_SIDECAR)
        r = has_broken_link(l);
    node_fd_put(l->f->n);
    l->gone = !given;
    if (r > 0)
        r = -EBUSY;
    return r || !given ? r : remove_entry(l);
}

/* ---- long names ---- */

struct donor {
    struct look *l;
    int fd;
    char name[SIDECAR_NAME_MAX]; /* of the sidecar that fits */
};

static int is_donor(const char *name, unsigned char type, void *arg)
{
    struct donor *d = arg;
    char stored[NAME_CIPHER_MAX + 1];
    if (name_stored_kind(name) != STORED_LONG_SIDECAR || named_by(d->l, d->fd, name, stored) ||
        strcmp(stored, d->l->name) != 0)
        return 0;
    snprintf(d->name, sizeof d->name, "%s", name);
    return 1;
}

/* Two sidecars may have changed places, so that they change back at once. */
static int take_sidecar(struct look *l, int fd)
{
    struct donor d = {.l = l, .fd = fd};
    char side[SIDECAR_NAME_MAX], encoded[NAME_ENCODED_MAX + 1];
    AUTO_CLOSE int own = fd_openat(l->c->v, fd, ".", O_RDONLY | O_DIRECTORY, 0);
    int r = own < 0 ? own : dir_scan(own, is_donor, &d);
    if (r <= 0)
        return r ? r : -ENOENT;
    sidecar_of(l->name, side);
    if (renameat2(fd, d.name, fd, side, RENAME_EXCHANGE) == 0)
        return dir_fd_sync(l->c->v, fd);
    if (errno != ENOENT)
        return -errno;
    d.name[strlen(d.name) - strlen(LONG_NAME_SUFFIX)] = '\0';
    r = long_name_read(l->c->v, fd, d.name, encoded);
    if (!r)
        r = small_file_write(l->c->v, fd, side, encoded, strlen(encoded));
    return r ? r : dir_fd_sync(l->c->v, fd);
}

/* The plaintext path of a name in a directory on the way. */
static int path_in(const struct look *l, const struct frame *f, const char *below, const char *name,
                   struct hit *h)
{
    const char *slash = f->plain_len ? "/" : "";
    int n = asprintf(&h->moved_to, "%.*s%s%s%s", (int)f->plain_len, l->c->plain.s, slash, below, name);
    return n < 0 ? -ENOMEM : 0;
}

static void rename_look(struct look *l, const char *now)
{
    memmove(l->now, now, strlen(now) + 1);
    l->name = l->now;
}

static void remember_moved(struct look *l)
{
    pthread_mutex_lock(&l->c->lock);
    inode_set_add(&l->c->moved, l->st.st_ino);
    pthread_mutex_unlock(&l->c->lock);
}

/* Another name in the same directory. */
static int name_anew(struct look *l, struct hit *h)
{
    char want[64], used[NAME_PLAIN_MAX + 1], now[NAME_CIPHER_MAX + 1];
    snprintf(want, sizeof want, "lost-name-%.8s", l->name + strlen(LONG_PREFIX));
    int r = lost_rename(l->c, l->f->n, l->name, l->f->n, want, used, now);
    if (r)
        return r;
    rename_look(l, now);
    remember_moved(l);
    return path_in(l, l->f, "", used, h);
}

static int fix_name(struct look *l, struct hit *h)
{
    int fd;
    if (name_stored_kind(l->name) != STORED_LONG || l->plain_known || !l->f->keyed)
        return -ENOENT;
    int r = node_fd_get(l->f->n, false, &fd);
    if (r)
        return r;
    dir_wrlock(l->f->n);
    r = take_sidecar(l, fd);
    dir_unlock(l->f->n);
    node_fd_put(l->f->n);
    return r == -ENOENT ? name_anew(l, h) : r;
}

/* ---- lost and found ---- */

struct frame *frame_top(struct frame *f)
{
    while (f->up && f->up->pd_known && memcmp(f->up->pd_id, f->pd_id, ID_BYTES) == 0)
        f = f->up;
    return f;
}

static int bury(struct look *l, struct hit *h)
{
    int r = lost_bury(l->c, l->f->n, l->name, &h->moved_to);
    l->gone = !r;
    return r;
}

static int remember_dir(struct look *l, const char *plain)
{
    struct check *c = l->c;
    struct moved_dir *grown = realloc(c->later, (c->later_count + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    c->later = grown;
    grown[c->later_count].plain = strdup(plain);
    grown[c->later_count].n = l->n;
    if (!grown[c->later_count].plain)
        return -ENOMEM;
    node_ref(l->n);
    c->later_count++;
    return 0;
}

/* Names that do not decrypt are no names: the stored one serves. */
static int move_to_lost(struct look *l, struct hit *h)
{
    struct frame *top = frame_top(l->f);
    char used[NAME_PLAIN_MAX + 1], now[NAME_CIPHER_MAX + 1];
    struct node *lost;
    int r = top->keyed && top->plain_known ? lost_dir(top->n, &lost) : LFS_ERR_NOKEY;
    if (r)
        return r;
    r = lost_rename(l->c, l->f->n, l->name, lost, l->plain_known ? l->plain : l->name, used, now);
    node_unref(lost, 1);
    if (!r)
        r = path_in(l, top, LOST_NAME "/", used, h);
    if (r)
        return r;
    l->moved = true;
    l->moved_plain = strdup(h->moved_to);
    rename_look(l, now);
    remember_moved(l);
    return S_ISDIR(l->st.st_mode) ? remember_dir(l, h->moved_to) : 0;
}

/* Into lost+found what a key opens there, out of the tree what none does. */
static int put_away(struct look *l, struct hit *h)
{
    enum stored_kind kind = name_stored_kind(l->name);
    bool named = kind == STORED_NAME || kind == STORED_LONG;
    if (l->f->lost)
        return -EEXIST;
    if (!named || (S_ISDIR(l->st.st_mode) && !l->dir_keyed))
        return bury(l, h);
    int r = move_to_lost(l, h);
    return r && S_ISLNK(l->st.st_mode) ? bury(l, h) : r;
}

/* ---- the table ---- */

static int do_remove(struct look *l, struct hit *h)
{
    return remove_entry(l);
}

static int do_drop_orphan(struct look *l, struct hit *h)
{
    return drop_orphan(l);
}

static int do_name(struct look *l, struct hit *h)
{
    return fix_name(l, h);
}

static int do_record(struct look *l, struct hit *h)
{
    return record_rebuild(l);
}

static const struct fix {
    enum check_kind kind;
    unsigned flags; /* of the options, beside CHECK_REPAIR */
    const char *what;
    int (*run)(struct look *l, struct hit *h);
} fixes[] = {
    {CHECK_LEFTOVER, 0, "remove it", do_remove},
    {CHECK_ORPHAN_SIDECAR, 0, "remove it", do_drop_orphan},
    {CHECK_MISSING_SIDECAR, 0, "find its name, or give it another", do_name},
    {CHECK_BAD_SIDECAR, 0, "find its name, or give it another", do_name},
    {CHECK_MISSING_RECORD, 0, "make a new record, if its id can be known", do_record},
    {CHECK_BAD_RECORD, 0, "make a new record, if its id can be known", do_record},
    {CHECK_UNDECRYPTABLE_NAME, CHECK_LOST_FOUND, "move it to lost+found", put_away},
    {CHECK_MISSING_RECORD, CHECK_LOST_FOUND, "move it away", put_away},
    {CHECK_BAD_RECORD, CHECK_LOST_FOUND, "move it to lost+found", put_away},
    {CHECK_BAD_LINK, CHECK_LOST_FOUND, "move it away", put_away},
    {CHECK_MISSING_SIDECAR, CHECK_LOST_FOUND, "move it away", put_away},
    {CHECK_BAD_SIDECAR, CHECK_LOST_FOUND, "move it away", put_away},
    {CHECK_FOREIGN_TYPE, CHECK_LOST_FOUND, "move it away", put_away},
};
#define FIXES (sizeof fixes / sizeof fixes[0])

/* What could be done, by the first way there is. The root is an entry of no directory. */
static bool is_for(const struct fix *x, const struct look *l, const struct hit *h)
{
    if (x->kind != h->kind || (!l->f && x->run != do_record) || (l->f && l->f->lost && x->run == put_away))
        return false;
    if (x->run == do_name)
        return name_stored_kind(l->name) == STORED_LONG && !l->plain_known && l->f->keyed;
    return x->run != do_record || (!l->dir_keyed && (!l->f || l->f->keyed));
}

static void say_what(const struct look *l, struct hits *hits)
{
    for (unsigned i = 0; i < hits->count; i++)
        for (size_t x = 0; x < FIXES && !hits->hit[i].repair; x++)
            if (is_for(&fixes[x], l, &hits->hit[i]))
                hits->hit[i].repair = fixes[x].what;
}

/* The next repair to try, each once. */
static const struct fix *next_fix(struct look *l, bool tried[static FIXES], struct hit **hit)
{
    for (size_t x = 0; x < FIXES; x++)
        for (unsigned i = 0; i < l->hits.count; i++) {
            if (tried[x] || (l->c->o->flags & fixes[x].flags) != fixes[x].flags ||
                !is_for(&fixes[x], l, &l->hits.hit[i]))
                continue;
            tried[x] = true;
            *hit = &l->hits.hit[i];
            return &fixes[x];
        }
    return NULL;
}

/* A hit that was dealt with, from those of the last look to those that are done. */
static void take_hit(struct look *l, struct hit *h, const struct fix *x, struct hits *done)
{
    h->repair = x->what;
    h->repaired = true;
    if (done->count < HITS_MAX)
        done->hit[done->count++] = *h;
    else
        free(h->moved_to);
    *h = l->hits.hit[--l->hits.count];
}

/* What is not where it was has no other trouble there. */
static void take_rest(struct look *l, const struct fix *x, struct hits *done)
{
    const char *to = done->count ? done->hit[done->count - 1].moved_to : NULL;
    while (l->hits.count) {
        l->hits.hit[0].moved_to = to ? strdup(to) : NULL;
        take_hit(l, &l->hits.hit[0], x, done);
    }
}

static int look_again(struct look *l)
{
    if (l->n)
        node_unref(l->n, 1);
    l->n = NULL;
    l->plain_known = l->dir_keyed = l->dir_id_known = l->dir_pd_known = false;
    hits_clear(&l->hits);
    return l->f ? check_entry(l) : check_root_entry(l);
}

static int repair(struct look *l, struct hits *done)
{
    bool tried[FIXES] = {false};
    const struct fix *x;
    struct hit *h;
    int r = 0;
    for (unsigned round = 0; !r && round < ROUNDS_MAX && (x = next_fix(l, tried, &h));) {
        if (x->run(l, h))
            continue;
        take_hit(l, h, x, done);
        if (l->moved || l->gone) {
            take_rest(l, x, done);
            break;
        }
        round++;
        r = look_again(l);
    }
    return r;
}

int check_repair_entry(struct look *l)
{
    struct hits done = {0};
    int r = 0;
    if (!l->hits.count)
        return 0;
    if (l->c->repairs)
        r = repair(l, &done);
    say_what(l, &l->hits);
    for (unsigned i = 0; i < l->hits.count && done.count < HITS_MAX; i++) {
        struct hit *h = &done.hit[done.count++];
        *h = l->hits.hit[i];
        /* What was moved there is known: it is told, but alarms no longer. */
        if (l->f && l->f->lost && h->severity == CHECK_DAMAGE)
            h->severity = CHECK_WARNING;
    }
    l->hits = done;
    return r;
}
