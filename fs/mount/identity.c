#include "fs/mount/identity.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct __user_cap_data_struct cap_words[_LINUX_CAPABILITY_U32S_3];

static bool takes_identity; /* written before threads start */
static cap_words full;      /* effective = permitted, less what identity_init gave up */
static _Thread_local uid_t now_uid;
static _Thread_local gid_t now_gid;
static _Thread_local mode_t now_mask;

static int cap_call(long nr, cap_words caps)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(nr, &head, caps) ? -errno : 0;
}

int identity_init(void)
{
    takes_identity = geteuid() == 0;
    if (!takes_identity)
        return 0;
    int r = cap_call(SYS_capget, full);
    if (r)
        return r;
    full[CAP_TO_INDEX(CAP_SYS_RESOURCE)].permitted &= ~CAP_TO_MASK(CAP_SYS_RESOURCE);
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        full[i].effective = full[i].permitted;
    return cap_call(SYS_capset, full);
}

int identity_thread(void)
{
    if (unshare(CLONE_FS))
        return -errno;
    now_mask = umask(0);
    umask(now_mask);
    now_uid = geteuid();
    now_gid = getegid();
    return 0;
}

/* The set calls report no failure; asking again does. */
static int set_ids(uid_t uid, gid_t gid)
{
    if (gid != now_gid) {
        setfsgid(gid);
        if ((gid_t)setfsgid((gid_t)-1) != gid)
            return -EOVERFLOW;
        now_gid = gid;
    }
    if (uid != now_uid) {
        setfsuid(uid);
        now_uid = (uid_t)setfsuid((uid_t)-1);
        if (now_uid != uid)
            return -EOVERFLOW;
        /* Leaving fsuid 0 took the capabilities over files away. */
        return cap_call(SYS_capset, full);
    }
    return 0;
}

int identity_assume(uid_t uid, gid_t gid, mode_t mask)
{
    if (mask != now_mask) {
        umask(mask);
        now_mask = mask;
    }
    return takes_identity ? set_ids(uid, gid) : 0;
}
