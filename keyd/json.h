/* JSON text, written piece by piece into a growing buffer. */
#ifndef KEYD_JSON_H
#define KEYD_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json {
    char *p;
    size_t len, cap;
    bool bad; /* memory ran out, or the text is over JSON_MAX */
};
#define JSON_MAX (1024u * 1024)

void json_clear(struct json *j);
/* Takes back what was written since the text had this length. */
void json_cut(struct json *j, size_t len);
void json_raw(struct json *j, const char *text);
/* name may be NULL (array elements). Bytes that are not printable ASCII come as \u00XX of the byte. */
void json_string(struct json *j, const char *name, const char *value);
void json_number(struct json *j, const char *name, uint64_t value);
void json_bool(struct json *j, const char *name, bool value);
void json_open(struct json *j, const char *name, char bracket); /* '{' or '[' */
void json_close(struct json *j, char bracket);                  /* '}' or ']' */

#endif
