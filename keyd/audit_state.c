#include "audit_state.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

/* Both slots lie in one 512-byte sector, which reaches a disk as a whole, so a power cut cannot leave the
 * wiped slot without the new one. */
#define SLOT_BYTES 256u
#define CHECK_BYTES 32u
static const uint8_t magic[8] = {'L', 'A', 'T', 'C', 'H', 'A', 'U', '1'};

static void encode(const struct audit_state *st, uint8_t slot[static SLOT_BYTES])
{
    struct wcur w = wcur_over(slot, SLOT_BYTES - CHECK_BYTES);
    wcur_bytes(&w, magic, sizeof magic);
    wcur_u64(&w, st->turn);
    wcur_u64(&w, st->seq);
    wcur_u64(&w, st->offset);
    wcur_u64(&w, st->synced);
    wcur_u32(&w, st->last_len);
    wcur_bytes(&w, st->chain, sizeof st->chain);
    wcur_bytes(&w, st->boot, sizeof st->boot);
    wcur_bytes(&w, st->hash, sizeof st->hash);
    wcur_bytes(&w, st->key, sizeof st->key);
    wcur_u64(&w, st->unwritten);
    wcur_zeros(&w, w.left);
    crypto_generichash(slot + SLOT_BYTES - CHECK_BYTES, CHECK_BYTES, slot, SLOT_BYTES - CHECK_BYTES, NULL, 0);
}

static bool decode(const uint8_t slot[static SLOT_BYTES], struct audit_state *st)
{
    uint8_t check[CHECK_BYTES], read[sizeof magic];
    struct rcur c = rcur_over(slot, SLOT_BYTES - CHECK_BYTES);
    crypto_generichash(check, sizeof check, slot, SLOT_BYTES - CHECK_BYTES, NULL, 0);
    rcur_bytes(&c, read, sizeof read);
    st->turn = rcur_u64(&c);
    st->seq = rcur_u64(&c);
    st->offset = rcur_u64(&c);
    st->synced = rcur_u64(&c);
    st->last_len = rcur_u32(&c);
    rcur_bytes(&c, st->chain, sizeof st->chain);
    rcur_bytes(&c, st->boot, sizeof st->boot);
    rcur_bytes(&c, st->hash, sizeof st->hash);
    rcur_bytes(&c, st->key, sizeof st->key);
    st->unwritten = rcur_u64(&c);
    return memcmp(check, slot + SLOT_BYTES - CHECK_BYTES, sizeof check) == 0 &&
           memcmp(read, magic, sizeof read) == 0 && !c.bad && st->seq >= 1 && st->seq <= AUDIT_SEQ_MAX &&
           st->synced <= st->seq && st->last_len <= AUDIT_LINE_MAX && st->last_len <= st->offset &&
           st->offset <= INT64_MAX && st->turn < UINT64_MAX;
}

int audit_state_load(int fd, struct audit_state *out)
{
    struct room {
        uint8_t slots[2 * SLOT_BYTES];
        struct audit_state st[2];
    } *room = locked_alloc(sizeof *room);
    if (!room)
        return -ENOMEM;
    ssize_t n = io_pread(fd, room->slots, sizeof room->slots, 0);
    int r = n < 0 ? (int)n : n == 0 ? -ENOENT : 0;
    if (!r) {
        bool good[2];
        for (unsigned i = 0; i < 2; i++)
            good[i] = decode(room->slots + (size_t)i * SLOT_BYTES, &room->st[i]);
        if (!good[0] && !good[1])
            r = LFS_ERR_CORRUPT;
        else
            *out = room->st[!good[0] || (good[1] && room->st[1].turn > room->st[0].turn)];
    }
    locked_free(room);
    return r;
}

int audit_state_store(int fd, struct audit_state *st)
{
    uint8_t *slot = locked_alloc(SLOT_BYTES);
    if (!slot)
        return -ENOMEM;
    st->turn++;
    encode(st, slot);
    int r = io_pwrite(fd, slot, SLOT_BYTES, (st->turn % 2) * SLOT_BYTES);
    sodium_memzero(slot, SLOT_BYTES);
    if (!r)
        r = io_pwrite(fd, slot, SLOT_BYTES, ((st->turn + 1) % 2) * SLOT_BYTES);
    locked_free(slot);
    return r;
}
