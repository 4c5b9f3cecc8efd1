/* A volume with every kind of object, through the stages of its life. At each stage the runner takes a copy:
 *
 *   ancient   closed, before the directory keys were rotated
 *   early     in use: changes that are in the journal only
 *   older     closed, changed since
 *   busy      in use again, as early
 *   used      in use: the same changes in place, nothing sealed
 *   clean     closed, changed once more: what is tampered with
 *   unclean   in use again, synced, not closed; dumps before it say what each change made
 *   other     another volume of the same shape, in use
 */
#include "tamper.h"

#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct maker {
    struct volume *v;
    unsigned generation;
};

static void must(int64_t r, const char *what, const char *path)
{
    if (r < 0)
        tamper_die("%s %s: %s", what, path, lfs_strerror((int)r));
}

/* ---- paths ---- */

static struct node *find(struct maker *m, const char *path)
{
    char part[NAME_PLAIN_MAX + 1];
    struct node *n = volume_root(m->v), *next;
    struct stat st;
    node_ref(n);
    while (*path) {
        size_t len = strcspn(path, "/");
        snprintf(part, sizeof part, "%.*s", (int)len, path);
        must(node_lookup(n, part, &st, &next), "lookup", part);
        node_unref(n, 1);
        n = next;
        path += len + (path[len] == '/');
    }
    return n;
}

static struct node *parent(struct maker *m, const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    char dir[4096];
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 0, path);
    *name = slash ? slash + 1 : path;
    return find(m, dir);
}

/* ---- changes ---- */

static void fill(const struct maker *m, const char *path, uint64_t chunk, uint8_t page[static PAGE_BYTES])
{
    uint64_t z = m->generation * 1000003u + chunk * 7919u;
    for (; *path; path++)
        z = z * 1099511628211u + (unsigned char)*path;
    for (size_t i = 0; i < PAGE_BYTES; i++) {
        z = z * 6364136223846793005u + 1442695040888963407u;
        page[i] = (uint8_t)(z >> 56);
    }
}

static void put(struct maker *m, const char *path, uint64_t first, size_t len)
{
    uint64_t chunks = (len + PAGE_BYTES - 1) / PAGE_BYTES;
    uint8_t *data = malloc((chunks + 1) * PAGE_BYTES);
    struct node *n = find(m, path);
    if (!data)
        tamper_die("no memory");
    for (uint64_t i = 0; i < chunks; i++)
        fill(m, path, first + i, data + i * PAGE_BYTES);
    must(file_write(n, data, len, first * PAGE_BYTES), "write", path);
    free(data);
    node_unref(n, 1);
}

static void create(struct maker *m, const char *path, size_t len)
{
    const char *name;
    struct node *dir = parent(m, path, &name), *n;
    struct stat st;
    must(node_create(dir, name, S_IFREG | 0600, true, &st, &n), "create", path);
    node_unref(n, 1);
    node_unref(dir, 1);
    if (len)
        put(m, path, 0, len);
}

static void cut(struct maker *m, const char *path, uint64_t size)
{
    struct node *n = find(m, path);
    must(file_truncate(n, size), "truncate", path);
    node_unref(n, 1);
}

static void make_dir(struct maker *m, const char *path)
{
    const char *name;
    struct node *dir = parent(m, path, &name), *n;
    struct stat st;
    must(node_mkdir(dir, name, 0700, &st, &n), "mkdir", path);
    node_unref(n, 1);
    node_unref(dir, 1);
}

static void protect(struct maker *m, const char *path, int pd, bool rotated)
{
    struct keyset *k = tamper_keys(pd, rotated, false);
    struct node *n = find(m, path);
    must(node_protect(n, k), "protect", path);
    node_unref(n, 1);
    keyset_free(k);
}

static void drop(struct maker *m, const char *path)
{
    const char *name;
    struct node *dir = parent(m, path, &name);
    must(node_unlink(dir, name), "unlink", path);
    node_unref(dir, 1);
}

/* len 0: a short one. */
static void make_link(struct maker *m, const char *path, size_t len)
{
    const char *name;
    char target[SYMLINK_PLAIN_MAX + 1];
    struct node *dir = parent(m, path, &name), *n;
    struct stat st;
    int used = snprintf(target, sizeof target, "target-%u-of-%s-", m->generation, path);
    if (len > (size_t)used) {
        memset(target + used, 'x', len - (size_t)used);
        target[len] = '\0';
    }
    must(node_symlink(dir, name, target, &st, &n), "symlink", path);
    node_unref(n, 1);
    node_unref(dir, 1);
}

static void hard_link(struct maker *m, const char *from, const char *to)
{
    const char *name;
    struct node *n = find(m, from), *dir = parent(m, to, &name);
    struct stat st;
    must(node_link(n, dir, name, &st, &n), "link", to);
    node_unref(n, 2);
    node_unref(dir, 1);
}

static void rename_to(struct maker *m, const char *from, const char *to)
{
    const char *old, *new;
    struct node *a = parent(m, from, &old), *b = parent(m, to, &new);
    must(node_rename(a, old, b, new, 0), "rename", from);
    node_unref(a, 1);
    node_unref(b, 1);
}

static void attribute(struct maker *m, const char *path, const char *name)
{
    char value[100];
    struct node *n = find(m, path);
    int len = snprintf(value, sizeof value, "value %u of %s of %s", m->generation, name, path);
    must(node_setxattr(n, name, value, (size_t)len, 0), "setxattr", path);
    node_unref(n, 1);
}

static void sync_file(struct maker *m, const char *path)
{
    struct node *n = find(m, path);
    must(file_fsync(n, false), "fsync", path);
    node_unref(n, 1);
}

static void pipe_at(struct maker *m, const char *path)
{
    const char *name;
    struct node *dir = parent(m, path, &name), *n;
    struct stat st;
    must(node_mknod(dir, name, S_IFIFO | 0600, 0, &st, &n), "mknod", path);
    node_unref(n, 1);
    node_unref(dir, 1);
}

/* ---- stages ---- */

static void stage(const char *name)
{
    char line[16];
    printf("stage\t%s\n", name);
    tamper_end();
    if (!fgets(line, sizeof line, stdin))
        tamper_die("nobody goes on after stage %s", name);
}

static void state(struct maker *m)
{
    puts("state");
    tamper_dump(m->v, false);
    tamper_end();
}

#define LONG_A "long-name-" /* with NINES: 190 bytes, encoded over 255 */
#define NINES                                                                                    \
    "999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999" \
    "999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999"
#define MANY_GROUPS 12u

static const char *const PLACES[] = {"", "left/", "one/", "two/", NULL};

static void each_place(struct maker *m, const char *name,
                       void (*fn)(struct maker *m, const char *path, size_t len), size_t len)
{
    char path[600];
    for (int i = 0; PLACES[i]; i++) {
        snprintf(path, sizeof path, "%s%s", PLACES[i], name);
        fn(m, path, len);
    }
}

static void overwrite_inline(struct maker *m, const char *path, size_t len)
{
    put(m, path, 0, len);
}

static void make_large(struct maker *m)
{
    create(m, "two-pages", 150 * PAGE_BYTES);
    create(m, "many-pages", 2 * PAGE_BYTES);
    for (uint64_t g = 0; g < MANY_GROUPS - 1; g++)
        put(m, "many-pages", FIRST_RECORDS + g * GROUP_RECORDS + 5, 2 * PAGE_BYTES);
    create(m, "sparse", 0);
    put(m, "sparse", 3, PAGE_BYTES);
    put(m, "sparse", 10, 2 * PAGE_BYTES);
    put(m, "sparse", 39, 1000);
}

/* A file with names in nine directories: more than a header has room for. */
static void make_everywhere(struct maker *m)
{
    char path[32] = "d0";
    create(m, "everywhere", 5000);
    for (int i = 0; i < 8; i++) {
        path[1] = (char)('0' + i);
        path[2] = '\0';
        make_dir(m, path);
        strcat(path, "/everywhere");
        hard_link(m, "everywhere", path);
    }
}

static void make_all(struct maker *m)
{
    static const char *const dirs[] = {
        "left", "right", "left/inner",        "right/inner",     "left/inner/deep",
        "one",  "two",   "dir-renamed-since", "protected-since", NULL};
    for (int i = 0; dirs[i]; i++)
        make_dir(m, dirs[i]);
    protect(m, "one", PD_ONE, false);
    protect(m, "two", PD_TWO, false);
    make_dir(m, "one/inner");
    create(m, "empty", 0);
    create(m, "emptied", 3000);
    cut(m, "emptied", 0);
    create(m, "byte", 1);
    create(m, "inline-full", INLINE_MAX);
    each_place(m, "inline", create, 2000);
    each_place(m, "paged", create, 5 * PAGE_BYTES + 100);
    each_place(m, "twin", create, 5 * PAGE_BYTES + 100);
    each_place(m, "link", make_link, 0);
    each_place(m, "twin-link", make_link, 0);
    each_place(m, LONG_A NINES, create, 500);
    make_large(m);
    make_link(m, "long-link", 3500);
    make_link(m, "twin-long-link", 3500);
    make_link(m, "link-" NINES, 0);
    make_dir(m, "dir-" NINES);
    create(m, "dir-" NINES "/below", 100);
    create(m, "left/inner/deep/below", 5000);
    create(m, "right/inner/below", 5000);
    create(m, "renamed-since", 6000);
    create(m, "dir-renamed-since/below", 100);
    hard_link(m, "paged", "left/hard");
    hard_link(m, "inline", "hard-inline");
    create(m, "left/moved", 5000);
    make_everywhere(m);
    pipe_at(m, "pipe");
    static const char *const owners[] = {"inline",     "paged",     "twin", "left",
                                         "left/paged", "one/paged", "one",  NULL};
    for (int i = 0; owners[i]; i++) {
        attribute(m, owners[i], "user.first");
        attribute(m, owners[i], "user.second");
    }
}

/* Every file and link changes, and so do the attributes; part: not every chunk. */
static void change(struct maker *m)
{
    static const char *const partly[] = {"paged", "left/paged", "one/paged", "two/paged", "twin", NULL};
    m->generation++;
    for (int i = 0; partly[i]; i++)
        put(m, partly[i], 1, 2 * PAGE_BYTES);
    put(m, "two-pages", 20, 3 * PAGE_BYTES);
    put(m, "two-pages", 120, 3 * PAGE_BYTES);
    for (uint64_t g = 0; g < MANY_GROUPS - 1; g += 3)
        put(m, "many-pages", FIRST_RECORDS + g * GROUP_RECORDS + 5, PAGE_BYTES);
    put(m, "sparse", 10, PAGE_BYTES);
    each_place(m, "inline", overwrite_inline, 1900);
    put(m, "byte", 0, 1);
    drop(m, "link");
    make_link(m, "link", 0);
    drop(m, "long-link");
    make_link(m, "long-link", 3500);
    attribute(m, "inline", "user.first");
    attribute(m, "paged", "user.first");
    attribute(m, "left", "user.first");
}

static void rotate(struct maker *m)
{
    for (int pd = 0; pd < PD_COUNT; pd++) {
        struct keyset *k = tamper_keys(pd, true, false);
        struct rotate_options o = {0};
        struct rotate_progress p;
        k->least = 1; /* both versions while headers move */
        memcpy(o.pd_id, k->pd_id, ID_BYTES);
        must(volume_pd_unlock(m->v, k), "unlock", "");
        must(volume_rewrap(m->v, &o, &p), "rewrap", "");
        keyset_free(k);
    }
}

static void open_it(struct maker *m, const char *dir, bool rotated, bool other)
{
    must(tamper_open(dir, false, rotated, other, NULL, &m->v), "open", dir);
}

static void close_it(struct maker *m)
{
    must(volume_seal_all(m->v), "seal", "");
    must(volume_close(m->v), "close", "");
}

static void new_volume(const char *dir, bool other)
{
    struct keyset *k = tamper_keys(PD_ROOT, false, other);
    if (mkdir(dir, 0700) && errno != EEXIST)
        tamper_die("mkdir %s", dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(fd < 0 ? -errno : volume_create(fd, k), "create", dir);
    close(fd);
    keyset_free(k);
}

static void make_other(const char *dir)
{
    struct maker m = {.generation = 50};
    new_volume(dir, true);
    open_it(&m, dir, false, true);
    create(&m, "inline", 2000);
    create(&m, "paged", 5 * PAGE_BYTES + 100);
    must(volume_checkpoint(m.v), "checkpoint", "");
    put(&m, "paged", 1, PAGE_BYTES);
    sync_file(&m, "paged");
    stage("other");
    close_it(&m);
}

/* Each of these is one entry of the journal or a few, and nothing goes in place before the end. */
static void use(struct maker *m)
{
    static const char *const files[] = {"paged", "two-pages", "one/paged", "sparse", NULL};
    m->generation++;
    for (int i = 0; files[i]; i++) {
        put(m, files[i], 2, PAGE_BYTES);
        state(m);
    }
    create(m, "made", 0);
    state(m);
    put(m, "made", 0, 3000);
    state(m);
    put(m, "inline-full", 0, INLINE_MAX);
    state(m);
    put(m, "byte", 1, 2 * PAGE_BYTES);
    state(m);
    cut(m, "twin", 2 * PAGE_BYTES + 7);
    state(m);
    create(m, "made-large", 0);
    state(m);
    put(m, "made-large", 0, 40 * PAGE_BYTES);
    sync_file(m, "made-large");
    state(m);
    m->generation++;
    put(m, "paged", 2, 2 * PAGE_BYTES);
    state(m);
    for (int i = 0; files[i]; i++)
        sync_file(m, files[i]);
    sync_file(m, "made");
    sync_file(m, "twin");
}

void tamper_make(const char *dir)
{
    struct maker m = {0};
    char volume[4000], other[4000];
    snprintf(volume, sizeof volume, "%s/volume", dir);
    snprintf(other, sizeof other, "%s/other-volume", dir);
    new_volume(volume, false);
    open_it(&m, volume, false, false);
    make_all(&m);
    close_it(&m);
    stage("ancient");
    open_it(&m, volume, false, false);
    rotate(&m);
    change(&m);
    rename_to(&m, "renamed-since", "renamed");
    protect(&m, "protected-since", PD_TWO, true);
    create(&m, "protected-since/below", 100);
    stage("early");
    close_it(&m);
    stage("older");
    open_it(&m, volume, true, false);
    change(&m);
    stage("busy");
    m.generation++;
    put(&m, "twin", 1, PAGE_BYTES);
    put(&m, "left/paged", 2, PAGE_BYTES);
    state(&m);
    must(volume_checkpoint(m.v), "checkpoint", "");
    state(&m);
    stage("used");
    m.generation++;
    rename_to(&m, "dir-renamed-since", "renamed-dir");
    rename_to(&m, "left/moved", "right/moved");
    put(&m, "twin", 4, PAGE_BYTES);
    put(&m, "paged", 3, PAGE_BYTES);
    put(&m, "two-pages", 40, PAGE_BYTES);
    put(&m, "many-pages", FIRST_RECORDS + 6, PAGE_BYTES);
    close_it(&m);
    stage("clean");
    open_it(&m, volume, true, false);
    use(&m);
    stage("unclean");
    close_it(&m);
    make_other(other);
}
