#include "target.h"

#include "cli.h"
#include "json_read.h"
#include "keyd_conn.h"
#include "mount_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void target_clear(struct target *t)
{
    volume_files_clear(&t->v);
}

/* ---- mounts ---- */

static bool is_in(const char *path, const char *top)
{
    size_t n = strlen(top);
    return strncmp(path, top, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* The mount that path lies in (the innermost), or one of the volume that path is. */
static int note_mount(const char *socket_path, const struct mount_status *st, void *arg)
{
    struct target *t = arg;
    bool inside = is_in(t->path, st->mountpoint);
    bool of_volume = !t->rel && strcmp(st->volume, t->path) == 0;
    if (!inside && !of_volume)
        return 0;
    if (inside && t->rel && strlen(st->mountpoint) < strlen(t->mountpoint))
        return 0;
    t->mounted = true;
    t->pid = st->pid;
    snprintf(t->socket, sizeof t->socket, "%s", socket_path);
    snprintf(t->mountpoint, sizeof t->mountpoint, "%s", st->mountpoint);
    snprintf(t->volume, sizeof t->volume, "%s", st->volume);
    if (inside) {
        t->rel = t->path + strlen(st->mountpoint);
        t->rel += *t->rel == '/';
    }
    return 0;
}

/* Also one that has lost its key store: volume_files_open says what to do then. */
static bool is_volume(const char *path)
{
    static const char *const names[] = {KEYSTORE_NAME, KEYSTORE_BAK_NAME, JOURNAL_NAME, VIEW_KEYSTORE_NAME};
    char file[PATH_MAX + 64];
    bool found = false;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !found; i++) {
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        found = access(file, F_OK) == 0;
    }
    return found;
}

static int resolve(struct target *t)
{
    struct mount_resolved m;
    if (!t->mounted || !t->rel)
        return LFS_EXIT_OK;
    int r = mountctl_resolve(t->socket, t->rel, &m);
    if (r)
        return cli_fail_err(r, t->path,
                            r == LFS_ERR_NOKEY ? "unlock the volume, or name the protected directory itself"
                                               : NULL);
    memcpy(t->pd_id, m.pd_id, ID_BYTES);
    t->top = m.top;
    t->locked = m.locked;
    return LFS_EXIT_OK;
}

int target_find(const char *path, struct target *t)
{
    *t = (struct target){.v.dirfd = -1};
    int r = mount_point_path(path, t->path);
    if (r)
        return cli_fail_err(r, path, NULL);
    r = mountctl_each(note_mount, t);
    if (r)
        return cli_fail_err(r, "the mounts", NULL);
    if (!t->mounted || !t->rel) {
        char real[PATH_MAX];
        if (!t->mounted && realpath(t->path, real))
            strcpy(t->path, real);
        strcpy(t->volume, t->path);
        if (!is_volume(t->path)) {
            char quoted[PATH_MAX];
            return cli_fail(LFS_EXIT_NOTVOLUME,
                            "%s: neither a volume (no " KEYSTORE_NAME
                            ") nor in a mount of yours that answers; "
                            "'latch status' shows the ids by which a volume can be locked all the same",
                            cli_quote(path, quoted, sizeof quoted));
        }
        if (!t->mounted)
            mountctl_each(note_mount, t); /* the same volume under its real path */
    }
    int code = volume_files_open(t->volume, &t->v);
    if (code != LFS_EXIT_OK)
        return code;
    memcpy(t->pd_id, t->v.ks->root_id, ID_BYTES);
    return resolve(t);
}

void target_to_top(struct target *t)
{
    size_t least = strlen(t->mountpoint);
    while (!t->top && strlen(t->path) > least) {
        struct mount_resolved m;
        char *slash = strrchr(t->path, '/');
        if (!slash || (size_t)(slash - t->path) <= least)
            return;
        *slash = '\0';
        if (mountctl_resolve(t->socket, t->rel, &m) || memcmp(m.pd_id, t->pd_id, ID_BYTES) != 0)
            return;
        t->top = m.top;
    }
}

bool target_dir_in_mount(const struct target *t, struct pd_status *out)
{
    struct mount_dir dirs[MOUNTCTL_DIRS_MAX];
    size_t count = 0;
    if (!t->mounted || mountctl_dirs(t->socket, dirs, MOUNTCTL_DIRS_MAX, &count))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (memcmp(dirs[i].pd.id, t->pd_id, ID_BYTES) != 0)
            continue;
        *out = dirs[i].pd;
        return true;
    }
    return false;
}

/* ---- naming a directory ---- */

static struct json_value find_dir(struct json_value volume, const char *key, const char *want)
{
    struct json_value dirs = json_read_get(volume, "directories");
    char text[KEYSTORE_LABEL_MAX + 1];
    for (struct json_value d = json_read_next(dirs, (struct json_value){0}); json_value_there(d);
         d = json_read_next(dirs, d))
        if (strcmp(json_value_string(json_read_get(d, key), text, sizeof text), want) == 0)
            return d;
    return (struct json_value){0};
}

struct json_value target_status_dir(struct json_value volume, const uint8_t pd_id[static ID_BYTES])
{
    char want[2 * ID_BYTES + 1];
    id_to_hex(pd_id, want);
    return find_dir(volume, "id", want);
}

static int choose_by_name(struct target *t, const char *name)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    AUTO_FREE char *status = NULL;
    char id[2 * ID_BYTES + 1], quoted[256];
    int code = keyd_conn_open(false, &kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_status(kc, &status);
    if (r)
        return keyd_conn_fail(kc, r, "latch-keyd");
    struct json_value d = find_dir(keyd_status_volume(status, t->v.ks->volume_id), "name", name);
    json_value_string(json_read_get(d, "id"), id, sizeof id);
    if (json_value_there(d) && id_from_hex(id, t->pd_id))
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_USAGE, "no protected directory is called '%s'; 'latch key list' shows them",
                    cli_quote(name, quoted, sizeof quoted));
}

int target_choose(struct target *t, const char *name_or_id)
{
    uint8_t id[ID_BYTES];
    t->top = true;
    if (!id_from_hex(name_or_id, id))
        return choose_by_name(t, name_or_id);
    if (!keystore_dir(t->v.ks, id))
        return cli_fail(LFS_EXIT_USAGE,
                        "the volume has no protected directory %s; 'latch key list' shows them", name_or_id);
    memcpy(t->pd_id, id, ID_BYTES);
    return LFS_EXIT_OK;
}

bool target_is_root(const struct target *t)
{
    return memcmp(t->pd_id, t->v.ks->root_id, ID_BYTES) == 0;
}
