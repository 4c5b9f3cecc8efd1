/* Alarms and metrics. */
#include "support.h"

#include "alert.h"
#include "alert_peers.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keystore.h"
#include "metrics.h"

#include <fcntl.h>
#include <poll.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- alarms ---- */

struct place {
    char path[64];
    int dir;
    struct policy policy;
    struct alert *alert;
    struct audit *audit;
};

static struct place make_place(const char *command)
{
    struct place p = {.path = "/tmp/latchfs-watch-XXXXXX"};
    assert_non_null(mkdtemp(p.path));
    p.dir = open(p.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    policy_defaults(&p.policy);
    p.policy.alert_s = 1000;
    p.policy.alert_unlock_failures = 3;
    p.policy.alert_leases = 10;
    p.policy.alert_bulk = 4;
    p.policy.alert_auth_failures = 2;
    if (command) {
        int fd = openat(p.dir, "command", O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
        assert_int_equal(write(fd, command, strlen(command)), strlen(command));
        close(fd);
        snprintf(p.policy.alert_command, sizeof p.policy.alert_command, "%s/command", p.path);
    }
    assert_int_equal(audit_open(p.dir, "", &p.audit), 0);
    return p;
}

static void drop_place(struct place *p)
{
    static const char *const names[] = {"audit.log", "audit.state", "audit.key", "audit.first",
                                        "peers",     "command",     "got"};
    alert_free(p->alert);
    audit_free(p->audit);
    for (size_t i = 0; i < COUNT(names); i++)
        unlinkat(p->dir, names[i], 0);
    close(p->dir);
    assert_int_equal(rmdir(p->path), 0);
}

static struct audit_act act_of(const struct ucred *peer, const uint8_t *pd)
{
    static const uint8_t volume[ID_BYTES] = {1};
    return (struct audit_act){.act = "lease", .peer = peer, .volume_id = volume, .pd_id = pd};
}

static void note(struct place *p, enum alert_event ev, uid_t uid, pid_t pid, uint64_t n)
{
    struct ucred peer = {.uid = uid, .pid = pid};
    struct audit_act act = act_of(&peer, NULL);
    alert_note_many(p->alert, p->audit, ev, &act, n);
}

static void beyond_the_bound_once(void **state)
{
    struct place p = make_place(NULL);
    struct audit_counts n;
    assert_int_equal(alert_start(&p.policy, &p.alert), 0);
    for (int i = 0; i < 3; i++)
        note(&p, ALERT_UNLOCK_FAILED, 5, 100 + i, 1);
    note(&p, ALERT_UNLOCK_FAILED, 6, 200, 1);
    assert_int_equal(alert_count(p.alert, ALERT_UNLOCK_FAILED), 0);
    for (int i = 0; i < 3; i++)
        note(&p, ALERT_UNLOCK_FAILED, 5, 100, 1);
    assert_int_equal(alert_count(p.alert, ALERT_UNLOCK_FAILED), 1);
    audit_counts(p.audit, &n);
    assert_int_equal(n.records, 2);
    note(&p, ALERT_UNLOCK_FAILED, 6, 200, 3);
    assert_int_equal(alert_count(p.alert, ALERT_UNLOCK_FAILED), 2);

    note(&p, ALERT_AUTH_FAILURES, 5, 1, 1);
    note(&p, ALERT_AUTH_FAILURES, 5, 2, 1); /* another mount */
    assert_int_equal(alert_count(p.alert, ALERT_AUTH_FAILURES), 0);
    note(&p, ALERT_AUTH_FAILURES, 5, 2, 1);
    assert_int_equal(alert_count(p.alert, ALERT_AUTH_FAILURES), 1);
    note(&p, ALERT_LEASE_RATE, 5, 1, 1);
    note(&p, ALERT_LEASE_RATE, 5, 1, 1);
    assert_int_equal(alert_count(p.alert, ALERT_LEASE_RATE), 1);
    drop_place(&p);
}

static void bulk_counts_directories(void **state)
{
    struct place p = make_place(NULL);
    struct ucred peer = {.uid = 5, .pid = 1};
    assert_int_equal(alert_start(&p.policy, &p.alert), 0);
    for (unsigned i = 0; i < 9; i++) { /* four directories, again and again */
        uint8_t pd[ID_BYTES] = {(uint8_t)(i % 4)};
        struct audit_act act = act_of(&peer, pd);
        alert_note(p.alert, p.audit, ALERT_BULK, &act);
    }
    assert_int_equal(alert_count(p.alert, ALERT_BULK), 0);
    uint8_t fifth[ID_BYTES] = {9};
    struct audit_act act = act_of(&peer, fifth);
    alert_note(p.alert, p.audit, ALERT_BULK, &act);
    assert_int_equal(alert_count(p.alert, ALERT_BULK), 1);
    assert_int_equal(alert_count(p.alert, ALERT_LEASE_RATE), 0);
    alert_note(p.alert, p.audit, ALERT_BULK, &act); /* the eleventh lease */
    assert_int_equal(alert_count(p.alert, ALERT_LEASE_RATE), 1);
    p.policy.alert_bulk = p.policy.alert_leases = 0; /* none is raised */
    alert_free(p.alert);
    assert_int_equal(alert_start(&p.policy, &p.alert), 0);
    for (unsigned i = 0; i < 100; i++) {
        fifth[0] = (uint8_t)i;
        alert_note(p.alert, p.audit, ALERT_BULK, &act);
    }
    assert_int_equal(alert_count(p.alert, ALERT_BULK), 0);
    drop_place(&p);
}

static void peers_are_remembered(void **state)
{
    struct place p = make_place(NULL);
    struct alert_peers *peers = NULL;
    struct ucred me = {.uid = getuid(), .pid = getpid()}, other = {.uid = 12345, .pid = getpid()};
    char exe[ALERT_EXE_MAX];
    for (int round = 0; round < 2; round++) {
        assert_int_equal(alert_peers_open(p.dir, &peers), 0);
        assert_int_equal(alert_peers_meet(peers, &me, exe), round == 0);
        assert_non_null(strstr(exe, "test_keyd_watch"));
        assert_false(alert_peers_meet(peers, &me, exe));
        assert_int_equal(alert_peers_meet(peers, &other, exe), round == 0);
        alert_peers_free(peers);
    }
    assert_false(alert_peers_meet(NULL, &me, exe));
    p.policy.alert_new_peer = true;
    unlinkat(p.dir, "peers", 0);
    assert_int_equal(alert_start(&p.policy, &p.alert), 0);
    assert_int_equal(alert_remember(p.alert, p.dir), 0);
    for (int i = 0; i < 2; i++)
        note(&p, ALERT_NEW_PEER, 7, getpid(), 1);
    assert_int_equal(alert_count(p.alert, ALERT_NEW_PEER), 1);
    drop_place(&p);
}

static void wait_for(const struct place *p, const char *text)
{
    char got[65536];
    for (int i = 0; i < 3000; i++) {
        int fd = openat(p->dir, "got", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, got, sizeof got - 1);
        if (fd >= 0)
            close(fd);
        got[n > 0 ? n : 0] = '\0';
        if (strstr(got, text))
            return;
        poll(NULL, 0, 10);
    }
    fail_msg("%s did not come: %s", text, got);
}

static void command_gets_them(void **state)
{
    struct place p = make_place("#!/bin/sh\ncat >> \"${0%command}got\"\n");
    assert_int_equal(alert_start(&p.policy, &p.alert), 0);
    note(&p, ALERT_UNLOCK_FAILED, 5, 77, 4);
    wait_for(
        &p,
        "\"event\":\"unlock-failures\",\"uid\":5,\"pid\":77,\"volume\":\"01000000000000000000000000000000\","
        "\"detail\":\"4 wrong secrets within 1000 s\",\"record\":2}\n");
    alert_watch(p.alert, p.audit);
    assert_int_equal(unlinkat(p.dir, "audit.log", 0), 0);
    assert_int_equal(audit_write(p.audit, &(struct audit_act){.act = "lease"}, false), 0);
    wait_for(&p, "\"event\":\"audit\",\"detail\":\"records 1 to 2 are missing\"");
    drop_place(&p);
}

/* More than the helper runs in a minute: the rest is counted. */
static void command_is_not_flooded(void **state)
{
    struct place p = make_place("#!/bin/sh\ncat >> \"${0%command}got\"\necho >> \"${0%command}got\"\n");
    assert_int_equal(alert_start(&p.policy, &p.alert), 0);
    for (unsigned i = 0; i < 200; i++)
        note(&p, ALERT_UNLOCK_FAILED, i, 1, 4);
    assert_int_equal(alert_count(p.alert, ALERT_UNLOCK_FAILED), 200);
    struct audit_counts n;
    audit_counts(p.audit, &n);
    assert_int_equal(n.records, 61); /* the bound of a minute */
    wait_for(&p, "\"uid\":19,");
    poll(NULL, 0, 300);
    char got[65536];
    int fd = openat(p.dir, "got", O_RDONLY | O_CLOEXEC);
    ssize_t len = read(fd, got, sizeof got - 1);
    close(fd);
    unsigned runs = 0;
    got[len] = '\0';
    for (const char *at = got; (at = strstr(at, "\"event\"")); at++)
        runs++;
    assert_int_equal(runs, ALERT_RUNS_MINUTE);
    drop_place(&p);
}

static void one_user_hides_no_other(void **state)
{
    struct place p = make_place(NULL);
    struct audit_counts before, after;
    assert_int_equal(alert_start(&p.policy, &p.alert), 0);
    for (pid_t pid = 1; pid <= 200; pid++)
        note(&p, ALERT_AUTH_FAILURES, 7, pid, 1000);
    audit_counts(p.audit, &before);
    note(&p, ALERT_UNLOCK_FAILED, 8, 1, 4);
    audit_counts(p.audit, &after);
    assert_int_equal(after.records, before.records + 1);
    drop_place(&p);
}

static void no_command_no_helper(void **state)
{
    struct place p = make_place(NULL);
    snprintf(p.policy.alert_command, sizeof p.policy.alert_command, "/nonexistent/command");
    assert_int_equal(alert_start(&p.policy, &p.alert), 0);
    note(&p, ALERT_UNLOCK_FAILED, 5, 77, 4); /* runs nothing, hurts nobody */
    assert_int_equal(alert_count(p.alert, ALERT_UNLOCK_FAILED), 1);
    alert_note(NULL, p.audit, ALERT_BULK, NULL);
    assert_int_equal(alert_count(NULL, ALERT_BULK), 0);
    drop_place(&p);
}

/* ---- metrics ---- */

static void has(const char *text, const char *line)
{
    const char *at = strstr(text, line);
    if (!at || (at > text && at[-1] != '\n') || at[strlen(line)] != '\n')
        fail_msg("%s\nis not a line of\n%s", line, text);
}

static void text_of_everything(void **state)
{
    static const uint8_t id[ID_BYTES] = {0xab}, other[ID_BYTES] = {0xcd};
    CLEANUP(keystore_freep) struct keystore *ks = keystore_new();
    struct metrics *m = metrics_new();
    char *text = NULL;
    size_t len;
    ks->generation = 7;
    ks->master_count = 3;
    ks->masters[0] = (struct keystore_master){.version = 1, .state = KEY_DESTROYED, .created = 500};
    ks->masters[1] = (struct keystore_master){.version = 2, .state = KEY_DECRYPT_ONLY, .created = 600};
    ks->masters[2] = (struct keystore_master){.version = 3, .state = KEY_ACTIVE, .created = 2000};
    struct keystore_dir *d = keystore_add_dir(ks);
    d->id[0] = 0xef;
    d->count = 1;
    d->keys[0] = (struct keystore_dirkey){.version = 9, .state = KEY_ACTIVE, .created = 900};
    struct metrics_volume v[] = {
        {.id = id, .ks = ks, .mounts = 2, .leases = 3, .auth_failures = 4, .rotation_overdue = 1},
        {.id = other, .mounts = 1},
    };
    struct metrics_view view = {
        .volumes = v, .count = 2, .now = 1000, .approvals_pending = 5, .connections = 6};
    metrics_count(m, METRIC_LEASES, 2);
    metrics_count(m, METRIC_LEASES, 1);
    metrics_count(NULL, METRIC_LEASES, 1);
    metrics_time(m, METRIC_UNWRAP, 10000); /* 10 us: in the first bucket */
    metrics_time(m, METRIC_UNWRAP, 10001);
    metrics_time(m, METRIC_UNWRAP, 2000000000); /* beyond all */
    metrics_time(NULL, METRIC_UNWRAP, 1);
    assert_int_equal(metrics_text(m, &view, &text, &len), 0);
    assert_int_equal(len, strlen(text));
    assert_string_equal(text + len - 6, "# EOF\n");
    has(text, "latchfs_volume_unlocked{volume=\"ab000000000000000000000000000000\"} 1");
    has(text, "latchfs_volume_unlocked{volume=\"cd000000000000000000000000000000\"} 0");
    has(text, "latchfs_volume_mounts{volume=\"ab000000000000000000000000000000\"} 2");
    has(text, "latchfs_volume_leases{volume=\"ab000000000000000000000000000000\"} 3");
    has(text, "latchfs_volume_generation{volume=\"ab000000000000000000000000000000\"} 7");
    has(text, "latchfs_auth_failures_total{volume=\"ab000000000000000000000000000000\"} 4");
    has(text, "latchfs_rotation_overdue{volume=\"ab000000000000000000000000000000\"} 1");
    assert_null(strstr(text, "latchfs_rotation_overdue{volume=\"cd"));
    has(text,
        "latchfs_key_age_seconds{volume=\"ab000000000000000000000000000000\",kind=\"master\",directory=\"\","
        "version=\"2\",state=\"decrypt-only\"} 400");
    has(text,
        "latchfs_key_age_seconds{volume=\"ab000000000000000000000000000000\",kind=\"master\",directory=\"\","
        "version=\"3\",state=\"active\"} 0"); /* made in the future: no age */
    has(text, "latchfs_key_age_seconds{volume=\"ab000000000000000000000000000000\",kind=\"directory\","
              "directory=\"ef000000000000000000000000000000\",version=\"9\",state=\"active\"} 100");
    assert_null(strstr(text, "destroyed"));
    has(text, "latchfs_leases_total 3");
    has(text, "latchfs_unwrap_seconds_bucket{le=\"1e-05\"} 1");
    has(text, "latchfs_unwrap_seconds_bucket{le=\"0.0001\"} 2");
    has(text, "latchfs_unwrap_seconds_bucket{le=\"1\"} 2");
    has(text, "latchfs_unwrap_seconds_bucket{le=\"+Inf\"} 3");
    has(text, "latchfs_unwrap_seconds_count 3");
    has(text, "latchfs_unwrap_seconds_sum 2.000020001");
    has(text, "latchfs_approvals_pending 5");
    has(text, "latchfs_connections 6");
    free(text);
    metrics_free(m);
}

static void refuses_bad_paths(void **state)
{
    struct metrics *m = metrics_new();
    struct metrics_view view = {0};
    assert_true(metrics_write(m, &view, "relative") < 0);
    assert_true(metrics_write(m, &view, "/tmp/") < 0);
    assert_true(metrics_write(m, &view, "/nonexistent/x") < 0);
    metrics_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beyond_the_bound_once),  cmocka_unit_test(bulk_counts_directories),
        cmocka_unit_test(peers_are_remembered),   cmocka_unit_test(command_gets_them),
        cmocka_unit_test(command_is_not_flooded), cmocka_unit_test(one_user_hides_no_other),
        cmocka_unit_test(no_command_no_helper),   cmocka_unit_test(text_of_everything),
        cmocka_unit_test(refuses_bad_paths),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
