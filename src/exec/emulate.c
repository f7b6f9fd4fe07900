/* The compute back end that computes nothing: ranks and messages are real, kernels only take their predicted time. */
#include <sched.h>
#include <time.h>

#include "base/clock.h"
#include "exec/compute.h"

/* Shorter than what it takes to sleep and wake up again, seconds. */
static const double moment = 20e-6;

/* Sleeping, not spinning: ranks may outnumber cores. Only what is too short for that is waited for. */
static void pretend(double until)
{
    if (until - clock_now() > moment) {
        struct timespec t = { .tv_sec = (time_t)until };
        t.tv_nsec = (long)((until - (double)t.tv_sec) * 1e9);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
            ; /* woken up by a signal */
    }
    while (clock_now() < until)
        sched_yield();
}

const struct compute_backend compute_emulate = { .name = "emulate", .target = "emulate", .pretend = pretend };
