/* What of the memory is for the rows that experts receive: planned for the worst case, where they are dropless and nothing bounds them; kept until
 * their backward. */
#ifndef PIPER_JOB_EXPERT_NOTE_H
#define PIPER_JOB_EXPERT_NOTE_H

#include "job/compile_job.h"

struct expert_note {
    const void *image; /* the job as job_encode() gives it; borrowed, as all */
    uint64_t bytes;
    const char *device;
    uint32_t ranks;
    uint64_t comm_scratch;          /* as compile_input() takes it */
    const struct sched_output *out; /* what the job was compiled to */
};
/* Is there anything to compile for: has the model experts, and does the strategy exchange their rows? */
bool expert_note_applies(const struct ir_graph *g, const json_t *strategy);
enum { EXPERT_NOTE = 640 };
/* Compiles the job with several values of expert_bound, or, where there is one or it saves nothing, with such rows sent again. False: there is nothing to
 * say, since that makes less than a tenth of the memory of a rank; or it would take long. */
bool expert_note_write(const struct expert_note *n, char text[EXPERT_NOTE]);

#endif
