#include "check_opened.h"

#include "latchfs/buf.h"
#include "latchfs/name.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEFTOVERS_MAX 1024u

static int note(struct check_opened *o, const char *name)
{
    char **grown = realloc(o->leftovers, (o->count + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    o->leftovers = grown;
    grown[o->count] = strdup(name);
    return grown[o->count] ? (o->count++, 0) : -ENOMEM;
}

int check_opened_before(const char *volume, struct check_opened *o)
{
    *o = (struct check_opened){0};
    DIR *dir = opendir(volume);
    int r = dir ? 0 : -errno;
    for (const struct dirent *e; !r && o->count < LEFTOVERS_MAX && (e = readdir(dir));)
        if (name_stored_kind(e->d_name) == STORED_TMP)
            r = note(o, e->d_name);
    if (dir)
        closedir(dir);
    return r;
}

static void tell_leftovers(const char *volume, const struct check_opened *o, struct check_report *r)
{
    struct stat st;
    AUTO_CLOSE int fd = open(volume, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; fd >= 0 && i < o->count; i++) {
        const struct check_finding f = {
            .kind = CHECK_LEFTOVER,
            .severity = CHECK_NOTE,
            .cipher_path = o->leftovers[i],
            .repair = "remove it",
            .repaired = true,
        };
        if (fstatat(fd, o->leftovers[i], &st, AT_SYMLINK_NOFOLLOW) && errno == ENOENT)
            check_report_finding(r, &f);
    }
}

void check_opened_tell(const char *volume, const struct check_opened *o, const struct replay_report *replay,
                       struct check_report *r)
{
    struct check_finding f = {
        .kind = CHECK_JOURNAL_UNCLEAN, .severity = CHECK_NOTE, .cipher_path = JOURNAL_NAME};
    tell_leftovers(volume, o, r);
    if (replay->unclean) {
        f.repair = "put its changes in place";
        f.repaired = true;
        check_report_finding(r, &f);
    }
    if (replay->skipped || replay->torn) {
        f.severity = CHECK_WARNING;
        f.repair = NULL;
        f.repaired = false;
        check_report_finding(r, &f);
    }
}

void check_opened_clear(struct check_opened *o)
{
    for (size_t i = 0; i < o->count; i++)
        free(o->leftovers[i]);
    free(o->leftovers);
    *o = (struct check_opened){0};
}
