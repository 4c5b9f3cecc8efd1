/* The check of a volume: a line for each finding. */
#include "tamper.h"

#include "latchfs/check.h"

static void found(const struct check_finding *f, void *arg)
{
    const char *depth = arg;
    printf("V\t%s\t%s\t%d\t", depth, check_kind_name(f->kind), f->severity);
    tamper_text(f->cipher_path);
    putchar('\t');
    tamper_text(f->plain_path ? f->plain_path : "?");
    printf("\t%llu\n", (unsigned long long)f->offset);
}

void tamper_verify(const char *dir, struct volume *v)
{
    char structure[] = "structure", contents[] = "contents";
    struct check_options o = {.workers = 1, .finding = found, .arg = structure};
    struct check_progress p = {0};
    int r = check_structure(dir, &o, &p);
    printf("checked\tstructure\t%d\n", r);
    if (!v)
        return;
    o.flags = CHECK_CONTENTS;
    o.arg = contents;
    p = (struct check_progress){0};
    r = check_volume(v, &o, &p);
    printf("checked\tcontents\t%d\n", r);
}
