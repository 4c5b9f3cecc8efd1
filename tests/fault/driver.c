/* Runs a scenario once to count the calls it makes of its backing directory, and then once for every call and
 * every fault that fits it. See README.md.
 *
 * Usage: fault_driver list
 *        fault_driver run SCENARIO DIR [--part I/N] [--call N] [--kind K] [--plant P] [--names A|B] [--most
 * N]
 *        [--verbose] */
#include "run.h"

#include "latchfs/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE 20 /* seconds for a process of a case: then it hangs */

static const char *const kind_names[FAULT_KINDS] = {"ENOSPC", "EDQUOT", "EIO",  "EINTR",  "short",
                                                    "partly", "full",   "thin", "ignored"};
static const char *const class_names[CALL_CLASSES] = {"look", "read", "write", "alloc", "free",
                                                      "size", "add",  "drop",  "attr",  "sync"};
static const char *const plant_names[] = {"none", "errno", "leak", "hang", "crash"};

/* ---- the volume ---- */

struct keyset *run_keys(uint32_t least, uint32_t most)
{
    struct keyset *k = keyset_new();
    if (!k)
        abort();
    memset(k->volume_id, 0x11, sizeof k->volume_id);
    memset(k->pd_id, 0x22, sizeof k->pd_id);
    memset(k->name_key, 0x33, sizeof k->name_key);
    memset(k->journal_key, 0x44, sizeof k->journal_key);
    k->suite = SUITE_AES_256_GCM;
    for (uint32_t v = least; v <= most; v++) {
        memset(k->versions[k->count].key, 0x54 + (int)v, sizeof k->versions[0].key);
        k->versions[k->count++].version = v;
    }
    k->active = most;
    k->least = least;
    return k;
}

struct keyset *run_pd_keys(void)
{
    struct keyset *k = run_keys(1, 1);
    memset(k->pd_id, 0x77, sizeof k->pd_id);
    memset(k->name_key, 0x78, sizeof k->name_key);
    return k;
}

static int give_pd_keys(struct volume *v)
{
    struct keyset *k = run_pd_keys();
    int r = volume_pd_unlock(v, k);
    keyset_free(k);
    return r;
}

static int open_raw(struct run *t)
{
    struct volume_options o = {.journal_bytes = 1, .no_flusher = true};
    struct keyset *k = run_keys(1, 2);
    struct volume *v;
    k->active = t->version;
    int r = volume_open(t->dir, k, &o, NULL, &v);
    keyset_free(k);
    if (!r) {
        t->v = v;
        r = give_pd_keys(v);
    }
    return r;
}

/* Opening and closing are judged here: there is no path and no model to tell. */
static void judge_life(struct run *t, const char *what, int r)
{
    int e = plan->armed && plan->fired ? fault_errno(plan->kind) : 0;
    if (!r || (r == -EROFS && plan->fired))
        return;
    if (!e)
        fail("%s: %s", what, lfs_strerror(r));
    else if (r != -e)
        fail("%s answers \"%s\", not \"%s\"", what, lfs_strerror(r), lfs_strerror(-e));
    t->reported = true;
}

int run_open(struct run *t)
{
    int r = open_raw(t);
    judge_life(t, "opening", r);
    return r;
}

int run_close(struct run *t)
{
    struct volume *v = t->v;
    t->v = NULL;
    int r = volume_close(v);
    judge_life(t, "closing", r);
    return r;
}

/* ---- what must hold when the fault is over ---- */

static int open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static int left_over(const char *path, const struct stat *st, int type, struct FTW *at)
{
    if (!strncmp(path + at->base, "latchfs.tmp", 11))
        fail("left behind: %s", path + at->base);
    return 0;
}

void run_check(struct run *t, const char *when)
{
    model_check(t->v, when);
}

/* Everything that can be written is, and then everything is as it must be. */
void run_use(struct run *t, const char *when)
{
    char paths[ENTRIES_MAX][PATH_MAX_HERE];
    int n = 0;
    for (int i = 0; i < model->shape[0].count; i++)
        if (model->object[model->shape[0].e[i].object].kind == 'f')
            memcpy(paths[n++], model->shape[0].e[i].path, PATH_MAX_HERE);
    for (int i = 0; i < n; i++) {
        struct object *o = model_find(paths[i]);
        uint64_t size = o->version[0].size;
        do_write(t, paths[i], size / 2, 30);
        do_append(t, paths[i], 5000);
        do_fsync(t, paths[i]);
        if (i % 2)
            do_truncate(t, paths[i], size / 3);
    }
    if (!volume_is_readonly(t->v)) {
        do_round(t);
        do_mkdir(t, when);
    }
    model_check(t->v, when);
}

/* ---- one case: three processes, so that nothing of the one before is in memory ---- */

struct task {
    const struct scenario *s;
    char dir[4096];
    bool crash; /* the second process ends without closing */
};

static void bystanders(struct run *t)
{
    do_create(t, "by-inline");
    do_write(t, "by-inline", 0, 200);
    do_create(t, "by-paged");
    do_write(t, "by-paged", 0, 11000);
    do_setxattr(t, "by-paged", "user.note", 40);
    do_mkdir(t, "by-dir");
    do_create(t, "by-dir/in");
    do_write(t, "by-dir/in", 0, 5000);
    do_symlink(t, "by-link", "target");
    do_create(t, "by-pending");
    do_write(t, "by-pending", 0, 30000);
}

static void make_volume(struct task *c)
{
    struct run t = {.dir = c->dir, .version = 1};
    struct keyset *k = run_keys(1, 1);
    int fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = volume_create(fd, k);
    keyset_free(k);
    close(fd);
    if (r || run_open(&t))
        abort();
    bystanders(&t);
    c->s->setup(&t);
    if (!c->s->unclean)
        run_close(&t);
    if (c->s->unclean) {
        do_write(&t, "by-pending", 5000, 9000);
        do_fsync(&t, "by-pending");
    }
}

/* Only a failed sync turns a volume read-only: whatever else failed may work again. But thawing a volume
 * while the space of its journal is gone ends in that too. */
static void check_readonly(const struct scenario *s, const struct run *t)
{
    bool thaw = !strcmp(s->name, "freeze") && (plan->kind == FAULT_FULL || plan->kind == FAULT_THIN);
    if (plan->fired && plan->what != CALL_SYNC && t->v && volume_is_readonly(t->v) && !thaw)
        fail("the volume is read-only after a failed %s", plan->name);
}

/* A failed sync may not be taken for a success ever after: the volume is read-only, unless it was the sync of
 * a small file that had no name of its own yet and was thrown away, with the error for the caller. */
static void check_sync(const struct run *t)
{
    if (!plan->fired || plan->what != CALL_SYNC || !t->v || volume_is_readonly(t->v))
        return;
    if (!t->reported || strcmp(plan->name, "fsync"))
        fail("the volume can be written after a failed %s", plan->name);
}

static void watch(struct task *c)
{
    struct run t = {.dir = c->dir, .version = 1};
    int before = open_descriptors();
    if (c->s->act) {
        if (run_open(&t))
            return;
        plan->armed = true;
        if (!c->s->unclean) {
            plan->armed = false;
            do_write(&t, "by-pending", 5000, 9000);
            do_fsync(&t, "by-pending");
            plan->armed = true;
        }
        c->s->act(&t);
    } else {
        plan->armed = true;
        run_open(&t);
    }
    check_sync(&t);
    check_readonly(c->s, &t);
    plan->armed = plan->lasting = false;
    if (t.v) {
        run_check(&t, "live");
        run_use(&t, "used");
    }
    if (c->crash)
        return;
    if (t.v)
        run_close(&t);
    if (open_descriptors() != before)
        fail("%d descriptors before, %d after", before, open_descriptors());
}

static void look_again(struct task *c)
{
    struct run t = {.dir = c->dir, .version = 1};
    plan->fired = 0;
    int before = open_descriptors();
    if (run_open(&t)) {
        return;
    }
    run_check(&t, "opened again");
    run_use(&t, "used again");
    run_close(&t);
    if (open_descriptors() != before)
        fail("%d descriptors before, %d after the second opening", before, open_descriptors());
    nftw(c->dir, left_over, 20, FTW_PHYS);
}

static void in_process(struct task *c, void (*fn)(struct task *), const char *what)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(plan->plant == PLANT_HANG ? 2 : DEADLINE);
        if (!getenv("FAULT_LOG"))
            close(2);
        if (!getenv("FAULT_LOG"))
            open("/dev/null", O_WRONLY | O_CLOEXEC);
        fn(c);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        abort();
    if (WIFSIGNALED(status))
        fail("%s %s", what, WTERMSIG(status) == SIGALRM ? "hangs" : strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status))
        fail("%s ends with %d", what, WEXITSTATUS(status));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return remove(path);
}

static void remove_tree(const char *dir)
{
    if (nftw(dir, remove_one, 20, FTW_PHYS | FTW_DEPTH))
        abort();
}

static void *shared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}

static void run_case(struct task *c, bool crash)
{
    munmap(model, sizeof *model);
    model = shared(sizeof *model);
    model->shapes = 1;
    plan->armed = plan->lasting = false;
    plan->no_fallocate = c->s->no_fallocate;
    plan->calls = plan->fired = 0;
    c->crash = crash;
    if (mkdir(c->dir, 0700))
        abort();
    in_process(c, make_volume, "setting up");
    if (!model->failures) {
        in_process(c, watch, "the program");
        in_process(c, look_again, "opening again");
    }
    remove_tree(c->dir);
}

/* ---- all of them ---- */

struct wanted {
    long call, kind, part, parts, most;
    const char *names; /* "pwrite|pwritev": only calls of these names */
    bool verbose;
};

static void say(const struct task *c, uint64_t call, bool crash)
{
    printf("%s, call %llu (%s, %s), %s%s:\n", c->s->name, (unsigned long long)call, plan->name,
           class_names[plan->what], kind_names[plan->kind], crash ? ", then a crash" : "");
    for (int i = 0; i < model->failures && i < 16; i++)
        printf("    %s\n", model->report[i]);
}

static bool named(const char *list, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at++)
        if ((at == list || at[-1] == '|') && (at[len] == '|' || !at[len]))
            return true;
    return false;
}

static int run_all(struct task *c, const struct wanted *w)
{
    uint64_t cases = 0, bad = 0;
    plan->at = 0;
    run_case(c, false);
    if (model->failures) {
        printf("without any fault, ");
        say(c, 0, false);
        bad++;
    }
    uint64_t calls = plan->calls;
    uint8_t classes[CALLS_MAX];
    memcpy(classes, plan->classes, sizeof classes);
    static char names[CALLS_MAX][CALL_NAME];
    memcpy(names, plan->names, sizeof names);
    for (uint64_t n = 1; n <= calls && n < CALLS_MAX; n++) {
        for (long kind = 0; kind < FAULT_KINDS; kind++) {
            bool mine = (long)((n + (uint64_t)kind) % (uint64_t)w->parts) == w->part;
            if (!mine || (w->call && (long)n != w->call) ||
                (w->kind >= 0 ? kind != w->kind : kind == FAULT_IGNORED) ||
                !fault_fits((enum fault_kind)kind, classes[n]) || (w->most && cases >= (uint64_t)w->most) ||
                (w->names && !named(w->names, names[n])))
                continue;
            plan->at = n;
            plan->kind = (enum fault_kind)kind;
            bool crash = (n / 2 + (uint64_t)kind) % 2;
            run_case(c, crash);
            cases += plan->name[0] != '\0';
            if (model->failures) {
                bad++;
                say(c, n, crash);
            } else if (w->verbose) {
                printf("%s, call %llu (%s), %s: fine\n", c->s->name, (unsigned long long)n, plan->name,
                       kind_names[kind]);
            }
        }
    }
    printf("%s: %llu calls, %llu cases, %llu bad\n", c->s->name, (unsigned long long)calls,
           (unsigned long long)cases, (unsigned long long)bad);
    return bad > 0;
}

static int index_of(const char *text, const char *const *list, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(text, list[i]))
            return i;
    fprintf(stderr, "fault_driver: unknown: %s\n", text);
    exit(2);
}

static int usage(void)
{
    fputs("usage: fault_driver list | run SCENARIO DIR [--part I/N] [--call N] [--kind K] [--plant P] "
          "[--names A|B] [--most N] [--verbose]\n",
          stderr);
    return 2;
}

static bool take_option(struct wanted *w, const char *option, const char *value)
{
    if (!strcmp(option, "--call"))
        w->call = atol(value);
    else if (!strcmp(option, "--kind"))
        w->kind = index_of(value, kind_names, FAULT_KINDS);
    else if (!strcmp(option, "--names"))
        w->names = value;
    else if (!strcmp(option, "--most"))
        w->most = atol(value);
    else if (!strcmp(option, "--plant"))
        plan->plant = (unsigned)index_of(value, plant_names, 5);
    else
        return !strcmp(option, "--part") && sscanf(value, "%ld/%ld", &w->part, &w->parts) == 2 &&
               w->parts > 0;
    return true;
}

int main(int argc, char **argv)
{
    const struct scenario *s = scenarios;
    struct wanted w = {.kind = -1, .parts = 1};
    struct task c = {0};
    if (argc == 2 && !strcmp(argv[1], "list")) {
        for (; s->name; s++)
            puts(s->name);
        return 0;
    }
    if (argc < 4 || strcmp(argv[1], "run"))
        return usage();
    while (s->name && strcmp(s->name, argv[2]))
        s++;
    if (!s->name)
        return usage();
    plan = shared(sizeof *plan);
    model = shared(sizeof *model);
    for (int i = 4; i < argc; i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(option, "--verbose")) {
            w.verbose = true;
            continue;
        }
        if (!value || !take_option(&w, option, value))
            return usage();
        i++;
    }
    c.s = s;
    snprintf(c.dir, sizeof c.dir, "%s/volume", argv[3]);
    return run_all(&c, &w);
}
