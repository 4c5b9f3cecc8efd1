/* Time windows, in local time. */
#include "policy_read.h"

#define DAY 1440
#define NO_END_S (8u * 24 * 3600) /* windows that follow each other for longer than a week never end */
#define STEPS (8u * 7 * POLICY_WINDOWS_MAX)

static bool on_day(const struct policy_window *w, int day)
{
    return w->days >> ((day + 7) % 7) & 1;
}

/* Minutes of the clock until w ends; 0: it is shut. */
static int minutes_left(const struct policy_window *w, const struct tm *t)
{
    int now = t->tm_hour * 60 + t->tm_min;
    if (w->to > w->from)
        return on_day(w, t->tm_wday) && now >= w->from && now < w->to ? w->to - now : 0;
    if (on_day(w, t->tm_wday) && now >= w->from)
        return DAY - now + w->to;
    return on_day(w, t->tm_wday - 1) && now < w->to ? w->to - now : 0;
}

/* The first time after t at which the clock shows this; t if there is none. */
static time_t clock_time(const struct tm *shown, time_t t)
{
    struct tm any = *shown, same = *shown; /* by the rules of then, and as if summer time did not change */
    any.tm_isdst = -1;
    time_t a = mktime(&any), b = mktime(&same);
    if (a <= t || b <= t)
        return a > b ? a : b;
    return a < b ? a : b;
}

/* Until when at least one of those open at t is open; t if all are shut. */
static time_t end_of(const struct policy_window *w, unsigned count, time_t t)
{
    struct tm local;
    int left = 0;
    if (!localtime_r(&t, &local))
        return t;
    for (unsigned i = 0; i < count; i++) {
        int l = minutes_left(&w[i], &local);
        left = l > left ? l : left;
    }
    if (left == 0)
        return t;
    local.tm_min += left;
    local.tm_sec = 0;
    time_t end = clock_time(&local, t);
    return end > t ? end : t + 60; /* the clock skips that time */
}

unsigned policy_windows_left(const struct policy_window *w, unsigned count, time_t now)
{
    time_t t = now;
    for (unsigned i = 0; i < STEPS; i++) {
        time_t end = end_of(w, count, t);
        if (end == t)
            return (unsigned)(t - now);
        if (end - now > (time_t)NO_END_S)
            return UINT_MAX;
        t = end;
    }
    return (unsigned)(t - now);
}
