#include "fs/mount/wipe.h"

#include "latchfs/store.h"

#include <pthread.h>
#include <sodium.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define NEAR_BYTES (64u * 1024)

/* Far below the frame pages are given back, near it they are overwritten. */
static __attribute__((noinline)) void wipe_stack(void)
{
    pthread_attr_t attr;
    void *low = NULL;
    size_t size = 0;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0), page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (pthread_getattr_np(pthread_self(), &attr))
        return;
    pthread_attr_getstack(&attr, &low, &size);
    pthread_attr_destroy(&attr);
    uintptr_t end = (here - NEAR_BYTES / 2) & ~(page - 1), start = (uintptr_t)low;
    if (start < end)
        madvise(low, end - start, MADV_DONTNEED);
    sodium_stackzero(NEAR_BYTES);
}

void wipe_thread(void)
{
    volume_wipe_thread();
    wipe_stack();
}
