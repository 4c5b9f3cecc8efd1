/* latch verify: reads and authenticates everything, and can be stopped and taken up again. */
#include "cli.h"
#include "rotate_job.h"
#include "verify.h"

#include <stdio.h>
#include <string.h>

int verify_run(struct verify_args *a, const char *path)
{
    AUTO_TARGET struct target t = {.v.dirfd = -1};
    struct check_job *j = &a->job;
    struct check_subject *subject = &j->report.subject;
    char quoted[4 * PATH_MAX];
    j->flags = CHECK_CONTENTS;
    subject->contents = true;
    subject->volume = path;
    if (j->open.header) /* the volume's own key store may be gone */
        return check_job_offline(j);
    int code = target_find(path, &t);
    if (code != LFS_EXIT_OK)
        return code;
    subject->volume = t.volume;
    subject->mountpoint = t.mounted ? t.mountpoint : NULL;
    if (t.mounted)
        return check_job_mounted(j, &t);
    if (a->unattended && !cred_source_given(&j->open.cred))
        return cli_fail(LFS_EXIT_NOKEY,
                        "%s: not mounted, and no way of opening it was given; --keyfile FILE is one",
                        cli_quote(t.path, quoted, sizeof quoted));
    return check_job_offline(j);
}

bool verify_option(struct verify_args *a, int c, const char *arg, int *code)
{
    switch (c) {
    case OPT_RATE:
        if (!rate_parse(arg, &a->job.bytes_per_second))
            *code = cli_fail(LFS_EXIT_USAGE, "a rate is bytes a second, such as 500K, 20M or 1G");
        return true;
    case OPT_STATE:
        a->job.state = arg;
        return true;
    case OPT_RESTART:
        a->job.restart = true;
        return true;
    case OPT_VERIFY_WORKERS:
        if (!check_job_workers(arg, &a->job.workers))
            *code = cli_fail(LFS_EXIT_USAGE, "--workers is a number from 1 to %d", CHECK_WORKERS_MAX);
        return true;
    default:
        return offline_option(&a->job.open, c, arg);
    }
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {
        VERIFY_OPTIONS, {"json", no_argument, NULL, OPT_VERIFY_JSON}, {0}};
    struct verify_args a = {
        .job = {.report = CHECK_REPORT_INIT, .workers = CHECK_WORKERS_DEFAULT, .kind = "verify"}};
    int code = LFS_EXIT_OK;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == OPT_VERIFY_JSON)
            a.job.report.style = REPORT_JSON;
        else if (!verify_option(&a, c, optarg, &code))
            return cli_bad_option(&cmd_verify, c, argv);
        if (code != LFS_EXIT_OK)
            return code;
    }
    code = cli_want_args(&cmd_verify, argc, 1, 1);
    if (code == LFS_EXIT_OK)
        code = cred_source_check(&a.job.open.cred);
    if (code != LFS_EXIT_OK)
        return code;
    a.job.report.subject.command = "verify";
    return verify_run(&a, argv[optind]);
}

const struct command cmd_verify = {
    .name = "verify",
    .synopsis = "[OPTION]... VOLUME|MOUNTPOINT",
    .summary = "read and authenticate all of a volume",
    .help =
        "In its mount if it is mounted, else with a secret; people go on working. It keeps its place: after\n"
        "Ctrl-C, a kill or a power cut the same command goes on where it was. Changes nothing.\n"
        "  --rate RATE               bytes a second at most: 500K, 20M, 1G\n"
        "  --json                    one JSON document, as that of fsck\n" VERIFY_HELP OFFLINE_HELP
        "Exit code: 0 no damage, 5 damage, 1 stopped, others as in latch(1).\n"
        "\n" OPENING_HELP,
    .run = run,
};
