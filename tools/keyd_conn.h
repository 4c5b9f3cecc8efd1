/* The connection of a command to latch-keyd, and the error lines that go with it. */
#ifndef TOOLS_KEYD_CONN_H
#define TOOLS_KEYD_CONN_H

#include "latchfs/keyclient.h"

#define AUTO_KEYCLIENT CLEANUP(keyclient_freep)
#define AUTO_SECRET CLEANUP(secret_freep)

/* Connects; start: starts latch-keyd when none answers. Prints its own error; returns an exit code. */
int keyd_conn_open(bool start, struct keyclient **out);

/* True for an error of keyclient_connect that means: none is running. */
bool keyd_conn_is_absent(int err);

/* "latch: WHAT: reason" with keyd's own words where it gave some; the exit code of err. */
int keyd_conn_fail(const struct keyclient *kc, int err, const char *what);

/* The object of one volume in latch-keyd's status text (json_read.h); absent if it is not there. */
struct json_value;
struct json_value keyd_status_volume(const char *status, const uint8_t volume_id[static ID_BYTES]);

/* True in *unlocked if keyd holds the volume's keys now. 0 or an error. */
int keyd_conn_is_unlocked(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], bool *unlocked);

#endif
