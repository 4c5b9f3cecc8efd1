/* Records with their ciphertext behind them: canonical, and never opened. */
#include "latchfs/err.h"
#include "latchfs/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[LFS_KEY_BYTES] = {1}, id[ID_BYTES] = {2};
    static uint8_t plain[PAGE_BYTES], cipher[PAGE_BYTES];
    static struct aead *a;
    uint8_t in[RECORD_BYTES] = {0}, out[RECORD_BYTES];
    struct record r;
    if (!a && !(a = aead_new()))
        abort();
    memcpy(in, data, size < sizeof in ? size : sizeof in);
    if (record_decode(in, &r))
        return 0;
    record_encode(&r, out);
    if (memcmp(in, out, sizeof in) != 0)
        abort();
    size_t rest = size > sizeof in ? size - sizeof in : 0;
    memcpy(cipher, data + size - rest, rest < sizeof cipher ? rest : sizeof cipher);
    enum suite suite = r.nonce[0] & 1 ? SUITE_AES_256_GCM : SUITE_CHACHA20_POLY1305;
    struct content_ad ad = {KIND_CHUNK, (uint8_t)suite, r.epoch, id, 0};
    if (aead_set_key(a, suite, key))
        abort();
    int want = record_is_hole(&r) ? LFS_ERR_MISUSE : LFS_ERR_AUTH;
    if (record_open(a, &ad, &r, cipher, plain) != want)
        abort();
    return 0;
}
