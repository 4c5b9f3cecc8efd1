/* After a lock no key and no plaintext is left in the memory of the process. */
#include "pd_fixture.h"

#include "latchfs/name.h"

#define MASK 0x5a /* what is looked for stands in memory masked, or it would find itself */

static bool stands_at(const uint8_t *p, const uint8_t *masked, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((p[i] ^ MASK) != masked[i])
            return false;
    return true;
}

static unsigned count_in(int mem, uint64_t at, uint64_t end, const uint8_t *masked, size_t len)
{
    static uint8_t block[1 << 20];
    unsigned found = 0;
    while (at + len <= end) {
        uint64_t want = end - at < sizeof block ? end - at : sizeof block;
        ssize_t n = pread(mem, block, want, (off_t)at);
        bool own = at < (uintptr_t)block + sizeof block && at + want > (uintptr_t)block;
        const uint8_t *p = block;
        while (!own && n >= (ssize_t)len && (p = memchr(p, masked[0] ^ MASK, (size_t)(block + n - p)))) {
            found += block + n - p >= (ssize_t)len && stands_at(p, masked, len);
            p++;
        }
        sodium_memzero(block, sizeof block);
        at += want > len ? want - len + 1 : want;
    }
    return found;
}

/* How often the bytes stand in this process's writable memory. */
static unsigned count_in_memory(const uint8_t *masked, size_t len)
{
    char line[256], rights[8];
    uint64_t from, to;
    unsigned found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    int mem = open("/proc/self/mem", O_RDONLY);
    assert_true(maps && mem >= 0);
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3 && rights[1] == 'w' &&
            to - from <= (64u << 20)) /* a sanitizer's shadow is larger */
            found += count_in(mem, from, to, masked, len);
    fclose(maps);
    close(mem);
    return found;
}

struct masked {
    uint8_t siv[32], dirrec[32], name_key[32], key[32], text[32];
};

static void mask(uint8_t *out, const uint8_t *in)
{
    for (int i = 0; i < 32; i++)
        out[i] = in[i] ^ MASK;
}

/* The only copies left are the store's. */
static struct masked wipe_all_but_masked(struct keyset *k, char *text)
{
    struct masked m;
    struct name_keys *names = locked_alloc(sizeof *names);
    name_keys_derive(k->name_key, names);
    mask(m.siv, names->siv);
    mask(m.dirrec, names->dirrec);
    mask(m.name_key, k->name_key);
    mask(m.key, k->versions[0].key);
    mask(m.text, (uint8_t *)text);
    locked_free(names);
    sodium_memzero(k, sizeof *k);
    sodium_memzero(text, 32);
    return m;
}

static void wipe_stack(void)
{
    volatile uint8_t below[256 << 10];
    for (size_t i = 0; i < sizeof below; i++)
        below[i] = 0;
}

static void check_memory(const struct masked *m, bool there)
{
    wipe_stack();
    assert_int_equal(count_in_memory(m->siv, 32) > 0, there);
    assert_int_equal(count_in_memory(m->dirrec, 32) > 0, there);
    assert_int_equal(count_in_memory(m->name_key, 32) > 0, there);
    assert_int_equal(count_in_memory(m->key, 32) > 0, there);
    assert_int_equal(count_in_memory(m->text, 32), 0);
}

static struct node *use_pd(struct masked *m, uint8_t id[static ID_BYTES])
{
    static struct keyset k;
    static char text[33];
    k = pd_keyset();
    randombytes_buf(text, 32);
    struct node *a = make_top(volume_root(v), "a", &k), *f = make_file(a, "f", "");
    assert_int_equal(file_open(f, true), 0);
    assert_int_equal(file_write(f, text, 32, 5000), 32);
    assert_int_equal(file_read(f, text, 32, 5000), 32);
    assert_int_equal(node_setxattr(f, "user.x", text, 32, 0), 0);
    memcpy(id, k.pd_id, ID_BYTES);
    *m = wipe_all_but_masked(&k, text);
    node_unref(a, 1);
    return f;
}

static void test_no_key_stays_behind(void **state)
{
    struct masked m;
    uint8_t id[ID_BYTES];
    struct node *f = use_pd(&m, id);
    check_memory(&m, true);
    assert_int_equal(volume_pd_lock_begin(v, id), 0);
    assert_int_equal(volume_pd_lock_finish(v, id), 0);
    volume_wipe_thread();
    check_memory(&m, false);
    file_close(f);
    node_unref(f, 1);
}

static void test_no_key_stays_behind_the_whole(void **state)
{
    struct masked m;
    uint8_t id[ID_BYTES];
    struct node *f = use_pd(&m, id);
    assert_int_equal(volume_lock_begin(v), 0);
    assert_int_equal(volume_lock_finish(v), 0);
    volume_wipe_thread();
    check_memory(&m, false);
    assert_int_equal(volume_unlock(v, &plain_keys), 0);
    file_close(f);
    node_unref(f, 1);
}

#define PD_TEST(t) cmocka_unit_test_setup_teardown(t, volume_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PD_TEST(test_no_key_stays_behind),
        PD_TEST(test_no_key_stays_behind_the_whole),
    };
    umask(022);
    return cmocka_run_group_tests_name("store_pd_memory", tests, NULL, NULL);
}
