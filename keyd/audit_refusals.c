/* Refusals, which a user can cause at will: of each user so many are recorded in a minute, the rest is
 * counted, or he would fill the disk, and then nobody's acts that must be recorded would be done. */
#include "audit_log.h"

#include "latchfs/buf.h"

#include <inttypes.h>
#include <stdio.h>

#define LINES_OF_USER 60u
#define SECONDS 60

static void report(struct audit *a, struct audit_refusals *r)
{
    char detail[80];
    unsigned n = r->dropped;
    r->dropped = 0;
    if (!n)
        return;
    snprintf(detail, sizeof detail, "%u more refusals of uid %" PRIu32, n, (uint32_t)r->uid);
    audit_write(a, &(struct audit_act){.act = "not-logged", .detail = detail}, false);
}

void audit_refusals_report(struct audit *a, time_t now)
{
    for (size_t i = 0; i < AUDIT_REFUSERS_MAX; i++) {
        struct audit_refusals *r = &a->refusals[i];
        if (r->dropped && (now < r->since || now - r->since >= SECONDS))
            report(a, r);
    }
}

static struct audit_refusals *place_of(struct audit *a, uid_t uid, time_t now)
{
    struct audit_refusals *r = &a->refusals[0];
    for (size_t i = 0; i < AUDIT_REFUSERS_MAX; i++) {
        struct audit_refusals *x = &a->refusals[i];
        if (x->lines && x->uid == uid) {
            r = x;
            break;
        }
        if (!x->lines || (r->lines && x->since < r->since))
            r = x;
    }
    if (!r->lines || r->uid != uid || now < r->since || now - r->since >= SECONDS) {
        report(a, r);
        *r = (struct audit_refusals){.uid = uid, .since = now};
    }
    return r;
}

int audit_refusal(struct audit *a, const struct audit_act *act)
{
    if (!act->peer)
        return audit_write(a, act, false);
    struct audit_refusals *r = place_of(a, act->peer->uid, time(NULL));
    if (r->lines >= LINES_OF_USER) {
        r->dropped++;
        return 0;
    }
    r->lines++;
    return audit_write(a, act, false);
}
