#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* sched_getaffinity */
#endif
#include <sched.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <unistd.h>

#include "comm/mpi_call.h"

enum { NAP_MIN_US = 10, NAP_MAX_US = 500 };

void comm__patience_reset(struct comm__patience *p)
{
    p->idle = p->nap_us = 0;
}

uint32_t comm__patience_next(struct comm__patience *p)
{
    if (p->idle < p->spins + p->yields) {
        if (p->idle++ >= p->spins)
            sched_yield();
        return 0;
    }
    p->nap_us = p->nap_us ? p->nap_us + (p->nap_us + 7) / 8 : NAP_MIN_US;
    if (p->nap_us > NAP_MAX_US)
        p->nap_us = NAP_MAX_US;
    return p->nap_us;
}

uint32_t comm__cores(uint32_t ranks_here)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    long mine = online;
#ifdef __linux__
    cpu_set_t set;
    if (!sched_getaffinity(0, sizeof set, &set))
        mine = CPU_COUNT(&set);
#endif
    /* A rank that is bound to some of the cores has these, else the ranks share all. */
    return (uint32_t)(mine < online ? mine : online / (long)ranks_here);
}

void comm__precise_naps(void)
{
#ifdef __linux__
    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL); /* nanoseconds; the default adds 50 us to each nap */
#endif
}
