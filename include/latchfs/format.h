/* Constants of the on-disk format, version 1 (docs/FORMAT.md is the byte-exact text). */
#ifndef LATCHFS_FORMAT_H
#define LATCHFS_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define FORMAT_VERSION 1
#define PAGE_BYTES 4096u                       /* chunk of plaintext, page of ciphertext, tag page */
#define HEADER_BYTES 512u                      /* at offset 0 of every file with content */
#define INLINE_MAX (PAGE_BYTES - HEADER_BYTES) /* largest plaintext kept behind the header: 3584 */
#define RECORD_BYTES 32u
#define FIRST_RECORDS 112u /* records in page 0, behind the header */
#define GROUP_RECORDS 128u /* records in every later tag page */
#define ID_BYTES 16u       /* volume, file, directory, protected directory */
#define NONCE_BYTES 12u
#define TAG_BYTES 16u
#define NAME_PLAIN_MAX 255u
#define NAME_CIPHER_MAX 255u /* of the backing filesystem */
#define SYMLINK_PLAIN_MAX 4095u
#define FILE_SIZE_MAX (UINT64_C(1) << 46) /* 64 TiB of plaintext */

#define KEYSTORE_NAME "latchfs.ini"
#define KEYSTORE_BAK_NAME "latchfs.ini.bak"
#define VIEW_KEYSTORE_NAME ".latchfs-view.ini" /* in a plain directory: of its reverse view */
#define VIEW_KEYSTORE_BAK_NAME ".latchfs-view.ini.bak"
#define JOURNAL_NAME "latchfs.journal"
#define DIRREC_NAME "latchfs.dir"
#define RESERVED_PREFIX "latchfs." /* no encrypted name has a dot, so none begins so */
#define TMP_PREFIX "latchfs.tmp."
#define LONG_PREFIX "latchfs.long."
#define LONG_NAME_SUFFIX ".name"         /* sidecar of a long name */
#define LONG_LINK_PREFIX "latchfs.link." /* sidecar of a long symlink target, in the link's directory */

enum suite {
    SUITE_AES_256_GCM = 1,
    SUITE_CHACHA20_POLY1305 = 2,
};

/* First byte of the associated data of every AEAD message over content: what the message is. */
enum content_kind {
    KIND_INLINE = 1,
    KIND_CHUNK = 2,
    KIND_XATTR = 3,
    KIND_SYMLINK = 4,
    KIND_DIR_XATTR = 5,
};

#endif
