#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void json_clear(struct json *j)
{
    free(j->p);
    *j = (struct json){0};
}

void json_cut(struct json *j, size_t len)
{
    if (len > j->len)
        return;
    j->len = len;
    if (j->p)
        j->p[len] = '\0';
}

void json_raw(struct json *j, const char *text)
{
    size_t n = strlen(text);
    if (j->bad || n > JSON_MAX - j->len) {
        j->bad = true;
        return;
    }
    if (j->len + n + 1 > j->cap) {
        size_t cap = 2 * (j->len + n + 1);
        char *grown = realloc(j->p, cap);
        if (!grown) {
            j->bad = true;
            return;
        }
        j->p = grown;
        j->cap = cap;
    }
    memcpy(j->p + j->len, text, n + 1);
    j->len += n;
}

static void quoted(struct json *j, const char *s)
{
    char piece[8];
    json_raw(j, "\"");
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
        snprintf(piece, sizeof piece, plain ? "%c" : "\\u%04x", c);
        json_raw(j, piece);
    }
    json_raw(j, "\"");
}

static void lead(struct json *j, const char *name)
{
    if (j->len && !strchr("{[", j->p[j->len - 1]))
        json_raw(j, ",");
    if (!name)
        return;
    quoted(j, name);
    json_raw(j, ":");
}

void json_string(struct json *j, const char *name, const char *value)
{
    lead(j, name);
    quoted(j, value);
}

void json_number(struct json *j, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    lead(j, name);
    json_raw(j, text);
}

void json_bool(struct json *j, const char *name, bool value)
{
    lead(j, name);
    json_raw(j, value ? "true" : "false");
}

void json_open(struct json *j, const char *name, char bracket)
{
    lead(j, name);
    json_raw(j, (char[]){bracket, '\0'});
}

void json_close(struct json *j, char bracket)
{
    json_raw(j, (char[]){bracket, '\0'});
}
