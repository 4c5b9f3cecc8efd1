#include "fs/view/exclude.h"

#include "latchfs/err.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct exclude {
    struct exclude *next;
    bool anchored, dirs_only;
    char text[];
};

/* A component that no path has. */
static bool has_dots(const char *text)
{
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, "/");
        if ((len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
            return true;
        p += len + strspn(p + len, "/");
    }
    return false;
}

int exclude_add(struct exclude **list, const char *pattern)
{
    const char *text = pattern + (pattern[0] == '/');
    size_t len = strlen(text);
    bool dirs_only = len > 0 && text[len - 1] == '/';
    len -= dirs_only;
    if (len == 0 || pattern[0] == '!' || strstr(text, "**") || strstr(text, "//") || text[0] == '/' ||
        has_dots(text))
        return LFS_ERR_MISUSE;
    struct exclude *e = malloc(sizeof *e + len + 1);
    if (!e)
        return -ENOMEM;
    memcpy(e->text, text, len);
    e->text[len] = '\0';
    e->dirs_only = dirs_only;
    e->anchored = text != pattern || strchr(e->text, '/');
    e->next = *list;
    *list = e;
    return 0;
}

int exclude_add_file(struct exclude **list, const char *path, unsigned *line)
{
    char *text = NULL;
    size_t room = 0;
    int r = 0;
    *line = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    for (unsigned n = 1; !r && getline(&text, &room, f) >= 0; n++) {
        text[strcspn(text, "\n")] = '\0';
        if (text[0] && text[0] != '#')
            r = exclude_add(list, text);
        *line = r ? n : 0;
    }
    if (!r && ferror(f))
        r = -EIO;
    free(text);
    fclose(f);
    return r;
}

bool exclude_fits(const struct exclude *list, const char *path, bool is_dir)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (const struct exclude *e = list; e; e = e->next)
        if ((is_dir || !e->dirs_only) && fnmatch(e->text, e->anchored ? path : name, FNM_PATHNAME) == 0)
            return true;
    return false;
}

void exclude_free(struct exclude *list)
{
    while (list) {
        struct exclude *next = list->next;
        free(list);
        list = next;
    }
}
