/* The one way out: how the reason for which a process ends is said, and how it then ends.
 *
 * What all ranks agree on is returned up to main, which says it on rank 0. What no caller can handle (memory has run out, a broken
 * invariant, a lost peer) ends the process where it is found, and with it all ranks. Handlers of signals write their own sentence,
 * since nothing here may be called in one: io/h5_guard.c, src/rundir/signals.c. */
#ifndef PIPER_BASE_FAIL_H
#define PIPER_BASE_FAIL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Set by the rooms that know; each may be NULL. */
extern struct process_ways {
    void (*where)(char *text, size_t size); /* "rank 2, step 7, BW layers.1" */
    void (*log)(const char *text);          /* to the run's log; other threads may stand still with their locks */
    void (*leave)(int code);                /* does not return; NULL: exit() */
    _Atomic uint32_t ending;                /* threads that have come to process_end() */
} process_ways;

/* "piper: TEXT" on standard error, and TEXT in the run's log. */
void last_words(const char *text);
/* Last words, and out by leave() with -status. Of several threads the first is heard. */
_Noreturn void process_end(enum status status, const char *text, void (*leave)(int code));
/* The same from anywhere: where() stands before a text that does not begin with a rank; by process_ways.leave. */
_Noreturn void process_fail(enum status status, const char *text);

#endif
