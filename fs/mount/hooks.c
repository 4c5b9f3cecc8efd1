#include "fs/mount/hooks.h"

#include "fs/mount/daemon.h"
#include "fs/mount/freezer.h"
#include "fs/mount/identity.h"
#include "fs/mount/wipe.h"

static void negotiated(void *arg, uint32_t flags)
{
    struct daemon *d = arg;
    d->kills_priv = flags & FUSE_HANDLE_KILLPRIV_V2;
    d->setxattr_ext = flags & FUSE_SETXATTR_EXT;
    d->writeback = flags & FUSE_WRITEBACK_CACHE;
}

static int begin_thread(void *arg)
{
    return identity_thread();
}

static void wipe(void *arg)
{
    wipe_thread();
}

static bool try_change(void *arg)
{
    return volume_try_change(((const struct daemon *)arg)->vol);
}

static void end_change(void *arg)
{
    volume_end_change(((const struct daemon *)arg)->vol);
}

static void no_room(void *arg)
{
    freezer_end(((const struct daemon *)arg)->freezer, "the number of changes that waited");
}

const struct session_hooks daemon_hooks = {
    .negotiated = negotiated,
    .begin_thread = begin_thread,
    .wipe_thread = wipe,
    .try_change = try_change,
    .end_change = end_change,
    .no_room = no_room,
};
