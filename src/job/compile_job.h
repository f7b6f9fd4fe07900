/* From a job file to plans: the compiler's input. */
#ifndef PIPER_COMPILE_JOB_H
#define PIPER_COMPILE_JOB_H

#include "io/job.h"
#include "sched/sched.h"

/* Fills in *in from the job; in->graph and in->texts are the job's, in->strategy is a new reference that the caller gives up
 * with json_decref(). Memory is planned for asynchronous checkpoints, the default. device: "cpu", ... ranks 0: as many as the
 * strategy says. comm_scratch: bytes that communication takes at most for the terms of a reduction. */
enum status compile_input(struct job *j, const char *device, uint32_t ranks, uint64_t comm_scratch,
                          struct sched_input *in, struct err *e);

/* Bytes of "float32" or "bfloat16" parameters and so on, for messages: "12.3 MiB". */
const char *compile_bytes(double bytes, char text[32]);

/* "124439808 parameters", "... (38597376 frozen)". */
const char *compile_parameters(const struct ir_graph *g, char text[80]);

#endif
