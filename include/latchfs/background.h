/* Going into the background before there are threads or keys. The command that the user started waits for
 * the outcome and ends with its exit code. */
#ifndef LATCHFS_BACKGROUND_H
#define LATCHFS_BACKGROUND_H

/* Forks. The parent does not return: it exits with the code that the child reports, or with
 * LFS_EXIT_FAILURE when the child dies without a word. The child goes on in a session of its own, in "/",
 * standard error still the user's. */
int background_enter(int *report);

/* Reports the outcome and closes *report. With LFS_EXIT_OK standard input, output and error become /dev/null.
 * Takes -1: nobody waits. */
void background_report(int *report, int exit_code);

/* As many open files as the user may have. */
void background_raise_file_limit(void);

/* SIGTERM, SIGINT and SIGHUP come through *fd (a signalfd, non-blocking) from now on, in threads started
 * later too; SIGPIPE is ignored. 0 or -errno. */
int background_take_signals(int *fd);

#endif
