#include "latchfs/device.h"

#include "latchfs/buf.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The name that the kernel has for it; NULL if there is none. */
static const char *device_name(dev_t device, char target[static PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/sys/dev/block/%u:%u", major(device), minor(device));
    ssize_t n = readlink(link, target, PATH_MAX - 1);
    if (n <= 0)
        return NULL;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    return slash ? slash + 1 : target;
}

/* The file names the thread that writes the journal by its number, "<none>" without one. */
bool device_has_ext4_journal(dev_t device)
{
    char target[PATH_MAX], path[PATH_MAX], text[32];
    const char *name = device_name(device, target);
    if (!name || snprintf(path, sizeof path, "/sys/fs/ext4/%s/journal_task", name) >= (int)sizeof path)
        return false;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    return n > 0 && text[0] >= '0' && text[0] <= '9';
}
