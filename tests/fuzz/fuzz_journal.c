/* A journal that authenticates and says anything. The input is a script that entries are made of: so nothing
 * is lost on MACs, and what is fuzzed is the replay behind them. What a reader sees through the journal must
 * be what the replay puts in place.
 *
 * Input: mode u8 | generation u8 | tail u32 | steps. A step is a letter of STEPS (modulo) and its operands.
 */
#include "store_fuzz.h"

#include "latchfs/crc32c.h"
#include "latchfs/err.h"

#include <sodium.h>

#define RING JOURNAL_RING_MIN
#define GENERATION 100u
#define FILES 3u
#define MAX_BYTES (1u << 20)

/* ---- the files that the journal speaks of ---- */

static const char *const names[FILES] = {"inline", "paged", "large"};
static char stored[FILES][NAME_CIPHER_MAX + 1];
static uint8_t images[FILES][8 * PAGE_BYTES];
static const uint64_t sizes[FILES] = {100, 5 * PAGE_BYTES + 17, 130 * PAGE_BYTES};
static const char *dir;

static uint64_t length_of(unsigned i)
{
    return i == 0 ? HEADER_BYTES + sizes[i] : layout_length(sizes[i]);
}

static void make_image(unsigned i)
{
    struct file_header h = {.suite = SUITE_CHACHA20_POLY1305,
                            .state = i ? FILE_PAGED : FILE_INLINE,
                            .file_id = {(uint8_t)(10 + i)},
                            .key_version = 1,
                            .place = {{.epoch = 1}},
                            .size = sizes[i],
                            .generation = GENERATION,
                            .inline_record = {.length = i ? 0 : (uint16_t)sizes[i], .epoch = i ? 0 : 1}};
    memcpy(h.pd_id, fuzz_keys()->pd_id, ID_BYTES);
    memset(h.place[0].wrapped, 1, sizeof h.place[0].wrapped);
    header_encode(&h, images[i]);
    for (uint64_t c = 0; i && c < 5; c++) {
        struct record r = {.length = c == 4 ? 16 : PAGE_BYTES, .epoch = 1};
        record_encode(&r, images[i] + layout_record_offset(c));
    }
    fuzz_authentic_file(images[i], 6);
}

static void put_files(void)
{
    for (unsigned i = 0; i < FILES; i++)
        fuzz_put(dir, stored[i], images[i], 6 * PAGE_BYTES, length_of(i));
}

static void begin(void)
{
    struct volume *v;
    dir = fuzz_volume_new();
    MUST(fuzz_open(dir, true, &v) == 0);
    for (unsigned i = 0; i < FILES; i++) {
        fuzz_stored(v, names[i], stored[i]);
        make_image(i);
    }
    volume_close(v);
    put_files();
}

/* ---- the journal ---- */

static struct journal_keys keys;
static struct journal_super super;
static uint8_t journal[JOURNAL_RING_AT + MAX_BYTES];
static uint8_t items[JENTRY_ITEMS_MAX], payload[JENTRY_DATA_MAX];
static struct wcur item;
static size_t payload_used;
static uint8_t file_id[ID_BYTES], prev[JENTRY_MAC_BYTES];
static uint64_t seq;
static size_t at; /* in the ring */

static void put_super(uint8_t mode, uint8_t generation, uint32_t tail)
{
    memset(journal, 0, JOURNAL_RING_AT);
    super =
        (struct journal_super){.counter = mode & 1 ? 2 : 3, .generation = GENERATION - 8 + generation % 16};
    super.ring_bytes = RING;
    memcpy(super.volume_id, fuzz_keys()->volume_id, ID_BYTES);
    super.tail_pos = mode & 2 ? (uint64_t)tail * RING : (uint64_t)tail % 64 * 64;
    super.tail_seq = 1 + (tail >> 8);
    journal_super_encode(&super, &keys, journal + (mode & 1 ? 0 : JOURNAL_SLOT_BYTES));
    at = (size_t)(super.tail_pos % RING);
    seq = super.tail_seq;
    memset(prev, 0, sizeof prev);
}

/* Ends the entry under way. */
static void end_entry(uint8_t how)
{
    size_t n = wcur_used(&item);
    struct jentry_head h = {.seq = seq, .item_bytes = (uint32_t)n, .data_bytes = (uint32_t)payload_used};
    h.total = jentry_total(h.item_bytes, h.data_bytes);
    memcpy(h.file_id, file_id, ID_BYTES);
    if (h.total > MAX_BYTES - at || (n == 0 && payload_used))
        return;
    uint8_t *p = journal + JOURNAL_RING_AT + at;
    jentry_head_encode(&h, p);
    memcpy(p + JENTRY_HEAD_BYTES, items, n);
    jentry_mac(&keys, super.incarnation, prev, p, p + JENTRY_HEAD_BYTES, n, p + JENTRY_HEAD_BYTES + n);
    memcpy(prev, p + JENTRY_HEAD_BYTES + n, sizeof prev);
    memcpy(p + jentry_data_offset(h.item_bytes), payload, payload_used);
    if (how % 32 == 31)
        p[JENTRY_HEAD_BYTES + n] ^= 1;
    at += h.total;
    seq++;
}

static void begin_entry(uint8_t which)
{
    item = wcur_over(items, sizeof items);
    payload_used = 0;
    memset(file_id, 0, sizeof file_id);
    file_id[0] = which % 8 < 7 ? (uint8_t)(10 + which % 4) : 0; /* the fourth is of no file */
}

/* Of the file that the entry is of, as far as there is one. */
static struct file_header own_header(void)
{
    struct file_header h;
    unsigned i = file_id[0] >= 10 && file_id[0] < 10 + FILES ? file_id[0] - 10u : 0;
    MUST(header_decode(images[i], &h) == 0);
    return h;
}

static void step_header(struct rcur *c)
{
    struct file_header h = own_header();
    uint8_t image[HEADER_BYTES], what = rcur_u8(c);
    h.size = what & 1 ? rcur_u64(c) : rcur_u16(c);
    h.state = what & 2 ? FILE_PAGED : FILE_INLINE;
    if (what & 4)
        h.file_id[0]++;
    h.seal_state = what >> 3 & 1;
    h.generation = GENERATION + (what >> 4) - 8;
    if (h.state == FILE_INLINE)
        h.inline_record = (struct record){.length = (uint16_t)h.size, .epoch = 1};
    header_encode(&h, image);
    if (what % 16 != 15)
        fuzz_repair_header(image);
    fuzz_authentic_header(image);
    jitem_put_header(&item, image);
}

static void step_chunks(struct rcur *c)
{
    struct file_header h = own_header();
    uint64_t first = rcur_u8(c);
    uint8_t count = rcur_u8(c), what = rcur_u8(c);
    bool fresh = what & 1;
    if (what & 2)
        first = rcur_u64(c);
    jitem_put_chunks(&item, first, count, fresh);
    for (unsigned i = 0; i < count && !item.bad; i++) {
        static const uint8_t zeros[PAGE_BYTES];
        uint8_t record[RECORD_BYTES];
        struct record r = {.length = what & 4 ? rcur_u16(c) : (uint16_t)(1 + i), .epoch = what & 8 ? 2 : 1};
        size_t len = r.length < PAGE_BYTES ? r.length : PAGE_BYTES;
        record_encode(&r, record);
        fuzz_authentic_record(&h, KIND_CHUNK, first + i, record, zeros);
        jitem_put_chunk(&item, record, crc32c(0, zeros, len) ^ (what == 255));
        if (!fresh && payload_used + len <= sizeof payload) {
            memset(payload + payload_used, 0, len);
            payload_used += len;
        }
    }
}

static void step_inline(struct rcur *c)
{
    static const uint8_t zeros[65536];
    uint16_t len = rcur_u16(c);
    jitem_put_inline(&item, len, crc32c(0, zeros, len));
    if (payload_used + len <= sizeof payload)
        memset(payload + payload_used, 0, len);
    payload_used += payload_used + len <= sizeof payload ? len : 0;
}

static void step_path(struct rcur *c)
{
    char path[256] = "";
    uint8_t which = rcur_u8(c), len = rcur_u8(c);
    if (which % 4 < FILES)
        strcpy(path, stored[which % 4]);
    else
        rcur_bytes(c, path, len);
    jitem_put_path(&item, path, which % 4 < FILES ? strlen(path) : len);
}

static void step(struct rcur *c)
{
    uint8_t op = rcur_u8(c), raw[255], len, id[ID_BYTES] = {0};
    switch (op % 11) {
    case 0:
        end_entry(op);
        begin_entry(rcur_u8(c));
        break;
    case 1:
        step_header(c);
        break;
    case 2:
        step_chunks(c);
        break;
    case 3:
        jitem_put_cut(&item, op & 16 ? rcur_u64(c) : rcur_u32(c));
        break;
    case 4: {
        uint64_t first = op & 16 ? rcur_u64(c) : rcur_u8(c);
        jitem_put_punch(&item, first, op & 32 ? rcur_u64(c) : rcur_u8(c));
        break;
    }
    case 5:
        step_inline(c);
        break;
    case 6:
        id[0] = (uint8_t)(10 + rcur_u8(c) % 4);
        jitem_put_mark(&item, id, super.tail_seq + rcur_u8(c));
        break;
    case 7:
        step_path(c);
        break;
    case 8:
        jitem_put_removed(&item);
        break;
    case 9: /* what no writer of ours makes */
        len = rcur_u8(c);
        rcur_bytes(c, raw, len);
        wcur_bytes(&item, raw, len);
        break;
    default: /* data that no item speaks of */
        payload_used += payload_used + 100 < sizeof payload ? 100 : 0;
        break;
    }
}

static void write_journal(const uint8_t *data, size_t size)
{
    struct rcur c = rcur_over(data, size);
    uint8_t mode = rcur_u8(&c), generation = rcur_u8(&c);
    journal_keys_derive(fuzz_keys()->journal_key, &keys);
    put_super(mode, generation, rcur_u32(&c));
    size_t from = at;
    begin_entry(0);
    while (c.left && !c.bad && !item.bad && at < MAX_BYTES)
        step(&c);
    end_entry(0);
    fuzz_put(dir, JOURNAL_NAME, journal, JOURNAL_RING_AT + at, JOURNAL_RING_AT + RING);
    memset(journal + JOURNAL_RING_AT + from, 0, at - from);
}

static bool look(bool read_only, uint64_t *seen, uint64_t *skipped)
{
    struct volume_options o = {.read_only = read_only, .journal_bytes = 1, .no_flusher = true};
    struct replay_report report;
    struct volume *v;
    int r = volume_open(dir, fuzz_keys(), &o, &report, &v);
    if (r)
        return false;
    *seen = fuzz_read_all(volume_root(v));
    *skipped = report.skipped + report.torn;
    return volume_close(v) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t before, replayed, after, skipped;
    if (!dir)
        begin();
    write_journal(data, size);
    fuzz_errors();
    bool opened = look(true, &before, &skipped);
    unsigned errors = fuzz_errors();
    if (!opened || !size || data[0] & 4)
        return 0;
    if (look(false, &replayed, &skipped)) {
        MUST(look(true, &after, &skipped) && replayed == after);
        MUST(errors || before == replayed);
    }
    put_files();
    return 0;
}
