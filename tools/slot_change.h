/* Changes of slots in a session of administration. Each prints its own error and what was done, and returns
 * an exit code. */
#ifndef TOOLS_SLOT_CHANGE_H
#define TOOLS_SLOT_CHANGE_H

#include "admin.h"
#include "fresh_slot.h"

/* Makes a slot: a new one (slot 0), or in place of the slot of that number, whose old secret then opens
 * nothing. What has to be typed is asked for while the session rests. */
int slot_make(struct admin *a, const struct fresh_source *fresh, unsigned slot);

/* The last slot goes only with force, or when the person at the terminal agrees. */
int slot_remove(struct admin *a, unsigned slot, bool force);

/* label "": takes it away. */
int slot_label(struct admin *a, unsigned slot, const char *label);

#endif
