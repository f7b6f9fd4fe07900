/* Device sets, and the classes of ranks that follow from them. Private to sched/. */
#ifndef PIPER_SCHED_DEVICES_H
#define PIPER_SCHED_DEVICES_H

#include "base/json.h"

struct device_set {
    uint32_t first, n; /* in sets.pool, in the user's order */
    uint32_t class_id; /* equal for sets with the same members */
};
struct device_sets {
    VEC(struct device_set);
    struct {
        VEC(uint32_t);
    } pool;
    uint32_t *table, slots; /* sets by their members: open addressing, set + 1, 0: free */
};
struct device_class {
    uint32_t first, n; /* in class_pool: members ascending */
};

struct sched;
struct directive;
void devices_sort(uint32_t *devices, uint32_t n);
/* "devices" of a directive: numbers and ranges "0-511", "0-1023:4". */
enum status devices_parse(struct sched *s, const struct js *js, uint32_t *set, struct err *e);
/* A list of such lists: appended to sched.listed_sets, n from number `first` on. */
enum status devices_parse_sets(struct sched *s, const struct js *js, uint32_t *first, uint32_t *n, struct err *e);
/* "filter" and "devices" or "rotate" of place and replicate, into d; and where d puts a microbatch that it matches. */
enum status placement_sets(struct sched *s, const struct js *js, struct directive *d, const char *meaning,
                           struct err *e);
uint32_t placement_set(const struct sched *s, const struct directive *d, uint32_t mb);
/* "filter" and "devices" of place, replicate and shard: the filter into d, the value of devices to be parsed. */
enum status placement_keys(struct sched *s, const struct js *js, struct directive *d, struct js *devices,
                           const char *meaning, struct err *e);
uint32_t devices_intern(struct sched *s, const uint32_t *list, uint32_t n);
/* Classes of the sets in use: equal or disjoint, no device idle. Sets class_id of every set. */
enum status devices_classes(struct sched *s, struct err *e);
const char *devices_text(const struct sched *s, uint32_t set, char *text, size_t size);

#endif
