/* The life of a key store: random edits, and after each of them whoever has a slot opens everything that was
 * ever wrapped and is still promised, and nobody else opens anything. */
#include "store_support.h"

#define PEOPLE 8u
#define DIRS_MAX 6u
#define FILES 6u
#define OLD 6u
#define KNOWN_MAX 2048u
#define STEPS 600

struct person { /* has a secret, and a slot or none */
    struct credential c;
    struct secret *secret;
    uint8_t public_key[32];
    unsigned slot;
};

struct dir {
    uint8_t pd[ID_BYTES];
    uint32_t files[FILES]; /* versions that headers have */
    bool shredded;
};

struct backup { /* headers that it has */
    uint32_t id;
    uint32_t files[DIRS_MAX][FILES];
};

struct known { /* a key once seen: it never changes */
    uint8_t pd[ID_BYTES];
    uint32_t version;
    uint8_t key[LFS_KEY_BYTES];
};

static struct opened o;
static struct rng rng = {20261122};
static struct person people[PEOPLE];
static struct dir dirs[DIRS_MAX];
static uint32_t dir_count;
static struct backup backups[KEYSTORE_BACKUPS_MAX];
static uint32_t backup_count;
static struct known known[KNOWN_MAX];
static uint32_t known_count;
static struct old { /* a copy of the store from when people[who] lost the slot */
    struct opened copy;
    unsigned who;
    uint8_t store_key[LFS_KEY_BYTES];
    struct secret *secret; /* the recovery key of then */
} old[OLD];
static uint32_t old_count;

static uint32_t below(uint32_t n)
{
    return (uint32_t)rng_below(&rng, n);
}

/* ---- people ---- */

static const uint8_t blob[150] = {1, 2, 3};

static void make_people(void)
{
    static const enum credential_type types[] = {CRED_KEYFILE, CRED_RECIPIENT, CRED_COMMAND, CRED_RECOVERY};
    for (unsigned i = 0; i < PEOPLE; i++) {
        struct person *p = &people[i];
        p->c.type = types[i % COUNT(types)];
        if (p->c.type != CRED_RECOVERY)
            p->secret = secret_new_random(32);
        if (p->c.type == CRED_RECIPIENT)
            crypto_scalarmult_base(p->public_key, secret_const(p->secret));
    }
}

/* For a new slot. */
static struct credential fresh_of(const struct person *p)
{
    struct credential c = {.type = p->c.type};
    if (c.type == CRED_KEYFILE || c.type == CRED_COMMAND)
        c.secret = p->secret;
    if (c.type == CRED_RECIPIENT)
        c.public_key = p->public_key;
    if (c.type == CRED_COMMAND) {
        c.command = "kms";
        c.blob = blob;
        c.blob_len = sizeof blob;
    }
    return c;
}

static struct credential key_of(const struct person *p)
{
    return (struct credential){.type = p->c.type, .secret = p->secret, .slot = p->slot};
}

static struct person *someone(bool with_slot)
{
    for (int tries = 0; tries < 50; tries++) {
        struct person *p = &people[below(PEOPLE)];
        if (with_slot == (p->slot != 0))
            return p;
    }
    return NULL;
}

static void got_slot(struct person *p)
{
    p->slot = o.result.number;
    if (p->c.type != CRED_RECOVERY)
        return;
    secret_free(p->secret);
    p->secret = o.result.recovery;
    o.result.recovery = NULL;
}

static void lost_slot(struct person *p, struct opened *copy, const uint8_t *store_key)
{
    struct old *to = &old[old_count++ % OLD];
    drop_opened(&to->copy);
    secret_freep(&to->secret);
    to->copy = *copy;
    to->who = (unsigned)(p - people);
    to->secret = secret_new_copy(secret_const(p->secret), secret_len(p->secret));
    memcpy(to->store_key, store_key, LFS_KEY_BYTES);
    p->slot = 0;
}

/* ---- what must hold ---- */

static void remember(const uint8_t *pd, uint32_t version, const uint8_t *key)
{
    for (uint32_t i = 0; i < known_count; i++) {
        if (known[i].version == version && memcmp(known[i].pd, pd, ID_BYTES) == 0) {
            assert_memory_equal(known[i].key, key, LFS_KEY_BYTES);
            return;
        }
    }
    assert_true(known_count < KNOWN_MAX);
    memcpy(known[known_count].pd, pd, ID_BYTES);
    known[known_count].version = version;
    memcpy(known[known_count++].key, key, LFS_KEY_BYTES);
}

static bool has_version(const struct keyset *set, uint32_t version)
{
    for (uint32_t i = 0; i < set->count; i++)
        if (set->versions[i].version == version)
            return true;
    return false;
}

static void check_dir(const struct opened *as, const struct dir *d)
{
    static const uint8_t journal[ID_BYTES] = {0};
    struct held_source held = {find_held, &o};
    struct keyset *set = NULL;
    int r = keystore_unwrap_dir(as->ks, d->pd, keystore_keys_lookup, as->keys, &held, &set);
    assert_int_equal(r, d->shredded ? LFS_ERR_NOKEY : 0);
    if (r)
        return;
    for (uint32_t i = 0; i < set->count; i++)
        remember(d->pd, set->versions[i].version, set->versions[i].key);
    remember(d->pd, UINT32_MAX, set->name_key);
    remember(journal, UINT32_MAX, set->journal_key);
    for (unsigned i = 0; i < FILES; i++)
        assert_true(d->files[i] >= set->least && has_version(set, d->files[i]));
    keyset_free(set);
}

/* Headers in a backup: their key is still in the store. */
static void check_backups(const struct keystore *ks)
{
    for (uint32_t b = 0; b < backup_count; b++) {
        for (uint32_t i = 0; i < dir_count; i++) {
            for (unsigned f = 0; f < FILES && backups[b].files[i][f] && !dirs[i].shredded; f++) {
                const struct keystore_dirkey *k =
                    keystore_dirkey(keystore_dir(ks, dirs[i].pd), backups[b].files[i][f]);
                assert_true(k && k->state != KEY_DESTROYED);
            }
        }
    }
}

static void check_person(const struct person *p)
{
    struct held_source held = {find_held, &o};
    struct opened as = {.ini = exact_copy(o.ini, o.len), .len = o.len};
    struct credential c = key_of(p);
    int r = p->secret ? reopen(&as, &c) : LFS_ERR_PASSPHRASE;
    assert_int_equal(r, p->slot ? 0 : LFS_ERR_PASSPHRASE);
    if (!r) {
        assert_int_equal(as.keys->slot_id, p->slot);
        assert_int_equal(keystore_verify(as.ks, as.keys, &held, &as.why), 0);
        for (uint32_t i = 0; i < dir_count; i++)
            check_dir(&as, &dirs[i]);
        check_backups(as.ks);
    }
    drop_opened(&as);
}

/* Who lost a slot opens the copy of then, and nothing that was written since. */
static void check_old(const struct old *was)
{
    struct opened as = {.ini = exact_copy(was->copy.ini, was->copy.len), .len = was->copy.len};
    struct credential c = {.type = people[was->who].c.type, .secret = was->secret};
    uint8_t key[64];
    assert_int_equal(reopen(&as, &c), 0);
    assert_memory_equal(as.keys->store_key, was->store_key, LFS_KEY_BYTES);
    for (uint32_t i = 0; i < o.ks->master_count; i++) {
        const uint8_t *n = o.ks->masters[i].wrapped;
        uint8_t ad[56] = "master-key";
        memcpy(ad + 16, o.ks->volume_id, ID_BYTES);
        memcpy(ad + 48, &o.ks->masters[i].version, 4);
        bool gone = o.ks->masters[i].state == KEY_DESTROYED;
        /* the associated data is right: with the key store key of now it opens */
        int now = crypto_aead_xchacha20poly1305_ietf_decrypt(key, NULL, NULL, n + 24, 48, ad, 56, n,
                                                             o.keys->store_key);
        int then = crypto_aead_xchacha20poly1305_ietf_decrypt(key, NULL, NULL, n + 24, 48, ad, 56, n,
                                                              was->store_key);
        assert_true(then != 0 && (now == 0) == !gone);
    }
    drop_opened(&as);
}

static void check_all(void)
{
    for (unsigned i = 0; i < PEOPLE; i++)
        check_person(&people[i]);
    for (uint32_t i = 0; i < OLD && i < old_count; i++)
        check_old(&old[i]);
}

/* ---- edits ---- */

static struct dir *some_dir(void)
{
    return &dirs[below(dir_count)];
}

static int slot_add(void)
{
    struct person *p = someone(false);
    struct key_edit e = {.op = EDIT_SLOT_ADD};
    if (!p)
        return LFS_ERR_DENIED;
    e.fresh = fresh_of(p);
    int r = edit(&o, &e);
    if (!r)
        got_slot(p);
    return r;
}

/* Takes a slot away, or gives it to another person. */
static int slot_lose(bool replace)
{
    struct person *p = someone(true), *q = someone(false);
    uint8_t store_key[LFS_KEY_BYTES];
    if (replace && !q)
        return LFS_ERR_DENIED;
    struct opened copy = {.ini = exact_copy(o.ini, o.len), .len = o.len};
    memcpy(store_key, o.keys->store_key, sizeof store_key);
    struct key_edit e = {.op = replace ? EDIT_SLOT_REPLACE : EDIT_SLOT_REMOVE, .number = p->slot};
    if (replace)
        e.fresh = fresh_of(q);
    int r = edit(&o, &e);
    if (r) {
        drop_opened(&copy);
        return r;
    }
    lost_slot(p, &copy, store_key);
    if (replace)
        got_slot(q);
    return 0;
}

static int dir_add(void)
{
    char name[20];
    if (dir_count == DIRS_MAX)
        return LFS_ERR_DENIED;
    snprintf(name, sizeof name, "dir %u", dir_count);
    int r = EDIT(&o, .op = EDIT_DIR_ADD, .label = name, .held = below(2));
    if (r)
        return r;
    struct dir *d = &dirs[dir_count++];
    memcpy(d->pd, o.result.pd, ID_BYTES);
    for (unsigned i = 0; i < FILES; i++)
        d->files[i] = 1;
    return 0;
}

/* After a rotation the headers move, all or some. */
static int dir_rotate(void)
{
    struct dir *d = some_dir();
    int r = edit_pd(&o, EDIT_DIR_ROTATE, d->pd, below(2), NULL);
    uint32_t all = below(2);
    for (unsigned i = 0; i < FILES && !r; i++)
        if (all || below(2))
            d->files[i] = o.result.number;
    return r;
}

/* As the tools do: only after a scan that found none below. */
static int dir_finish(void)
{
    struct dir *d = some_dir();
    const struct keystore_dir *k = keystore_dir(o.ks, d->pd);
    if (d->shredded)
        return edit_pd(&o, EDIT_DIR_FINISH, d->pd, 1, NULL);
    uint32_t active = keystore_active_dirkey(k)->version;
    for (unsigned i = 0; i < FILES; i++)
        if (d->files[i] < active)
            return LFS_ERR_DENIED;
    return edit_pd(&o, EDIT_DIR_FINISH, d->pd, active, NULL);
}

static int dir_destroy(void)
{
    struct dir *d = some_dir();
    const struct keystore_dir *k = keystore_dir(o.ks, d->pd);
    return edit_pd(&o, EDIT_DIR_DESTROY, d->pd, k->keys[below(k->count)].version, NULL);
}

static int dir_shred(void)
{
    struct dir *d = some_dir();
    if (below(6))
        return LFS_ERR_DENIED;
    int r = edit_pd(&o, EDIT_DIR_SHRED, d->pd, 0, NULL);
    d->shredded |= !r;
    return r;
}

static int backup_add(void)
{
    int r = EDIT(&o, .op = EDIT_BACKUP_ADD, .label = below(2) ? "tape" : NULL);
    if (r)
        return r;
    struct backup *b = &backups[backup_count++];
    *b = (struct backup){.id = o.result.number};
    for (uint32_t i = 0; i < dir_count; i++)
        memcpy(b->files[i], dirs[i].files, sizeof b->files[i]);
    return 0;
}

static int backup_remove(void)
{
    uint32_t at = below(backup_count + 1);
    int r = EDIT(&o, .op = EDIT_BACKUP_REMOVE, .number = at < backup_count ? backups[at].id : 9999);
    if (!r)
        backups[at] = backups[--backup_count];
    return r;
}

/* Files of a directory are put back as a backup has them. */
static int dir_accept(void)
{
    uint32_t at = below(dir_count), least = UINT32_MAX;
    if (backup_count == 0)
        return LFS_ERR_DENIED;
    const uint32_t *files = backups[below(backup_count)].files[at];
    for (unsigned i = 0; i < FILES; i++)
        least = files[i] < least ? files[i] : least;
    int r = edit_pd(&o, EDIT_DIR_ACCEPT, dirs[at].pd, least, NULL);
    if (!r)
        memcpy(dirs[at].files, files, sizeof dirs[at].files);
    return r;
}

static int master_end(enum key_edit_op op)
{
    return EDIT(&o, .op = op, .number = o.ks->masters[below(o.ks->master_count)].version);
}

static int random_edit(unsigned op)
{
    switch (op) {
    case EDIT_SLOT_ADD:
        return slot_add();
    case EDIT_SLOT_REMOVE:
    case EDIT_SLOT_REPLACE:
        return slot_lose(op == EDIT_SLOT_REPLACE);
    case EDIT_SLOT_LABEL:
        return EDIT(&o, .op = EDIT_SLOT_LABEL, .number = someone(true)->slot, .label = "x");
    case EDIT_MASTER_RETIRE:
    case EDIT_MASTER_DESTROY:
        return master_end((enum key_edit_op)op);
    case EDIT_DIR_ADD:
        return dir_add();
    case EDIT_DIR_NAME:
        return edit_pd(&o, EDIT_DIR_NAME, some_dir()->pd, 0, below(2) ? "" : "a name");
    case EDIT_DIR_ROTATE:
        return dir_rotate();
    case EDIT_DIR_FINISH:
        return dir_finish();
    case EDIT_DIR_ACCEPT:
        return dir_accept();
    case EDIT_DIR_DESTROY:
        return dir_destroy();
    case EDIT_DIR_SHRED:
        return dir_shred();
    case EDIT_BACKUP_ADD:
        return backup_add();
    case EDIT_BACKUP_REMOVE:
        return backup_remove();
    default:
        return EDIT(&o, .op = op, .label = "staging");
    }
}

static void life(void **state)
{
    unsigned done[EDIT_OP_MAX + 1] = {0}, not_done[EDIT_OP_MAX + 1] = {0};
    make_people();
    o = make_opened(people[0].secret);
    people[0].slot = 1;
    memcpy(dirs[0].pd, o.ks->root_id, ID_BYTES);
    for (dir_count = 1; dirs[0].files[FILES - 1] == 0;)
        for (unsigned i = 0; i < FILES; i++)
            dirs[0].files[i] = 1;
    for (int step = 0; step < STEPS; step++) {
        unsigned op = 1 + below(EDIT_OP_MAX);
        uint64_t generation = o.ks->generation;
        int r = random_edit(op);
        if (r && r != LFS_ERR_DENIED && r != -ENOENT && r != -ENOSPC)
            fail_msg("step %d, %s: %d %s", step, key_edit_name(op), r, o.why.text);
        *(r ? &not_done[op] : &done[op]) += 1;
        struct credential c = key_of(someone(true));
        assert_int_equal(reopen(&o, &c), 0);
        assert_int_equal(o.ks->generation, generation + !r);
        if (!r)
            check_all();
    }
    for (unsigned op = 1; op <= EDIT_OP_MAX; op++)
        if (!done[op])
            fail_msg("%s was never done, %u times refused", key_edit_name(op), not_done[op]);
    assert_true(old_count > OLD);
}

static int clean(void **state)
{
    for (unsigned i = 0; i < PEOPLE; i++)
        secret_free(people[i].secret);
    for (unsigned i = 0; i < OLD; i++) {
        drop_opened(&old[i].copy);
        secret_free(old[i].secret);
    }
    drop_opened(&o);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(life, clean)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
