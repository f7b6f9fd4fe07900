/* The model graph: operators on named tensors in SSA form, forward only, with tags on operators.
 *
 * Built by a family (ir/family/) from a Hugging Face config or from an explicit list, stored in the job file, read by
 * every rank. Operators stand in a topological order: every input is produced before it is read. Columns by id; ids are
 * indices. Everything is owned by the graph's arena and arrays; a graph is constant once ir_graph_validate() is happy. */
#ifndef PIPER_IR_GRAPH_H
#define PIPER_IR_GRAPH_H

#include "base/mem.h"
#include "base/status.h"
#include "ir/op.h"

enum { IR_NONE = UINT32_MAX, IR_MAX_TAGS = 8 };

/* A tensor: a graph input ("tokens", "targets", "documents"), or an output of one operator. */
struct ir_tensor {
    const char *name; /* unique */
    struct ir_shape shape;
    uint32_t producer; /* operator, IR_NONE for a graph input */
    uint8_t output;    /* which output of the producer */
};

enum ir_init { IR_INIT_NORMAL, IR_INIT_ZEROS, IR_INIT_ONES };

/* A parameter. A parameter used by several operators is tied. A `*` in the name stands for the index of the first
 * dimension: experts are one stacked tensor here and one tensor each in a safetensors file. */
struct ir_param {
    const char *name; /* Hugging Face's tensor name; unique */
    struct ir_shape shape;
    uint8_t init; /* enum ir_init */
    float std;    /* of IR_INIT_NORMAL */
    bool decays;  /* weight decay acts on it: some operator has it as a weight (ir_op_param_decays) */
    bool state;   /* ir_op_param_is_state */
    bool frozen;  /* no gradient and no update: ir/freeze.h */
    /* After ir_graph_unpack(): of a part 1 + the number of the model's parameter that it is a part of, and the element where it begins there;
     * stride: of as many of its elements each row of the part is the first, 0 where its rows follow each other. All 0: it is no part. */
    uint32_t part_of;
    uint64_t first, stride;
};

struct ir_node_op {   /* an operator of the graph */
    const char *name; /* unique: "layers.3.attn.q_proj"; a prefix of it names its region: "layers.3.attn" */
    uint32_t op;      /* enum ir_op */
    uint32_t block;   /* 0 embedding, 1.. layers, last norm and head: the unit of default cuts */
    struct ir_attrs attrs;
    uint32_t in[IR_MAX_IN], out[IR_MAX_OUT], param[IR_MAX_PARAM]; /* IR_NONE where absent */
    int32_t tag[IR_MAX_TAGS];                                     /* index under tag k of the graph; -1: has none */
};

struct ir_graph {
    struct arena arena;
    const char *family; /* "gpt2", "llama", "qwen3", "qwen3_moe", "mixtral", "graph" */
    uint32_t seq_len;   /* T */
    uint32_t vocab;     /* token ids are below this */
    uint32_t n_blocks;
    struct ir_tensors {
        VEC(struct ir_tensor);
    } tensors;
    struct ir_params {
        VEC(struct ir_param);
    } params;
    struct ir_ops {
        VEC(struct ir_node_op);
    } ops;
    const char *tags[IR_MAX_TAGS]; /* "PP", "EP", the user's; n_tags of them */
    uint32_t n_tags;
    const struct ir_graph_whole *whole; /* after ir_graph_unpack(): as it was before; NULL */
};

void ir_graph_init(struct ir_graph *g);
void ir_graph_release(struct ir_graph *g);

/* A router, or a dispatch, where devices share sequences and count choices over all of one: 2 if the router's loss counts others than a
 * capacity does, else 1. */
uint32_t ir_graph_count_sets(const struct ir_graph *g, uint32_t op);

/* Building: names and lists are copied. ir_graph_op() fills in the outputs as new tensors called NAME, or NAME.1, NAME.2. Inputs and
 * params: IR_NONE where absent. Returns the id. Order of calls = topological order. */
uint32_t ir_graph_input(struct ir_graph *g, const char *name, struct ir_shape shape);
/* What operators say of their parameters: decays, state, and shape.dtype (ir_op_param_type). ir_graph_op() keeps them by itself. */
void ir_graph_roles(struct ir_graph *g);
uint32_t ir_graph_param(struct ir_graph *g, const char *name, struct ir_shape shape, enum ir_init init, float std);
/* A list for ir_attrs.inv_freq, copied. */
const struct ir_freqs *ir_graph_freqs(struct ir_graph *g, const float *at, uint32_t n);
struct ir_op_in {
    uint32_t tensor[IR_MAX_IN], param[IR_MAX_PARAM];
};
uint32_t ir_graph_op(struct ir_graph *g, enum ir_op op, const char *name, uint32_t block, const struct ir_attrs *attrs,
                     const struct ir_op_in *in);
/* The load of experts, a number for each expert of each router: first[operator] is the place of a router's first, for others
 * anything; [g->ops.n], or NULL. Returns how many there are. */
uint32_t ir_graph_loads(const struct ir_graph *g, uint32_t *first);
/* Documents are apart: one more graph input, "documents", and every attention and pos_embed reads it (IR_DOCUMENTS). For a job
 * that was read and is to be compiled; parameters and their values stay those of the model. */
void ir_graph_separate(struct ir_graph *g);
void ir_graph_join(struct ir_graph *g); /* as it was before */
/* Packed queries, keys and values as three tensors, which three linear operators make, each with a part of the weight: in place of every
 * attention whose packed input one linear operator makes for such attention alone. Operators get other numbers; a parameter keeps its own,
 * part 0 of one that is taken apart too. For a job that was read and is to be compiled; nothing happens a second time. */
void ir_graph_unpack(struct ir_graph *g);
/* The model's own graph, neither unpacked nor with documents apart; texts are borrowed from g. For ir_graph_release(). */
void ir_graph_borrow(const struct ir_graph *g, struct ir_graph *to);
/* A graph input; IR_NONE: the graph has none of that name. */
uint32_t ir_graph_find_input(const struct ir_graph *g, const char *name);
/* Output `which` of an operator. */
uint32_t ir_graph_out(const struct ir_graph *g, uint32_t op, uint32_t which);
/* Index of a tag name, added when new; IR_NONE when there are IR_MAX_TAGS already. */
uint32_t ir_graph_tag(struct ir_graph *g, const char *name);
uint32_t ir_graph_find_tag(const struct ir_graph *g, const char *name); /* IR_NONE: no such tag */

/* The checks of a reader that trusts nothing: ids in range, SSA, order, shapes as the table says, shared parameters equal
 * in shape, tag indices, one head_loss at least, sizes that do not overflow. `where` opens the message. */
enum status ir_graph_validate(const struct ir_graph *g, const char *where, struct err *e);
/* First difference between two models as a sentence in text (names, shapes, attributes; tags do not count); true: the same. */
bool ir_graph_same(const struct ir_graph *a, const struct ir_graph *b, char *text, size_t size);

uint64_t ir_graph_param_count(const struct ir_graph *g);
/* Model flops of a step, per sequence: the products of forward and backward once each, attention over all T x T, experts only
 * of the top k, nothing that is computed again or padded (PaLM, arXiv 2204.02311, appendix B). */
double ir_graph_flops(const struct ir_graph *g);

#endif
