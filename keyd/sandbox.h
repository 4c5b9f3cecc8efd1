/* What latch-keyd gives up once it serves. */
#ifndef KEYD_SANDBOX_H
#define KEYD_SANDBOX_H

/* Refuses, for all threads and for good, system calls that a key helper never needs and that an intruder
 * would: running programs, tracing, mounting, namespaces, kernel modules. 0; -ENOSYS where this build or
 * kernel has no seccomp. */
int sandbox_enter(void);

#endif
