/* Parameters of Argon2id for new passphrase slots. */
#ifndef KEYD_KDF_H
#define KEYD_KDF_H

#include <stdint.h>

/* Passes and KiB with which Argon2id takes about ms on this machine: measured, never under the floor nor over
 * the ceiling of keystore.h. -ENOMEM. */
int kdf_calibrate(unsigned ms, uint32_t *ops, uint32_t *kib);

#endif
