#include "mount_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* Undoes the kernel's \ooo escapes (blank, tab, newline, backslash) in place. */
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++) {
        bool octal = s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
                     s[3] >= '0' && s[3] <= '7';
        *to++ = octal ? (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0')) : *s;
        s += octal ? 3 : 0;
    }
    *to = '\0';
}

static void take(char *out, size_t len, const char *field)
{
    snprintf(out, len, "%s", field ? field : "");
    unescape(out);
}

/* One line of mountinfo: id parent DEVICE root MOUNTPOINT options [optional]... - TYPE SOURCE superoptions.
 */
static bool parse_line(char *line, struct mount_entry *out)
{
    char *rest, *field = strtok_r(line, " \n", &rest), *mountpoint = NULL, *device = NULL;
    for (int i = 0; field && strcmp(field, "-") != 0; i++) {
        if (i == 2)
            device = field;
        if (i == 4)
            mountpoint = field;
        field = strtok_r(NULL, " \n", &rest);
    }
    const char *type = field ? strtok_r(NULL, " \n", &rest) : NULL;
    const char *source = type ? strtok_r(NULL, " \n", &rest) : NULL;
    if (!mountpoint || !type)
        return false;
    take(out->device, sizeof out->device, device);
    take(out->mountpoint, sizeof out->mountpoint, mountpoint);
    take(out->type, sizeof out->type, type);
    take(out->source, sizeof out->source, source);
    return true;
}

static bool is_at(const struct mount_entry *e, const char *path)
{
    return strcmp(e->mountpoint, path) == 0;
}

static bool is_below(const struct mount_entry *e, const char *path)
{
    size_t len = strlen(path);
    return strncmp(e->mountpoint, path, len) == 0 && e->mountpoint[len] == '/' && e->mountpoint[len + 1];
}

static bool is_of_volume(const struct mount_entry *e, const char *path)
{
    return strcmp(e->type, "fuse.latchfs") == 0 && strcmp(e->source, path) == 0;
}

static int find(const char *path, bool (*fits)(const struct mount_entry *, const char *),
                struct mount_entry *out)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t cap = 0;
    struct mount_entry e;
    int r = -ENOENT;
    if (!f)
        return -errno;
    while (getline(&line, &cap, f) > 0) {
        if (parse_line(line, &e) && fits(&e, path)) {
            *out = e; /* a later line lies on top of an earlier one */
            r = 0;
        }
    }
    free(line);
    fclose(f);
    return r;
}

int mount_table_find(const char *path, struct mount_entry *out)
{
    return find(path, is_at, out);
}

int mount_table_below(const char *path, struct mount_entry *out)
{
    return find(path, is_below, out);
}

int mount_table_of_volume(const char *path, struct mount_entry *out)
{
    return find(path, is_of_volume, out);
}

int mount_point_path(const char *path, char out[static PATH_MAX])
{
    char copy[PATH_MAX], parent[PATH_MAX];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof copy)
        return len ? -ENAMETOOLONG : -ENOENT;
    memcpy(copy, path, len + 1);
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = '\0';
    char *slash = strrchr(copy, '/');
    const char *last = slash ? slash + 1 : copy;
    if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
        return realpath(copy, out) ? 0 : -errno;
    if (slash)
        *slash = '\0';
    const char *dir = !slash ? "." : slash == copy ? "/" : copy;
    if (!realpath(dir, parent))
        return -errno;
    int n = snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, last);
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

pid_t file_lock_holder(const char *path)
{
    struct stat st;
    char line[256];
    FILE *f = stat(path, &st) == 0 ? fopen("/proc/locks", "re") : NULL;
    pid_t found = 0;
    while (f && fgets(line, sizeof line, f)) {
        unsigned major, minor;
        unsigned long long ino;
        char kind[16];
        int pid;
        if (sscanf(line, "%*d: %15s %*s %*s %d %x:%x:%llu", kind, &pid, &major, &minor, &ino) != 5 ||
            ino != st.st_ino || major != major(st.st_dev) || minor != minor(st.st_dev))
            continue;
        if (strcmp(kind, "FLOCK") == 0 && pid > 0)
            found = pid;
        else if (strcmp(kind, "OFDLCK") == 0 && !found)
            found = -1;
    }
    if (f)
        fclose(f);
    return found;
}
