/* The sections and fields of latchfs.ini as one table, for reading and writing alike. */
#ifndef FORMAT_KEYSTORE_FIELDS_H
#define FORMAT_KEYSTORE_FIELDS_H

#include "latchfs/keystore.h"

#define KEYSTORE_LINE_MAX 199u   /* inih takes the tail of a line over 199 bytes as a new line */
#define KEYSTORE_PIECE_BYTES 96u /* of a blob, 128 characters of base64url */

enum keystore_section {
    SEC_VOLUME,
    SEC_SLOT,
    SEC_MASTER,
    SEC_JOURNAL,
    SEC_DIR,
    SEC_KEY,
    SEC_BACKUP,
    SEC_NEED,
    SEC_SIGNATURE,
    SEC_COUNT
};

enum field_type {
    F_U32,
    F_U64,
    F_HEX,
    F_BLOB,
    F_SLOT_BLOB, /* keystore_slot.blob, as long as it is */
    F_SUITE,
    F_SLOT_TYPE,
    F_STATE,
    F_LABEL,
    F_COMMAND,
    F_YES
};

struct keystore_field {
    const char *name;
    enum field_type type;
    bool optional; /* left out when zero or empty */
    size_t offset; /* in the struct of its section */
    size_t size;   /* bytes of F_HEX and F_BLOB */
};

/* Fields of a section in file order, ended by a NULL name. */
const struct keystore_field *keystore_fields(enum keystore_section s);

/* Reads one field. name: that of the field, for blobs with the number of the piece. into: the struct of the
 * section. False when there is no such field or the value is none. */
bool keystore_set(enum keystore_section s, void *into, const char *name, const char *value);

/* A decimal number of at most 18 digits. */
bool keystore_number(const char *s, uint64_t most, uint64_t *out);

/* LFS_ERR_MISUSE unless every number, reference and order is one that the format allows. */
int keystore_check(const struct keystore *ks);

#endif
