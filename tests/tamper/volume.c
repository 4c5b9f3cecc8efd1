/* Keys and opening. */
#include "tamper.h"

#include <string.h>

struct keyset *tamper_keys(int pd, bool rotated, bool other)
{
    struct keyset *k = keyset_new();
    int salt = pd + (other ? 100 : 0);
    if (!k)
        tamper_die("no locked memory");
    memset(k->volume_id, other ? 0x12 : 0x11, sizeof k->volume_id);
    memset(k->pd_id, 0x20 + salt, sizeof k->pd_id);
    memset(k->name_key, 0x30 + salt, sizeof k->name_key);
    memset(k->journal_key, other ? 0x45 : 0x44, sizeof k->journal_key);
    k->suite = SUITE_AES_256_GCM;
    k->count = rotated ? 2 : 1;
    k->active = k->least = k->count;
    for (uint32_t i = 0; i < k->count; i++) {
        k->versions[i].version = i + 1;
        memset(k->versions[i].key, 0x50 + salt + 10 * (int)i, sizeof k->versions[i].key);
    }
    return k;
}

int tamper_open(const char *dir, bool read_only, bool rotated, bool other, struct replay_report *report,
                struct volume **out)
{
    struct volume_options o = {
        .read_only = read_only, .journal_bytes = 1, .no_flusher = true, .seal_seconds = 3600};
    struct keyset *k = tamper_keys(PD_ROOT, rotated, other);
    struct volume *v;
    int r = volume_open(dir, k, &o, report, &v);
    keyset_free(k);
    for (int pd = PD_ONE; !r && !other && pd < PD_COUNT; pd++) {
        k = tamper_keys(pd, rotated, other);
        int e = volume_pd_unlock(v, k);
        keyset_free(k);
        if (e)
            tamper_die("unlock: %d", e);
    }
    if (!r)
        *out = v;
    return r;
}
