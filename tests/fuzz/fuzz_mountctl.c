/* A request that is taken encodes to the same bytes; so does an answer. */
#include "latchfs/mountctl.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t out[MOUNTCTL_ANSWER_MAX];

static void same(int n, const uint8_t *data, size_t size)
{
    if (n < 0 || (size_t)n != size || memcmp(out, data, size) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mountctl_request q;
    static struct mount_status st;
    static struct mount_dir dirs[MOUNTCTL_DIRS_MAX];
    struct mount_resolved m;
    static struct mount_check_status check;
    static struct mount_findings findings;
    struct mount_job_status job;
    char path[PATH_MAX];
    uint64_t serial;
    size_t count;
    if (mountctl_decode_request(data, size, &q) == 0)
        same(mountctl_encode_request(&q, out, sizeof out), data, size);
    if (mountctl_decode_status(data, size, &st) == 0)
        same(mountctl_encode_status(&st, out, sizeof out), data, size);
    if (mountctl_decode_resolved(data, size, &m) == 0)
        same(mountctl_encode_resolved(&m, out, sizeof out), data, size);
    if (mountctl_decode_dirs(data, size, dirs, MOUNTCTL_DIRS_MAX, &count) == 0)
        same(mountctl_encode_dirs(dirs, count, out, sizeof out), data, size);
    if (mountctl_decode_job(data, size, &job) == 0)
        same(mountctl_encode_job(&job, out, sizeof out), data, size);
    if (mountctl_decode_serial(data, size, &serial) == 0)
        same(mountctl_encode_serial(serial, out, sizeof out), data, size);
    for (uint16_t kind = MOUNTCTL_CIPHER_PATH; kind <= (uint16_t)MOUNTCTL_PLAIN_PATH; kind++)
        if (mountctl_decode_path(kind, data, size, path) == 0)
            same(mountctl_encode_path(kind, path, out, sizeof out), data, size);
    if (mountctl_decode_check(data, size, &check) == 0)
        same(mountctl_encode_check(&check, out, sizeof out), data, size);
    if (mountctl_decode_findings(data, size, &findings) == 0)
        same(mountctl_encode_findings(&findings, out, sizeof out), data, size);
    return 0;
}
