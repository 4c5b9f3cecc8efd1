/* Inside of the audit log, for its own sources: the file, its state and what is to be noted in it. */
#ifndef KEYD_AUDIT_LOG_H
#define KEYD_AUDIT_LOG_H

#include "audit.h"
#include "audit_state.h"
#include "json.h"

#include <limits.h>
#include <time.h>

#define AUDIT_NOTES_MAX 8u
#define AUDIT_RESERVE (64u * 1024)      /* kept allocated behind the end, for when the disk is full */
#define AUDIT_STEP (16u * 1024)         /* allocated at a time */
#define AUDIT_RESERVE_LAST (16u * 1024) /* of it only for refusals and alarms */

struct audit_note { /* a finding to be recorded and told of */
    bool alarm;     /* else an ordinary note */
    bool lost;      /* from..to are gone with an unclean end of the machine */
    bool recorded, told;
    uint64_t from, to; /* missing records; 0: none */
    char text[200];
};

#define AUDIT_REFUSERS_MAX 64u
struct audit_refusals { /* of one user, since */
    uid_t uid;
    time_t since;
    unsigned lines, dropped;
};

struct audit { /* in locked memory: it has keys */
    int statedir;
    int dir; /* of the log */
    int fd, state_fd;
    char name[NAME_MAX + 1];
    struct audit_state st;
    uint8_t boot[AUDIT_BOOT_BYTES];
    uint8_t name_key[LFS_KEY_BYTES]; /* of the keyed hash of directory ids */
    uint64_t allocated;              /* up to here the file has blocks, as far as we know; 0: not known */
    uint64_t reserve_used;           /* since the disk is full */
    bool in_reserve;
    struct audit_note notes[AUDIT_NOTES_MAX];
    unsigned note_count;
    uint64_t trouble, failures;
    void (*watch)(void *arg, const char *what);
    void *watch_arg;
    time_t noise_since;
    unsigned noise, dropped;
    struct audit_refusals refusals[AUDIT_REFUSERS_MAX];
};

/* ---- audit_file.c ---- */
/* Finds and opens the log; begins a chain where there is none. */
int audit_file_open(struct audit *a, const char *path);
/* Opens the log again after its name was taken away. */
int audit_file_reopen(struct audit *a);
/* Makes a first key and a state for an empty log; what has records is put aside. */
int audit_file_begin(struct audit *a, bool had_chain);
int audit_first_key(struct audit *a, struct secret **out);
bool audit_first_key_there(const struct audit *a);

/* ---- audit_refusals.c ---- */
/* Records how many refusals were only counted in minutes that are over. */
void audit_refusals_report(struct audit *a, time_t now);

/* ---- audit_recover.c ---- */
/* Holds the log against the state: goes on behind what was written after it, cuts off half a record, notes
 * what is missing, changed or foreign. Then a->st fits the file. */
int audit_recover(struct audit *a);
void audit_note_add(struct audit *a, struct audit_note note);
/* True if somebody else has changed the file since our last record. */
bool audit_file_changed(const struct audit *a);

/* ---- audit_append.c ---- */
/* True if there is only the reserve left. */
bool audit_is_full(struct audit *a);
void audit_put_time(struct json *j);
/* Begins a record: its number and time. */
void audit_record_begin(struct audit *a, struct json *j);
/* Ends it: chain, MAC, append, state. j is cleared. own: may use the reserve to its last byte. */
int audit_record_end(struct audit *a, struct json *j, bool own, bool sync);
/* Records the notes that wait, tells the watcher. */
void audit_notes_flush(struct audit *a);

#endif
