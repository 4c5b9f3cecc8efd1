#include "fs/mount/findings.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_MAX 4096u
#define KEPT_BYTES_MAX ((size_t)4 << 20)
#define REPAIR_MAX 500u /* so that two paths and this go into one answer */

struct kept_finding {
    struct kept_finding *next;
    struct check_finding f; /* strings in text */
    size_t size;            /* of all */
    char text[];
};

void findings_init(struct findings *f)
{
    *f = (struct findings){.next = 1};
    f->newest = &f->oldest;
}

void findings_restart(struct findings *f)
{
    f->next = 1;
}

static size_t room_for(const char *s, size_t max)
{
    return s ? strnlen(s, max) + 1 : 0;
}

static const char *keep(char **at, const char *s, size_t max)
{
    size_t room = room_for(s, max);
    char *text = *at;
    if (!s)
        return NULL;
    memcpy(text, s, room - 1);
    text[room - 1] = '\0';
    *at += room;
    return text;
}

static struct kept_finding *copy(const struct check_finding *one)
{
    const size_t path = PATH_MAX - 1;
    size_t size = sizeof(struct kept_finding) + room_for(one->cipher_path, path) +
                  room_for(one->plain_path, path) + room_for(one->repair, REPAIR_MAX);
    struct kept_finding *k = calloc(1, size);
    if (!k)
        return NULL;
    char *at = k->text;
    k->size = size;
    k->f = *one;
    k->f.cipher_path = keep(&at, one->cipher_path, path);
    k->f.plain_path = keep(&at, one->plain_path, path);
    k->f.repair = keep(&at, one->repair, REPAIR_MAX);
    k->f.repaired = false;
    k->f.moved_to = NULL;
    return k;
}

static void drop_oldest(struct findings *f)
{
    struct kept_finding *k = f->oldest;
    f->oldest = k->next;
    if (!f->oldest)
        f->newest = &f->oldest;
    f->count--;
    f->bytes -= k->size;
    sodium_memzero(k, k->size);
    free(k);
}

/* Without memory it counts as dropped, with all before it. */
void findings_add(struct findings *f, const struct check_finding *one)
{
    struct kept_finding *k = copy(one);
    f->next++;
    if (!k) {
        findings_forget(f);
        return;
    }
    *f->newest = k;
    f->newest = &k->next;
    f->count++;
    f->bytes += k->size;
    while (f->count > KEPT_MAX || f->bytes > KEPT_BYTES_MAX)
        drop_oldest(f);
}

void findings_forget(struct findings *f)
{
    while (f->oldest)
        drop_oldest(f);
}

void findings_after(const struct findings *f, uint64_t after, struct mount_findings *out)
{
    uint64_t number = f->next - f->count; /* of the oldest */
    if (after >= f->next)
        after = f->next - 1;
    out->dropped = number > after + 1 ? number - (after + 1) : 0;
    out->count = 0;
    const struct kept_finding *k = f->oldest;
    for (; k && number <= after; k = k->next)
        number++;
    out->first = number;
    for (; k && out->count < MOUNTCTL_FINDINGS_MAX; k = k->next)
        out->each[out->count++] = k->f;
}
