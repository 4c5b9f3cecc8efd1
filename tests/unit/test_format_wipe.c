/* Keys that were dropped must be gone from memory: looks for them in everything the process can write to. */
#include "latchfs/aead.h"
#include "latchfs/name.h"
#include "support.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MASK 0x5a
#define WINDOW (1u << 16)
#define MAPPING_MAX (64u << 20) /* above: shadow memory of a sanitizer */

/* The pattern is kept masked, or the search would find itself. */
static uint8_t masked[LFS_KEY_BYTES];
static uint8_t *window;

static void make_key(uint8_t *key, size_t len)
{
    static struct rng rng = {13};
    rng_fill(&rng, key, len);
    for (size_t i = 0; i < sizeof masked; i++)
        masked[i] = key[i] ^ MASK;
}

static size_t count_in(const uint8_t *p, size_t len)
{
    size_t found = 0;
    for (size_t i = 0; i + sizeof masked <= len; i++) {
        size_t k = 0;
        while (k < sizeof masked && (p[i + k] ^ MASK) == masked[k])
            k++;
        found += k == sizeof masked;
    }
    return found;
}

static size_t count_in_mapping(int mem, uintptr_t lo, uintptr_t hi)
{
    size_t found = 0;
    for (uintptr_t at = lo; at < hi; at += WINDOW - sizeof masked + 1) {
        ssize_t n = pread(mem, window, hi - at < WINDOW ? hi - at : WINDOW, (off_t)at);
        if (n > 0)
            found += count_in(window, (size_t)n);
    }
    memset(window, 0, WINDOW);
    return found;
}

static size_t copies_in_memory(void)
{
    size_t found = 0;
    char line[512], mode[8];
    uintptr_t lo, hi;
    FILE *maps = fopen("/proc/self/maps", "re");
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    assert_non_null(maps);
    assert_true(mem >= 0);
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%zx-%zx %7s", &lo, &hi, mode) != 3 || strncmp(mode, "rw", 2) != 0)
            continue;
        uintptr_t own = (uintptr_t)window;
        if (hi - lo <= MAPPING_MAX && !(own >= lo && own < hi))
            found += count_in_mapping(mem, lo, hi);
    }
    close(mem);
    fclose(maps);
    return found;
}

static void use_siv(uint8_t *key)
{
    uint8_t out[20];
    assert_int_equal(siv_seal(key, "dir", 3, "name", 4, out), 0);
    explicit_bzero(key, SIV_KEY_BYTES);
}

static void test_siv_forget(void **state)
{
    uint8_t key[SIV_KEY_BYTES];
    make_key(key, sizeof key);
    assert_true(copies_in_memory() > 0); /* the search finds what is there */
    use_siv(key);
    assert_true(copies_in_memory() > 0); /* cached */
    siv_forget();
    assert_int_equal(copies_in_memory(), 0);
}

static pthread_barrier_t barrier;

static void *siv_thread(void *key)
{
    use_siv(key);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void run_siv_thread(bool forgetting)
{
    uint8_t key[SIV_KEY_BYTES];
    pthread_t t;
    make_key(key, sizeof key);
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
    assert_int_equal(pthread_create(&t, NULL, siv_thread, key), 0);
    pthread_barrier_wait(&barrier);
    assert_true(copies_in_memory() > 0);
    if (forgetting) {
        siv_forget();
        assert_int_equal(copies_in_memory(), 0);
    }
    pthread_barrier_wait(&barrier);
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_int_equal(copies_in_memory(), 0);
    pthread_barrier_destroy(&barrier);
}

static void test_siv_forget_reaches_other_threads(void **state)
{
    run_siv_thread(true);
}

static void test_siv_thread_end(void **state)
{
    run_siv_thread(false);
}

static void test_siv_child_has_no_keys(void **state)
{
    uint8_t key[SIV_KEY_BYTES];
    int status;
    make_key(key, sizeof key);
    use_siv(key);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        bool none = copies_in_memory() == 0;
        make_key(key, sizeof key);
        use_siv(key);
        siv_forget();
        _exit(!none || copies_in_memory() != 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    siv_forget();
}

/* AES-256's schedule begins with the key itself, and so does ChaCha20's state. */
static void run_aead(enum suite suite, bool clearing)
{
    uint8_t key[LFS_KEY_BYTES], nonce[NONCE_BYTES] = {1}, text[64] = {0}, tag[TAG_BYTES];
    struct aead *a = aead_new();
    make_key(key, sizeof key);
    assert_int_equal(aead_set_key(a, suite, key), 0);
    assert_int_equal(aead_seal(a, nonce, "", 0, text, sizeof text, text, tag), 0);
    explicit_bzero(key, sizeof key);
    assert_true(copies_in_memory() > 0);
    if (clearing) {
        aead_clear_key(a);
        assert_int_equal(copies_in_memory(), 0);
    }
    aead_free(a);
    assert_int_equal(copies_in_memory(), 0);
}

static void test_aead(void **state)
{
    for (int clearing = 0; clearing < 2; clearing++) {
        run_aead(SUITE_AES_256_GCM, clearing);
        run_aead(SUITE_CHACHA20_POLY1305, clearing);
    }
}

static int set_up(void **state)
{
    /* Shared, so that it is a mapping of its own, which the search can leave out. */
    window = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return window == MAP_FAILED ? -1 : 0;
}

static int tear_down(void **state)
{
    return munmap(window, WINDOW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_siv_forget),     cmocka_unit_test(test_siv_forget_reaches_other_threads),
        cmocka_unit_test(test_siv_thread_end), cmocka_unit_test(test_siv_child_has_no_keys),
        cmocka_unit_test(test_aead),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
