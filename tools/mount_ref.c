#include "mount_ref.h"

#include "cli.h"
#include "mount_table.h"

#include "latchfs/mountctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct search {
    const char *path;
    struct mount_ref *out;
    size_t found; /* length of what path is below of */
    bool by_volume;
};

static size_t length_below(const char *path, const char *top)
{
    size_t n = strlen(top);
    return strncmp(path, top, n) == 0 && (path[n] == '/' || !path[n]) ? n : 0;
}

static int note(const char *socket_path, const struct mount_status *st, void *arg)
{
    struct search *s = arg;
    size_t n = length_below(s->path, s->by_volume ? st->volume : st->mountpoint);
    if (n <= s->found)
        return 0;
    s->found = n;
    snprintf(s->out->socket, sizeof s->out->socket, "%s", socket_path);
    strcpy(s->out->mountpoint, st->mountpoint);
    strcpy(s->out->volume, st->volume);
    return 0;
}

static int find(struct search *s, const char **rel)
{
    int r = mountctl_each(note, s);
    if (!r && !s->found)
        r = -ENOENT;
    if (!r)
        *rel = s->path + s->found + (s->path[s->found] == '/');
    return r;
}

int mount_ref_of_path(const char *path, struct mount_ref *out, const char **rel)
{
    struct search s = {.path = path, .out = out};
    return find(&s, rel);
}

int mount_ref_of_volume(const char *path, struct mount_ref *out, const char **rel)
{
    struct search s = {.path = path, .out = out, .by_volume = true};
    return find(&s, rel);
}

int mount_ref_get(const char *mountpoint, struct mount_ref *out)
{
    char path[PATH_MAX], real[PATH_MAX], quoted[PATH_MAX];
    const char *rel = "";
    int r = mount_point_path(mountpoint, path);
    if (!r)
        r = mount_ref_of_path(path, out, &rel);
    if ((r == -ENOENT || *rel) && realpath(mountpoint, real)) /* a link to it */
        r = mount_ref_of_path(real, out, &rel);
    if (r == -ENOENT || (!r && *rel))
        return cli_fail(LFS_EXIT_NOTVOLUME,
                        "%s: no mount of yours that answers; 'latch status' lists the mounts",
                        cli_quote(mountpoint, quoted, sizeof quoted));
    return r ? cli_fail_err(r, mountpoint, NULL) : LFS_EXIT_OK;
}
