/* Clocks in seconds, and naps. Safe in signal handlers and in any thread. */
#ifndef PIPER_BASE_CLOCK_H
#define PIPER_BASE_CLOCK_H

#include <time.h>

static inline double clock_of(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Monotonic, of this machine. */
static inline double clock_now(void)
{
    return clock_of(CLOCK_MONOTONIC);
}

/* Shorter when a signal comes. */
static inline void clock_nap(double seconds)
{
    const time_t whole = (time_t)seconds;
    nanosleep(&(struct timespec){ .tv_sec = whole, .tv_nsec = (long)((seconds - (double)whole) * 1e9) }, NULL);
}

#endif
