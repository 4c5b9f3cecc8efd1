/* keyd.ini. */
#include "support.h"

#include "latchfs/err.h"
#include "latchfs/keyedit.h"
#include "policy.h"

#include <unistd.h>

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define D "dddddddddddddddddddddddddddddddd"
/* Public keys of the first and second test vector of RFC 8032, 7.1. */
#define KEY1 "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
#define KEY2 "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
#define OWNER 5000

static int parse(const char *text, struct policy *p, char why[static POLICY_WHY_MAX])
{
    size_t len = strlen(text);
    char *exact = exact_copy(text, len);
    policy_defaults(p);
    p->owner = OWNER; /* not of whoever runs the test */
    int r = policy_parse(exact, len, p, why);
    free(exact);
    return r;
}

static void reads(void **state)
{
    struct policy p;
    char why[POLICY_WHY_MAX];
    assert_int_equal(
        parse("# policy\n\n[keyd]\nidle_exit_seconds = 7\nlog = /var/log/latch audit.log\n"
              "[lease]\n; leases\nlease_seconds=60\ngrace_seconds = 600\nrevoke_wait_seconds = 5\n"
              "[access]\nallow_uids = 1000, 1001 4294967294\n[slots]\nkdf_milliseconds = 250\n"
              "[keyd]\nmax_connections = 9",
              &p, why),
        0);
    assert_int_equal(p.idle_exit_s, 7);
    assert_string_equal(p.log, "/var/log/latch audit.log");
    assert_int_equal(p.lease_s, 60);
    assert_int_equal(p.grace_s, 600);
    assert_int_equal(p.revoke_wait_s, 5);
    assert_int_equal(p.kdf_ms, 250);
    assert_int_equal(p.max_connections, 9);
    assert_int_equal(p.allow_count, 3);
    assert_int_equal(p.allow[1], 1001);
    assert_int_equal(p.allow[2], 4294967294);
}

static void empty_is_the_defaults(void **state)
{
    struct policy p, defaults;
    char why[POLICY_WHY_MAX];
    policy_defaults(&defaults);
    defaults.owner = OWNER;
    assert_int_equal(parse("", &p, why), 0);
    assert_memory_equal(&p, &defaults, sizeof p);
}

static void refuses_with_the_line(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"idle_exit_seconds = 1\n", "line 1: a key before any section"},
        {"[keyd]\n[other]\n", "line 2: unknown section"},
        {"[keyd]\nidle_exit = 1\n", "line 2: unknown key"},
        {"[lease]\n\n\nidle_exit_seconds = 1\n", "line 4: unknown key"},
        {"[keyd]\nidle_exit_seconds = 1\n[lease]\n[keyd]\nidle_exit_seconds = 1\n",
         "line 5: this key stands twice"},
        {"[keyd]\nidle_exit_seconds = -1\n", "line 2: idle_exit_seconds takes a number"},
        {"[keyd]\nidle_exit_seconds = 1s\n", "line 2: idle_exit_seconds takes a number"},
        {"[keyd]\nidle_exit_seconds = 99999999999\n", "line 2: idle_exit_seconds takes a number"},
        {"[keyd]\nidle_exit_seconds =\n", "line 2: idle_exit_seconds takes a number"},
        {"[keyd]\nmax_connections = 3\n", "line 2: max_connections takes a number from 4 to 4096"},
        {"[slots]\nkdf_milliseconds = 10\n", "line 2: kdf_milliseconds takes a number from 100 to 10000"},
        {"[keyd]\nlog = relative\n", "line 2: a path begins with /"},
        {"[keyd]\nidle_exit_seconds\n", "line 2: not a section"},
        {"[keyd]\n idle_exit_seconds = 1\n", "line 2: the line begins with a blank"},
        {"[keyd]\nidle_exit_seconds = 1 ; soon\n", "line 2: a comment stands on a line of its own"},
        {"[keyd]\r\n", "line 1: the line has a control character"},
        {"[keyd\n", "line 1: unknown section"},
        {"[keyd] x\n", "line 1: unknown section"},
        {"[]\n", "line 1: unknown section"},
        {"[\n", "line 1: unknown section"},
        {"[access]\nallow_uids = root\n", "line 2: allow_uids takes numbers"},
        {"[access]\nallow_uids = 4294967295\n", "line 2: allow_uids takes numbers"},
        {"[keyd]\nidle_exit_seconds: 1\n", "line 2: not a section"},
        {"[keyd]\nidle_exit_seconds: 1 = 2\n", "line 2: idle_exit_seconds takes a number"},
        {"[keyd]\n= 1\n", "line 2: unknown key"},
        {"[keyd]\nenvironment = a/b\n", "line 2: environment takes at most 64 letters"},
        {"[keyd]\nadmin_seconds = 5\n", "line 2: admin_seconds takes a number from 10"},
        {"[keyd]\nalert_command = run\n", "line 2: a path begins with /"},
        {"[alerts]\nnew_peers = maybe\n", "line 2: new_peers takes yes or no"},
        {"[alerts]\nallow = owner\n", "line 2: unknown key"},
        {"[rule]\n", "line 1: unknown section"},
        {"[roles]\nuser = uid:x\n", "line 2: uid:x is no number"},
        {"[roles]\nuser = uid:4294967295\n", "line 2: uid:4294967295 is no number"},
        {"[roles]\nuser = no.such.user.here\n", "line 2: there is no user no.such.user.here"},
        {"[roles]\nuser = 1000\n", "line 2: there is no user 1000"},
        {"[roles]\nuser = @no.such.group\n", "line 2: there is no group no.such.group"},
        {"[roles]\nuser = ,\n", "line 2: the list is empty"},
        {"[roles]\nuser = uid:1\n\nuser = uid:2\n", "line 4: this key stands twice"},
        {"[roles]\nreader = uid:1\n", "line 2: unknown key"},
        {"[roles]\nuser = uid:7\nauditor = root\n", "line 3: root and the owner have every role unless"},
        {"[roles]\nuser = uid:5000\n", "line 2: root and the owner have every role unless"},
        {"[volume]\n", "line 1: unknown section"},
        {"[volume ]\n", "line 1: [volume ...] takes"},
        {"[volume " A "a]\n", "line 1: [volume ...] takes"},
        {"[volume AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA]\n", "line 1: [volume ...] takes"},
        {"[volume * ]\n", "line 1: [volume ...] takes"},
        {"[directory " A "]\n", "line 1: [directory ...] takes"},
        {"[directory */x]\n", "line 1: [directory ...] takes"},
        {"[directory " A "/]\n", "line 1: [directory ...] takes"},
        {"[directory " A "/a/b]\n", "line 1: [directory ...] takes"},
        {"[volume *]\nidle_seconds = 1\n[volume *]\n", "line 3: this section stands in line 1, too"},
        {"[directory " A "/" D "]\nidle_seconds = 1\n[directory " A "/" D "]\n",
         "line 3: this section stands in line 1, too"},
        {"[directory " A "/pay]\nidle_seconds = 1\n[directory " A "/pay]\n",
         "line 3: this section stands in line 1, too"},
        {"[volume *]\nidle_seconds = 1\nidle_seconds = 1\n", "line 3: this key stands twice"},
        {"[volume *]\ngrace_seconds = 1\n", "line 2: unknown key"},
        {"[volume *]\nleases_per_minute = 6001\n", "line 2: leases_per_minute takes a number from 0 to 6000"},
        {"[volume *]\nwindow = mon-fri\n", "line 2: a time window is like"},
        {"[volume *]\nwindow = 8:00-18:00\n", "line 2: a time window is like"},
        {"[volume *]\nwindow = 08:00-18:60\n", "line 2: a time window is like"},
        {"[volume *]\nwindow = 08:00-24:01\n", "line 2: a time window is like"},
        {"[volume *]\nwindow = 24:00-08:00\n", "line 2: a time window is like"},
        {"[volume *]\nwindow = 08:00-08:00\n", "line 2: a time window is like"},
        {"[volume *]\nwindow = mon 08:00-09:00 10:00-11:00\n", "line 2: a time window is like"},
        {"[volume *]\nwindow = monday 08:00-09:00\n", "line 2: a time window is like"},
        {"[volume *]\nwindow = mon- 08:00-09:00\n", "line 2: a time window is like"},
        {"[volume *]\nwindow = mon 08:00-09:00,\n", "line 2: a time window is like"},
        {"[volume *]\nwindow = 01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00,01:00-02:00,"
         "01:00-02:00,01:00-02:00,01:00-02:00\n",
         "line 2: more than 8 time windows"},
        /* what contradicts itself or can have no effect */
        {"[volume *]\n\n[keyd]\n", "line 1: the section says nothing"},
        {"[volume *]\nallow = uid:9\n", "line 2: user 9 is allowed here, but has not the role user"},
        {"[roles]\nkey-admin = uid:9\n[volume *]\n#\nallow = uid:9\n", "line 5: user 9 is allowed here"},
        {"[roles]\nauditor = owner\n[volume *]\nallow = root\n", "line 4: user 0 is allowed here"},
        {"[volume *]\nallow = none\nlease_seconds = 5\n", "line 1: nobody is allowed here"},
        {"[volume *]\nlock_on_suspend = yes\n[directory " A "/x]\nlock_on_suspend = no\n",
         "line 3: lock_on_suspend = no has no effect"},
        {"[keyd]\n\nmetrics_seconds = 5\n", "line 3: metrics_seconds has no effect without metrics"},
        {"[approvals]\nacts = dir-shred\n", "line 2: acts has no effect without required"},
        {"[approvals]\nexpire_seconds = 5\n", "line 2: expire_seconds has no effect"},
        {"[approvals]\nown_signature = yes\n", "line 2: own_signature has no effect"},
        {"[approvals]\nadmin.a = " KEY1 "\n", "line 2: admins are named, but"},
        {"[approvals]\n#\nrequired = 2\nadmin.a = " KEY1 "\n",
         "line 3: 2 approvals are required, but 1 admins are named"},
        {"[approvals]\nrequired = 0\n", "line 2: required takes a number from 1 to 16"},
        {"[approvals]\nrequired = 1\nacts = slot-add\n", "line 3: slot-add is no act"},
        {"[approvals]\nrequired = 1\nacts = ,\n", "line 3: acts names no act"},
        {"[approvals]\nadmin.a = " KEY1 "\nadmin.a = " KEY2 "\n", "line 3: this key stands twice"},
        {"[approvals]\nadmin.a = " KEY1 "\nadmin.b = " KEY1 "\n",
         "line 3: this is the public key of admin.a"},
        {"[approvals]\nadmin.a = " KEY1 " uid:1\nadmin.b = " KEY2 " uid:1\n",
         "line 3: this is the user of admin.a"},
        {"[approvals]\nadmin.a = " KEY1 "0\n", "line 2: an admin is a public key"},
        {"[approvals]\nadmin.a = 0000000000000000000000000000000000000000000000000000000000000000\n",
         "line 2: an admin is a public key"},
        {"[approvals]\nadmin.a = " KEY1 " gid:1\n", "line 2: an admin is one user"},
        {"[approvals]\nadmin.a = " KEY1 " uid:1 uid:2\n", "line 2: an admin is a public key"},
        {"[approvals]\nadmin. = " KEY1 "\n", "line 2: the name of an admin"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct policy p, defaults;
        char why[POLICY_WHY_MAX];
        policy_defaults(&defaults);
        defaults.owner = OWNER;
        assert_int_equal(parse(cases[i].text, &p, why), LFS_ERR_MISUSE);
        if (strncmp(why, cases[i].why, strlen(cases[i].why)) != 0)
            fail_msg("%s: %s", cases[i].text, why);
        assert_memory_equal(&p, &defaults, sizeof p); /* nothing half read */
    }
}

static void refuses_long_lines(void **state)
{
    char text[400] = "[keyd]\nlog = /";
    struct policy p;
    char why[POLICY_WHY_MAX];
    memset(text + strlen(text), 'a', 199 - strlen("log = /"));
    assert_int_equal(parse(text, &p, why), 0);
    strcat(text, "a");
    assert_int_equal(parse(text, &p, why), LFS_ERR_MISUSE);
    assert_string_equal(why, "line 2: the line is longer than 199 bytes");
}

/* ---- who may what ---- */

static struct policy of(const char *text)
{
    struct policy p;
    char why[POLICY_WHY_MAX];
    if (parse(text, &p, why))
        fail_msg("%s: %s", text, why);
    return p;
}

static unsigned roles(const struct policy *p, uid_t uid, gid_t group)
{
    return policy_roles(p, uid, &group, 1, OWNER);
}

static void roles_without_a_section(void **state)
{
    struct policy p = of("[access]\nallow_uids = 7\n");
    assert_int_equal(roles(&p, OWNER, 1), ROLE_ALL);
    assert_int_equal(roles(&p, 0, 1), ROLE_ALL);
    assert_int_equal(roles(&p, 7, 1), ROLE_USER);
    assert_int_equal(roles(&p, 8, 7), 0); /* a user's number is no group's */
    assert_true(policy_open_to_others(&p));
    p = of("");
    assert_int_equal(roles(&p, 7, 1), 0);
    assert_false(policy_open_to_others(&p));
}

static void roles_by_user_group_and_name(void **state)
{
    struct policy p =
        of("[roles]\nuser = uid:10, gid:20 daemon\noperator = @daemon\nkey-admin = uid:11 uid:10\n"
           "auditor = uid:12\n[access]\nallow_uids = 12\n");
    const gid_t many[] = {5, 20, 1};
    assert_int_equal(roles(&p, 10, 99), ROLE_USER | ROLE_KEYADMIN);
    assert_int_equal(roles(&p, 99, 20), ROLE_USER);
    assert_int_equal(policy_roles(&p, 99, many, 3, OWNER), ROLE_USER | ROLE_OPERATOR);
    assert_int_equal(policy_roles(&p, 99, many, 1, OWNER), 0);
    assert_int_equal(roles(&p, 1, 99), ROLE_USER);
    assert_int_equal(roles(&p, 20, 99), 0); /* nor a group's a user's */
    assert_int_equal(roles(&p, 11, 99), ROLE_KEYADMIN);
    assert_int_equal(roles(&p, 12, 99), ROLE_AUDITOR | ROLE_USER);
    assert_int_equal(roles(&p, OWNER, 99), ROLE_ALL);
    assert_int_equal(roles(&p, 0, 99), ROLE_ALL);
}

static void owner_named(void **state)
{
    struct policy p = of("[roles]\nuser = owner\noperator = root\nauditor = gid:3\n");
    assert_int_equal(roles(&p, OWNER, 99), ROLE_USER);
    assert_int_equal(roles(&p, 0, 99), ROLE_USER | ROLE_OPERATOR);
    assert_int_equal(roles(&p, 0, 3), ROLE_USER | ROLE_OPERATOR | ROLE_AUDITOR);
    assert_int_equal(roles(&p, 99, 99), 0);
    p = of("[roles]\nauditor = owner\n");
    assert_false(policy_open_to_others(&p));
}

/* ---- leases ---- */

static int lease_of(const struct policy *p, struct policy_ask *a, struct policy_lease *out,
                    char why[static POLICY_WHY_MAX])
{
    why[0] = '\0';
    int r = policy_lease(p, a, out, why, POLICY_WHY_MAX);
    assert_true(r == 0 ? !why[0] : why[0] && r == LFS_ERR_DENIED);
    return r;
}

static struct policy_ask ask_for(uid_t uid, const uint8_t *volume, const uint8_t *pd, const char *name)
{
    return (struct policy_ask){
        .uid = uid, .volume_id = volume, .pd_id = pd, .dir_name = name, .now = 1000000};
}

static uint8_t vol_a[16], vol_b[16], pd_d[16], pd_other[16];

static int make_ids(void **state)
{
    memset(vol_a, 0xaa, 16);
    memset(vol_b, 0xbb, 16);
    memset(pd_d, 0xdd, 16);
    memset(pd_other, 0x11, 16);
    return 0;
}

/* Each key by itself comes from the most specific section that has it. */
static void most_specific(void **state)
{
    struct policy p = of("[lease]\nlease_seconds = 1\n"
                         "[directory " A "/" D "]\nlease_seconds = 5\n"
                         "[directory " A "/pay roll]\nlease_seconds = 4\nidle_seconds = 40\n"
                         "[volume " A "]\nlease_seconds = 3\nidle_seconds = 30\nleases_per_minute = 300\n"
                         "[volume *]\nlease_seconds = 2\nidle_seconds = 20\nleases_per_minute = 200\n");
    static const struct {
        const uint8_t *volume, *pd;
        const char *name;
        unsigned lease, idle, rate;
    } cases[] = {
        {vol_a, pd_d, "pay roll", 5, 40, 300},     {vol_a, pd_d, "other", 5, 30, 300},
        {vol_a, pd_other, "pay roll", 4, 40, 300}, {vol_a, pd_other, NULL, 3, 30, 300},
        {vol_a, NULL, "pay roll", 3, 30, 300},     {vol_b, pd_d, "pay roll", 2, 20, 200},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct policy_ask a = ask_for(9, cases[i].volume, cases[i].pd, cases[i].name);
        struct policy_lease l;
        char why[POLICY_WHY_MAX];
        assert_int_equal(lease_of(&p, &a, &l, why), 0);
        assert_int_equal(l.lease_s, cases[i].lease);
        assert_int_equal(l.idle_s, cases[i].idle);
        assert_int_equal(l.per_minute, cases[i].rate);
    }
}

static void root_directory_by_slash(void **state)
{
    struct policy p = of("[directory " A "//]\nlease_seconds = 7\n");
    struct policy_ask a = ask_for(9, vol_a, pd_d, "/");
    struct policy_lease l;
    char why[POLICY_WHY_MAX];
    assert_int_equal(lease_of(&p, &a, &l, why), 0);
    assert_int_equal(l.lease_s, 0);
    a.is_root_dir = true;
    assert_int_equal(lease_of(&p, &a, &l, why), 0);
    assert_int_equal(l.lease_s, 7);
}

static void allow(void **state)
{
    struct policy p = of("[roles]\nuser = uid:1 uid:2 gid:50\n"
                         "[volume " A "]\nallow = uid:1 gid:50\n"
                         "[directory " A "/x]\nallow = owner uid:2\n[directory " A "/y]\nallow = none\n");
    struct policy_lease l;
    char why[POLICY_WHY_MAX];
    static const struct {
        uid_t uid;
        gid_t gid;
        const char *name;
        bool may;
    } cases[] = {
        {1, 1, NULL, true},  {2, 1, NULL, false}, {3, 50, NULL, true}, {OWNER, 1, NULL, false},
        {0, 1, NULL, false}, {1, 1, "x", false},  {2, 1, "x", true},   {OWNER, 1, "x", true},
        {0, 1, "x", true},   {3, 50, "x", false}, {1, 1, "y", false},  {0, 1, "y", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct policy_ask a = ask_for(cases[i].uid, vol_a, pd_d, cases[i].name);
        a.gids = &cases[i].gid;
        a.ngids = 1;
        assert_int_equal(lease_of(&p, &a, &l, why), cases[i].may ? 0 : LFS_ERR_DENIED);
        a.volume_id = vol_b;
        assert_int_equal(lease_of(&p, &a, &l, why), 0);
    }
    struct policy_ask a = ask_for(2, vol_a, pd_d, NULL);
    lease_of(&p, &a, &l, why);
    assert_string_equal(why, "keyd.ini, section of line 3: this user is not allowed");
}

static void environment(void **state)
{
    struct policy p = of("[keyd]\nenvironment = staging\n"), any = of("");
    struct policy_ask a = ask_for(9, vol_a, pd_d, NULL);
    struct policy_lease l;
    char why[POLICY_WHY_MAX] = "";
    assert_int_equal(lease_of(&p, &a, &l, why), LFS_ERR_DENIED);
    assert_int_equal(policy_admin(&p, &a, why, sizeof why), 0);
    a.environment = "production";
    assert_int_equal(lease_of(&p, &a, &l, why), LFS_ERR_DENIED);
    assert_string_equal(
        why, "this latch-keyd serves environment staging, the volume is of environment production");
    assert_int_equal(policy_environment(&p, a.environment, why, sizeof why), LFS_ERR_DENIED);
    assert_int_equal(policy_admin(&p, &a, why, sizeof why), LFS_ERR_DENIED);
    assert_int_equal(lease_of(&any, &a, &l, why), 0);
    a.environment = "staging";
    assert_int_equal(lease_of(&p, &a, &l, why), 0);
    assert_int_equal(policy_admin(&p, &a, why, sizeof why), 0);
}

static void request_key(void **state)
{
    struct policy p = of("[roles]\nuser = uid:1\nauditor = uid:2\n[volume " A "]\nrequest_key = yes\n"
                         "[directory " A "/x]\nrequest_key = no\n");
    struct policy_ask a = ask_for(1, vol_a, pd_d, NULL);
    struct policy_lease l;
    char why[POLICY_WHY_MAX];
    a.via_request_key = true;
    assert_int_equal(lease_of(&p, &a, &l, why), 0);
    a.uid = 2; /* root asks for him, but he is no user */
    assert_int_equal(lease_of(&p, &a, &l, why), LFS_ERR_DENIED);
    a.uid = 1;
    a.dir_name = "x";
    assert_int_equal(lease_of(&p, &a, &l, why), LFS_ERR_DENIED);
    a.dir_name = NULL;
    a.volume_id = vol_b;
    assert_int_equal(lease_of(&p, &a, &l, why), LFS_ERR_DENIED);
}

static void suspend(void **state)
{
    struct policy p = of("[volume *]\nlock_on_suspend = yes\n[volume " A "]\nlock_on_suspend = no\n"
                         "[directory " A "/x]\nlock_on_suspend = yes\n");
    struct policy_ask a = ask_for(0, vol_a, NULL, NULL), x = ask_for(0, vol_a, pd_d, "x"),
                      b = ask_for(0, vol_b, NULL, NULL);
    struct policy none = of("");
    assert_false(policy_locks_on_suspend(&p, &a));
    assert_true(policy_locks_on_suspend(&p, &x));
    assert_true(policy_locks_on_suspend(&p, &b));
    assert_false(policy_locks_on_suspend(&none, &b));
    assert_true(policy_minds_suspend(&p));
    none = of("[volume *]\nlock_on_suspend = no\n");
    assert_false(policy_minds_suspend(&none));
}

static void approvals(void **state)
{
    struct policy p = of("[approvals]\nrequired = 2\nadmin.ann = " KEY1 " daemon\nadmin.bob = " KEY2 "\n");
    assert_int_equal(policy_approvals_needed(&p, EDIT_DIR_SHRED), 2);
    assert_int_equal(policy_approvals_needed(&p, EDIT_MASTER_DESTROY), 2);
    assert_int_equal(policy_approvals_needed(&p, EDIT_DIR_DESTROY), 2);
    assert_int_equal(policy_approvals_needed(&p, EDIT_SLOT_REMOVE), 0);
    assert_int_equal(policy_approvals_needed(&p, 4000), 0);
    assert_int_equal(p.admin_count, 2);
    assert_string_equal(p.admins[0].name, "ann");
    assert_true(p.admins[0].has_uid && p.admins[0].uid == 1);
    assert_false(p.admins[1].has_uid);
    assert_false(p.approvals_own_signature);
    p = of("[approvals]\nrequired = 1\nacts = dir-shred\nexpire_seconds = 9\nown_signature = yes\nadmin.ann "
           "= " KEY1);
    assert_int_equal(policy_approvals_needed(&p, EDIT_DIR_SHRED), 1);
    assert_int_equal(policy_approvals_needed(&p, EDIT_DIR_DESTROY), 0);
    assert_int_equal(p.approvals_expire_s, 9);
    assert_true(p.approvals_own_signature);
}

static void other_keys(void **state)
{
    struct policy p =
        of("[keyd]\nenvironment = pre prod\nadmin_seconds = 20\nmetrics = /m\nmetrics_seconds = 5\n"
           "alert_command = /bin/alarm\nmaster_max_days = 30\ndirectory_max_days = 31\n"
           "[alerts]\nseconds = 6\nunlock_failures = 7\nleases = 8\nbulk_directories = 9\n"
           "auth_failures = 0\nnew_peers = yes\n");
    assert_string_equal(p.environment, "pre prod");
    assert_int_equal(p.admin_s, 20);
    assert_string_equal(p.metrics, "/m");
    assert_int_equal(p.metrics_s, 5);
    assert_string_equal(p.alert_command, "/bin/alarm");
    assert_int_equal(p.master_days, 30);
    assert_int_equal(p.directory_days, 31);
    assert_int_equal(p.alert_s, 6);
    assert_int_equal(p.alert_unlock_failures, 7);
    assert_int_equal(p.alert_leases, 8);
    assert_int_equal(p.alert_bulk, 9);
    assert_int_equal(p.alert_auth_failures, 0);
    assert_true(p.alert_new_peer);
}

/* ---- bounds ---- */

static void refused(const char *text, const char *what)
{
    static struct policy p;
    char why[POLICY_WHY_MAX];
    assert_int_equal(parse(text, &p, why), LFS_ERR_MISUSE);
    if (!strstr(why, what))
        fail_msg("%s", why);
}

static void bounded(void **state)
{
    static char text[2 * POLICY_BYTES_MAX];
    char *at = text;
    for (unsigned i = 0; i <= POLICY_RULES_MAX; i++)
        at += sprintf(at, "[volume %032x]\nidle_seconds = 1\n", i);
    refused(text, "line 513: more than 256 sections");
    at = text + sprintf(text, "[roles]\nuser = gid:1\n");
    for (unsigned i = 0; i < POLICY_RULES_MAX - 1; i++) {
        at += sprintf(at, "[volume %032x]\nallow = ", i);
        for (int k = 0; k < 5; k++)
            at += sprintf(at, "gid:1 ");
        at += sprintf(at, "\n");
    }
    refused(text, "too many users and groups in the file");
    memset(text, '\n', POLICY_BYTES_MAX + 1);
    text[POLICY_BYTES_MAX + 1] = '\0';
    refused(text, "longer than 65536 bytes");
    text[POLICY_BYTES_MAX] = '\0';
    of(text);
}

static void noise(void **state)
{
    static const char from[] =
        "[keyd]\nidle_exit_seconds = 7\n[access]\nallow_uids = 1, 2\n[volume *]\nwindow = "
        "mon-fri 08:00-18:00\nallow = owner\n#;\"\\\t\r\0=";
    struct rng rng = {3};
    for (int i = 0; i < 20000; i++) {
        char text[sizeof from], why[POLICY_WHY_MAX];
        struct policy p;
        memcpy(text, from, sizeof from);
        for (uint64_t n = rng_below(&rng, 4); n; n--)
            text[rng_below(&rng, sizeof text)] = from[rng_below(&rng, sizeof from)];
        policy_defaults(&p);
        char *exact = exact_copy(text, sizeof text);
        int r = policy_parse(exact, sizeof text, &p, why);
        assert_true(r == 0 || why[0]);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(empty_is_the_defaults),
        cmocka_unit_test(refuses_with_the_line),
        cmocka_unit_test(refuses_long_lines),
        cmocka_unit_test(roles_without_a_section),
        cmocka_unit_test(roles_by_user_group_and_name),
        cmocka_unit_test(owner_named),
        cmocka_unit_test(most_specific),
        cmocka_unit_test(root_directory_by_slash),
        cmocka_unit_test(allow),
        cmocka_unit_test(environment),
        cmocka_unit_test(request_key),
        cmocka_unit_test(suspend),
        cmocka_unit_test(approvals),
        cmocka_unit_test(other_keys),
        cmocka_unit_test(bounded),
        cmocka_unit_test(noise),
    };
    return cmocka_run_group_tests(tests, make_ids, NULL);
}
