/* What the stand-ins of the CUDA libraries tell the tests, and what they share. */
#ifndef PIPER_TESTS_LIBS_FAKE_H
#define PIPER_TESTS_LIBS_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first thing that the real library would have refused, or that was called in a wrong way; NULL: nothing. */
extern const char *fake_complaint;
/* Returns false, after keeping the first complaint. */
bool fake_complain(const char *what);

extern double fake_clock; /* of events, in seconds */
extern char fake_device[256];
extern int fake_waits;                /* of the host for a stream or an event */
extern uint64_t fake_library_version; /* of cuBLASLt */
extern int fake_searches;             /* times that cuBLASLt was asked for algorithms */
extern uint64_t fake_last_algorithm;  /* 0, 1, 2: of the last product. 0 is proposed first, 2 is the fastest */
extern double fake_epilogue_seconds;  /* that a product takes longer with GELU */
extern bool fake_no_epilogues;        /* there is no algorithm for it */
double fake_gelu(double x), fake_gelu_grad(double x);
extern int fake_last_multiprocessors; /* that the last product was tuned for; 0: all */
/* cuDNN's engines, in the order they are proposed: one that is not deterministic, one that wants more memory, a good one. */
enum { FAKE_RANDOM_ENGINE, FAKE_BIG_ENGINE, FAKE_GOOD_ENGINE };
extern int fake_last_engine;
extern bool fake_no_good_engine;
extern bool fake_no_cudnn; /* it cannot be loaded */

/* Element i of float32 or bfloat16 memory, as float64. */
double fake_load(const void *p, int64_t i, bool bf16);
void fake_store(void *p, int64_t i, bool bf16, double x);

#endif
