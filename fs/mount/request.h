/* The request that a thread answers, and what holds for every request however it came. */
#ifndef FS_MOUNT_REQUEST_H
#define FS_MOUNT_REQUEST_H

#include "fs/mount/session.h"

#include <sys/uio.h>

struct later;
struct patience;
struct ring_entry;

/* What the threads of a session work for. */
struct workers_of {
    const struct session_hooks *hooks;
    void *arg;
    struct fuse_session *se;
    int fd;   /* the device, non-blocking */
    int done; /* eventfd, readable once the session ends; the first thread that ends makes it so */
};

/* An answer that goes by another way than the device. */
struct reply {
    uint64_t unique; /* of the request */
    char *body;      /* room for REQUEST_BYTES_MAX: what follows the header comes here */
    struct fuse_out_header head;
    size_t body_len;
    bool given;
};

/* How a request is to be answered. */
struct request_means {
    char *buffer;              /* REQUEST_BYTES_MAX bytes for session_reply_buffer */
    struct later *later;       /* takes what is put off; NULL: nothing may be */
    struct reply *reply;       /* NULL: by the device */
    struct patience *patience; /* NULL: it sleeps when it waits for a disk */
};

/* True: once it is answered, the request has to be wiped. */
bool request_answer(const struct workers_of *of, const struct fuse_buf *request,
                    const struct request_means *means);

/* For the writer of answers: takes one that this thread is to give by `reply`. False: it goes to the device.
 */
bool request_take_reply(const struct iovec *iov, int count);

/* What may not change something now waits, but not in a thread: once all of them waited, nobody would serve
 * reads. */
bool request_is_change(uint32_t opcode);

/* The hooks try_change, end_change and no_room. */
bool request_try_change(const struct workers_of *of);
void request_end_change(const struct workers_of *of);
void request_no_room(const struct workers_of *of);

#endif
