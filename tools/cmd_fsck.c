/* latch fsck: looks at a volume, and repairs what can be repaired. */
#include "check_job.h"
#include "cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct fsck_args {
    struct check_job job;
    bool no_key, online, yes;
};

static const char explain_tails[] =
    "--cut-tails: a file whose end cannot be read is cut behind the last chunk that can. Nothing that can be "
    "read is\n"
    "lost by that.\n";
static const char explain_lost[] =
    "--lost-found: what cannot be read is moved out of the way: to the directory lost+found in the root of "
    "the volume\n"
    "(or at the top of its protected directory), or, where no key opens it, to latchfs.lost beside the "
    "ciphertext. Both\n"
    "places are printed, and nothing is deleted.\n";

/* Cutting and moving cannot be undone by fsck: whoever asks for them is told and asked once more. */
static int confirm(const struct fsck_args *a)
{
    char answer[8] = "";
    unsigned flags = a->job.flags & (CHECK_CUT_TAILS | CHECK_LOST_FOUND);
    if (!flags || a->yes)
        return LFS_EXIT_OK;
    fputs(flags & CHECK_CUT_TAILS ? explain_tails : "", stderr);
    fputs(flags & CHECK_LOST_FOUND ? explain_lost : "", stderr);
    if (!isatty(STDIN_FILENO))
        return cli_fail(LFS_EXIT_USAGE, "nothing was done: without a terminal, --yes confirms");
    fputs("A copy of the volume made now can be tried again later. Type 'yes' to go on: ", stderr);
    if (fgets(answer, sizeof answer, stdin) && strcmp(answer, "yes\n") == 0)
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_USAGE, "nothing was done");
}

static int run_online(struct check_job *j)
{
    AUTO_TARGET struct target t = {.v.dirfd = -1};
    char quoted[4 * PATH_MAX];
    int code = target_find(j->report.subject.volume, &t);
    if (code != LFS_EXIT_OK)
        return code;
    if (!t.mounted)
        return cli_fail(LFS_EXIT_NOTVOLUME, "%s: not mounted by you; without --online the volume is checked",
                        cli_quote(t.path, quoted, sizeof quoted));
    j->report.subject.volume = t.volume;
    j->report.subject.mountpoint = t.mountpoint;
    return check_job_mounted(j, &t);
}

static int run_fsck(struct fsck_args *a)
{
    if (a->online)
        return run_online(&a->job);
    int code = confirm(a);
    if (code != LFS_EXIT_OK)
        return code;
    return a->no_key ? check_job_structure(&a->job) : check_job_offline(&a->job);
}

/* Which options do not go together. */
static int check_args(const struct fsck_args *a)
{
    const struct check_job *j = &a->job;
    bool extra = j->flags & (CHECK_CUT_TAILS | CHECK_LOST_FOUND);
    if (a->no_key && cred_source_given(&j->open.cred))
        return cli_fail(LFS_EXIT_USAGE, "--no-key goes with no way of opening the volume");
    if (a->no_key && j->flags & CHECK_REPAIR)
        return cli_fail(LFS_EXIT_USAGE, "--repair needs the keys, so it does not go with --no-key");
    if (a->no_key && j->flags & CHECK_CONTENTS)
        return cli_fail(LFS_EXIT_USAGE, "--contents needs the keys, so it does not go with --no-key");
    if (a->no_key && a->online)
        return cli_fail(LFS_EXIT_USAGE, "a mount has the keys: --online does not go with --no-key");
    if (a->online && j->flags & CHECK_REPAIR)
        return cli_fail(LFS_EXIT_USAGE, "nothing is repaired while it is mounted: unmount, then 'latch fsck "
                                        "--repair VOLUME'");
    if (extra && !(j->flags & CHECK_REPAIR))
        return cli_fail(LFS_EXIT_USAGE, "--cut-tails and --lost-found are for --repair");
    if (j->flags & CHECK_CUT_TAILS && !(j->flags & CHECK_CONTENTS))
        return cli_fail(LFS_EXIT_USAGE, "--cut-tails needs --contents: without it no tail is looked at");
    return cred_source_check(&j->open.cred);
}

enum {
    OPT_NO_KEY = OPT_OFFLINE_NEXT,
    OPT_ONLINE,
    OPT_REPAIR,
    OPT_CUT_TAILS,
    OPT_LOST_FOUND,
    OPT_YES,
    OPT_JSON,
    OPT_CONTENTS,
    OPT_CIPHER,
    OPT_WORKERS
};

/* False if c is no option of fsck; *bad: its value is none. */
static bool take_option(struct fsck_args *a, int c, bool *bad)
{
    static const unsigned flags[] = {
        [OPT_REPAIR - OPT_NO_KEY] = CHECK_REPAIR,
        [OPT_CUT_TAILS - OPT_NO_KEY] = CHECK_CUT_TAILS,
        [OPT_LOST_FOUND - OPT_NO_KEY] = CHECK_LOST_FOUND,
        [OPT_CONTENTS - OPT_NO_KEY] = CHECK_CONTENTS,
        [OPT_WORKERS - OPT_NO_KEY] = 0,
    };
    if (c == OPT_NO_KEY)
        a->no_key = true;
    else if (c == OPT_ONLINE)
        a->online = true;
    else if (c == OPT_YES)
        a->yes = true;
    else if (c == OPT_JSON)
        a->job.report.style = REPORT_JSON;
    else if (c == OPT_CIPHER)
        a->job.cipher = true;
    else if (c == OPT_WORKERS)
        *bad = !check_job_workers(optarg, &a->job.workers);
    else if (c > OPT_NO_KEY && c < OPT_WORKERS)
        a->job.flags |= flags[c - OPT_NO_KEY];
    else
        return offline_option(&a->job.open, c, optarg);
    return true;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {
        OFFLINE_OPTIONS,
        {"no-key", no_argument, NULL, OPT_NO_KEY},
        {"online", no_argument, NULL, OPT_ONLINE},
        {"repair", no_argument, NULL, OPT_REPAIR},
        {"cut-tails", no_argument, NULL, OPT_CUT_TAILS},
        {"lost-found", no_argument, NULL, OPT_LOST_FOUND},
        {"yes", no_argument, NULL, OPT_YES},
        {"json", no_argument, NULL, OPT_JSON},
        {"contents", no_argument, NULL, OPT_CONTENTS},
        {"cipher", no_argument, NULL, OPT_CIPHER},
        {"workers", required_argument, NULL, OPT_WORKERS},
        {0},
    };
    struct fsck_args a = {.job = {.report = CHECK_REPORT_INIT, .workers = CHECK_WORKERS_DEFAULT}};
    bool bad = false;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (!take_option(&a, c, &bad))
            return cli_bad_option(&cmd_fsck, c, argv);
        if (bad)
            return cli_fail(LFS_EXIT_USAGE, "--workers is a number from 1 to %d", CHECK_WORKERS_MAX);
    }
    int code = cli_want_args(&cmd_fsck, argc, 1, 2);
    if (code == LFS_EXIT_OK)
        code = check_args(&a);
    if (code != LFS_EXIT_OK)
        return code;
    a.job.subtree = argc - optind > 1 ? argv[optind + 1] : NULL;
    a.job.report.subject = (struct check_subject){
        .command = "fsck",
        .volume = argv[optind],
        .subtree = a.job.subtree,
        .structure = a.no_key,
        .contents = a.job.flags & CHECK_CONTENTS,
        .repair = a.job.flags & CHECK_REPAIR,
    };
    return run_fsck(&a);
}

const struct command cmd_fsck = {
    .name = "fsck",
    .synopsis = "[OPTION]... VOLUME [PATH] | --online [OPTION]... MOUNTPOINT [PATH]",
    .summary = "check a volume, and repair it",
    .help =
        "Looks at names, directory records, headers, links and the journal; with --contents also at every "
        "byte,\n"
        "seals and attributes.\n"
        "Changes nothing without --repair. PATH: only what is there and below.\n"
        "  --no-key                  without any secret: the structure only; PATH is one of ciphertext\n"
        "  --online                  a mounted volume, through its mount; people go on working\n"
        "  --contents                read and authenticate everything\n"
        "  --cipher                  PATH is one of ciphertext\n"
        "  --workers N               threads, 2 by default\n"
        "  --json                    one JSON document\n"
        "  --repair                  put in place what waits in the journal, finish or undo what was half "
        "made\n"
        "  --repair --lost-found     and move what can't be read to lost+found\n"
        "  --repair --contents --cut-tails\n"
        "                            and cut files before the first chunk of a tail that can't be read\n"
        "  --yes                     do not ask before cutting and moving\n" OFFLINE_HELP
        "Exit code: 0 no damage, 5 damage, 10 damage, all of it repaired, 1 stopped, others as in latch(1).\n"
        "\n" OPENING_HELP,
    .run = run,
};
