/* A thread of the crew. */
#include "fs/mount/crew_int.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

/* A thread leaves its processor after three requests in a row with much data, and comes back when there were
 * so many more of the others. */
#define MUCH_BYTES (32u << 10)
#define FLOW_STEP 20u
#define FLOW_AWAY 50u
#define FLOW_MAX 64u
#define REST_MS 500

/* ---- where it runs ---- */

static void note_flow(struct hand *h, size_t bytes)
{
    if (bytes < MUCH_BYTES) {
        h->flow -= h->flow > 0;
        return;
    }
    h->full = true;
    h->flow = h->flow + FLOW_STEP < FLOW_MAX ? h->flow + FLOW_STEP : FLOW_MAX;
}

/* Where that is not allowed, it runs anywhere. */
static void go_home(struct hand *h)
{
    cpu_set_t home;
    CPU_ZERO(&home);
    CPU_SET(crew_plan_home(&h->crew->plan, h->number), &home);
    sched_setaffinity(0, sizeof home, &home);
    h->at_home = true;
}

static void go_away(struct hand *h)
{
    sched_setaffinity(0, sizeof h->crew->plan.allowed, &h->crew->plan.allowed);
    h->at_home = false;
}

/* ---- wiping ---- */

static void wipe_entries(struct hand *h)
{
    hand_settle(h);
    for (struct ring_entry *e = h->entries; e; e = e->next)
        (e->ready ? ring_entry_wipe_behind : ring_entry_wipe)(e);
}

static void wipe(struct hand *h)
{
    const struct workers_of *of = &h->crew->of;
    wipe_entries(h);
    if (h->spare)
        madvise(h->spare, RING_PAYLOAD_BYTES, MADV_DONTNEED); /* zero pages from now on */
    if (of->hooks->wipe_thread)
        of->hooks->wipe_thread(of->arg);
}

static void follow_order(struct hand *h)
{
    uint64_t order;
    if (!wiping_is_due(h->crew->wiping, &h->wiper, &order))
        return;
    wipe(h);
    wiping_followed(h->crew->wiping, &h->wiper, order);
}

static void rest(struct hand *h)
{
    wipe(h);
    h->full = false;
    h->flow = 0;
    if (!h->at_home)
        go_home(h);
}

static void consider_place(struct hand *h)
{
    if (h->at_home && h->flow > FLOW_AWAY)
        go_away(h);
    else if (!h->at_home && h->flow == 0)
        rest(h);
}

/* ---- events ---- */

static void note_event(struct hand *h, const struct ring_event *ev)
{
    eventfd_t count;
    if (ev->entry && ev->result == 0) {
        ev->entry->ready = true;
        h->ready++;
    } else if (ev->entry) {
        h->refused = ev->result;
        h->over = true;
    } else if (ev->fd == h->wake) {
        eventfd_read(h->wake, &count);
        ring_watch(h->ring, h->wake);
        h->woken = true;
    } else {
        h->over = true;
    }
}

static void note_events(struct hand *h)
{
    struct ring_event ev;
    while (ring_next(h->ring, &ev))
        note_event(h, &ev);
}

void hand_settle(struct hand *h)
{
    ring_enter(h->ring, 0);
    note_events(h);
}

/* ---- requests ---- */

static void commit(struct hand *h, struct ring_entry *e, const struct reply *r)
{
    if (r->body_len && r->body != e->payload)
        memcpy(e->payload, r->body, r->body_len);
    memcpy(e->headers->in_out, &r->head, sizeof r->head);
    e->headers->payload_bytes = (uint32_t)r->body_len;
    ring_commit(h->ring, h->crew->of.fd, e);
}

void hand_answer(struct hand *h, struct ring_entry *e, bool once)
{
    struct fuse_buf request = {0};
    request.mem = ring_entry_request(e, &request.size);
    size_t in = e->headers->payload_bytes;
    struct reply reply = {.unique = e->request, .body = in ? h->spare : e->payload};
    const struct request_means means = {.buffer = reply.body, .reply = &reply, .patience = &h->patience};
    bool forget = once;
    if (request.mem && request_answer(&h->crew->of, &request, &means))
        forget = true;
    if (!reply.given) {
        log_error("a request of the kernel was not understood");
        reply.head = (struct fuse_out_header){sizeof reply.head, -EIO, e->request};
    }
    if (forget && in)
        ring_entry_wipe(e);
    note_flow(h, in > reply.body_len ? in : reply.body_len);
    commit(h, e, &reply);
}

/* What refused changes may have ended before this one was put aside, and nobody has seen it. */
static void look_after_putting(struct hand *h)
{
    if (!request_try_change(&h->crew->of))
        return;
    request_end_change(&h->crew->of);
    crew_wake(h->crew);
}

/* False: it waits. */
static bool begin_change(struct hand *h, struct ring_entry *e)
{
    while (!request_try_change(&h->crew->of)) {
        if (crew_wait_put(h, e)) {
            look_after_putting(h);
            return false;
        }
        request_no_room(&h->crew->of);
    }
    return true;
}

static void answer(struct hand *h, struct ring_entry *e)
{
    const struct fuse_in_header *head = (const void *)e->headers->in_out;
    bool change = request_is_change(head->opcode);
    if (change && !begin_change(h, e))
        return;
    hand_answer(h, e, false);
    if (change)
        request_end_change(&h->crew->of);
}

static struct ring_entry *take_ready(struct hand *h)
{
    struct ring_entry *e = h->ready ? h->entries : NULL;
    while (e && !e->ready)
        e = e->next;
    if (e) {
        e->ready = false;
        h->ready--;
    }
    return e;
}

static void answer_ready(struct hand *h)
{
    for (struct ring_entry *e; (e = take_ready(h));) {
        answer(h, e);
        if (h->ready)
            hand_settle(h);
    }
}

/* After much data it does not sleep before it has given its memory back. */
static int wait(struct hand *h)
{
    int r = ring_enter(h->ring, h->ready || h->woken ? 0 : h->full ? REST_MS : RING_FOREVER);
    if (r != -ETIME)
        return r;
    rest(h);
    return 0;
}

static int serve(struct hand *h)
{
    int r = 0;
    while (!r && !h->over && !fuse_session_exited(h->crew->of.se)) {
        h->woken = false;
        answer_ready(h);
        crew_wait_answer(h);
        crew_wait_reserve(h);
        follow_order(h);
        consider_place(h);
        if (!h->over)
            r = wait(h);
        note_events(h);
    }
    return r;
}

/* ---- life ---- */

static int enter_ring(struct hand *h)
{
    int r = ring_enable(h->ring);
    if (r)
        return r;
    ring_watch(h->ring, h->wake);
    ring_watch(h->ring, h->crew->of.done);
    for (struct ring_entry *e = h->entries; e; e = e->next)
        ring_register(h->ring, h->crew->of.fd, e);
    hand_settle(h);
    return h->refused;
}

static int set_up(struct hand *h)
{
    const struct workers_of *of = &h->crew->of;
    void *spare = mmap(NULL, RING_PAYLOAD_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (spare == MAP_FAILED)
        return -ENOMEM;
    h->spare = spare;
    patience_init(&h->patience, &h->crew->spinning);
    int r = of->hooks->begin_thread ? of->hooks->begin_thread(of->arg) : 0;
    go_home(h);
    return r ? r : enter_ring(h);
}

/* What ends the connection is no error: it is unmounted or aborted. */
static bool is_end(int err)
{
    return err == 0 || err == -ENOTCONN || err == -ECONNABORTED || err == -ECANCELED;
}

static void end_session(struct hand *h, int r)
{
    if (!is_end(r ? r : h->refused))
        log_error("the kernel's requests do not come any more: %s", lfs_strerror(r ? r : h->refused));
    fuse_session_exit(h->crew->of.se);
    eventfd_write(h->crew->of.done, 1);
}

void *hand_run(void *arg)
{
    struct hand *h = arg;
    pthread_setname_np(pthread_self(), "worker");
    int r = set_up(h);
    crew_report(h->crew, r);
    if (!r)
        end_session(h, serve(h));
    wipe(h);
    wiping_leave(h->crew->wiping, &h->wiper);
    if (h->spare) {
        patience_clear(&h->patience);
        munmap(h->spare, RING_PAYLOAD_BYTES);
    }
    ring_free(h->ring);
    h->ring = NULL;
    return NULL;
}
