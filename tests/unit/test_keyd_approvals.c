/* Requests that wait for the signatures of others, and the directory that keeps them. */
#include "support.h"

#include "approval_text.h"
#include "approvals.h"
#include "latchfs/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOW ((time_t)1800000000)
#define EXPIRE 1000
#define ALICE 1001 /* a requester, no admin */

struct signer {
    uint8_t pub[32], secret[64];
};
static struct signer ann, bob, eve; /* ann is uid 2001, bob any user, eve no admin */

struct fixture {
    char path[64];
    int dir;
    struct policy policy;
    struct approvals *a;
};

static void make_signer(struct signer *s, uint8_t seed)
{
    uint8_t bytes[32];
    memset(bytes, seed, sizeof bytes);
    crypto_sign_seed_keypair(s->pub, s->secret, bytes);
}

static void set_policy(struct fixture *f, const char *more)
{
    char text[600], why[POLICY_WHY_MAX], hex_ann[65], hex_bob[65];
    sodium_bin2hex(hex_ann, sizeof hex_ann, ann.pub, 32);
    sodium_bin2hex(hex_bob, sizeof hex_bob, bob.pub, 32);
    int n = snprintf(text, sizeof text, "[approvals]\nadmin.ann = %s uid:2001\nadmin.bob = %s\n%s", hex_ann,
                     hex_bob, more);
    policy_defaults(&f->policy);
    if (policy_parse(text, (size_t)n, &f->policy, why))
        fail_msg("%s", why);
}

static void restart(struct fixture *f)
{
    approvals_free(f->a);
    f->a = NULL;
    assert_int_equal(approvals_open(f->dir, &f->policy, &f->a), 0);
}

static int begin(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->path, "/tmp/latchfs-approvals-XXXXXX");
    if (sodium_init() < 0 || !mkdtemp(f->path))
        return -1;
    f->dir = open(f->path, O_RDONLY | O_DIRECTORY);
    make_signer(&ann, 1);
    make_signer(&bob, 2);
    make_signer(&eve, 3);
    set_policy(f, "required = 2\nexpire_seconds = 1000\n");
    restart(f);
    *state = f;
    return 0;
}

static int end(void **state)
{
    struct fixture *f = *state;
    char command[128];
    approvals_free(f->a);
    close(f->dir);
    snprintf(command, sizeof command, "rm -rf %s", f->path);
    int r = system(command);
    free(f);
    return r;
}

/* ---- short names for what the tests do ---- */

static const uint8_t volume[16] = {1, 2, 3};

static struct key_edit shred(uint8_t pd)
{
    struct key_edit e = {.op = EDIT_DIR_SHRED};
    memset(e.pd, pd, sizeof e.pd);
    return e;
}

static int check_by(struct fixture *f, const struct key_edit *e, uid_t uid, time_t now)
{
    char why[256] = "";
    int r = approvals_check(f->a, volume, e, uid, now, why, sizeof why);
    assert_true(r == 0 || why[0]);
    return r;
}

static int check(struct fixture *f, const struct key_edit *e, time_t now)
{
    return check_by(f, e, ALICE, now);
}

/* The only pending request, from the JSON. */
struct pending {
    char id[APPROVAL_ID_CHARS + 1], text[APPROVAL_TEXT_MAX];
    char json[4096];
};

static void between(const char *json, const char *key, char *out)
{
    const char *at = strstr(json, key);
    assert_non_null(at);
    at += strlen(key);
    while (*at && *at != '"') {
        if (strncmp(at, "\\u000a", 6) == 0 || strncmp(at, "\\n", 2) == 0) {
            *out++ = '\n';
            at += at[1] == 'n' ? 2 : 6;
        } else {
            *out++ = *at++;
        }
    }
    *out = '\0';
}

static struct pending only(struct fixture *f, time_t now)
{
    struct pending p = {0};
    char *json;
    assert_int_equal(approvals_pending(f->a, now), 1);
    assert_int_equal(approvals_json(f->a, now, &json), 0);
    snprintf(p.json, sizeof p.json, "%s", json);
    between(json, "\"id\":\"", p.id);
    between(json, "\"text\":\"", p.text);
    free(json);
    return p;
}

static int sign_text(struct fixture *f, const struct signer *s, const char *id, const char *text, uid_t uid,
                     time_t now)
{
    uint8_t sig[64];
    char why[256] = "";
    crypto_sign_detached(sig, NULL, (const uint8_t *)text, strlen(text), s->secret);
    int r = approvals_sign(f->a, id, s->pub, sig, uid, now, why, sizeof why);
    assert_true((r == 0) == !why[0]);
    return r;
}

static int sign(struct fixture *f, const struct signer *s, uid_t uid, time_t now)
{
    struct pending p = only(f, now);
    return sign_text(f, s, p.id, p.text, uid, now);
}

static unsigned files(const struct fixture *f)
{
    char path[128];
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/approvals", f->path);
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- the way it is meant ---- */

static void acts_after_two_signatures(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    assert_int_equal(check(f, &e, NOW + 1), LFS_ERR_APPROVAL);
    assert_int_equal(sign(f, &ann, 2001, NOW + 2), 0);
    assert_int_equal(check(f, &e, NOW + 3), LFS_ERR_APPROVAL);
    assert_int_equal(sign(f, &bob, 2002, NOW + 4), 0);
    assert_int_equal(check(f, &e, NOW + 5), 0);
    assert_int_equal(files(f), 0);
    assert_int_equal(check(f, &e, NOW + 6), LFS_ERR_APPROVAL); /* used once */
    struct pending p = only(f, NOW + 6);
    assert_non_null(strstr(p.json, "\"signatures\":[]"));
}

static void needs_none(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = {.op = EDIT_SLOT_REMOVE, .number = 1};
    assert_int_equal(check(f, &e, NOW), 0);
    set_policy(f, "required = 2\nacts = dir-shred\n");
    e.op = EDIT_DIR_DESTROY;
    assert_int_equal(check(f, &e, NOW), 0);
    assert_int_equal(files(f), 0);
}

static void tells_what_waits(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    char why[256];
    assert_int_equal(approvals_check(f->a, volume, &e, ALICE, NOW, why, sizeof why), LFS_ERR_APPROVAL);
    assert_int_equal(sign(f, &ann, 2001, NOW), 0);
    struct pending p = only(f, NOW);
    char expected[300];
    snprintf(
        expected, sizeof expected,
        "latchfs request for approval, version 1\nact: dir-shred\n"
        "volume: 01020300000000000000000000000000\ndirectory: 07070707070707070707070707070707\n"
        "version: 0\nforce: no\nrequested by uid: 1001\ncreated: 1800000000\nexpires: 1800001000\nnonce: ");
    assert_memory_equal(p.text, expected, strlen(expected));
    assert_int_equal(strlen(p.text), strlen(expected) + 33);
    assert_non_null(strstr(p.json, "\"act\":\"dir-shred\""));
    assert_non_null(strstr(p.json, "\"directory\":\"07070707070707070707070707070707\""));
    assert_non_null(strstr(p.json, "\"signatures\":[\"ann\"]"));
    assert_non_null(strstr(p.json, "\"needed\":2"));
    assert_int_equal(approvals_check(f->a, volume, &e, ALICE, NOW, why, sizeof why), LFS_ERR_APPROVAL);
    snprintf(expected, sizeof expected,
             "request %s for dir-shred has 1 of 2 signatures; it expires 2027-01-15T08:16:40Z", p.id);
    assert_string_equal(why, expected);
}

static void survives_a_restart(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    struct pending before = only(f, NOW);
    restart(f);
    assert_int_equal(sign(f, &ann, 2001, NOW), 0);
    restart(f);
    assert_int_equal(sign(f, &bob, 2002, NOW), 0);
    restart(f);
    assert_string_equal(only(f, NOW).id, before.id);
    assert_int_equal(check(f, &e, NOW), 0);
    restart(f);
    assert_int_equal(approvals_pending(f->a, NOW), 0);
}

/* ---- what does not count ---- */

static void another_act_needs_its_own(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7), other = shred(8);
    struct key_edit destroy = {.op = EDIT_DIR_DESTROY, .number = 3}, same = destroy;
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    assert_int_equal(sign(f, &ann, 2001, NOW), 0);
    assert_int_equal(sign(f, &bob, 2002, NOW), 0);
    assert_int_equal(check(f, &other, NOW), LFS_ERR_APPROVAL);
    e.force = true;
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    e.force = false;
    assert_int_equal(check_by(f, &e, ALICE + 1, NOW), LFS_ERR_APPROVAL);
    assert_int_equal(check(f, &destroy, NOW), LFS_ERR_APPROVAL);
    same.number = 4;
    assert_int_equal(check(f, &same, NOW), LFS_ERR_APPROVAL);
    assert_int_equal(approvals_pending(f->a, NOW), 6);
    assert_int_equal(check(f, &e, NOW), 0);
}

static void one_admin_twice(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    assert_int_equal(sign(f, &ann, 2001, NOW), 0);
    assert_int_equal(sign(f, &ann, 2001, NOW), LFS_ERR_DENIED);
    assert_int_equal(sign(f, &ann, 3000, NOW), LFS_ERR_DENIED);
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
}

static void strangers_and_other_texts(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7), other = shred(8);
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    struct pending p = only(f, NOW);
    assert_int_equal(sign(f, &eve, 2001, NOW), LFS_ERR_DENIED);
    assert_int_equal(sign_text(f, &ann, p.id, "latchfs", 2001, NOW), LFS_ERR_AUTH);
    assert_int_equal(sign_text(f, &ann, "0123456789abcdef01234567", p.text, 2001, NOW), -ENOENT);
    assert_int_equal(sign_text(f, &ann, "", p.text, 2001, NOW), -ENOENT);
    assert_int_equal(check(f, &other, NOW), LFS_ERR_APPROVAL);
    assert_int_equal(approvals_pending(f->a, NOW), 2);
    /* a signature for one request, brought for the other */
    struct pending q = {0};
    char *json;
    assert_int_equal(approvals_json(f->a, NOW, &json), 0);
    between(strstr(json, "},{"), "\"id\":\"", q.id);
    free(json);
    assert_string_not_equal(q.id, p.id);
    assert_int_equal(sign_text(f, &ann, q.id, p.text, 2001, NOW), LFS_ERR_AUTH);
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
}

/* The same act asked for again has another nonce: what was signed for the first does not fit. */
static void no_replay(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    struct pending p = only(f, NOW);
    assert_int_equal(sign(f, &ann, 2001, NOW), 0);
    assert_int_equal(sign(f, &bob, 2002, NOW), 0);
    assert_int_equal(check(f, &e, NOW), 0);
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    struct pending q = only(f, NOW);
    assert_string_not_equal(q.text, p.text);
    assert_int_equal(sign_text(f, &ann, p.id, p.text, 2001, NOW), -ENOENT);
    assert_int_equal(sign_text(f, &ann, q.id, p.text, 2001, NOW), LFS_ERR_AUTH);
}

static void the_requesters_own(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    assert_int_equal(check_by(f, &e, 2001, NOW), LFS_ERR_APPROVAL);
    assert_int_equal(sign(f, &ann, 2001, NOW), LFS_ERR_DENIED);
    assert_int_equal(sign(f, &ann, 3000, NOW), LFS_ERR_DENIED); /* whoever brings it: ann asked */
    assert_int_equal(sign(f, &bob, 2001, NOW), LFS_ERR_DENIED); /* nobody knows who bob is: ann brought it */
    assert_int_equal(sign(f, &bob, 2002, NOW), 0);
    set_policy(f, "required = 2\nexpire_seconds = 1000\nown_signature = yes\n");
    assert_int_equal(sign(f, &ann, 2001, NOW), 0);
    set_policy(f, "required = 2\nexpire_seconds = 1000\n"); /* by the policy of the day of the act */
    assert_int_equal(check_by(f, &e, 2001, NOW), LFS_ERR_APPROVAL);
    set_policy(f, "required = 2\nexpire_seconds = 1000\nown_signature = yes\n");
    assert_int_equal(check_by(f, &e, 2001, NOW), 0);
}

static void an_admin_who_left(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    struct signer leaver = bob;
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    assert_int_equal(sign(f, &ann, 2001, NOW), 0);
    assert_int_equal(sign(f, &bob, 2002, NOW), 0);
    make_signer(&bob, 9); /* keyd.ini names another key */
    set_policy(f, "required = 2\nexpire_seconds = 1000\n");
    restart(f);
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    assert_int_equal(sign(f, &leaver, 2002, NOW), LFS_ERR_DENIED);
    assert_int_equal(sign(f, &bob, 2002, NOW), 0);
    assert_int_equal(check(f, &e, NOW), 0);
}

static void expires(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    struct pending p = only(f, NOW);
    assert_int_equal(sign(f, &ann, 2001, NOW), 0);
    assert_int_equal(sign_text(f, &bob, p.id, p.text, 2002, NOW + EXPIRE), -ENOENT);
    assert_int_equal(sign(f, &bob, 2002, NOW + EXPIRE - 1), 0);
    assert_int_equal(check(f, &e, NOW + EXPIRE), LFS_ERR_APPROVAL);
    assert_string_not_equal(only(f, NOW + EXPIRE).id, p.id);
    assert_int_equal(files(f), 1); /* the old one is gone */
    assert_int_equal(sign(f, &ann, 2001, NOW + EXPIRE), 0);
    assert_int_equal(sign(f, &bob, 2002, NOW + EXPIRE), 0);
    assert_int_equal(check(f, &e, NOW + 1), LFS_ERR_APPROVAL); /* a clock set back makes none last longer */
    assert_int_equal(check(f, &e, NOW + EXPIRE), 0);
}

static void a_shorter_policy_counts(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    set_policy(f, "required = 2\nexpire_seconds = 10\n");
    assert_int_equal(approvals_pending(f->a, NOW + 9), 1);
    assert_int_equal(approvals_pending(f->a, NOW + 10), 0);
}

static void bounded(void **state)
{
    struct fixture *f = *state;
    for (unsigned uid = 0; uid < APPROVALS_MAX / APPROVALS_OF_ONE_MAX + 1; uid++) {
        for (unsigned i = 0; i <= APPROVALS_OF_ONE_MAX; i++) {
            struct key_edit e = shred((uint8_t)i);
            bool fits = i < APPROVALS_OF_ONE_MAX && uid < APPROVALS_MAX / APPROVALS_OF_ONE_MAX;
            assert_int_equal(check_by(f, &e, uid, NOW), fits ? LFS_ERR_APPROVAL : LFS_ERR_BUSY);
        }
    }
    assert_int_equal(files(f), APPROVALS_MAX);
    restart(f);
    assert_int_equal(approvals_pending(f->a, NOW), APPROVALS_MAX);
    struct key_edit e = shred(1);
    assert_int_equal(check_by(f, &e, 99, NOW + EXPIRE), LFS_ERR_APPROVAL);
    assert_int_equal(files(f), 1);
}

static void a_used_one_that_cannot_be_removed(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    char path[200];
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    struct pending p = only(f, NOW);
    assert_int_equal(sign(f, &ann, 2001, NOW), 0);
    assert_int_equal(sign(f, &bob, 2002, NOW), 0);
    snprintf(path, sizeof path, "%s/approvals/%s", f->path, p.id);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0); /* unlink fails */
    assert_int_equal(check(f, &e, NOW), -EISDIR);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(check(f, &e, NOW), 0);
}

/* ---- hostile files ---- */

static void put_file(const struct fixture *f, const char *name, const char *text, size_t len)
{
    char path[300];
    snprintf(path, sizeof path, "%s/approvals/%s", f->path, name);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), (ssize_t)len);
    close(fd);
}

static size_t get_file(const struct fixture *f, const char *name, char text[static APPROVAL_FILE_MAX])
{
    char path[300];
    snprintf(path, sizeof path, "%s/approvals/%s", f->path, name);
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, text, APPROVAL_FILE_MAX - 1);
    assert_true(n > 0);
    close(fd);
    text[n] = '\0';
    return (size_t)n;
}

/* Every flip of a bit and every cut, at the file of a request with a signature. */
static void changed_files(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    char text[APPROVAL_FILE_MAX];
    struct approval out;
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    assert_int_equal(sign(f, &ann, 2001, NOW), 0);
    struct pending p = only(f, NOW);
    size_t len = get_file(f, p.id, text);
    assert_int_equal(approval_decode(text, len, &out), 0);
    assert_string_equal(out.id, p.id);
    const char *brought = strstr(text, " uid 2001"); /* who brought it is not signed */
    for (size_t i = 0; i < len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            if (text + i > brought)
                break;
            text[i] ^= (char)(1u << bit);
            int r = approval_decode(text, len, &out);
            assert_true(r == LFS_ERR_CORRUPT || r == LFS_ERR_AUTH);
            text[i] ^= (char)(1u << bit);
        }
    }
    for (size_t n = 0; n < len; n++) {
        char *cut = exact_copy(text, n + 1);
        cut[n] = '\0';
        int r = approval_decode(cut, n, &out);
        assert_true(r ? true : n == (size_t)(strstr(text, "signature:") - text));
        free(cut);
    }
}

static void refused(struct fixture *f, const char *name, const char *text, size_t len)
{
    put_file(f, name, text, len);
    restart(f);
    if (approvals_pending(f->a, NOW))
        fail_msg("%s was taken: %.200s", name, text);
}

static void hostile_files(void **state)
{
    struct fixture *f = *state;
    struct key_edit e = shred(7);
    char good[APPROVAL_FILE_MAX], bad[2 * APPROVAL_FILE_MAX], path[300], elsewhere[300];
    assert_int_equal(check(f, &e, NOW), LFS_ERR_APPROVAL);
    assert_int_equal(sign(f, &ann, 2001, NOW), 0);
    struct pending p = only(f, NOW);
    size_t len = get_file(f, p.id, good);
    snprintf(path, sizeof path, "%s/approvals/%s", f->path, p.id);
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", f->path);

    /* the same signature twice; under another name; noise; another act; more behind it */
    const char *line = strstr(good, "signature:");
    int n = snprintf(bad, sizeof bad, "%s%s", good, line);
    refused(f, p.id, bad, (size_t)n);
    unlink(path);
    refused(f, "0123456789abcdef01234567", good, len);
    snprintf(bad, sizeof bad, "%s/approvals/0123456789abcdef01234567", f->path);
    unlink(bad);
    refused(f, p.id, "", 0);
    refused(f, p.id, "noise\n", 6);
    n = snprintf(bad, sizeof bad, "%s\n", good);
    refused(f, p.id, bad, (size_t)n);
    memcpy(bad, good, len + 1);
    memcpy(strstr(bad, "dir-shred"), "slot-add ", 9);
    refused(f, p.id, bad, len);
    memset(bad, 'a', sizeof bad);
    refused(f, p.id, bad, sizeof bad);

    /* modes, symlinks, pipes, directories */
    put_file(f, p.id, good, len);
    assert_int_equal(chmod(path, 0644), 0);
    restart(f);
    assert_int_equal(approvals_pending(f->a, NOW), 0);
    assert_int_equal(rename(path, elsewhere), 0);
    assert_int_equal(chmod(elsewhere, 0600), 0);
    assert_int_equal(symlink(elsewhere, path), 0);
    restart(f);
    assert_int_equal(approvals_pending(f->a, NOW), 0);
    unlink(path);
    unlink(elsewhere);
    assert_int_equal(mkfifo(path, 0600), 0);
    restart(f);
    assert_int_equal(approvals_pending(f->a, NOW), 0);
    unlink(path);
    put_file(f, "latchfs.tmp.0011", "half", 4); /* of a write that was cut: goes away */
    put_file(f, p.id, good, len);
    restart(f);
    assert_int_equal(approvals_pending(f->a, NOW), 1); /* all this while the good file is good */
    assert_int_equal(files(f), 1);
}

static void hostile_directory(void **state)
{
    struct fixture *f = *state;
    struct approvals *a;
    char path[128], elsewhere[128];
    snprintf(path, sizeof path, "%s/approvals", f->path);
    assert_int_equal(chmod(path, 0770), 0);
    assert_int_equal(approvals_open(f->dir, &f->policy, &a), LFS_ERR_DENIED);
    assert_int_equal(chmod(path, 0700), 0);
    for (int i = 0; i < 1100; i++) {
        char name[32];
        snprintf(name, sizeof name, "file-%d", i);
        put_file(f, name, "x", 1);
    }
    assert_int_equal(approvals_open(f->dir, &f->policy, &a), LFS_ERR_CORRUPT);
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", f->path);
    assert_int_equal(rename(path, elsewhere), 0);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_int_equal(approvals_open(f->dir, &f->policy, &a), -ENOTDIR);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(acts_after_two_signatures),
        TEST(needs_none),
        TEST(tells_what_waits),
        TEST(survives_a_restart),
        TEST(another_act_needs_its_own),
        TEST(one_admin_twice),
        TEST(strangers_and_other_texts),
        TEST(no_replay),
        TEST(the_requesters_own),
        TEST(an_admin_who_left),
        TEST(expires),
        TEST(a_shorter_policy_counts),
        TEST(bounded),
        TEST(a_used_one_that_cannot_be_removed),
        TEST(changed_files),
        TEST(hostile_files),
        TEST(hostile_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
