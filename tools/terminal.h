/* The terminal of the person at it, for secrets. */
#ifndef TOOLS_TERMINAL_H
#define TOOLS_TERMINAL_H

#include <stddef.h>
#include <sys/types.h>

/* /dev/tty for reading and writing, or -errno. */
int terminal_open(void);

/* Writes prompt, reads one line without echo into buf (no newline, no NUL). A signal that would end or stop
 * the program first puts the echo back. Returns the length; -E2BIG for a line that does not fit,
 * -ENODATA at end of file, -errno. */
ssize_t terminal_ask(int fd, const char *prompt, char *buf, size_t len);

#endif
