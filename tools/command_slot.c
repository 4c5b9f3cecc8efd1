#include "command_slot.h"

#include "cli.h"
#include "command_find.h"
#include "command_run.h"
#include "secret_read.h"

#include "latchfs/keystore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define ARGS_MAX 64
#define ERR_SHOWN 300

int command_seconds(const char *text)
{
    char *end;
    if (!text)
        return COMMAND_SECONDS;
    errno = 0;
    long v = strtol(text, &end, 10);
    return errno || *end || end == text || v < 1 || v > COMMAND_SECONDS_MAX ? -1 : (int)v;
}

/* ---- environment ---- */

/* What a program may need to find its way; anything else is a matter of its configuration. */
static const char *const kept[] = {"HOME",           "USER", "LOGNAME", "LANG", "LC_ALL", "XDG_RUNTIME_DIR",
                                   "XDG_CONFIG_HOME"};
enum { KEPT = sizeof kept / sizeof kept[0], ENV_MAX = KEPT + 3 };

static void env_clear(char *(*env)[ENV_MAX])
{
    for (int i = 0; i < ENV_MAX; i++)
        free((*env)[i]);
}

static bool env_add(char *env[static ENV_MAX], int *n, const char *name, const char *value)
{
    if (!value || !value[0])
        return true;
    if (asprintf(&env[*n], "%s=%s", name, value) < 0) {
        env[*n] = NULL;
        return false;
    }
    ++*n;
    return true;
}

static bool env_make(char *env[static ENV_MAX], const char *config)
{
    int n = 0;
    bool ok = env_add(env, &n, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") &&
              env_add(env, &n, "LATCH_COMMAND_CONFIG", config);
    for (int i = 0; ok && i < KEPT; i++)
        ok = env_add(env, &n, kept[i], getenv(kept[i]));
    return ok;
}

/* ---- errors ---- */

/* The last lines of what the program said are those that matter; as one line. */
static const char *said(const struct command_run *r, char out[static 4 * ERR_SHOWN + 1])
{
    char text[ERR_SHOWN + 1];
    size_t len = strlen(r->err);
    while (len > 0 && r->err[len - 1] == '\n')
        len--;
    size_t from = len > ERR_SHOWN ? len - ERR_SHOWN : 0;
    memcpy(text, r->err + from, len - from);
    text[len - from] = '\0';
    for (char *p = text; *p; p++)
        if (*p == '\n')
            *p = ' ';
    return cli_quote(text, out, 4 * ERR_SHOWN + 1);
}

static int ended_badly(const char *name, const struct command_run *r, struct command_why *why)
{
    char words[4 * ERR_SHOWN + 1];
    said(r, words);
    if (WIFSIGNALED(r->status))
        return command_refuse(why, LFS_EXIT_FAILURE, "command %s was ended by signal %d%s%s", name,
                              WTERMSIG(r->status), words[0] ? ": " : "", words);
    return command_refuse(why, LFS_EXIT_FAILURE, "command %s failed with exit code %d%s%s", name,
                          WEXITSTATUS(r->status), words[0] ? ": " : "", words);
}

static int judge(const char *name, const struct command_run *r, int err, struct command_why *why)
{
    if (err == LFS_ERR_TIMEOUT)
        return command_refuse(why, LFS_EXIT_FAILURE, "command %s did not end in %d s and was killed", name,
                              r->seconds);
    if (err == -E2BIG)
        return command_refuse(why, LFS_EXIT_FAILURE, "command %s answered more than %zu bytes", name,
                              r->out_max);
    if (err)
        return command_refuse(why, lfs_exit_code(err), "command %s: %s", name, lfs_strerror(err));
    if (!WIFEXITED(r->status) || WEXITSTATUS(r->status) != 0)
        return ended_badly(name, r, why);
    return LFS_EXIT_OK;
}

/* ---- the two calls ---- */

static int call(const char *name, const char *verb, char *const *args, struct command_run *r,
                struct command_why *why)
{
    struct command_program program;
    char *argv[ARGS_MAX + 3] = {program.path, (char *)(uintptr_t)verb};
    CLEANUP(env_clear) char *env[ENV_MAX] = {0};
    int n = 2;
    for (; args && *args && n < ARGS_MAX + 2; args++)
        argv[n++] = *args;
    if (args && *args)
        return command_refuse(why, LFS_EXIT_USAGE, "command %s: more than %d arguments", name, ARGS_MAX);
    int code = command_find(name, &program, why);
    if (code != LFS_EXIT_OK)
        return code;
    if (!env_make(env, program.config))
        return command_refuse(why, LFS_EXIT_FAILURE, "out of memory");
    r->path = program.path;
    r->argv = argv;
    r->env = env;
    return judge(name, r, command_run(r), why);
}

int command_wrap(const char *name, char *const *args, int seconds, const struct secret *secret,
                 uint8_t **blob, size_t *len, struct command_why *why)
{
    AUTO_FREE char *out = malloc(KEYSTORE_BLOB_MAX);
    struct command_run r = {.in = secret_const(secret),
                            .in_len = secret_len(secret),
                            .out = out,
                            .out_max = KEYSTORE_BLOB_MAX,
                            .seconds = seconds};
    if (!out)
        return command_refuse(why, LFS_EXIT_FAILURE, "out of memory");
    int code = call(name, "wrap", args, &r, why);
    if (code != LFS_EXIT_OK)
        return code;
    if (r.out_len == 0)
        return command_refuse(why, LFS_EXIT_FAILURE, "command %s answered nothing", name);
    *blob = (uint8_t *)out;
    *len = r.out_len;
    out = NULL;
    return LFS_EXIT_OK;
}

int command_unwrap(const char *name, const uint8_t *blob, size_t len, int seconds, struct secret **secret,
                   struct command_why *why)
{
    AUTO_LOCKED char *out = locked_alloc(COMMAND_SECRET_BYTES);
    struct command_run r = {
        .in = blob, .in_len = len, .out = out, .out_max = COMMAND_SECRET_BYTES, .seconds = seconds};
    if (!out)
        return command_refuse(why, LFS_EXIT_FAILURE, "out of memory");
    int code = call(name, "unwrap", NULL, &r, why);
    if (code != LFS_EXIT_OK)
        return code;
    if (r.out_len != COMMAND_SECRET_BYTES)
        return command_refuse(why, LFS_EXIT_FAILURE, "command %s answered %zu bytes instead of %u", name,
                              r.out_len, COMMAND_SECRET_BYTES);
    struct secret *got = secret_new_copy(out, r.out_len);
    if (!got)
        return command_refuse(why, LFS_EXIT_FAILURE, "out of memory");
    *secret = got;
    return LFS_EXIT_OK;
}
