/* A FUSE filesystem that shows another directory as it is: what FUSE itself costs. It has latchfs's receive
 * loop, asks the kernel for the same, and lets it cache as long; there is no cryptography, no journal and no
 * policy. */
#include "fs/mount/mountpoint.h"
#include "latchfs/background.h"
#include "latchfs/err.h"
#include "latchfs/log.h"
#include "latchfs/unmount.h"
#include "passthrough_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "usage: passthrough [-f] [-o OPTION,...] DIRECTORY MOUNTPOINT\n"
                            "  -f  stay in the foreground\n"
                            "  -o writethrough  no writeback cache in the kernel\n"
                            "  -o answer_open   let the kernel ask for OPEN and OPENDIR\n"
                            "Other options go to the kernel. umount ends it.\n";

struct setup {
    struct passthrough p;
    bool foreground;
    char *options; /* for libfuse */
    char source[PATH_MAX], mountpoint[PATH_MAX];
};

static void negotiated(void *arg, uint32_t flags)
{
    ((struct passthrough *)arg)->setxattr_ext = flags & FUSE_SETXATTR_EXT;
}

static const struct session_hooks hooks = {.negotiated = negotiated};

static int take_options(struct setup *s, char *list)
{
    for (char *save, *one = strtok_r(list, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
        if (strcmp(one, "writethrough") == 0)
            s->p.writeback = false;
        else if (strcmp(one, "answer_open") == 0)
            s->p.answer_open = true;
        else if (fuse_opt_add_opt(&s->options, one))
            return -ENOMEM;
    }
    return 0;
}

static int parse(int argc, char **argv, struct setup *s)
{
    int r = fuse_opt_add_opt(&s->options, "default_permissions,subtype=passthrough");
    if (!r && geteuid() == 0)
        r = fuse_opt_add_opt(&s->options, "allow_other");
    for (int c; !r && (c = getopt(argc, argv, "fo:")) != -1;) {
        if (c == 'f')
            s->foreground = true;
        else
            r = c == 'o' ? take_options(s, optarg) : LFS_ERR_MISUSE;
    }
    if (!r && optind != argc - 2)
        r = LFS_ERR_MISUSE;
    if (!r && (!realpath(argv[optind], s->source) || !realpath(argv[optind + 1], s->mountpoint)))
        r = -errno;
    if (r == LFS_ERR_MISUSE)
        fputs(usage, stderr);
    else if (r)
        fprintf(stderr, "passthrough: %s\n", lfs_strerror(r));
    return r;
}

static int open_root(struct setup *s)
{
    struct stat st;
    int fd = open(s->source, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstatat(fd, "", &st, AT_EMPTY_PATH))
        return -errno;
    held_begin(fd);
    s->p.root = node_get(fd, false, NULL, &st);
    return s->p.root ? 0 : -ENOMEM;
}

static int start(struct setup *s, struct session **out)
{
    struct fuse_lowlevel_ops ops = passthrough_table(&s->p);
    struct session *session;
    int r = session_new(&hooks, &s->p, &ops, s->options, &session);
    if (r)
        return r;
    r = session_mount(session, s->mountpoint, true);
    if (!r && (r = session_start(session)))
        unmount_path(s->mountpoint, true);
    if (r) {
        session_free(session);
        return r;
    }
    mountpoint_tune(s->mountpoint);
    *out = session;
    return 0;
}

static void wait_for_end(const struct setup *s, const struct session *session, int signals)
{
    struct pollfd f[2] = {{.fd = session_done_fd(session), .events = POLLIN},
                          {.fd = signals, .events = POLLIN}};
    while (poll(f, 2, -1) < 0 && errno == EINTR)
        ;
    if (!f[0].revents)
        unmount_path(s->mountpoint, true);
}

static int run(struct setup *s)
{
    struct session *session = NULL;
    int report = -1, signals = -1, r = s->foreground ? 0 : background_enter(&report);
    background_raise_file_limit();
    if (!r)
        r = background_take_signals(&signals);
    if (!r)
        r = open_root(s);
    if (!r)
        r = start(s, &session);
    if (r)
        fprintf(stderr, "passthrough: %s\n", lfs_strerror(r));
    background_report(&report, lfs_exit_code(r));
    if (!r)
        wait_for_end(s, session, signals);
    session_free(session);
    return r;
}

int main(int argc, char **argv)
{
    static struct setup s = {.p.writeback = true};
    log_setup("passthrough", false, LOG_LEVEL_WARN);
    int r = parse(argc, argv, &s);
    if (!r)
        r = run(&s);
    free(s.options);
    return lfs_exit_code(r);
}
