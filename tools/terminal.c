#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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

/* What was before, for restore_signals. */
struct signals {
    struct sigaction actions[WATCHED];
    sigset_t mask;
};

/* The watched ones are blocked but while read_byte waits, so that none falls between a test and the wait. */
static void watch_signals(struct signals *old)
{
    struct sigaction sa = {.sa_handler = note_signal};
    sigset_t set;
    sigemptyset(&sa.sa_mask);
    sigemptyset(&set);
    caught = 0;
    for (int i = 0; i < WATCHED; i++) {
        sigaddset(&set, watched[i]);
        sigaction(watched[i], &sa, &old->actions[i]);
    }
    sigprocmask(SIG_BLOCK, &set, &old->mask);
}

static void restore_signals(const struct signals *old)
{
    for (int i = 0; i < WATCHED; i++)
        sigaction(watched[i], &old->actions[i], NULL);
    sigprocmask(SIG_SETMASK, &old->mask, NULL);
}

int terminal_open(void)
{
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* One byte, 0 at end of file. */
static ssize_t read_byte(int fd, const sigset_t *mask, char *c)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (ppoll(&p, 1, NULL, mask) < 0 && (errno != EINTR || caught))
            return -errno;
        ssize_t got = p.revents ? read(fd, c, 1) : -1;
        if (got >= 0)
            return got;
        if (p.revents && errno != EINTR && errno != EAGAIN)
            return -errno;
    }
}

/* The terminal's line discipline ends a line. What does not fit is read away: it must go nowhere else. */
static ssize_t read_line(int fd, const sigset_t *mask, char *buf, size_t len)
{
    size_t n = 0;
    for (;;) {
        char c;
        ssize_t got = read_byte(fd, mask, &c);
        if (got < 0)
            return got;
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
    struct signals old;
    if (tcgetattr(fd, &was))
        return -errno;
    quiet = was;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
    watch_signals(&old);
    ssize_t n = -EINTR;
    if (tcsetattr(fd, TCSAFLUSH, &quiet) == 0 && write(fd, prompt, strlen(prompt)) >= 0)
        n = read_line(fd, &old.mask, buf, len);
    tcsetattr(fd, TCSAFLUSH, &was);
    if (write(fd, "\n", 1) < 0)
        n = n < 0 ? n : -errno;
    restore_signals(&old);
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
