/* What macros for spellings of the reference's branches have in common. Private to sched/directives. */
#ifndef PIPER_SCHED_DIRECTIVES_REFERENCE_H
#define PIPER_SCHED_DIRECTIVES_REFERENCE_H

#include "sched/compile.h"

/* The directive's filter without "*" of a tag that the model does not have, which matches all: a new reference. */
enum status reference_filter(const struct sched *s, const struct js *js, const char *tag, json_t **out, struct err *e);
/* Appends a shard of this dim, on the directive's devices and stream where the dim has them. */
void reference_shard(const struct js *js, const char *dim, json_t *filter, json_t *out);

#endif
