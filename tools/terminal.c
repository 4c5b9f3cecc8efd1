#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static volatile sig_atomic_t caught;

static void note_signal(int number)
{
    caught = number;
}

static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
enum { WATCHED = sizeof watched / sizeof watched[0] };

static void watch_signals(struct sigaction old[static WATCHED])
{
    struct sigaction sa = {.sa_handler = note_signal}; /* no SA_RESTART: read must come back */
    sigemptyset(&sa.sa_mask);
    caught = 0;
    for (int i = 0; i < WATCHED; i++)
        sigaction(watched[i], &sa, &old[i]);
}

static void restore_signals(const struct sigaction old[static WATCHED])
{
    for (int i = 0; i < WATCHED; i++)
        sigaction(watched[i], &old[i], NULL);
}

int terminal_open(void)
{
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* The terminal's line discipline ends a line; what does not fit is read away, so that it goes nowhere else.
 */
static ssize_t read_line(int fd, char *buf, size_t len)
{
    size_t n = 0;
    for (;;) {
        char c;
        ssize_t got = read(fd, &c, 1);
        if (got < 0 && errno == EINTR && !caught)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return n ? (ssize_t)n : -ENODATA;
        if (c == '\n' || c == '\r')
            return n > len ? -E2BIG : (ssize_t)n;
        if (n < len)
            buf[n] = c;
        n += n <= len;
    }
}

static ssize_t ask_once(int fd, const char *prompt, char *buf, size_t len)
{
    struct termios was, quiet;
    struct sigaction old[WATCHED];
    if (tcgetattr(fd, &was))
        return -errno;
    quiet = was;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
    watch_signals(old);
    ssize_t n = -EINTR;
    if (tcsetattr(fd, TCSAFLUSH, &quiet) == 0 && write(fd, prompt, strlen(prompt)) >= 0)
        n = read_line(fd, buf, len);
    tcsetattr(fd, TCSAFLUSH, &was);
    if (write(fd, "\n", 1) < 0)
        n = n < 0 ? n : -errno;
    restore_signals(old);
    return n;
}

ssize_t terminal_ask(int fd, const char *prompt, char *buf, size_t len)
{
    for (;;) {
        ssize_t n = ask_once(fd, prompt, buf, len);
        if (!caught)
            return n;
        raise(caught); /* with its own action again; after a stop and continue, ask anew */
    }
}
