#include "peer_exe.h"

#include "latchfs/aside.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DEADLINE_NS UINT64_C(500000000)

struct question {
    pid_t pid;
    char exe[PEER_EXE_MAX];
};

static void ask(void *arg)
{
    struct question *q = arg;
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/exe", (int)q->pid);
    ssize_t n = readlink(link, q->exe, sizeof q->exe - 1);
    q->exe[n > 0 ? n : 0] = '\0';
}

void peer_exe(pid_t pid, char *exe, size_t size)
{
    static struct aside aside = {.ask = ask, .drop = free};
    struct question *q = calloc(1, sizeof *q);
    exe[0] = '\0';
    if (!q)
        return;
    q->pid = pid;
    if (!aside_ask(&aside, q, DEADLINE_NS))
        return;
    snprintf(exe, size, "%s", q->exe);
    free(q);
}
