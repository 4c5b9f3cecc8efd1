/* Many writers and a small journal: each waits for its turn, and none is told that there is no space. */
#include "tree_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#define WRITERS 16u
#define WRITES 50u /* of each */
#define PIECE ((size_t)1 << 20)
#define PIECES 4u

static struct node *files[WRITERS];
static uint8_t data[PIECE];
static _Atomic unsigned failed;

static void *writer(void *arg)
{
    struct node **n = arg;
    for (unsigned i = 0; i < WRITES; i++)
        if (file_write(*n, data, PIECE, i % PIECES * PIECE) != (ssize_t)PIECE)
            atomic_fetch_add(&failed, 1);
    return NULL;
}

static void test_small_journal(void **state)
{
    pthread_t threads[WRITERS];
    struct stat st;
    char name[8];
    for (unsigned i = 0; i < WRITERS; i++) {
        snprintf(name, sizeof name, "f%u", i);
        assert_int_equal(node_create(volume_root(v), name, 0644, true, &st, &files[i]), 0);
        for (unsigned k = 0; k < PIECES; k++)
            assert_int_equal(file_write(files[i], data, PIECE, k * PIECE), PIECE);
    }
    assert_int_equal(volume_checkpoint(v), 0); /* all that follows goes through the journal */
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, writer, &files[i]), 0);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&failed), 0);
    for (unsigned i = 0; i < WRITERS; i++)
        node_unref(files[i], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_small_journal, volume_setup, volume_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
