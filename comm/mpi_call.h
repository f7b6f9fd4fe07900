/* What all files that call MPI share: codes, waiting. Not for other folders (the test sets the limit). */
#ifndef PIPER_COMM_MPI_CALL_H
#define PIPER_COMM_MPI_CALL_H

#include <mpi.h>

#include "comm/world.h"

/* Bytes of one MPI message at most, below INT_MAX, equal on all ranks; longer transfers go in rounds. A test lowers it. */
extern uint64_t comm__message;

/* How to wait without burning a core that others need: test at once again, then after sched_yield(), then nap, each
 * nap an eighth longer than the one before, so that what a wait costs and what it adds both stay small beside it. */
struct comm__patience {
    uint32_t spins, yields; /* tests before the first nap */
    uint32_t idle;          /* fruitless tests since the last success */
    uint32_t nap_us;        /* the last nap; 0: none yet */
};
/* After a fruitless test: 0, test again (it may have yielded), else microseconds to nap first. */
uint32_t comm__patience_next(struct comm__patience *p);
void comm__patience_reset(struct comm__patience *p);
/* Cores that this rank may count as its own (several ranks may share one: then 0). */
uint32_t comm__cores(uint32_t ranks_here);
/* Lets the naps of the calling thread be as short as they should. */
void comm__precise_naps(void);

/* A code other than MPI_SUCCESS prints one sentence and ends the job with code 76. */
void comm__mpi_check(int code, const char *call);
#define CALL(name, ...) comm__mpi_check(name(__VA_ARGS__), #name)
_Noreturn void comm__mpi_lost(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Waits for a request without burning the core. */
void comm__mpi_wait(MPI_Request *request, const char *call);

#endif
