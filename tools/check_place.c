#include "check_place.h"

#include "cli.h"

#include "latchfs/buf.h"
#include "latchfs/io.h"
#include "latchfs/keystore.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAX (64u * 1024)
static const char first_line[] = "latch check 1\n";

/* ---- the text ---- */

static void put_counts(FILE *to, const char *name, const struct check_progress *p)
{
    fprintf(to,
            "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
            " %" PRIu64 "\n",
            name, p->entries, p->files, p->directories, p->bytes, p->notes, p->warnings, p->damage, p->sealed,
            p->open_seals);
}

/* Each byte of where as two hex digits: names in a damaged volume may have any. */
static void put_where(FILE *to, const char *where)
{
    fputs("where ", to);
    for (const unsigned char *p = (const unsigned char *)where; *p; p++)
        fprintf(to, "%02x", *p);
    fputc('\n', to);
}

static bool take_counts(const char *line, const char *name, struct check_progress *p)
{
    uint64_t *const into[] = {&p->entries,  &p->files,  &p->directories, &p->bytes,     &p->notes,
                              &p->warnings, &p->damage, &p->sealed,      &p->open_seals};
    size_t n = strlen(name);
    if (strncmp(line, name, n) != 0)
        return false;
    line += n;
    for (size_t i = 0; i < sizeof into / sizeof into[0]; i++) {
        char *end;
        if (*line++ != ' ' || *line < '0' || *line > '9')
            return false;
        errno = 0;
        *into[i] = strtoull(line, &end, 10);
        if (errno)
            return false;
        line = end;
    }
    return *line == '\0';
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_where(const char *line, char where[static PATH_MAX])
{
    size_t n = 0;
    if (strncmp(line, "where ", 6) != 0)
        return false;
    for (line += 6; line[0]; line += 2) {
        int high = digit(line[0]), low = high < 0 ? -1 : digit(line[1]);
        if (low < 0 || high * 16 + low == 0 || n + 1 >= PATH_MAX)
            return false;
        where[n++] = (char)(high * 16 + low);
    }
    where[n] = '\0';
    return true;
}

/* The next line without its newline, cut off at *rest; NULL if there is none. */
static char *next_line(char **rest)
{
    char *line = *rest, *end = strchr(line, '\n');
    if (!end)
        return NULL;
    *end = '\0';
    *rest = end + 1;
    return line;
}

/* What belongs to another volume or another program's file is refused, not replaced. */
static bool parse(char *text, size_t len, struct check_place *p)
{
    char id[2 * ID_BYTES + 1], want[2 * ID_BYTES + 16], *rest = text;
    int used = 0;
    if (strlen(text) != len || strncmp(text, first_line, sizeof first_line - 1) != 0)
        return false;
    rest += sizeof first_line - 1;
    id_to_hex(p->volume_id, id);
    snprintf(want, sizeof want, "volume %s", id);
    const char *line = next_line(&rest);
    if (!line || strcmp(line, want) != 0)
        return false;
    line = next_line(&rest);
    if (!line ||
        sscanf(line, "run %" SCNu64 " %" SCNu32 " %" SCNu64 " %" SCNu64 "%n", &p->started, &p->mount_pid,
               &p->serial, &p->seen, &used) != 4 ||
        line[used])
        return false;
    line = next_line(&rest);
    if (!line || !take_counts(line, "done", &p->done))
        return false;
    line = next_line(&rest);
    if (!line || !take_counts(line, "base", &p->base))
        return false;
    line = next_line(&rest);
    return line && take_where(line, p->where) && *rest == '\0';
}

/* ---- the file ---- */

/* Under one temporary name, so that a kill leaves no more than one behind, which the next run takes. */
static int replace(int dirfd, const char *name, const char *text, size_t len)
{
    char tmp[NAME_MAX + 1];
    if (snprintf(tmp, sizeof tmp, "%s.new", name) >= (int)sizeof tmp)
        return -ENAMETOOLONG;
    AUTO_CLOSE int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : io_pwrite(fd, text, len, 0);
    if (!r)
        r = io_fsync(fd);
    if (!r && renameat(dirfd, tmp, dirfd, name))
        r = -errno;
    return r ? r : io_fsync(dirfd);
}

static int open_parent(const char *path, const char **name, char buf[static PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    snprintf(buf, PATH_MAX, "%s", path);
    int fd = open(dirname(buf), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int check_place_save(const struct check_place *p)
{
    char dir[PATH_MAX], id[2 * ID_BYTES + 1];
    const char *name;
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    if (!p->path[0])
        return 0;
    AUTO_CLOSE int fd = open_parent(p->path, &name, dir);
    FILE *to = fd < 0 ? NULL : open_memstream(&text, &len);
    if (!to)
        return fd < 0 ? fd : -ENOMEM;
    id_to_hex(p->volume_id, id);
    fprintf(to, "%svolume %s\nrun %" PRIu64 " %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", first_line, id,
            p->started, p->mount_pid, p->serial, p->seen);
    put_counts(to, "done", &p->done);
    put_counts(to, "base", &p->base);
    put_where(to, p->where);
    if (fclose(to) != 0)
        return -ENOMEM;
    return replace(fd, name, text, len);
}

void check_place_done(const struct check_place *p)
{
    if (p->path[0])
        unlink(p->path);
}

static int load(struct check_place *p)
{
    char dir[PATH_MAX];
    const char *name;
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    AUTO_CLOSE int fd = open_parent(p->path, &name, dir);
    int r = fd < 0 ? fd : io_read_file(fd, name, FILE_MAX, &text, &len);
    if (r == -ENOENT && fd >= 0)
        return 0;
    if (!r && !parse(text, len, p))
        r = LFS_ERR_MISUSE;
    p->found = r == 0;
    return r;
}

/* ---- the usual place ---- */

static int make_dirs(char *path)
{
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char was = *p;
        *p = '\0';
        if (mkdir(path, 0700) && errno != EEXIST && errno != EROFS && errno != EACCES)
            return -errno;
        if (!was)
            return 0;
        *p = was;
    }
}

static int usual_path(struct check_place *p, const char *kind)
{
    const char *set = getenv("STATE_DIRECTORY"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char dir[PATH_MAX], id[2 * ID_BYTES + 1];
    int n;
    if (set && set[0] == '/') /* of a systemd unit; the first one */
        n = snprintf(dir, sizeof dir, "%.*s/%s", (int)strcspn(set, ":"), set, kind);
    else if (xdg && xdg[0] == '/')
        n = snprintf(dir, sizeof dir, "%s/latchfs/%s", xdg, kind);
    else if (home && home[0] == '/')
        n = snprintf(dir, sizeof dir, "%s/.local/state/latchfs/%s", home, kind);
    else
        return -ENOENT;
    if (n < 0 || (size_t)n >= sizeof dir)
        return -ENAMETOOLONG;
    id_to_hex(p->volume_id, id);
    n = snprintf(p->path, sizeof p->path, "%s/%s", dir, id);
    if (n < 0 || (size_t)n >= sizeof p->path)
        return -ENAMETOOLONG;
    return make_dirs(dir);
}

int check_place_open(struct check_place *p, const char *kind, const char *file,
                     const uint8_t volume_id[static ID_BYTES], bool restart)
{
    *p = (struct check_place){0};
    memcpy(p->volume_id, volume_id, ID_BYTES);
    int r = 0;
    if (!file)
        r = usual_path(p, kind);
    else if (snprintf(p->path, sizeof p->path, "%s", file) >= (int)sizeof p->path)
        r = -ENAMETOOLONG;
    if (r)
        return cli_fail_err(r, "the directory for the place of the check", "name a file with --state");
    r = load(p);
    if (r == LFS_ERR_MISUSE)
        return cli_fail(LFS_EXIT_USAGE,
                        "%s: not the place of a check of this volume; remove it or name another with --state",
                        p->path);
    if (r)
        return cli_fail_err(r, p->path, NULL);
    if (restart || !p->found) {
        struct check_place fresh = {.started = (uint64_t)time(NULL)};
        memcpy(fresh.path, p->path, sizeof fresh.path);
        memcpy(fresh.volume_id, volume_id, ID_BYTES);
        *p = fresh;
    }
    return LFS_EXIT_OK;
}
