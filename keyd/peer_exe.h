/* The program that a peer runs, by /proc: a hint for people, as a peer may replace itself at any time. */
#ifndef KEYD_PEER_EXE_H
#define KEYD_PEER_EXE_H

#include <stddef.h>
#include <sys/types.h>

#define PEER_EXE_MAX 512u /* the rest is left out */

/* Cut to size; "" if it is not to be known, which takes half a second at most. */
void peer_exe(pid_t pid, char *exe, size_t size);

#endif
