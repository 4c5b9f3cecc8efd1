#include "alert_peers.h"

#include "latchfs/buf.h"
#include "latchfs/io.h"
#include "latchfs/log.h"
#include "peer_exe.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HASH_BYTES 16u
#define FILE_NAME "peers"

struct alert_peers {
    int fd;
    size_t count;
    uint8_t hashes[ALERT_PEERS_MAX][HASH_BYTES];
};

int alert_peers_open(int statedir, struct alert_peers **out)
{
    struct alert_peers *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->fd = openat(statedir, FILE_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    ssize_t n = p->fd < 0 ? -errno : io_pread(p->fd, p->hashes, sizeof p->hashes, 0);
    if (n < 0) {
        alert_peers_free(p);
        return (int)n;
    }
    p->count = (size_t)n / HASH_BYTES; /* half of one is written over */
    *out = p;
    return 0;
}

void alert_peers_free(struct alert_peers *p)
{
    if (p && p->fd >= 0)
        close(p->fd);
    free(p);
}

static void hash_peer(const struct ucred *peer, const char *exe, uint8_t hash[static HASH_BYTES])
{
    crypto_generichash_state st;
    uint8_t uid[4] = {(uint8_t)peer->uid, (uint8_t)(peer->uid >> 8), (uint8_t)(peer->uid >> 16),
                      (uint8_t)(peer->uid >> 24)};
    crypto_generichash_init(&st, NULL, 0, HASH_BYTES);
    crypto_generichash_update(&st, uid, sizeof uid);
    crypto_generichash_update(&st, (const uint8_t *)exe, strlen(exe));
    crypto_generichash_final(&st, hash, HASH_BYTES);
}

/* A full list forgets at random, so that nobody can fill it and then pass as known. */
static size_t free_place(struct alert_peers *p)
{
    return p->count < ALERT_PEERS_MAX ? p->count++ : randombytes_uniform(ALERT_PEERS_MAX);
}

bool alert_peers_meet(struct alert_peers *p, const struct ucred *peer, char exe[static ALERT_EXE_MAX])
{
    uint8_t hash[HASH_BYTES];
    peer_exe(peer->pid, exe, ALERT_EXE_MAX);
    if (!p)
        return false;
    hash_peer(peer, exe, hash);
    for (size_t i = 0; i < p->count; i++)
        if (memcmp(p->hashes[i], hash, sizeof hash) == 0)
            return false;
    size_t at = free_place(p);
    memcpy(p->hashes[at], hash, sizeof hash);
    if (io_pwrite(p->fd, hash, sizeof hash, (uint64_t)at * HASH_BYTES))
        log_warn("the list of known peers cannot be written");
    return true;
}
