#include "json_read.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 32

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

static const char *skip_value(const char *p, const char *end, int depth);

/* Each skip function takes the start of its value and returns its end, or NULL. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++) {
        if ((unsigned char)*p < 0x20)
            return NULL;
        if (*p == '\\' && ++p >= end)
            return NULL;
    }
    return p < end ? p + 1 : NULL;
}

static const char *skip_word(const char *p, const char *end)
{
    const char *start = p;
    while (p < end && (isalnum((unsigned char)*p) || *p == '-' || *p == '+' || *p == '.'))
        p++;
    return p > start ? p : NULL;
}

/* Past "key" and ':', to the member's value. */
static const char *skip_key(const char *p, const char *end)
{
    p = p < end && *p == '"' ? skip_string(p, end) : NULL;
    p = p ? skip_blanks(p, end) : NULL;
    return p && p < end && *p == ':' ? skip_blanks(p + 1, end) : NULL;
}

static const char *skip_list(const char *p, const char *end, char close, int depth)
{
    p = skip_blanks(p + 1, end);
    if (p < end && *p == close)
        return p + 1;
    while (p) {
        if (close == '}')
            p = skip_key(p, end);
        p = p ? skip_value(p, end, depth + 1) : NULL;
        p = p ? skip_blanks(p, end) : NULL;
        if (!p || p >= end)
            return NULL;
        if (*p == close)
            return p + 1;
        p = *p == ',' ? skip_blanks(p + 1, end) : NULL;
    }
    return NULL;
}

static const char *skip_value(const char *p, const char *end, int depth)
{
    if (p >= end || depth > DEPTH_MAX)
        return NULL;
    switch (*p) {
    case '"':
        return skip_string(p, end);
    case '{':
        return skip_list(p, end, '}', depth);
    case '[':
        return skip_list(p, end, ']', depth);
    default:
        return skip_word(p, end);
    }
}

struct json_value json_read(const char *text, size_t len)
{
    const char *end = text + len, *p = skip_blanks(text, end);
    const char *past = skip_value(p, end, 0);
    if (!past || skip_blanks(past, end) != end)
        return (struct json_value){0};
    return (struct json_value){p, past};
}

struct json_value json_read_get(struct json_value object, const char *key)
{
    size_t len = strlen(key);
    if (!object.p || *object.p != '{')
        return (struct json_value){0};
    const char *end = object.end, *p = skip_blanks(object.p + 1, end);
    while (p && p < end && *p == '"') {
        const char *name = p + 1, *value = skip_key(p, end);
        const char *past = value ? skip_value(value, end, 0) : NULL;
        if (!past)
            break;
        if (strncmp(name, key, len) == 0 && name[len] == '"')
            return (struct json_value){value, past};
        p = skip_blanks(past, end);
        p = p < end && *p == ',' ? skip_blanks(p + 1, end) : NULL;
    }
    return (struct json_value){0};
}

struct json_value json_read_next(struct json_value array, struct json_value element)
{
    if (!array.p || *array.p != '[')
        return (struct json_value){0};
    const char *end = array.end, *p = skip_blanks(element.p ? element.end : array.p + 1, end);
    if (element.p)
        p = p < end && *p == ',' ? skip_blanks(p + 1, end) : end;
    const char *past = p < end && *p != ']' ? skip_value(p, end, 0) : NULL;
    return past ? (struct json_value){p, past} : (struct json_value){0};
}

bool json_value_is_true(struct json_value v)
{
    return v.p && v.end - v.p == 4 && memcmp(v.p, "true", 4) == 0;
}

long long json_value_number(struct json_value v, long long other)
{
    char digits[24], *stop;
    size_t len = v.p ? (size_t)(v.end - v.p) : 0;
    if (len == 0 || len >= sizeof digits)
        return other;
    memcpy(digits, v.p, len);
    digits[len] = '\0';
    errno = 0;
    long long n = strtoll(digits, &stop, 10);
    return errno || *stop ? other : n;
}

/* The character behind a backslash at p; *p is left on its last byte. */
static char unescape(const char **p, const char *end)
{
    static const char from[] = "nrtbf", to[] = "\n\r\t\b\f";
    const char *known = strchr(from, **p);
    if (**p != 'u')
        return known ? to[known - from] : **p;
    char hex[5] = "";
    if (end - *p > 4)
        memcpy(hex, *p + 1, 4);
    *p += end - *p > 4 ? 4 : 0;
    long c = strtol(hex, NULL, 16);
    return c > 0 && c < 0x100 ? (char)c : '?';
}

const char *json_value_string(struct json_value v, char *out, size_t len)
{
    size_t n = 0;
    if (v.p && *v.p == '"') {
        for (const char *p = v.p + 1; p < v.end - 1 && n + 1 < len; p++) {
            bool escaped = *p == '\\' && ++p < v.end - 1;
            out[n++] = escaped ? unescape(&p, v.end - 1) : *p;
        }
    }
    out[n] = '\0';
    return out;
}
