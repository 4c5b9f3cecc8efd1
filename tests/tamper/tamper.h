/* The driver of the tamper tests: makes a volume in stages, and says what a volume holds and what the check
 * finds in it. See README.md. */
#ifndef LATCHFS_TAMPER_H
#define LATCHFS_TAMPER_H

#include "latchfs/store.h"

#include <stdio.h>

/* Prints and exits with 2. */
_Noreturn void tamper_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Stages and answers end with a line ".". */
void tamper_end(void);

/* ---- volume.c: the keys are the same at every run ---- */

enum { PD_ROOT, PD_ONE, PD_TWO, PD_COUNT };

/* Keys of one protected directory. rotated: its key has a second version, and the first is not accepted any
 * more. other: those of another volume. */
struct keyset *tamper_keys(int pd, bool rotated, bool other);

/* Opens with all keys. 0, or the error of volume_open. */
int tamper_open(const char *dir, bool read_only, bool rotated, bool other, struct replay_report *report,
                struct volume **out);

/* ---- make.c ---- */

/* Makes DIR/volume and DIR/other, stops at each stage until a line is read. */
void tamper_make(const char *dir);

/* ---- dump.c ---- */

/* Every name, content, attribute and target of an open volume, a line each. with_inodes: backing inode
 * numbers too. */
void tamper_dump(struct volume *v, bool with_inodes);

/* A text with everything but printable ASCII escaped. */
void tamper_text(const char *text);

/* ---- verify.c ---- */

/* What latch fsck and latch verify find. */
void tamper_verify(const char *dir, struct volume *v);

/* ---- store.c: latchfs.ini ---- */

/* Key stores of one volume with a key file of zeros in DIR: latchfs.ini of two generations, and another's. */
void tamper_make_ini(const char *dir);
int tamper_check_ini(const char *path);

#endif
