/* Chunks and sub-chunks of a model graph.
 *
 * A chunk: operators with equal tags and equal level, connected by tensors. The level of an operator is the largest number
 * of tag changes on a path from the input; a path that leaves a chunk and comes back would have changed tags twice, so
 * chunks are convex, and every tensor between two chunks goes from a lower level to a higher one. Chunks are numbered by
 * (level, first operator): that order is topological. Filters see chunks.
 *
 * A sub-chunk: a run of a chunk's operators in topological order, cut at operator boundaries: the unit of dispatch,
 * reduction, gathering and trace. */
#ifndef PIPER_IR_CHUNK_H
#define PIPER_IR_CHUNK_H

#include "ir/graph.h"

struct ir_chunk {
    int32_t tag[IR_MAX_TAGS]; /* -1: lacks it */
    uint32_t level;
    uint32_t first_op, n_ops; /* in ir_chunks.ops */
    uint32_t first_sub, n_subs;
};
struct ir_sub {
    uint32_t chunk;
    uint32_t piece;                /* of the chunk by its rule, counted over all chunks; regions cut a piece further */
    uint32_t first_op, n_ops;      /* in ir_chunks.ops, topological */
    uint32_t first_in, n_in;       /* in ir_chunks.tensors: read here, made elsewhere (graph inputs too), ascending */
    uint32_t first_out, n_out;     /* made here, read in other sub-chunks, ascending */
    uint32_t first_param, n_param; /* in ir_chunks.params: used here, in order of first use */
};

struct ir_chunks {
    struct ir_chunk_list {
        VEC(struct ir_chunk);
    } chunks;
    struct ir_sub_list {
        VEC(struct ir_sub);
    } subs;
    struct ir_ids {
        VEC(uint32_t);
    } ops, tensors, params;
    uint32_t *chunk_of, *sub_of; /* by operator */
    uint32_t pieces;
};

/* How a chunk is cut. */
enum ir_cut { IR_CUT_NONE, IR_CUT_BLOCK /* where the block (layer) changes */, IR_CUT_BYTES };
struct ir_cut_rule {
    enum ir_cut how;
    uint64_t
        bytes; /* IR_CUT_BYTES: greedy, parameters of a piece in the compute type, at least one operator with any */
};

/* Builds the chunks, each one sub-chunk. */
void ir_chunks_build(struct ir_chunks *c, const struct ir_graph *g);
/* Cuts every chunk by its rule (rules[chunk]), and where regions[operator] changes (NULL: nowhere), and fills in the tensors and
 * parameters of the sub-chunks. */
void ir_chunks_cut(struct ir_chunks *c, const struct ir_graph *g, const struct ir_cut_rule *rules,
                   const uint32_t *regions, enum ir_dtype compute);
void ir_chunks_release(struct ir_chunks *c);

#endif
