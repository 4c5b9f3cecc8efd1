/* A key store with known secrets, and the keys of its root that an independent program (PyNaCl, from
 * docs/FORMAT.md) got out of it. */
#ifndef VECTOR_KEYSTORE_H
#define VECTOR_KEYSTORE_H

#include <stdint.h>

#define VECTOR_PASSPHRASE "hello"
#define VECTOR_RECOVERY "W86SQ-1YNWT-HWGCQ-0CA14-1D0CA-CSF7S-CJRCA-N2ATK-YZPBR-36Q5P-H58JZ-W5AVC-5VE0C"

static const char vector_keystore[] =
    "[volume]\n"
    "format = 1\n"
    "id = a39641bd8b6fac1d8e8f033c3db357ca\n"
    "root = 48cee9bada3ac6f3cd2b1fa3d7e6e50f\n"
    "suite = aes-256-gcm\n"
    "created = 1795319608\n"
    "generation = 1\n"
    "next-slot = 3\n"
    "signing-public = b9406f92e1d956a68816860d7c04f8d18a775260b8b87220ec1c8d786b780873\n"
    "signing-key.1 = "
    "6e9_pzs92mn3cmXEGspBqD2mGJ8EGxeajAVDCr42BFCK2t4mkeZnxWoiYcQdHafkyr3GVcJcIz2UHf2XatqxGA4JAstt69KB\n"
    "[slot 1]\n"
    "type = passphrase\n"
    "label = laptop\n"
    "created = 1795319608\n"
    "passes = 3\n"
    "memory-kib = 65536\n"
    "fast = yes\n"
    "salt = cd8ba308aa04bab9422a5ae40121fe5e\n"
    "public = 9e98d251aaf3102d3aa47128f761554a49ee85b747bd835980c6da17bddf5009\n"
    "sealed.1 = "
    "pHGF0W0STKWGADZ-C3YsVI7leIzomb_tGy5_3A1bu6Vti0nsSEQPWzXBd4-69CBPU7na0uSDhB1Gyel-"
    "L8Aql8TFCRnNWiq4ni7GzgaehtgJjcnlWoItXsbIhrgTNcro\n"
    "sealed.2 = 8yU3RcdGwoI\n"
    "store-key.1 = "
    "03gqbxWjam4bMyOKMFFBc51sIRlOECTzqxBAisirtQf5nFobf1E1SfIX4nFmA40Xm0Ob260TYY3zseUg2dAwCd56exQASbOuRS2ekb7Z"
    "ed8\n"
    "[slot 2]\n"
    "type = recovery\n"
    "created = 1795319609\n"
    "salt = 2f79eb2be10bd04f599e8ba8575af4b2\n"
    "public = 72f6f13c24de3e0bfdcaac0b48e7c9d2c6b100277e50bd1e346b4e7ad5420f2c\n"
    "sealed.1 = "
    "v3dN7pumEhwULNscXyf6fiEpXVCeTmZvEPQUBJq_E7R0SSJMPfkHO_"
    "U2u5Ls1OOcpWRiAU9MfbnIe5OwXGhzRa2EFipt8gZ0TfBNc6LUsqHaw3qXmgRH_P25AETeHQhw\n"
    "sealed.2 = 3i1GL5PI9bM\n"
    "store-key.1 = "
    "X-OZJv4-Z-iaPDng6ea5RaF8nxyy77-VRyqikyTJyRZY9OH566KCXJlFZp9iMczjVWFVtp--DOTHJVm6rq_A4FpJeB7Ulimq6THkf5_"
    "7FGQ\n"
    "[master 1]\n"
    "state = active\n"
    "created = 1795319608\n"
    "key.1 = "
    "1vJRza4JtBWr8foL1DdAJCPR7kYwpOCnKfYqdoPTk1XKT8oaTUkAanE9X_0UFF703rBZrXLc5MljcCCGtUMpPEEQ4MEjpPwB\n"
    "[journal]\n"
    "master = 1\n"
    "key.1 = "
    "n6RITOUpd6nBHE9JKbOd9wM1T6fNVGanPKu3NpYiO7RF4SwWy786w5c-zpIBpwNQm4-uBhK8ylyhm2nIwTrc9j1MKHnIgIqS\n"
    "[dir 48cee9bada3ac6f3cd2b1fa3d7e6e50f]\n"
    "created = 1795319608\n"
    "least = 1\n"
    "name-version = 1\n"
    "name-key.1 = "
    "GFABCWYnY1jxACCyIPLfW6TjRaswfRgNBqziOEThhSLIJMUcaPgK6sYKbOYpcVvEVR1aFrLpp-AB_30TAqvUdBYDgnZRHOkw\n"
    "[key 48cee9bada3ac6f3cd2b1fa3d7e6e50f 1]\n"
    "state = active\n"
    "created = 1795319608\n"
    "master = 1\n"
    "key.1 = "
    "io8i9jTNAhBw6lrPrYE6Mk5YLmUr2xJEuzdPA4mcsdDPatZg06bpd4p5jSNwiuW4ucGVWtzSFvicjSCc9uSPAamyu5oKRyKd\n"
    "[signature]\n"
    "ed25519.1 = -WXmrcZFjvw8x21BsnPvKOqU-2M7oyezWypT63c-4gHJB70_TVGpJun5Xg7eDL1NIrzdDlh0XSf86apXvOzFCg\n";

static const uint8_t vector_master_key[32] = {
    0xea, 0x9b, 0xec, 0xdb, 0x5c, 0x85, 0x07, 0x51, 0x91, 0xe1, 0x41, 0x5c, 0xcd, 0x5f, 0x1d, 0x10,
    0x93, 0x81, 0x1e, 0x32, 0x0b, 0xe7, 0x0a, 0x09, 0x3b, 0xfa, 0x9b, 0xbb, 0x5b, 0x6b, 0x4f, 0xdf};
static const uint8_t vector_directory_key[32] = {
    0xa4, 0x3c, 0xd5, 0x90, 0xdf, 0x98, 0x49, 0x4b, 0x92, 0x81, 0x84, 0xd4, 0x16, 0x72, 0xe6, 0xb7,
    0x63, 0x8c, 0x15, 0xa0, 0x4d, 0x8f, 0xed, 0x5d, 0x2c, 0x35, 0xc0, 0xca, 0x6b, 0x19, 0x41, 0x34};
static const uint8_t vector_name_key[32] = {0x9a, 0x46, 0x11, 0xa8, 0x0f, 0xd8, 0x20, 0x01, 0xec, 0xdf, 0xe2,
                                            0x5c, 0xd8, 0xea, 0x2a, 0x01, 0xa6, 0xac, 0x52, 0x04, 0x49, 0x2c,
                                            0x70, 0xf8, 0x43, 0x1d, 0x96, 0xf1, 0x52, 0xc6, 0xef, 0x74};
static const uint8_t vector_journal_key[32] = {
    0x8b, 0x0b, 0x67, 0x54, 0xdf, 0x6d, 0x51, 0x65, 0x68, 0x90, 0x48, 0xd8, 0xc2, 0x07, 0x17, 0x85,
    0xc2, 0x42, 0x00, 0x4d, 0x8b, 0xde, 0xa7, 0xfb, 0x0d, 0x85, 0x0c, 0x0f, 0xab, 0x6d, 0x7c, 0xc9};

#endif
