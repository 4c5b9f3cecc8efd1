/* The two checks: what they are given, and their beginning and end. */
#include "fs/store/check_int.h"

#include <errno.h>

static bool is_told_to(const struct check_options *o, unsigned flag)
{
    return (o->flags & flag) != 0;
}

static void begin(struct check *c, struct volume *v, const struct check_options *o, bool keyed)
{
    *c = (struct check){.v = v, .o = o, .keyed = keyed};
    c->contents = keyed && is_told_to(o, CHECK_CONTENTS);
    c->repairs = keyed && is_told_to(o, CHECK_REPAIR);
    c->began_ns = check_now_ns();
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->telling, NULL);
}

static int end(struct check *c, int r, struct check_progress *out)
{
    check_show(c, true);
    *out = c->p;
    id_set_clear(&c->files);
    id_set_clear(&c->dirs);
    id_set_clear(&c->pending);
    inode_set_clear(&c->moved);
    inode_set_clear(&c->seen);
    inode_set_clear(&c->pending_ino);
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->telling);
    return r;
}

static int run(struct check *c)
{
    struct check_total *total = total_start(c);
    int r = queue_start(c);
    if (!r)
        r = check_walk(c);
    if (r)
        check_fail(c, r);
    queue_finish(c);
    total_stop(total);
    if (c->repairs && (r = volume_checkpoint(c->v)))
        check_fail(c, r);
    return c->fatal ? c->fatal : check_stopped(c);
}

int check_structure(const char *volume_path, const struct check_options *o, struct check_progress *out)
{
    struct volume *v;
    struct check c;
    if (is_told_to(o, CHECK_REPAIR | CHECK_CONTENTS))
        return LFS_ERR_MISUSE;
    int r = volume_open_bare(volume_path, &v);
    if (r)
        return r;
    begin(&c, v, o, false);
    r = end(&c, run(&c), out);
    volume_close_bare(v);
    return r;
}

int check_volume(struct volume *v, const struct check_options *o, struct check_progress *out)
{
    struct check c;
    if (is_told_to(o, CHECK_REPAIR) && volume_check_writable(v))
        return -EROFS;
    begin(&c, v, o, true);
    return end(&c, run(&c), out);
}
