#include "check_json.h"

#include <inttypes.h>

#define SCHEMA 1

static void put_string(FILE *to, const char *name, const char *value)
{
    fprintf(to, ",\"%s\":", name);
    if (!value) {
        fputs("null", to);
        return;
    }
    putc('"', to);
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if (*p < 0x20 || *p >= 0x7f || *p == '"' || *p == '\\')
            fprintf(to, "\\u%04x", *p);
        else
            putc(*p, to);
    }
    putc('"', to);
}

static void put_bool(FILE *to, const char *name, bool value)
{
    fprintf(to, ",\"%s\":%s", name, value ? "true" : "false");
}

static void put_number(FILE *to, const char *name, uint64_t value)
{
    fprintf(to, ",\"%s\":%" PRIu64, name, value);
}

void check_json_begin(FILE *to, const struct check_subject *s)
{
    fprintf(to, "{\"schema\":%d", SCHEMA);
    put_string(to, "command", s->command);
    put_string(to, "volume", s->volume);
    put_string(to, "mountpoint", s->mountpoint);
    put_string(to, "subtree", s->subtree);
    put_string(to, "depth", check_depth_name(s));
    put_bool(to, "repair", s->repair);
    put_bool(to, "continued", s->continued);
    fputs(",\"findings\":[", to);
}

static const char *severity_name(enum check_severity s)
{
    return s == CHECK_DAMAGE ? "damage" : s == CHECK_WARNING ? "warning" : "note";
}

void check_json_finding(FILE *to, const struct check_finding *f, bool first)
{
    bool range = f->length > 0;
    fprintf(to, "%s\n{\"severity\":\"%s\"", first ? "" : ",", severity_name(f->severity));
    put_string(to, "kind", check_kind_name(f->kind));
    put_string(to, "cipher_path", f->cipher_path);
    put_string(to, "plain_path", f->plain_path);
    if (range)
        fprintf(to, ",\"range\":{\"offset\":%" PRIu64 ",\"length\":%" PRIu64 "}", f->offset, f->length);
    else
        fputs(",\"range\":null", to);
    put_string(to, "error", f->err ? lfs_strerror(f->err) : NULL);
    put_number(to, "errno", (uint64_t)lfs_errno(f->err));
    put_string(to, "repair", f->repair);
    put_bool(to, "repaired", f->repaired);
    put_string(to, "moved_to", f->moved_to);
    putc('}', to);
}

void check_json_end(FILE *to, const struct check_report *r, const struct check_progress *all, int err,
                    int code)
{
    fprintf(to, "%s],\"summary\":{\"entries\":%" PRIu64, r->findings ? "\n" : "", all->entries);
    put_number(to, "files", all->files);
    put_number(to, "directories", all->directories);
    put_number(to, "bytes", all->bytes);
    put_number(to, "sealed", all->sealed);
    put_number(to, "unsealed", all->open_seals);
    put_number(to, "notes", r->notes + r->before.notes);
    put_number(to, "warnings", r->warnings + r->before.warnings);
    put_number(to, "damage", r->damage_left + r->damage_repaired + r->before.damage);
    put_number(to, "repaired", r->damage_repaired);
    putc('}', to);
    put_bool(to, "complete", err == 0);
    put_string(to, "error", err ? lfs_strerror(err) : NULL);
    fprintf(to, ",\"exit\":%d}\n", code);
}
