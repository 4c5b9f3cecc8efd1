/* A request for approval in the state directory: whatever is taken encodes to the same bytes. */
#include "approval_text.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char again[APPROVAL_FILE_MAX];
    struct approval p;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (approval_decode(text, size, &p) == 0 &&
        (approval_encode(&p, again) != size || memcmp(again, data, size) != 0))
        abort();
    free(text);
    return 0;
}
