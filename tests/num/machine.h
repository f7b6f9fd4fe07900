/* Where operators under test run: a back end, the type it computes in, its memory. The test programs of operators and
 * updates are linked with a file that says which machines there are: tests/num/machine_cpu.c, tests/cuda/machine_*.c (stand-ins of
 * a GPU), tests/gpu/machine_device.c. */
#ifndef PIPER_TESTS_MACHINE_H
#define PIPER_TESTS_MACHINE_H

#include "exec/compute.h"
#include "ir/split.h"
#include "num/num.h"

struct machine {
    const char *name;
    const struct compute_backend *backend;
    enum ir_dtype compute;
    bool positions; /* attention takes positions and documents (src/exec/compute.h), which are in the host's memory */
    bool partial;   /* operators without a kernel are left out, not missed */
    bool (*takes)(enum ir_op op, const struct ir_attrs *a); /* NULL: every shape */
    uint64_t (*workspace)(const struct ir_kernel *k);
    void (*setup)(void); /* before the tests; NULL: nothing to do */
    /* Makes the next kernels run in another order than the first; other_way 0: as usual. NULL: there is one order. */
    void (*order)(int other_way);
    /* Device memory; all NULL where kernels read the host's. put and get wait for the stream. */
    void *(*alloc)(size_t bytes);
    void (*free)(void *p);
    void (*put)(void *device, const void *host, size_t bytes);
    void (*get)(void *host, const void *device, size_t bytes);
    void *stream;
};

/* All of them, then NULL. */
extern const struct machine *const machines[];

/* A guarded buffer that has a place on the machine. put: the host's bytes, zones and all, go there; get: they come back. */
struct guarded machine_buffer(const struct machine *m, size_t bytes);
void machine_put(const struct machine *m, const struct guarded *g);
void machine_get(const struct machine *m, const struct guarded *g);
void machine_free(const struct machine *m, struct guarded *g);

/* Element i of a buffer of floats or bfloat16; setting rounds. */
double element(const struct guarded *g, enum ir_dtype type, size_t i);
void set_element(struct guarded *g, enum ir_dtype type, size_t i, double value);
/* value as the type holds it. */
double rounded(enum ir_dtype type, double value);

/* On `machine`: n elements, poisoned; n random ones, rounded to the type, which are put there and in x (n). */
struct guarded machine_elements(size_t n, enum ir_dtype type);
struct guarded machine_random(size_t n, enum ir_dtype type, struct rng *r, double *x);

/* Runs `suite` on every machine, which is in `machine` meanwhile; returns what main() should. */
struct Suite;
extern const struct machine *machine;
int run_machines(struct Suite *(*suite)(void));

#endif
