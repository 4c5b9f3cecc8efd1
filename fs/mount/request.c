#include "fs/mount/request.h"

#include "fs/mount/later.h"
#include "fs/mount/patience.h"

#include <string.h>

static _Thread_local const struct fuse_buf *at_hand;
static _Thread_local struct request_means means_now;
static _Thread_local bool forget;

const struct fuse_in_header *session_request(void)
{
    return at_hand->mem;
}

char *session_reply_buffer(void)
{
    return means_now.buffer;
}

bool session_put_off(void)
{
    return means_now.later && later_put(means_now.later, at_hand->mem, at_hand->size);
}

bool session_look_again(void)
{
    struct patience *p = means_now.patience;
    if (!p || !patience_look_again(p, spinner_now()))
        return false;
    spinner_yield(&p->spinner);
    return true;
}

void session_forget_request(void)
{
    forget = true;
}

bool request_answer(const struct workers_of *of, const struct fuse_buf *request,
                    const struct request_means *means)
{
    at_hand = request;
    means_now = *means;
    forget = false;
    fuse_session_process_buf(of->se, request);
    if (means->patience && patience_waits(means->patience))
        patience_end(means->patience, spinner_now());
    means_now.reply = NULL;
    return forget;
}

bool request_take_reply(const struct iovec *iov, int count)
{
    struct reply *r = means_now.reply;
    const struct fuse_out_header *head = iov[0].iov_base;
    if (!r || head->unique != r->unique)
        return false;
    r->head = *head;
    r->given = true;
    for (int i = 1; i < count; i++) {
        if (r->body + r->body_len != iov[i].iov_base)
            memmove(r->body + r->body_len, iov[i].iov_base, iov[i].iov_len);
        r->body_len += iov[i].iov_len;
    }
    return true;
}

bool request_is_change(uint32_t opcode)
{
    static const uint8_t changes[] = {
        FUSE_SETATTR,   FUSE_SYMLINK,  FUSE_MKNOD,   FUSE_MKDIR,           FUSE_UNLINK,
        FUSE_RMDIR,     FUSE_RENAME,   FUSE_LINK,    FUSE_WRITE,           FUSE_FSYNC,
        FUSE_SETXATTR,  FUSE_FSYNCDIR, FUSE_CREATE,  FUSE_REMOVEXATTR,     FUSE_RENAME2,
        FUSE_FALLOCATE, FUSE_SYNCFS,   FUSE_TMPFILE, FUSE_COPY_FILE_RANGE,
    };
    for (size_t i = 0; i < sizeof changes; i++)
        if (changes[i] == opcode)
            return true;
    return false;
}

bool request_try_change(const struct workers_of *of)
{
    return !of->hooks->try_change || of->hooks->try_change(of->arg);
}

void request_end_change(const struct workers_of *of)
{
    if (of->hooks->end_change)
        of->hooks->end_change(of->arg);
}

void request_no_room(const struct workers_of *of)
{
    if (of->hooks->no_room)
        of->hooks->no_room(of->arg);
}
