/* latch audit: reading and checking the log of latch-keyd. */
#include "audit.h"

#include <string.h>

static const struct verb {
    const char *name;
    int (*run)(const struct audit_args *a);
} verbs[] = {
    {"show", audit_cmd_show},
    {"verify", audit_cmd_verify},
    {"export", audit_cmd_export},
    {"enroll", audit_cmd_enroll},
};

enum {
    OPT_ACT = 1,
    OPT_VOLUME,
    OPT_USER,
    OPT_SINCE,
    OPT_UNTIL,
    OPT_LAST,
    OPT_FAILED,
    OPT_JSON,
    OPT_LOG,
    OPT_KEY,
    OPT_HEAD,
    OPT_OUT
};

static int take(struct audit_args *a, int c, char **argv)
{
    const char **texts[] = {[OPT_ACT] = &a->act,     [OPT_VOLUME] = &a->volume, [OPT_USER] = &a->user,
                            [OPT_SINCE] = &a->since, [OPT_UNTIL] = &a->until,   [OPT_LAST] = &a->last,
                            [OPT_KEY] = &a->key,     [OPT_HEAD] = &a->head,     [OPT_OUT] = &a->out};
    if (c == OPT_JSON)
        a->json = true;
    else if (c == OPT_FAILED)
        a->failed = true;
    else if (c == OPT_LOG && a->file_count == AUDIT_FILES_MAX)
        return cli_fail(LFS_EXIT_USAGE, "at most %u logs", AUDIT_FILES_MAX);
    else if (c == OPT_LOG)
        a->files[a->file_count++] = optarg;
    else if (c >= OPT_ACT && c <= OPT_OUT && texts[c])
        *texts[c] = optarg;
    else
        return cli_bad_option(&cmd_audit, c, argv);
    return LFS_EXIT_OK;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"act", required_argument, NULL, OPT_ACT},
                                            {"volume", required_argument, NULL, OPT_VOLUME},
                                            {"user", required_argument, NULL, OPT_USER},
                                            {"since", required_argument, NULL, OPT_SINCE},
                                            {"until", required_argument, NULL, OPT_UNTIL},
                                            {"last", required_argument, NULL, OPT_LAST},
                                            {"failed", no_argument, NULL, OPT_FAILED},
                                            {"json", no_argument, NULL, OPT_JSON},
                                            {"log", required_argument, NULL, OPT_LOG},
                                            {"key", required_argument, NULL, OPT_KEY},
                                            {"head", required_argument, NULL, OPT_HEAD},
                                            {"out", required_argument, NULL, OPT_OUT},
                                            {0}};
    struct audit_args a = {0};
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        int code = take(&a, c, argv);
        if (code != LFS_EXIT_OK)
            return code;
    }
    for (size_t i = 0; optind + 1 == argc && i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(argv[optind], verbs[i].name) == 0)
            return verbs[i].run(&a);
    return cli_fail(LFS_EXIT_USAGE, "usage: latch audit %s", cmd_audit.synopsis);
}

const struct command cmd_audit = {
    .name = "audit",
    .synopsis = "show|verify|export|enroll [OPTION]...",
    .summary = "read and check the log of latch-keyd",
    .help = "  show                      the records\n"
            "    --act ACT                 only this act: unlock, lease, alarm, ...\n"
            "    --volume ID|DIR           only of this volume\n"
            "    --user USER|UID           only of this user\n"
            "    --since TIME, --until TIME\n"
            "                              a date, a date and time, or how long ago: 90m, 12h, 7d\n"
            "    --failed                  only alarms and what was refused or failed\n"
            "    --last N                  only the last N of them\n"
            "    --json                    the lines as they stand in the log\n"
            "  verify                    name every changed, missing, moved or inserted record\n"
            "    --key FILE                the first key, from enroll: proves who wrote the records\n"
            "    --head FILE               a head exported earlier: proves that none is cut off\n"
            "    --json                    one object: good, records, findings\n"
            "  export [--out FILE]       the head: number and hash of the last record, to be kept elsewhere\n"
            "  enroll --out FILE         takes the first key, which latch-keyd gives once\n"
            "\n"
            "  --log FILE                read a log, not latch-keyd; several from oldest to newest\n",
    .run = run,
};
