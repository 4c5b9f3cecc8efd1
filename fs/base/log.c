#include "latchfs/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

static const char *log_program = "latchfs";
static bool log_syslog;
static enum log_level log_most = LOG_LEVEL_INFO;

void log_setup(const char *program, bool to_syslog, enum log_level most)
{
    log_program = program;
    log_most = most;
    log_syslog = to_syslog;
    if (to_syslog)
        openlog(program, LOG_PID, LOG_DAEMON);
}

void log_msg(enum log_level level, const char *fmt, ...)
{
    static const int priority[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
    if (level > log_most)
        return;
    int saved = errno;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (log_syslog)
        syslog(priority[level], "%s", line);
    else
        fprintf(stderr, "%s: %s\n", log_program, line);
    errno = saved;
}
