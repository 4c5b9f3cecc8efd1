/* Bytes that authenticate, whatever they say. */
#include "store_fuzz.h"

#include "latchfs/aead.h"

#include <sodium.h>

void fuzz_file_key(uint16_t epoch, uint8_t key[static LFS_KEY_BYTES])
{
    memset(key, 0x60, LFS_KEY_BYTES);
    memcpy(key, &epoch, sizeof epoch);
}

static void zero_range(uint8_t *image, size_t from, size_t to)
{
    memset(image + from, 0, to - from);
}

/* Offsets: docs/FORMAT.md, "Header". */
void fuzz_repair_header(uint8_t image[static HEADER_BYTES])
{
    static const uint8_t start[] = {'L', 'A', 'T', 'C', 'H', 'F', 'I', 'L', 1, 0};
    const size_t places[] = {56, 136};
    memcpy(image, start, sizeof start);
    image[10] = (uint8_t)(1 + (image[10] & 1)); /* suite */
    image[11] = (uint8_t)(1 + (image[11] & 1)); /* state */
    zero_range(image, 12, 16);
    memcpy(image + 32, fuzz_keys()->pd_id, ID_BYTES);
    zero_range(image, 49, 56);
    image[48] = 1; /* key version */
    if (!memcmp(image + places[0], image + places[1], 2))
        image[places[0]] ^= 1;
    for (int i = 0; i < 2; i++) {
        zero_range(image, places[i] + 2, places[i] + 8);
        if (!image[places[i]] && !image[places[i] + 1])
            zero_range(image, places[i], places[i] + 80);
    }
    image[240] &= 1; /* seal */
    zero_range(image, 241, 248);
    if (!image[240])
        zero_range(image, 256, 288);
    zero_range(image, 336, 480); /* behind the first home, which is none or the root */
    image[320] = image[320] & 1 ? 6 : 0;
    zero_range(image, 321, 336);
    if (image[11] == FILE_PAGED) {
        zero_range(image, 288, 320);
        zero_range(image, 222, 224); /* size below 2^48 */
        image[221] &= 0x3f;
        return;
    }
    image[217] = (uint8_t)(image[217] % 14); /* size below 3584 */
    zero_range(image, 218, 224);
    memcpy(image + 316, image + 216, 2); /* the record's length, and its epoch */
    memcpy(image + 318, image + (image[56] || image[57] ? 56 : 136), 2);
}

static void content_key(uint16_t epoch, enum file_subkey which, uint8_t key[static LFS_KEY_BYTES])
{
    uint8_t file_key[LFS_KEY_BYTES];
    fuzz_file_key(epoch, file_key);
    file_subkey(file_key, which, key);
}

void fuzz_authentic_record(const struct file_header *h, uint8_t kind, uint64_t index,
                           uint8_t record[static RECORD_BYTES], const uint8_t *cipher)
{
    static struct aead *a;
    uint8_t key[LFS_KEY_BYTES], ad[28], stream[PAGE_BYTES] = {0}, tag[TAG_BYTES];
    struct record r;
    if (record_decode(record, &r) || record_is_hole(&r) || header_place(h, r.epoch) < 0 ||
        r.length > PAGE_BYTES)
        return;
    MUST(a || (a = aead_new()));
    content_key(r.epoch, FILE_SUB_CONTENT, key);
    struct wcur w = wcur_over(ad, sizeof ad);
    wcur_u8(&w, kind);
    wcur_u8(&w, h->suite);
    wcur_u16(&w, r.epoch);
    wcur_bytes(&w, h->file_id, ID_BYTES);
    wcur_u64(&w, index);
    /* The key stream, then the plaintext that the ciphertext in place is of. */
    MUST(aead_set_key(a, h->suite, key) == 0);
    MUST(aead_seal(a, r.nonce, ad, sizeof ad, stream, r.length, stream, tag) == 0);
    for (size_t i = 0; i < r.length; i++)
        stream[i] ^= cipher[i];
    MUST(aead_seal(a, r.nonce, ad, sizeof ad, stream, r.length, stream, r.tag) == 0);
    record_encode(&r, record);
}

static void set_mac(struct file_header *h, uint8_t image[static HEADER_BYTES])
{
    uint8_t key[LFS_KEY_BYTES], file_key[LFS_KEY_BYTES];
    for (int i = 0; i < 2; i++) {
        if (!h->place[i].epoch)
            continue;
        fuzz_file_key(h->place[i].epoch, file_key);
        MUST(header_wrap_key(h, i, h->place[i].epoch, fuzz_keys()->versions[0].key, file_key) == 0);
    }
    content_key(h->place[header_newest(h)].epoch, FILE_SUB_HEADER, key);
    header_set_mac(h, key);
    header_encode(h, image);
}

void fuzz_authentic_header(uint8_t image[static HEADER_BYTES])
{
    struct file_header h;
    if (header_decode(image, &h) == 0)
        set_mac(&h, image);
}

static void set_seal(struct file_header *h, const uint8_t *image, size_t pages)
{
    uint8_t key[LFS_KEY_BYTES], hash[32], size[8];
    crypto_generichash_state st;
    uint64_t chunks = layout_chunks(h->size);
    struct wcur w = wcur_over(size, sizeof size);
    wcur_u64(&w, h->size);
    content_key(h->place[header_newest(h)].epoch, FILE_SUB_SEAL, key);
    crypto_generichash_init(&st, key, sizeof key, sizeof h->seal_root);
    crypto_generichash_update(&st, size, sizeof size);
    for (uint64_t c = 0; c < chunks; c = layout_group_next(c)) {
        uint64_t at = layout_tag_page(c);
        if (at / PAGE_BYTES >= pages)
            return;
        size_t skip = at ? 0 : HEADER_BYTES;
        crypto_generichash(hash, sizeof hash, image + at + skip, PAGE_BYTES - skip, NULL, 0);
        crypto_generichash_update(&st, hash, sizeof hash);
    }
    crypto_generichash_final(&st, h->seal_root, sizeof h->seal_root);
}

void fuzz_authentic_file(uint8_t *image, size_t pages)
{
    struct file_header h;
    if (header_decode(image, &h))
        return;
    if (h.state == FILE_INLINE) {
        uint8_t record[RECORD_BYTES];
        record_encode(&h.inline_record, record);
        fuzz_authentic_record(&h, KIND_INLINE, 0, record, image + HEADER_BYTES);
        if (h.inline_record.length)
            MUST(record_decode(record, &h.inline_record) == 0);
    }
    for (uint64_t c = 0; h.state == FILE_PAGED && layout_data_offset(c) < pages * PAGE_BYTES; c++)
        fuzz_authentic_record(&h, KIND_CHUNK, c, image + layout_record_offset(c),
                              image + layout_data_offset(c));
    if (h.state == FILE_PAGED && h.seal_state == SEAL_SEALED)
        set_seal(&h, image, pages);
    set_mac(&h, image);
}
