/* What a shared mount knows of nodes while others change the volume. */
#include "fs/store/share_int.h"

#include "fs/store/file.h"
#include "fs/store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#ifndef AT_HANDLE_FID /* Linux 6.6 */
#define AT_HANDLE_FID AT_REMOVEDIR
#endif

/* ---- inodes ---- */

/* FNV-1a: equal input is all that counts. */
static uint64_t fold(const void *data, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * UINT64_C(0x100000001b3);
    return h | 1;
}

/* The handle that the filesystem would export has the number's generation in it. */
static uint64_t handle_of(int fd, const char *name, int flags)
{
    union {
        struct file_handle h;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } u = {.h.handle_bytes = MAX_HANDLE_SZ};
    int mount;
    if (name_to_handle_at(fd, name, &u.h, &mount, flags))
        return 0;
    return fold(u.h.f_handle, u.h.handle_bytes) ^ (uint64_t)(unsigned)u.h.handle_type << 1;
}

uint64_t share_birth(int fd, const char *name)
{
    int flags = *name ? 0 : AT_EMPTY_PATH;
    struct statx st;
    uint64_t birth = handle_of(fd, name, flags | AT_HANDLE_FID);
    if (!birth)
        birth = handle_of(fd, name, flags);
    if (!birth && statx(fd, name, flags | AT_SYMLINK_NOFOLLOW, STATX_BTIME, &st) == 0 &&
        (st.stx_mask & STATX_BTIME))
        birth = fold(&(uint64_t[2]){(uint64_t)st.stx_btime.tv_sec, st.stx_btime.tv_nsec}, 16);
    return birth;
}

bool share_is_node(const struct node *n, int fd, const char *name)
{
    struct stat st;
    if (!n->vol->share)
        return true;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH)) || st.st_ino != n->ino ||
        st.st_dev != n->dev || (st.st_mode & S_IFMT) != n->type)
        return false;
    uint64_t birth = n->birth ? share_birth(fd, name) : 0;
    return !birth || birth == n->birth;
}

/* ---- places ---- */

void share_seen(struct node *n)
{
    if (n->vol->share)
        atomic_store(&n->seen, atomic_load(&n->vol->share->epoch));
}

bool share_place_holds(const struct node *n)
{
    const struct share *s = n->vol->share;
    return !s || n == n->vol->root || atomic_load(&n->seen) == atomic_load(&s->epoch);
}

/* ---- forgetting ---- */

/* Who had the token last has synced the whole volume before it went, or a replay has. */
static void note_durable(struct node *n, void *arg)
{
    atomic_store(&n->synced, atomic_load(&n->changes));
    atomic_store(&n->meta_dirty, false);
    atomic_store(&n->data_dirty, false);
}

int share_forget(struct volume *v)
{
    atomic_fetch_add(&v->share->epoch, 1);
    volume_each_node(v, note_durable, NULL);
    fd_evict_unused(v);
    checkpoint_forget(v);
    return freeze_each_file(v, file_reset);
}

/* ---- openers ---- */

static bool has_place(struct node *n)
{
    struct node *parent = node_parent(n);
    node_unref(parent, 1);
    return parent != NULL;
}

void share_opened(struct node *n)
{
    if (n->vol->share && atomic_fetch_add(&n->openers, 1) == 0)
        fd_pin(n);
}

void share_closed(struct node *n)
{
    if (!n->vol->share || atomic_fetch_sub(&n->openers, 1) != 1 || atomic_load(&n->removed) || !has_place(n))
        return;
    fd_unpin(n);
    if (atomic_load(&n->openers)) /* who came meanwhile has found it pinned */
        fd_pin(n);
}

/* ---- public ---- */

bool node_cache_holds(struct node *n)
{
    const struct share *s = n->vol->share;
    if (!s)
        return true;
    uint64_t now = atomic_load(&s->epoch);
    return atomic_exchange(&n->cached, now) == now;
}
