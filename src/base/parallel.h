/* Work that is many pieces, none of which needs another one, on the processors that this process may use. */
#ifndef PIPER_BASE_PARALLEL_H
#define PIPER_BASE_PARALLEL_H

#include <stdint.h>

/* Threads that parallel_each() takes for n pieces: as many as processors, the caller among them, and no more than pieces. */
uint32_t parallel_threads(uint32_t n);
/* Calls work(of, i, thread) once for each i below n, in any order, and returns when all are done. thread: a number below
 * parallel_threads(n), which no two calls at a time have, for what a thread keeps to itself. The pieces write nothing that another one
 * reads; so what comes out does not depend on how many threads there are. */
void parallel_each(uint32_t n, void (*work)(void *of, uint32_t i, uint32_t thread), void *of);

#endif
