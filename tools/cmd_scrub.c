/* latch scrub: verify for a timer. It stays behind everything else, and says what it finds to a log. */
#include "cli.h"
#include "verify.h"

#include <linux/ioprio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RATE_DEFAULT (UINT64_C(64) << 20)
#define NICE 19

/* Threads made from here on inherit both. Where the system refuses, it is only less polite. */
static void step_back(void)
{
    setpriority(PRIO_PROCESS, 0, NICE);
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {VERIFY_OPTIONS, {0}};
    struct verify_args a = {
        .job = {.report = CHECK_REPORT_INIT, .bytes_per_second = RATE_DEFAULT, .workers = 1, .kind = "scrub"},
        .unattended = true,
    };
    int code = LFS_EXIT_OK;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (!verify_option(&a, c, optarg, &code))
            return cli_bad_option(&cmd_scrub, c, argv);
        if (code != LFS_EXIT_OK)
            return code;
    }
    code = cli_want_args(&cmd_scrub, argc, 1, 1);
    if (code == LFS_EXIT_OK)
        code = cred_source_check(&a.job.open.cred);
    if (code != LFS_EXIT_OK)
        return code;
    a.job.report.subject.command = "scrub";
    a.job.report.style = REPORT_LOG;
    step_back();
    return verify_run(&a, argv[optind]);
}

const struct command cmd_scrub = {
    .name = "scrub",
    .synopsis = "[OPTION]... VOLUME|MOUNTPOINT",
    .summary = "verify as a timer does it: slowly, into a log",
    .help =
        "As verify, with one thread, the least priority and a limited rate. A line for each finding and one "
        "at the\n"
        "end, on standard error, with ciphertext paths only. Stopped by SIGTERM it ends with 0 and goes on "
        "the next\n"
        "time. The units latch-scrub@.service and latch-scrub@.timer run it; see docs/ADMIN.md.\n"
        "  --rate RATE               bytes a second at most, 64M by default\n" VERIFY_HELP OFFLINE_HELP
        "Exit code: 0 no damage, 5 damage, others as in latch(1).\n"
        "\n" OPENING_HELP,
    .run = run,
};
