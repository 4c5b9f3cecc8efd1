/* Two shared mounts of one volume in one process, the first of which keeps a file open. */
#include "tree_fixture.h"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* ---- what the store asks of the kernel ---- */

static ino_t watched;   /* of a backing file */
static bool synced;     /* it was, since this was last set to false */
static bool unreadable; /* the journal's second superblock, once */

static void note_sync(int fd)
{
    struct stat st;
    synced = synced || (fstat(fd, &st) == 0 && st.st_ino == watched);
}

int fsync(int fd)
{
    note_sync(fd);
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    note_sync(fd);
    return (int)syscall(SYS_fdatasync, fd);
}

int syncfs(int fd)
{
    synced = true;
    return (int)syscall(SYS_syncfs, fd);
}

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
    if (unreadable && off == 4096 && len == 512) {
        unreadable = false;
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, buf, len, off);
}

/* ---- mounts ---- */

static int open_shared(struct volume **out)
{
    struct volume_options o = {.journal_bytes = UINT64_C(8) << 20, .no_flusher = true, .shared = true};
    return volume_open(volume_dir, &plain_keys, &o, NULL, out);
}

static int shared_setup(void **state)
{
    return volume_setup(state) || volume_close(v) || open_shared(&v) || volume_start(v);
}

/* The other mount writes text to the file f. */
static int write_there(struct volume *there, const char *text)
{
    struct node *n;
    struct stat st;
    int r = node_lookup(volume_root(there), "f", &st, &n);
    if (r)
        return r;
    bool all = file_write(n, text, strlen(text), 0) == (ssize_t)strlen(text);
    node_unref(n, 1);
    return all ? 0 : -EIO;
}

/* ---- tests ---- */

/* A process that waits for a byte on the pipe, mounts, writes, and is gone without a word. Forked before
 * there are threads. */
static pid_t fork_writer(int from)
{
    char byte;
    struct volume *there;
    pid_t pid = fork();
    if (pid)
        return pid;
    _exit(read(from, &byte, 1) != 1 || open_shared(&there) || write_there(there, "content"));
}

/* The first content of an empty file is in no journal; the fsync of the file here covers it all the same. */
static void test_fsync_covers_the_dead(void **state)
{
    int go[2], status;
    struct stat st;
    struct node *n;
    assert_int_equal(volume_close(v), 0);
    assert_int_equal(pipe(go), 0);
    pid_t writer = fork_writer(go[0]);
    assert_int_equal(open_shared(&v), 0);
    assert_int_equal(volume_start(v), 0);
    assert_int_equal(node_create(volume_root(v), "f", 0644, true, &st, &n), 0);
    assert_int_equal(file_open(n, true), 0);
    assert_int_equal(write(go[1], "", 1), 1);
    assert_int_equal(waitpid(writer, &status, 0), writer);
    assert_int_equal(status, 0);
    watched = node_ino(n);
    synced = false;
    assert_true(holds(n, "content"));
    assert_int_equal(file_fsync(n, false), 0);
    assert_true(synced);
    file_close(n);
    node_unref(n, 1);
    close(go[0]);
    close(go[1]);
}

/* A look at the journal that fails half way does not make the next one take it for unchanged. */
static void test_failed_look(void **state)
{
    struct node *n = make_file(volume_root(v), "f", "text 0");
    struct volume *there;
    char text[] = "text 0", buf[8];
    for (int i = 1; i < 7; i++) {
        text[5] = (char)('0' + i);
        assert_int_equal(open_shared(&there), 0);
        assert_int_equal(write_there(there, text), 0);
        if (i % 2) /* so that the last superblock is now in this slot, now in the other */
            assert_int_equal(volume_checkpoint(there), 0);
        assert_int_equal(volume_close(there), 0);
        unreadable = true;
        assert_int_equal(file_read(n, buf, sizeof buf, 0), -EIO);
        assert_true(holds(n, text));
    }
    node_unref(n, 1);
}

static void *read_one(void *arg)
{
    char byte;
    return (void *)(intptr_t)file_read(arg, &byte, 1, 0);
}

/* Byte 1 of the journal is locked: somebody waits for a turn. */
static bool is_waited_for(int journal)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
    assert_int_equal(fcntl(journal, F_OFD_GETLK, &l), 0);
    return l.l_type != F_UNLCK;
}

/* The other mount does not give its turn back; who waits for it hears of the lock, not that time is over. */
static void test_lock_does_not_wait(void **state)
{
    struct node *n = make_file(volume_root(v), "f", "text");
    struct volume *there;
    pthread_t reader;
    void *heard;
    char journal[128];
    snprintf(journal, sizeof journal, "%s/latchfs.journal", volume_dir);
    int fd = open(journal, O_RDONLY | O_CLOEXEC);
    assert_int_equal(open_shared(&there), 0);
    assert_int_equal(pthread_create(&reader, NULL, read_one, n), 0);
    while (!is_waited_for(fd))
        usleep(1000);
    assert_int_equal(volume_lock_begin(v), 0);
    assert_int_equal(volume_lock_finish(v), 0);
    assert_int_equal(pthread_join(reader, &heard), 0);
    assert_int_equal((intptr_t)heard, LFS_ERR_NOKEY);
    assert_int_equal(volume_close(there), 0);
    assert_int_equal(volume_unlock(v, &plain_keys), 0);
    assert_true(holds(n, "text"));
    node_unref(n, 1);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fsync_covers_the_dead, shared_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_failed_look, shared_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_lock_does_not_wait, shared_setup, volume_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
