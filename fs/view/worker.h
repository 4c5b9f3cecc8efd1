/* The threads that receive requests and answer them, and what each keeps between two. */
#ifndef FS_VIEW_WORKER_H
#define FS_VIEW_WORKER_H

#define FUSE_USE_VERSION 314

#include "latchfs/aead.h"

#include <fuse3/fuse_lowlevel.h>

#define REQUEST_BYTES_MAX (1u << 20) /* data of one READ */
#define CIPHER_BYTES (18 * PAGE_BYTES)

struct scratch {
    struct aead *aead;
    uint8_t *plain;  /* GROUP_PLAIN_BYTES */
    uint8_t *cipher; /* CIPHER_BYTES */
    uint8_t *reply;  /* REQUEST_BYTES_MAX */
};

/* This thread's own; NULL when memory is out. */
struct scratch *scratch_get(void);

struct workers;

/* se is mounted. Starts them; requests are answered from now on. */
int workers_start(struct fuse_session *se, struct workers **out);

/* Readable once the connection is over, or after workers_stop. */
int workers_done_fd(const struct workers *w);

/* Ends and joins all. Takes NULL. */
void workers_free(struct workers *w);

#endif
