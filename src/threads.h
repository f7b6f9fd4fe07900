/* How many threads a rank takes for computing: of the CPUs that it may use, its share among the ranks of its node, and no more
 * than its control group has time for. Pure functions of what the ranks bring. */
#ifndef PIPER_THREADS_H
#define PIPER_THREADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { THREADS_CPUS = 2048, THREADS_TEXT = 768 };

struct threads_set {
    uint64_t bits[THREADS_CPUS / 64]; /* CPU i: bit i % 64 of word i / 64 */
};

/* What a rank brings. */
struct threads_rank {
    uint64_t node, group;    /* hashes of the node's name and of the control group that limits it */
    double quota;            /* CPUs that the group, with all ranks that are in it, has time for; INFINITY: no limit */
    struct threads_set may;  /* where its threads may run */
    struct threads_set runs; /* where they do, when they have started */
    struct threads_set job;  /* what it can see of the CPUs of the job */
};

/* Threads of rank `self`; text: why, "it alone may use 8 CPUs". */
int threads_share(const struct threads_rank *all, uint32_t n, uint32_t self, char *text, size_t size);
/* Do ranks of this rank's node run on the same CPUs while others of the job are free? text: which. */
bool threads_crowd(const struct threads_rank *all, uint32_t n, uint32_t self, char *text, size_t size);

#endif
