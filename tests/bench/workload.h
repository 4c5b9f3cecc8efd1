/* One thread of a workload: what it shall do and how far it came. See workload.c for the program. */
#ifndef LATCHFS_BENCH_WORKLOAD_H
#define LATCHFS_BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MIB (1u << 20)
#define BLOCK 4096u

struct job {
    int dir;         /* the directory that this thread works in */
    unsigned id;     /* 0, 1, ... */
    uint64_t amount; /* operations at most */
    uint64_t files;  /* files 0 .. files - 1 are in the directory; see each workload for more */
    size_t size;     /* bytes of a small file */
    uint64_t first;  /* number of the first file that is made */
    double end;      /* when to stop, as now() counts */
    uint64_t done;   /* operations made; MiB for streams */
    uint64_t random; /* state of the random numbers */
    uint8_t *block;  /* MIB bytes of the thread's own, random */
};

typedef void job_run(struct job *j);

struct workload {
    const char *name;
    job_run *run;
};

/* All workloads, ended by one without a name. */
extern const struct workload workloads[];

double now(void);
_Noreturn void die(const char *what);
/* Whether one more operation is wanted: fewer than amount are done, and there is time. */
bool more(const struct job *j);
uint64_t next_random(struct job *j);

#endif
