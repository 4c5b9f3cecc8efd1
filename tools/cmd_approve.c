/* latch approve: the second signature that a destructive act waits for. */
#include "approver.h"
#include "cli.h"
#include "json_read.h"
#include "keyd_conn.h"

#include "latchfs/buf.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 2048

struct approve_args {
    const char *key;
    bool json;
};

/* ---- what waits ---- */

static int ask(struct keyclient **kc, char **json)
{
    int code = keyd_conn_open(false, kc);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keyclient_approvals(*kc, json);
    return r ? keyd_conn_fail(*kc, r, "latch-keyd") : LFS_EXIT_OK;
}

static void print_field(struct json_value o, const char *key, const char *words)
{
    char text[256], quoted[512];
    if (json_value_there(json_read_get(o, key)))
        printf("  %-11s %s\n", words,
               cli_quote(json_value_string(json_read_get(o, key), text, sizeof text), quoted, sizeof quoted));
}

static void print_signatures(struct json_value o)
{
    struct json_value list = json_read_get(o, "signatures");
    char name[128], quoted[256];
    unsigned count = 0;
    printf("  %-11s", "signed by");
    for (struct json_value s = json_read_next(list, (struct json_value){0}); json_value_there(s);
         s = json_read_next(list, s))
        printf("%s %s", count++ ? "," : "",
               cli_quote(json_value_string(s, name, sizeof name), quoted, sizeof quoted));
    printf("%s (%u of %lld)\n", count ? "" : " nobody yet", count,
           json_value_number(json_read_get(o, "needed"), 0));
}

static void print_request(struct json_value o)
{
    char id[80];
    printf("%s\n", json_value_string(json_read_get(o, "id"), id, sizeof id));
    print_field(o, "act", "act");
    print_field(o, "volume", "volume");
    print_field(o, "directory", "directory");
    if (json_value_there(json_read_get(o, "version")))
        printf("  %-11s %lld\n", "version", json_value_number(json_read_get(o, "version"), 0));
    printf("  %-11s %lld\n", "by user", json_value_number(json_read_get(o, "uid"), -1));
    char when[32];
    printf("  %-11s %s\n", "expires",
           cli_time(json_value_number(json_read_get(o, "expires"), 0), when, sizeof when));
    print_signatures(o);
}

static int run_list(const struct approve_args *a, char **argv)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    AUTO_FREE char *json = NULL;
    (void)argv;
    int code = ask(&kc, &json);
    if (code != LFS_EXIT_OK)
        return code;
    if (a->json) {
        puts(json);
        return LFS_EXIT_OK;
    }
    struct json_value all = json_read(json, strlen(json));
    unsigned count = 0;
    for (struct json_value o = json_read_next(all, (struct json_value){0}); json_value_there(o);
         o = json_read_next(all, o), count++)
        print_request(o);
    if (count == 0)
        puts("nothing waits for approval");
    return LFS_EXIT_OK;
}

/* ---- signing ---- */

static struct json_value find(const char *json, const char *id)
{
    struct json_value all = json_read(json, strlen(json));
    char other[80];
    for (struct json_value o = json_read_next(all, (struct json_value){0}); json_value_there(o);
         o = json_read_next(all, o))
        if (strcmp(json_value_string(json_read_get(o, "id"), other, sizeof other), id) == 0)
            return o;
    return (struct json_value){0};
}

/* The text says all that the signature allows, so it is shown: nobody signs what he has not seen. */
static int sign(struct keyclient *kc, const char *id, const char *text, const struct approver *who)
{
    uint8_t signature[crypto_sign_BYTES];
    char quoted[4 * TEXT_MAX];
    printf("signing:\n");
    for (const char *line = text; *line;) {
        size_t n = strcspn(line, "\n");
        char one[TEXT_MAX];
        snprintf(one, sizeof one, "%.*s", (int)n, line);
        printf("  %s\n", cli_quote(one, quoted, sizeof quoted));
        line += n + (line[n] == '\n');
    }
    fflush(stdout);
    approver_sign(who, text, strlen(text), signature);
    int r = keyclient_approve(kc, id, who->public_key, signature);
    if (r)
        return keyd_conn_fail(kc, r, id);
    printf("%s: signed\n", id);
    return LFS_EXIT_OK;
}

static int run_sign(const struct approve_args *a, char **argv)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    CLEANUP(approver_clear) struct approver who = {0};
    AUTO_FREE char *json = NULL;
    char text[TEXT_MAX], quoted[128];
    if (!a->key)
        return cli_fail(LFS_EXIT_USAGE,
                        "--key FILE says whose signature; 'latch approve new-key FILE' makes one");
    int code = approver_load(a->key, &who);
    if (code == LFS_EXIT_OK)
        code = ask(&kc, &json);
    if (code != LFS_EXIT_OK)
        return code;
    struct json_value o = find(json, argv[0]);
    if (!json_value_there(o))
        return cli_fail(LFS_EXIT_USAGE, "no request '%s' waits; 'latch approve list' shows them",
                        cli_quote(argv[0], quoted, sizeof quoted));
    json_value_string(json_read_get(o, "text"), text, sizeof text);
    return sign(kc, argv[0], text, &who);
}

static int run_new_key(const struct approve_args *a, char **argv)
{
    (void)a;
    char hex[2 * crypto_sign_PUBLICKEYBYTES + 1];
    int code = approver_make(argv[0], hex);
    if (code == LFS_EXIT_OK)
        printf("%s: made; for keyd.ini, section [approvals]:\nadmin.NAME = %s\n", argv[0], hex);
    return code;
}

/* ---- command line ---- */

static const struct {
    const char *name;
    int args;
    int (*run)(const struct approve_args *a, char **argv);
} verbs[] = {
    {"list", 0, run_list},
    {"sign", 1, run_sign},
    {"new-key", 1, run_new_key},
};

static int run(int argc, char **argv)
{
    enum { OPT_KEY = 1, OPT_JSON };
    static const struct option options[] = {
        {"key", required_argument, NULL, OPT_KEY}, {"json", no_argument, NULL, OPT_JSON}, {0}};
    struct approve_args a = {0};
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == OPT_KEY)
            a.key = optarg;
        else if (c == OPT_JSON)
            a.json = true;
        else
            return cli_bad_option(&cmd_approve, c, argv);
    }
    for (size_t i = 0; optind < argc && i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(argv[optind], verbs[i].name) == 0 && argc - optind - 1 == verbs[i].args)
            return verbs[i].run(&a, argv + optind + 1);
    return cli_fail(LFS_EXIT_USAGE, "usage: latch approve %s", cmd_approve.synopsis);
}

const struct command cmd_approve = {
    .name = "approve",
    .synopsis = "list [--json] | sign ID --key FILE | new-key FILE",
    .summary = "sign what waits for a second administrator",
    .help =
        "  latch approve list                what waits, until when, and who has signed\n"
        "  latch approve sign ID --key FILE  shows what is asked and signs it\n"
        "  latch approve new-key FILE        makes a signing key; its public half goes into keyd.ini(5)\n",
    .run = run,
};
