/* The programs and users that were given keys, through all runs of keyd: hashes in a file of the state
 * directory. */
#ifndef KEYD_ALERT_PEERS_H
#define KEYD_ALERT_PEERS_H

#include <stdbool.h>
#include <sys/socket.h>

#define ALERT_PEERS_MAX 4096u
#define ALERT_EXE_MAX 256u

struct alert_peers;

int alert_peers_open(int statedir, struct alert_peers **out);
void alert_peers_free(struct alert_peers *p); /* takes NULL */

/* True if it was never met; it is known from now on. exe: its program (peer_exe.h). p may be NULL: none
 * is new. */
bool alert_peers_meet(struct alert_peers *p, const struct ucred *peer, char exe[static ALERT_EXE_MAX]);

#endif
