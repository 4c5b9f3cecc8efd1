/* For LD_PRELOAD: syncs fail with EIO while the file named by FAILSYNC is there. */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

static bool fails(void)
{
    const char *marker = getenv("FAILSYNC");
    int saved = errno;
    bool there = marker && access(marker, F_OK) == 0;
    errno = there ? EIO : saved;
    return there;
}

static int pass_on(const char *name, int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return next(fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    return fails() ? -1 : pass_on("fsync", fd);
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    return fails() ? -1 : pass_on("fdatasync", fd);
}

__attribute__((visibility("default"))) int syncfs(int fd)
{
    return fails() ? -1 : pass_on("syncfs", fd);
}
