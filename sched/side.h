/* Sides: what of a tensor or an operator a device sees in a sub-chunk, where sequences are shared. Elsewhere all of it. Private to
 * sched/. */
#ifndef PIPER_SCHED_SIDE_H
#define PIPER_SCHED_SIDE_H

#include "ir/chunk.h"
#include "ir/plan.h"

struct sched;
/* Tokens of a sequence in a layout. */
uint32_t side_tokens(const struct sched *s, enum ir_layout layout);
/* How an operator's part is cut out, its attributes there, and the shapes of its operands. */
struct ir_share side_share(const struct sched *s, uint32_t op);
struct ir_attrs side_attrs(const struct sched *s, uint32_t op);
void side_shapes(const struct sched *s, uint32_t op, struct ir_op_shapes *shapes);
/* The layout and the shape of a tensor as an operator of the sub-chunk makes it, or reads it. */
enum ir_layout side_layout(const struct sched *s, const struct ir_sub *sub, uint32_t tensor);
struct ir_shape side_tensor(const struct sched *s, const struct ir_sub *sub, uint32_t tensor);
/* The shape of a tensor, whole rows of it, in a layout. */
struct ir_shape side_whole_rows(const struct sched *s, uint32_t tensor, enum ir_layout layout);
/* The layout of the gradient of what is in this layout. */
enum ir_layout side_dual(enum ir_layout layout);
/* Has the forward of an operator two phases, between which members tell each other numbers: save 1 of it? */
bool side_tells(const struct sched *s, uint32_t op);
/* Is that a norm, for whose second phase save 0, what follows from these numbers, does too? */
bool side_knows(const struct sched *s, uint32_t op);
/* The attention of a sub-chunk that has keys and values one context part after the other; IR_NONE: it has none. It is alone then. */
uint32_t side_ring(const struct sched *s, const struct ir_sub *sub);
/* Does the backward of a sub-chunk compute its forward again? Not what travels between its pieces: a ring, and a loss over split words,
 * whose members tell each other numbers, keep what they have. */
bool side_recomputes(const struct sched *s, const struct ir_sub *sub, uint32_t mb);
/* The router whose choices, counted over whole sequences, a dispatch reads beside its inputs: save 1 of it, as input side_counts_input.
 * IR_NONE: it reads none. */
enum { side_counts_input = 2 };
uint32_t side_counts(const struct sched *s, uint32_t op);
/* Saved tensor `save` of an operator is what members told each other, or follows from it: kept where the forward is computed again. */
bool side_is_kept(const struct sched *s, uint32_t op, uint32_t save);
/* Tokens of an operator's rows; of a program's: 0 where sequences are not shared. */
uint32_t side_op_tokens(const struct sched *s, uint32_t op);
uint32_t side_program_tokens(const struct sched *s, const struct ir_sub *sub);

#endif
