/* How long the batch system lets this job run. */
#ifndef PIPER_BATCH_TIME_H
#define PIPER_BATCH_TIME_H

#include <stdbool.h>
#include <stddef.h>

/* Asks Slurm (SLURM_JOB_END_TIME, squeue, scontrol) or PBS (qstat, PBS_WALLTIME). True: *seconds are left. False: there is
 * no limit, or none was learnt. answer is a sentence for the log either way. Runs other programs, each for 10 s at most,
 * without a shell. For one rank: a thousand of them would be too much for a scheduler. */
bool batch_time_left(double *seconds, char *answer, size_t size);

#endif
