#include "fresh.h"

#include <errno.h>
#include <string.h>

const char *message_text(const struct proto_blob *b, char *buf)
{
    if (b->len)
        memcpy(buf, b->p, b->len);
    buf[b->len] = '\0';
    return b->len ? buf : NULL;
}

int fresh_slot_of(const struct proto_msg *q, struct fresh_slot *out)
{
    *out = (struct fresh_slot){.c = {.type = (enum credential_type)q->fresh_cred}};
    if (q->fresh.len) {
        out->secret = secret_new_copy(q->fresh.p, q->fresh.len);
        if (!out->secret)
            return -ENOMEM;
    }
    out->c.secret = out->secret;
    out->c.public_key = q->fresh_cred == CRED_RECIPIENT ? q->public_key : NULL;
    out->c.command = message_text(&q->command, out->command);
    out->c.blob = q->blob.len ? q->blob.p : NULL;
    out->c.blob_len = q->blob.len;
    return 0;
}

void fresh_slot_clear(struct fresh_slot *f)
{
    secret_free(f->secret);
    f->secret = NULL;
}
