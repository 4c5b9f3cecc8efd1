/* Paths that the control socket is asked about. */
#ifndef FS_MOUNT_CONTROL_PATH_H
#define FS_MOUNT_CONTROL_PATH_H

#include "fs/mount/daemon.h"

/* The node of a plaintext path, walked from the root; *out has a reference. */
int control_walk(struct daemon *d, const char *path, struct node **out);

/* From plaintext to ciphertext and back; out: PATH_MAX bytes. */
int control_cipher_path(struct daemon *d, const char *plain, char *out);
int control_plain_path(struct daemon *d, const char *cipher, char *out);

#endif
