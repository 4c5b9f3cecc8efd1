/* Reading the status texts of our own daemons: a value is a stretch of a JSON text (RFC 8259). Nothing is
 * copied; a text with an error gives absent values from there on, never a read behind its end. */
#ifndef TOOLS_JSON_READ_H
#define TOOLS_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>

struct json_value {
    const char *p, *end; /* p NULL: absent */
};

/* The one value of a text; absent if the text is not exactly one well-formed value, or nested over 32 deep.
 */
struct json_value json_read(const char *text, size_t len);

/* The member of an object, absent if there is none. key is compared with the bytes as they stand. */
struct json_value json_read_get(struct json_value object, const char *key);

/* The elements of an array: pass the array and an absent value to begin, absent at the end. */
struct json_value json_read_next(struct json_value array, struct json_value element);

static inline bool json_value_there(struct json_value v)
{
    return v.p != NULL;
}
bool json_value_is_true(struct json_value v);

/* The number, or other if it is none or does not fit. */
long long json_value_number(struct json_value v, long long other);

/* The string unescaped into out, cut to fit, NUL-terminated; "" if it is none. Returns out. Our daemons write
 * the byte 0xXX, where it is not printable ASCII, as \u00XX; other escapes of that kind become '?'. */
const char *json_value_string(struct json_value v, char *out, size_t len);

#endif
