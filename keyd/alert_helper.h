/* The process that runs policy's alert_command: one at a time, each for a bounded time, so many a minute. */
#ifndef KEYD_ALERT_HELPER_H
#define KEYD_ALERT_HELPER_H

/* Forks it. *fd: a socket; each packet sent there (at most ALERT_JSON_MAX bytes of JSON text, an object) goes
 * to one run's standard input. The helper ends when the socket is closed and what it has is done, or
 * ALERT_END_S later. It is nobody's child here, so it leaves no zombie. */
int alert_helper_start(const char *command, int *fd);

#define ALERT_END_S 10

#endif
