/* Usage: tamper_driver make DIR | serve. Served are lines of words between tabs:
 *
 *   look DIR ro|rw STATE VERIFY    what the volume holds, and with VERIFY = 1 what the check finds
 *   change DIR NAME CHUNK          writes to a file of the root, and closes the volume: its seal is made anew
 *   ini FILE                       whether a key store opens
 */
#include "tamper.h"

#include "latchfs/err.h"
#include "latchfs/log.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void tamper_die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("tamper_driver: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(2);
}

void tamper_end(void)
{
    puts(".");
    fflush(stdout);
}

static void look(const char *dir, bool read_only, bool inodes, bool verify)
{
    struct replay_report report = {0};
    struct volume_stats stats;
    struct volume *v = NULL;
    int r = tamper_open(dir, read_only, true, false, &report, &v);
    printf("open\t%d\n", r);
    if (!r) {
        tamper_dump(v, inodes);
        volume_stats(v, &stats);
        printf("failures\t%llu\n", (unsigned long long)stats.auth_failures);
        printf("replay\t%d\t%llu\t%llu\t%llu\n", report.unclean, (unsigned long long)report.entries,
               (unsigned long long)report.skipped, (unsigned long long)report.torn);
    }
    if (verify)
        tamper_verify(dir, v);
    if (v)
        printf("close\t%d\n", volume_close(v));
    tamper_end();
}

static void change(const char *dir, const char *name, uint64_t chunk)
{
    uint8_t page[PAGE_BYTES];
    struct stat st;
    struct volume *v;
    struct node *n;
    memset(page, 'c', sizeof page);
    int r = tamper_open(dir, false, true, false, NULL, &v);
    if (!r) {
        r = node_lookup(volume_root(v), name, &st, &n);
        if (!r) {
            ssize_t w = file_write(n, page, sizeof page, chunk * PAGE_BYTES);
            r = w < 0 ? (int)w : 0;
            node_unref(n, 1);
        }
        int e = volume_close(v);
        r = r ? r : e;
    }
    printf("change\t%d\n", r);
    tamper_end();
}

static void serve(void)
{
    char line[4096], *word[6];
    while (fgets(line, sizeof line, stdin)) {
        int n = 0;
        for (char *p = strtok(line, "\t\n"); p && n < 6; p = strtok(NULL, "\t\n"))
            word[n++] = p;
        if (n == 5 && !strcmp(word[0], "look")) {
            look(word[1], !strcmp(word[2], "ro"), !strcmp(word[3], "1"), !strcmp(word[4], "1"));
        } else if (n == 4 && !strcmp(word[0], "change")) {
            change(word[1], word[2], strtoull(word[3], NULL, 10));
        } else if (n == 2 && !strcmp(word[0], "ini")) {
            printf("ini\t%d\n", tamper_check_ini(word[1]));
            tamper_end();
        } else {
            tamper_die("no such request");
        }
    }
}

int main(int argc, char **argv)
{
    if (sodium_init() < 0)
        tamper_die("no libsodium");
    if (argc == 3 && !strcmp(argv[1], "make")) {
        tamper_make(argv[2]);
        tamper_make_ini(argv[2]);
    } else if (argc == 2 && !strcmp(argv[1], "serve")) {
        serve();
    } else {
        fputs("usage: tamper_driver make DIR | serve\n", stderr);
        return 2;
    }
    return 0;
}
