/* Plain names behind stored long ones, which are hashes and do not lead back. What was seen lately is kept;
 * what is not there costs a look at the whole directory. */
#ifndef FS_VIEW_LONGNAMES_H
#define FS_VIEW_LONGNAMES_H

#include "latchfs/format.h"

#include <stdbool.h>

struct longnames;
struct longnames *longnames_new(void); /* NULL when memory is out */
void longnames_free(struct longnames *l);

/* dir_id: of the directory; stored: latchfs.long.H. May forget another one. */
void longnames_note(struct longnames *l, const uint8_t dir_id[static ID_BYTES], const char *stored,
                    const char *plain);
bool longnames_find(struct longnames *l, const uint8_t dir_id[static ID_BYTES], const char *stored,
                    char plain[static NAME_PLAIN_MAX + 1]);

#endif
