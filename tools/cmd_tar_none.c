/* latch tar where libarchive was not there to build it with. */
#include "cli.h"

static int run(int argc, char **argv)
{
    (void)argc, (void)argv;
    return cli_fail(LFS_EXIT_FAILURE, "built without libarchive; use 'latch extract' and tar");
}

const struct command cmd_tar = {
    .name = "tar",
    .synopsis = "",
    .summary = "not in this build, which was made without libarchive",
    .help = "",
    .run = run,
};
