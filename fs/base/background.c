#include "latchfs/background.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

static _Noreturn void wait_for_report(int fd)
{
    uint8_t code = LFS_EXIT_FAILURE;
    while (read(fd, &code, 1) < 0 && errno == EINTR)
        ;
    _exit(code);
}

int background_enter(int *report)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return -errno;
    pid_t pid = fork();
    if (pid < 0) {
        int r = -errno;
        close(ends[0]);
        close(ends[1]);
        return r;
    }
    if (pid > 0) {
        close(ends[1]);
        wait_for_report(ends[0]);
    }
    close(ends[0]);
    if (setsid() < 0 || chdir("/")) {
        int r = -errno;
        close(ends[1]);
        return r;
    }
    *report = ends[1];
    return 0;
}

static void drop_terminal(void)
{
    AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0)
        for (int fd = 0; fd <= 2; fd++)
            dup2(null, fd);
}

void background_report(int *report, int exit_code)
{
    uint8_t code = (uint8_t)exit_code;
    if (*report < 0)
        return;
    if (exit_code == LFS_EXIT_OK)
        drop_terminal();
    while (write(*report, &code, 1) < 0 && errno == EINTR)
        ;
    close(*report);
    *report = -1;
}

void background_raise_file_limit(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l))
        return;
    l.rlim_cur = l.rlim_max;
    setrlimit(RLIMIT_NOFILE, &l);
}

int background_take_signals(int *fd)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return -errno;
    *fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return *fd < 0 ? -errno : 0;
}
