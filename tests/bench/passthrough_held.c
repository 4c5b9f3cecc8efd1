#include "passthrough_held.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SLOTS_MAX 65536u

/* Open descriptors that may be closed, in a ring that a hand goes round. */
static pthread_mutex_t ring_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept *ring[SLOTS_MAX];
static unsigned slots, hand;

static int mount_fd = -1; /* of the filesystem that handles are of; -1: they do not work */
static int mount_id;

/* ---- handles ---- */

static bool handle_of(int dir, const char *name, int flags, struct handle *out, int *mount)
{
    struct {
        struct file_handle head;
        unsigned char value[HANDLE_BYTES];
    } h = {.head.handle_bytes = HANDLE_BYTES};
    if (name_to_handle_at(dir, name, &h.head, mount, flags))
        return false;
    *out = (struct handle){.bytes = h.head.handle_bytes, .type = h.head.handle_type};
    memcpy(out->value, h.head.f_handle, out->bytes);
    return true;
}

static int open_handle(const struct handle *from, int flags)
{
    struct {
        struct file_handle head;
        unsigned char value[HANDLE_BYTES];
    } h = {.head = {.handle_bytes = from->bytes, .handle_type = from->type}};
    memcpy(h.head.f_handle, from->value, from->bytes);
    int fd = open_by_handle_at(mount_fd, &h.head, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

void held_begin(int root)
{
    struct rlimit l;
    struct handle h;
    slots = getrlimit(RLIMIT_NOFILE, &l) || l.rlim_cur / 2 > SLOTS_MAX ? SLOTS_MAX : (unsigned)l.rlim_cur / 2;
    mount_fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd =
        mount_fd >= 0 && handle_of(root, "", AT_EMPTY_PATH, &h, &mount_id) ? open_handle(&h, O_PATH) : -1;
    if (fd >= 0)
        close(fd);
    else
        lfs_close_fd(&mount_fd);
}

int held_handle(int dir, const char *name, struct handle *out)
{
    int mount;
    if (mount_fd < 0)
        return EOPNOTSUPP;
    if (!handle_of(dir, name, 0, out, &mount))
        return errno == EOVERFLOW ? EOPNOTSUPP : errno;
    return mount == mount_id ? 0 : EOPNOTSUPP;
}

/* ---- what may be closed ---- */

static bool may_close(const struct kept *k)
{
    return k->fd >= 0 && !k->users && !k->pinned;
}

static bool ensure_handle(struct kept *k)
{
    int mount;
    return k->handle.bytes || (handle_of(k->fd, "", AT_EMPTY_PATH, &k->handle, &mount) && mount == mount_id);
}

/* Closes it if it was not used since the last look. The ring is locked, so it is not freed meanwhile. */
static bool close_unused(struct kept *k)
{
    bool closed = false;
    if (pthread_mutex_trylock(&k->lock))
        return false;
    if (may_close(k) && !k->recent && ensure_handle(k)) {
        lfs_close_fd(&k->fd);
        k->data = false;
        closed = true;
    }
    k->recent = false;
    pthread_mutex_unlock(&k->lock);
    return closed;
}

/* Gives k, which was just opened, a place, of another one if all are taken. When all are in use it goes
 * without. */
static void take_slot(struct kept *k)
{
    if (mount_fd < 0)
        return;
    pthread_mutex_lock(&ring_lock);
    for (unsigned tries = 0; !k->slot && tries < 2 * slots; tries++) {
        unsigned i = hand++ % slots;
        if (ring[i] && !close_unused(ring[i]))
            continue;
        if (ring[i])
            ring[i]->slot = 0;
        ring[i] = k;
        k->slot = i + 1;
    }
    pthread_mutex_unlock(&ring_lock);
}

void held_init(struct kept *k, int fd, bool data, const struct handle *handle)
{
    pthread_mutex_init(&k->lock, NULL);
    k->fd = fd;
    k->data = data;
    k->recent = true;
    if (handle)
        k->handle = *handle;
    if (fd >= 0)
        take_slot(k);
}

/* Who has just answered a request may still be at its end while the kernel forgets the inode. */
static bool in_use(struct kept *k)
{
    pthread_mutex_lock(&k->lock);
    bool used = k->users > 0;
    pthread_mutex_unlock(&k->lock);
    return used;
}

void held_close(struct kept *k)
{
    while (in_use(k))
        sched_yield();
    pthread_mutex_lock(&ring_lock);
    if (k->slot)
        ring[k->slot - 1] = NULL;
    pthread_mutex_unlock(&ring_lock);
    lfs_close_fd(&k->fd);
    pthread_mutex_destroy(&k->lock);
}

/* ---- opening ---- */

/* For data, of what is open already: the number stays, others may be using it. */
static int reopen(const struct kept *k)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", k->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno != EMFILE)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    int r = fd < 0 || dup3(fd, k->fd, O_CLOEXEC) < 0 ? -errno : 0;
    lfs_close_fd(&fd);
    return r;
}

static int open_again(struct kept *k, bool data)
{
    int fd = open_handle(&k->handle, data ? O_RDWR : O_PATH);
    if (fd < 0 && data && fd != -EMFILE)
        fd = open_handle(&k->handle, O_RDONLY);
    if (fd < 0)
        return fd;
    k->fd = fd;
    k->data = data;
    take_slot(k);
    return 0;
}

static int ensure(struct kept *k, bool data)
{
    if (k->fd < 0)
        return open_again(k, data);
    if (!data || k->data)
        return 0;
    int r = reopen(k);
    k->data = !r;
    return r;
}

struct held hold(struct kept *k, bool data)
{
    struct held h = {.of = k};
    pthread_mutex_lock(&k->lock);
    int r = ensure(k, data);
    if (!r) {
        k->users++;
        k->recent = true;
    }
    h.fd = r ? r : k->fd;
    pthread_mutex_unlock(&k->lock);
    return h;
}

void held_end(struct held *h)
{
    if (h->fd < 0)
        return;
    pthread_mutex_lock(&h->of->lock);
    h->of->users--;
    pthread_mutex_unlock(&h->of->lock);
}

void held_pin(struct kept *k)
{
    pthread_mutex_lock(&k->lock);
    k->pinned = !ensure(k, false);
    pthread_mutex_unlock(&k->lock);
}
