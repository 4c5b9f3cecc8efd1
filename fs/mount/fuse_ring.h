/* FUSE over io_uring (kernel 6.14 and later): what Debian 12's <linux/fuse.h> does not have yet. Source of
 * names, values and layout: include/uapi/linux/fuse.h of Linux 6.18. */
#ifndef FS_MOUNT_FUSE_RING_H
#define FS_MOUNT_FUSE_RING_H

#include <stdint.h>

#define RING_INIT_FLAG (UINT64_C(1) << 41) /* FUSE_OVER_IO_URING: bit 9 of flags2 */
#define RING_HEADER_BYTES 128

/* fuse_uring_cmd: the operation of an IORING_OP_URING_CMD. */
enum ring_operation { RING_REGISTER = 1, RING_COMMIT_AND_FETCH = 2 };

/* fuse_uring_req_header: one entry's headers, in both directions. The payload lies elsewhere. */
struct ring_headers {
    _Alignas(
        8) char in_out[RING_HEADER_BYTES]; /* fuse_in_header of a request, fuse_out_header of its answer */
    char op_in[RING_HEADER_BYTES];         /* what is the operation's own, at a fixed length */
    uint64_t flags;
    uint64_t commit_id;
    uint32_t payload_bytes; /* of the request, then of the answer */
    uint32_t padding;
    uint64_t reserved;
};

/* fuse_uring_cmd_req: at the end of a submission queue entry of 128 bytes. */
struct ring_command {
    uint64_t flags;
    uint64_t commit_id;
    uint16_t queue;
    uint8_t padding[6];
};

#endif
