/* Usage: driver list | run WORKLOAD SEED DIR | recover DIR LEAST MOST | check DIR OUT LEAST MOST */
#include "lab.h"

#include "latchfs/err.h"
#include "trace.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Noreturn void lab_die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("driver: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(2);
}

struct keyset *lab_keys(uint32_t least, uint32_t most)
{
    struct keyset *k = keyset_new();
    if (!k)
        lab_die("no locked memory");
    memset(k->volume_id, 0x11, sizeof k->volume_id);
    memset(k->pd_id, 0x22, sizeof k->pd_id);
    memset(k->name_key, 0x33, sizeof k->name_key);
    memset(k->journal_key, 0x44, sizeof k->journal_key);
    k->suite = SUITE_AES_256_GCM;
    for (uint32_t v = least; v <= most && k->count < KEYSET_VERSIONS_MAX; v++) {
        memset(k->versions[k->count].key, 0x54 + (int)v, sizeof k->versions[0].key);
        k->versions[k->count++].version = v;
    }
    k->active = most;
    k->least = least;
    return k;
}

struct volume_options lab_options(void)
{
    return (struct volume_options){.journal_bytes = 1, .no_flusher = true};
}

struct keyset *lab_pd_keys(void)
{
    struct keyset *k = lab_keys(1, 1);
    memset(k->pd_id, 0x77, sizeof k->pd_id);
    memset(k->name_key, 0x78, sizeof k->name_key);
    return k;
}

int lab_mount(const char *dir, uint32_t least, uint32_t most, bool read_only, struct replay_report *rep,
              struct volume **v)
{
    struct volume_options o = lab_options();
    struct keyset *k = lab_keys(least, most);
    o.read_only = read_only;
    int r = volume_open(dir, k, &o, rep, v);
    keyset_free(k);
    if (r)
        return r;
    k = lab_pd_keys();
    r = volume_pd_unlock(*v, k);
    keyset_free(k);
    if (r)
        lab_die("protected directory: %s", lfs_strerror(r));
    return 0;
}

struct volume *lab_open(const char *dir, uint32_t least, uint32_t most)
{
    struct volume *v;
    int r = lab_mount(dir, least, most, false, NULL, &v);
    if (r)
        lab_die("open %s: %s", dir, lfs_strerror(r));
    return v;
}

static void say(const char *text)
{
    if (write(TRACE_MARK_FD, text, strlen(text)) < 0)
        lab_die("the recorder is not preloaded");
}

static int run(const char *name, const char *seed, const char *dir)
{
    const struct workload *w = workloads;
    while (w->name && strcmp(w->name, name))
        w++;
    if (!w->name)
        lab_die("no workload %s", name);
    struct keyset *k = lab_keys(1, 1);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -1 : volume_create(fd, k);
    keyset_free(k);
    if (r)
        lab_die("create %s: %s", dir, lfs_strerror(r));
    close(fd);
    say("created\n");
    struct lab l = {.v = lab_open(dir, 1, 1), .dir = dir, .random = strtoull(seed, NULL, 0), .version = 1};
    w->run(&l);
    lab_release(&l);
    say("closing\n");
    r = volume_close(l.v);
    if (r)
        lab_die("close: %s", lfs_strerror(r));
    say("closed\n");
    return 0;
}

static uint32_t version(const char *text)
{
    unsigned long n = strtoul(text, NULL, 10);
    if (n < 1 || n > LAB_VERSIONS)
        lab_die("no version %s", text);
    return (uint32_t)n;
}

static int recover(const char *dir, uint32_t least, uint32_t most)
{
    int r = volume_close(lab_open(dir, least, most));
    if (r)
        lab_die("close: %s", lfs_strerror(r));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "list")) {
        for (const struct workload *w = workloads; w->name; w++)
            puts(w->name);
        return 0;
    }
    if (argc == 5 && !strcmp(argv[1], "run"))
        return run(argv[2], argv[3], argv[4]);
    if (argc == 5 && !strcmp(argv[1], "recover"))
        return recover(argv[2], version(argv[3]), version(argv[4]));
    if (argc == 6 && !strcmp(argv[1], "check"))
        return lab_check(argv[2], argv[3], version(argv[4]), version(argv[5]));
    fputs("usage: driver list | run WORKLOAD SEED DIR | recover DIR LEAST MOST | check DIR OUT LEAST MOST\n",
          stderr);
    return 2;
}
