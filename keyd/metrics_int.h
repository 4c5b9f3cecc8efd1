/* Inside of the metrics, for their own sources. */
#ifndef KEYD_METRICS_INT_H
#define KEYD_METRICS_INT_H

#include "metrics.h"

#define METRICS_BUCKETS 6u
extern const double metrics_bounds[METRICS_BUCKETS]; /* seconds */

struct metrics_histogram {
    uint64_t buckets[METRICS_BUCKETS + 1]; /* each its own count; the last: beyond all bounds */
    double sum;
};
struct metrics {
    uint64_t counts[METRICS];
    struct metrics_histogram timers[METRIC_TIMERS];
};

#endif
