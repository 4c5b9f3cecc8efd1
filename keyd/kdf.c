#include "kdf.h"

#include "latchfs/keystore.h"

#include <errno.h>
#include <sodium.h>
#include <time.h>
#include <unistd.h>

#define MORE_KIB 262144u /* where memory is plentiful: memory costs an attacker more than passes do */

/* Processor time, so that a busy machine does not make a weak slot. */
static double pass_ms(uint32_t kib)
{
    uint8_t out[32], salt[crypto_pwhash_SALTBYTES] = {0};
    struct timespec a, b;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    if (crypto_pwhash(out, sizeof out, "", 0, salt, 1, (size_t)kib * 1024, crypto_pwhash_ALG_ARGON2ID13))
        return -1;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
    return ms < 0.1 ? 0.1 : ms;
}

static uint32_t memory_for_machine(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    bool plenty = pages > 0 && (uint64_t)pages * (uint64_t)page >= UINT64_C(2) << 30;
    return plenty ? MORE_KIB : KEYSTORE_KDF_KIB_MIN;
}

int kdf_calibrate(unsigned ms, uint32_t *ops, uint32_t *kib)
{
    uint32_t memory = memory_for_machine();
    double one = pass_ms(memory);
    if (one * KEYSTORE_KDF_OPS_MIN > ms && memory > KEYSTORE_KDF_KIB_MIN) {
        memory = KEYSTORE_KDF_KIB_MIN;
        one = pass_ms(memory);
    }
    if (one < 0)
        return -ENOMEM;
    double want = (double)ms / one;
    uint64_t most = KEYSTORE_KDF_WORK_MAX / memory;
    most = most < KEYSTORE_KDF_OPS_MAX ? most : KEYSTORE_KDF_OPS_MAX;
    *ops = want < KEYSTORE_KDF_OPS_MIN ? KEYSTORE_KDF_OPS_MIN
           : want > (double)most       ? (uint32_t)most
                                       : (uint32_t)want;
    *kib = memory;
    return 0;
}
