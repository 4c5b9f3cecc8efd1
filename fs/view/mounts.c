#include "fs/view/mounts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#define TYPE "fuse.latchfs-view"

struct mount {
    dev_t dev;
    char *path;
    bool is_view;
};

static unsigned octal(char c)
{
    return (unsigned char)c & 7u;
}

/* The table has spaces, tabs, newlines and backslashes as three octal digits. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *p = text; *p; to++) {
        if (p[0] == '\\' && p[1] && p[2] && p[3]) {
            *to = (char)(octal(p[1]) << 6 | octal(p[2]) << 3 | octal(p[3]));
            p += 4;
        } else {
            *to = *p++;
        }
    }
    *to = '\0';
}

/* A line: ids, device, root, mount point, options, optional fields, "-", type, source, options. */
static bool parse(char *line, struct mount *m)
{
    unsigned major, minor;
    int at = 0;
    char *rest = strstr(line, " - ");
    if (!rest || sscanf(line, "%*u %*u %u:%u %*s %n", &major, &minor, &at) != 2 || !at)
        return false;
    m->dev = makedev(major, minor);
    m->is_view = strncmp(rest + 3, TYPE " ", sizeof TYPE) == 0;
    m->path = line + at;
    m->path[strcspn(m->path, " ")] = '\0';
    unescape(m->path);
    return true;
}

/* The last mount that fits is the one on top. */
static bool find(const char *path, dev_t dev)
{
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    while (f && getline(&line, &room, f) >= 0) {
        struct mount m;
        if (parse(line, &m) && (path ? strcmp(m.path, path) == 0 : m.dev == dev))
            found = m.is_view;
    }
    free(line);
    if (f)
        fclose(f);
    return found;
}

bool mounts_view_at(const char *path)
{
    return find(path, 0);
}

bool mounts_view_dev(dev_t dev)
{
    return find(NULL, dev);
}
