#include "fs/mount/ring.h"

#include "latchfs/buf.h"

#include <errno.h>
#include <linux/fuse.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define COMMANDS 8u
#define EVENTS 64u /* the kernel keeps more than that aside */
#define SQE_BYTES 128u

_Static_assert(sizeof(struct ring_headers) == 288, "as the kernel has it");
_Static_assert(sizeof(struct ring_command) == 24, "as the kernel has it");

struct ring {
    int fd;
    char *queues; /* both, mapped */
    size_t queues_bytes;
    char *commands;
    uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail;
    uint32_t sq_mask, cq_mask;
    const struct io_uring_cqe *events;
};

/* ---- entries ---- */

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

int ring_entry_new(unsigned queue, struct ring_entry **out)
{
    size_t front = page_bytes();
    struct ring_entry *e = malloc(sizeof *e);
    char *at = mmap(NULL, front + RING_PAYLOAD_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!e || at == MAP_FAILED) {
        if (at != MAP_FAILED)
            munmap(at, front + RING_PAYLOAD_BYTES);
        free(e);
        return -ENOMEM;
    }
    *e = (struct ring_entry){
        .queue = queue, .headers = (void *)at, .payload = at + front, .front = front - sizeof *e->headers};
    *out = e;
    return 0;
}

void ring_entry_free(struct ring_entry *e)
{
    if (!e)
        return;
    munmap(e->headers, page_bytes() + RING_PAYLOAD_BYTES);
    free(e);
}

void *ring_entry_request(struct ring_entry *e, size_t *len)
{
    const struct fuse_in_header *head = (const void *)e->headers->in_out;
    size_t payload = e->headers->payload_bytes, op = head->len - sizeof *head - payload;
    e->request = e->headers->commit_id;
    if (head->len < sizeof *head + payload || op > RING_HEADER_BYTES)
        return NULL;
    char *start = e->payload - op - sizeof *head;
    memcpy(start, head, sizeof *head);
    memcpy(start + sizeof *head, e->headers->op_in, op);
    *len = head->len;
    return start;
}

static void wipe_payload(struct ring_entry *e, size_t from)
{
    size_t page = page_bytes(), whole = (from + page - 1) / page * page;
    memset(e->payload + from, 0, whole - from);
    madvise(e->payload + whole, RING_PAYLOAD_BYTES - whole, MADV_DONTNEED);
}

void ring_entry_wipe(struct ring_entry *e)
{
    wipe_payload(e, 0);
    madvise(e->headers, page_bytes(), MADV_DONTNEED);
}

void ring_entry_wipe_behind(struct ring_entry *e)
{
    size_t len = e->headers->payload_bytes;
    wipe_payload(e, len < RING_PAYLOAD_BYTES ? len : RING_PAYLOAD_BYTES);
}

/* ---- life ---- */

static int set_up(struct io_uring_params *p)
{
    /* DEFER_TASKRUN: the kernel copies a request when its thread asks for it, and interrupts it never. */
    p->flags = IORING_SETUP_SQE128 | IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER |
               IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED;
    p->cq_entries = EVENTS;
    int fd = (int)syscall(SYS_io_uring_setup, COMMANDS, p);
    return fd < 0 ? -errno : fd;
}

static int map(struct ring *r, const struct io_uring_params *p)
{
    size_t sq = p->sq_off.array + p->sq_entries * sizeof(uint32_t),
           cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    if (!(p->features & IORING_FEAT_SINGLE_MMAP) || !(p->features & IORING_FEAT_NODROP))
        return -ENOSYS;
    r->queues_bytes = sq > cq ? sq : cq;
    r->queues = mmap(NULL, r->queues_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
                     IORING_OFF_SQ_RING);
    r->commands = mmap(NULL, (size_t)COMMANDS * SQE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                       r->fd, (off_t)IORING_OFF_SQES);
    if (r->queues == MAP_FAILED || r->commands == MAP_FAILED)
        return -errno;
    r->sq_head = (void *)(r->queues + p->sq_off.head);
    r->sq_tail = (void *)(r->queues + p->sq_off.tail);
    r->sq_mask = *(uint32_t *)(void *)(r->queues + p->sq_off.ring_mask);
    r->cq_head = (void *)(r->queues + p->cq_off.head);
    r->cq_tail = (void *)(r->queues + p->cq_off.tail);
    r->cq_mask = *(uint32_t *)(void *)(r->queues + p->cq_off.ring_mask);
    r->events = (void *)(r->queues + p->cq_off.cqes);
    uint32_t *order = (void *)(r->queues + p->sq_off.array);
    for (uint32_t i = 0; i < p->sq_entries; i++)
        order[i] = i;
    return 0;
}

int ring_new(struct ring **out)
{
    struct io_uring_params p = {0};
    struct ring *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->queues = r->commands = MAP_FAILED;
    r->fd = set_up(&p);
    int err = r->fd < 0 ? r->fd : map(r, &p);
    if (err) {
        ring_free(r);
        return err;
    }
    *out = r;
    return 0;
}

int ring_enable(struct ring *r)
{
    return syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0 ? -errno : 0;
}

void ring_free(struct ring *r)
{
    if (!r)
        return;
    if (r->queues != MAP_FAILED)
        munmap(r->queues, r->queues_bytes);
    if (r->commands != MAP_FAILED)
        munmap(r->commands, (size_t)COMMANDS * SQE_BYTES);
    lfs_close_fd(&r->fd);
    free(r);
}

/* ---- commands ---- */

static uint32_t unmade(const struct ring *r)
{
    return *r->sq_tail - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);
}

static struct io_uring_sqe *next_command(struct ring *r)
{
    while (unmade(r) > r->sq_mask)
        ring_enter(r, 0);
    struct io_uring_sqe *sqe = (void *)(r->commands + (size_t)(*r->sq_tail & r->sq_mask) * SQE_BYTES);
    memset(sqe, 0, SQE_BYTES);
    return sqe;
}

static void publish(struct ring *r)
{
    __atomic_store_n(r->sq_tail, *r->sq_tail + 1, __ATOMIC_RELEASE);
}

/* user_data: an entry's address, which is even, or a descriptor made odd. */
void ring_watch(struct ring *r, int fd)
{
    struct io_uring_sqe *sqe = next_command(r);
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = fd;
    sqe->poll_events = POLLIN;
    sqe->user_data = (uint64_t)fd << 1 | 1;
    publish(r);
}

static struct io_uring_sqe *fuse_command(struct ring *r, int device, enum ring_operation op,
                                         const struct ring_entry *e)
{
    struct io_uring_sqe *sqe = next_command(r);
    struct ring_command command = {.commit_id = e->request, .queue = (uint16_t)e->queue};
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = device;
    sqe->cmd_op = op;
    sqe->user_data = (uintptr_t)e;
    memcpy(sqe->cmd, &command, sizeof command);
    return sqe;
}

void ring_register(struct ring *r, int device, struct ring_entry *e)
{
    e->iov[0] = (struct iovec){e->headers, sizeof *e->headers};
    e->iov[1] = (struct iovec){e->payload, RING_PAYLOAD_BYTES};
    struct io_uring_sqe *sqe = fuse_command(r, device, RING_REGISTER, e);
    sqe->addr = (uintptr_t)e->iov;
    sqe->len = 2;
    publish(r);
}

void ring_commit(struct ring *r, int device, const struct ring_entry *e)
{
    fuse_command(r, device, RING_COMMIT_AND_FETCH, e);
    publish(r);
}

int ring_enter(struct ring *r, int wait_ms)
{
    struct __kernel_timespec time = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000LL};
    struct io_uring_getevents_arg arg = {.ts = wait_ms > 0 ? (uintptr_t)&time : 0};
    unsigned flags = wait_ms ? IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG : 0u;
    long n = syscall(SYS_io_uring_enter, r->fd, unmade(r), wait_ms ? 1u : 0u, flags, &arg, sizeof arg);
    return n < 0 && errno != EINTR ? -errno : 0;
}

bool ring_next(struct ring *r, struct ring_event *out)
{
    uint32_t head = *r->cq_head;
    if (head == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE))
        return false;
    const struct io_uring_cqe *cqe = &r->events[head & r->cq_mask];
    bool watch = cqe->user_data & 1;
    *out = (struct ring_event){.entry = watch ? NULL : (void *)(uintptr_t)cqe->user_data,
                               .fd = watch ? (int)(cqe->user_data >> 1) : -1,
                               .result = cqe->res};
    __atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
    return true;
}
