/* Runs one workload in a directory and prints how much it did in how many seconds:
 *
 *   workload NAME DIR [amount=N] [seconds=S] [threads=N] [files=N] [size=N] [first=N]
 *
 * It ends when amount operations are done or seconds are over, whichever is first. With more than one thread
 * each works in a directory of its own, DIR/tN, but for the workloads on DIR/stream. No interpreter stands
 * between it and the filesystem. The workloads are in workload_ops.c. */
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 256

struct plan {
    const struct workload *what;
    const char *dir;
    uint64_t amount, threads, files, size, first;
    double seconds;
};

static pthread_barrier_t start;

double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void die(const char *what)
{
    fprintf(stderr, "workload: %s: %s\n", what, strerror(errno));
    exit(1);
}

bool more(const struct job *j)
{
    return j->done < j->amount && now() < j->end;
}

/* xorshift64: the numbers need only be spread. */
uint64_t next_random(struct job *j)
{
    j->random ^= j->random << 13;
    j->random ^= j->random >> 7;
    j->random ^= j->random << 17;
    return j->random;
}

static bool set_field(struct plan *p, const char *word)
{
    const struct {
        const char *name;
        uint64_t *field;
    } fields[] = {{"amount=", &p->amount},
                  {"threads=", &p->threads},
                  {"files=", &p->files},
                  {"size=", &p->size},
                  {"first=", &p->first}};
    if (!strncmp(word, "seconds=", 8)) {
        p->seconds = strtod(word + 8, NULL);
        return true;
    }
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        size_t n = strlen(fields[i].name);
        if (!strncmp(word, fields[i].name, n)) {
            *fields[i].field = strtoull(word + n, NULL, 10);
            return true;
        }
    }
    return false;
}

static bool parse(struct plan *p, int argc, char **argv)
{
    *p = (struct plan){.amount = UINT64_MAX, .threads = 1, .files = UINT64_MAX, .seconds = 3600};
    if (argc < 3)
        return false;
    for (const struct workload *w = workloads; w->name; w++)
        if (!strcmp(w->name, argv[1]))
            p->what = w;
    p->dir = argv[2];
    for (int i = 3; i < argc; i++)
        if (!set_field(p, argv[i]))
            return false;
    return p->what && p->threads > 0 && p->threads <= THREADS_MAX;
}

static int open_dir(const struct plan *p, unsigned id)
{
    char path[4096];
    if (p->threads == 1)
        snprintf(path, sizeof path, "%s", p->dir);
    else
        snprintf(path, sizeof path, "%s/t%u", p->dir, id);
    if (mkdir(path, 0700) && errno != EEXIST)
        die(path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        die(path);
    return fd;
}

static void prepare(struct job *j, const struct plan *p, unsigned id)
{
    *j = (struct job){.dir = open_dir(p, id),
                      .id = id,
                      .amount = p->amount / p->threads,
                      .files = p->files,
                      .size = p->size,
                      .first = p->first,
                      .random = 0x9e3779b97f4a7c15u * (id + 1),
                      .block = malloc(MIB)};
    if (!j->block)
        die("memory");
    for (size_t i = 0; i < MIB; i += 8) {
        uint64_t r = next_random(j);
        memcpy(j->block + i, &r, sizeof r);
    }
}

static const struct plan *plan;

static void *run_thread(void *arg)
{
    struct job *j = arg;
    pthread_barrier_wait(&start);
    j->end = now() + plan->seconds;
    plan->what->run(j);
    return NULL;
}

static double run_all(struct job *jobs)
{
    pthread_t threads[THREADS_MAX];
    pthread_barrier_init(&start, NULL, (unsigned)plan->threads + 1);
    for (unsigned i = 0; i < plan->threads; i++)
        if (pthread_create(&threads[i], NULL, run_thread, &jobs[i]))
            die("thread");
    pthread_barrier_wait(&start);
    double t = now();
    for (unsigned i = 0; i < plan->threads; i++)
        pthread_join(threads[i], NULL);
    return now() - t;
}

int main(int argc, char **argv)
{
    static struct job jobs[THREADS_MAX];
    struct plan p;
    uint64_t done = 0;
    if (!parse(&p, argc, argv)) {
        fputs("usage: workload NAME DIR [amount=N] [seconds=S] [threads=N] [files=N] [size=N] [first=N]\n",
              stderr);
        return 2;
    }
    plan = &p;
    for (unsigned i = 0; i < p.threads; i++)
        prepare(&jobs[i], &p, i);
    double seconds = run_all(jobs);
    for (unsigned i = 0; i < p.threads; i++)
        done += jobs[i].done;
    printf("%llu %.9f\n", (unsigned long long)done, seconds);
    return 0;
}
