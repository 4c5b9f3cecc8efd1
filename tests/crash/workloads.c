/* All of them. */
#include "lab.h"

#include <stddef.h>

const struct workload workloads[] = {
    {"overwrite", w_overwrite}, {"append", w_append},       {"grow", w_grow},
    {"truncate", w_truncating}, {"punch", w_punch},         {"small", w_small},
    {"saving", w_saving},       {"tree", w_tree},           {"names", w_names},
    {"moves", w_moves},         {"links", w_links},         {"remove", w_removing},
    {"hints", w_hints},         {"remount", w_remount},     {"wrap", w_wrap},
    {"fresh", w_fresh},         {"mixed", w_mixed},         {"threads", w_threads},
    {"rewrap", w_rewrap},       {"reencrypt", w_reencrypt}, {"xattrs", w_xattrs},
    {"seals", w_seals},         {"protect", w_protects},    {"dirnames", w_dirnames},
    {"freeze", w_freezing},     {"newdirs", w_newdirs},     {NULL, NULL},
};
