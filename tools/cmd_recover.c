/* latch recover: replays the journal of a volume that was not unmounted cleanly, without mounting it. */
#include "cli.h"
#include "offline.h"

#include "latchfs/jentry.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

static void report(const char *path, const struct replay_report *p)
{
    char q[PATH_MAX];
    cli_quote(path, q, sizeof q);
    if (!p->unclean) {
        printf("%s: clean; there was nothing to replay\n", q);
        return;
    }
    uint64_t applied = p->entries - p->skipped - p->torn;
    printf("%s: replayed %" PRIu64 " of %" PRIu64 " journal entries into %" PRIu64
           " file%s; the volume is clean\n",
           q, applied, p->entries, p->files, p->files == 1 ? "" : "s");
    if (p->torn)
        printf("%s: %" PRIu64 " never reached the disk whole and were dropped; nothing in them was synced\n",
               q, p->torn);
    if (p->skipped)
        printf("%s: %" PRIu64 " were of files that are gone or newer, and were passed by\n", q, p->skipped);
}

static int recover(const char *path, const struct offline_options *opt)
{
    AUTO_OFFLINE struct offline o = {.files.dirfd = -1};
    /* No flusher, and the least ring: nothing will be written but what the journal has. */
    const struct volume_options want = {.no_flusher = true, .journal_bytes = JOURNAL_RING_MIN};
    int code = offline_check_free(path);
    if (code == LFS_EXIT_OK)
        code = offline_keys(path, opt, &o);
    if (code == LFS_EXIT_OK)
        code = offline_volume(&o, &want);
    if (code != LFS_EXIT_OK)
        return code;
    int r = volume_close(o.volume);
    o.volume = NULL;
    if (r)
        return cli_fail_err(r, path, "what was replayed stays; run the same command again");
    report(path, &o.replay);
    return LFS_EXIT_OK;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {OFFLINE_OPTIONS, {0}};
    struct offline_options opt = {0};
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;)
        if (!offline_option(&opt, c, optarg))
            return cli_bad_option(&cmd_recover, c, argv);
    int code = cli_want_args(&cmd_recover, argc, 1, 1);
    return code == LFS_EXIT_OK ? recover(argv[optind], &opt) : code;
}

const struct command cmd_recover = {
    .name = "recover",
    .synopsis = "[OPTION]... VOLUME",
    .summary = "replay the journal of a volume without mounting it",
    .help = "A mount does the same by itself. No daemon is asked; the secret opens the volume "
            "here.\n" OFFLINE_HELP "\n" OPENING_HELP,
    .run = run,
};
