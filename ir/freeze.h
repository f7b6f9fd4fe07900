/* Parameters that are not trained. */
#ifndef PIPER_IR_FREEZE_H
#define PIPER_IR_FREEZE_H

#include "ir/graph.h"

/* Freezes the parameters whose names match, a pattern of fnmatch(3) without flags; returns how many match. */
uint32_t ir_freeze(struct ir_graph *g, const char *pattern);
/* The operators have all of their parameters frozen or none, but for those of state, and something is trained. ST_INPUT. */
enum status ir_freeze_check(const struct ir_graph *g, const char *where, struct err *e);
/* Does the operator have a parameter with a gradient? */
bool ir_op_trains(const struct ir_graph *g, const struct ir_node_op *o);
/* [tensors] 1: a parameter that is trained lies before it. mem_free. */
uint8_t *ir_freeze_wanted(const struct ir_graph *g);
uint64_t ir_freeze_count(const struct ir_graph *g); /* elements of frozen parameters */

#endif
