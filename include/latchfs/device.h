/* What the kernel tells about the device that a filesystem lies on. */
#ifndef LATCHFS_DEVICE_H
#define LATCHFS_DEVICE_H

#include <stdbool.h>
#include <sys/types.h>

/* True if the mounted ext4 on this device (st_dev) writes a journal. False as well where the kernel does not
 * tell: an ext2 has the same magic number. */
bool device_has_ext4_journal(dev_t device);

#endif
