/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): tells torn journal data from whole. Not a security measure. */
#ifndef LATCHFS_CRC32C_H
#define LATCHFS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC of data continuing from crc (0 to begin). */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
