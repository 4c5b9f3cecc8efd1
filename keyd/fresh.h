/* What a message says about a new slot. */
#ifndef KEYD_FRESH_H
#define KEYD_FRESH_H

#include "latchfs/keyclient.h"
#include "proto.h"

struct fresh_slot {
    struct credential c; /* points into the message and into this */
    struct secret *secret;
    char command[KEYSTORE_COMMAND_MAX + 1];
};
/* fresh_slot_clear it in any case. -ENOMEM. */
int fresh_slot_of(const struct proto_msg *q, struct fresh_slot *out);
void fresh_slot_clear(struct fresh_slot *f);

/* A text with a NUL behind it in buf (its length and one more); NULL if it is empty. */
const char *message_text(const struct proto_blob *b, char *buf);

#endif
