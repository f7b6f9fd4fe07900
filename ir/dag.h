/* The global training DAG: every computation and communication of one step of the whole job.
 *
 * A node stands for all its replicas: it carries a device set, and replica r of the node runs on the r-th device. So the
 * DAG grows with stages x microbatches, not with replicas. Edges carry a tensor, the gradient of one, or nothing but order.
 * Rewrites append nodes and edges and redirect edges; adjacency (CSR) is derived, rebuilt, never patched. */
#ifndef PIPER_IR_DAG_H
#define PIPER_IR_DAG_H

#include "ir/chunk.h"

enum ir_node_kind {
    IR_NODE_LOAD, /* what = graph input (tokens, targets) */
    IR_NODE_RUN,  /* what = sub-chunk; pass F, B, BI or BW */
    IR_NODE_SUM,  /* what = index in dag.sums: adds the gradient parts of one tensor on the consumer's side */
    IR_NODE_MOVE, /* what = index in dag.moves: send and receive of a tensor or a gradient, both ends */
    IR_NODE_BORDER, /* what = index in dag.moves (from_set == to_set): a value crosses the border of a region, inside groups of
                           the set */
    IR_NODE_TURN, /* what = index in dag.moves: a value becomes blocks by heads before an all-to-all of them, or rows again behind it */
    IR_NODE_AGAIN, /* what = index in dag.moves: a dispatch permutes its tokens once more, for an all-to-all that is repeated */
    IR_NODE_REDUCE, /* what = bucket: reduction of its gradients over its holders, or each group of them; mb: of one microbatch ("reduce":"each") */
    IR_NODE_REDUCE_COPIES, /* what = bucket: of its shards, which their groups have reduced, over the copies */
    IR_NODE_GATHER,        /* what = bucket: all-gather of its parameters from its holders, or a group of them */
    IR_NODE_GATHER_COPIES, /* what = bucket: of its shards from their copies, each of which has updated a part */
    IR_NODE_SUMSQ,         /* what = bucket: sum of squares of a holder's part */
    IR_NODE_SCALARS,       /* all-reduce of loss, norm and counters over all ranks */
    IR_NODE_UPDATE,        /* what = bucket */
    IR_NODE_KINDS
};
const char *ir_node_kind_name(enum ir_node_kind k);

struct ir_node {  /* 16 bytes */
    uint8_t kind; /* enum ir_node_kind */
    uint8_t pass; /* enum ir_pass */
    uint16_t mb;  /* microbatch; IR_NO_MB */
    uint32_t what;
    uint16_t set; /* device set; of a MOVE: the source's; of a bucket's nodes: the holders' */
    union {
        uint16_t stream; /* number of the stream name; LOAD: enum ir_layout of what it gives */
        uint16_t part;   /* RUN: 0, or of BW, in parts, which: ir_op_bw_params() of number part - 1 */
    };
    float cost; /* units of time: F of a sub-chunk is 1 */
};
enum { IR_NO_MB = 0xffff, IR_NO_SET = 0xffff };

/* What an edge carries. Data: a tensor, or the gradient part of one. AFTER: order that the mathematics needs (what F keeps
 * for B, reduction after the last backward). ORDER: order that the user wants. */
enum ir_edge_kind { IR_EDGE_TENSOR, IR_EDGE_GRAD, IR_EDGE_AFTER, IR_EDGE_ORDER };
struct ir_edge {
    uint32_t from, to;
    uint32_t kind : 2;
    uint32_t value : 30; /* tensor; ORDER: index in dag.orders */
};

/* What a BORDER node does with a value (piper-strategy(5), shard). Groups: the expert, tensor or context group of each device. */
enum ir_how {
    IR_HOW_ROWS,    /* all-to-all: rows by expert, into the region or out of it */
    IR_HOW_GATHER,  /* all-gather: own tokens into those of the tensor group */
    IR_HOW_SUM,     /* reduce-scatter: terms of the tensor group into own tokens */
    IR_HOW_KEYS,    /* all-gather: rows of keys or values of the context group, by position */
    IR_HOW_KEY_SUM, /* reduce-scatter: the gradients of these */
    IR_HOW_HEADS, /* all-to-all: blocks of heads of own tokens into one block of all tokens of the sequence, over the context group; or back */
};
struct ir_move { /* of a MOVE, BORDER, TURN or AGAIN node */
    uint32_t tensor;
    uint32_t grad; /* 1: its gradient, travelling back */
    uint16_t from_set, to_set;
    uint16_t to_stream; /* MOVE: of the receive; the node's own stream is that of the send */
    uint8_t how;        /* BORDER: enum ir_how */
    uint8_t layout;     /* enum ir_layout of what it gives */
    uint32_t shard;     /* BORDER: index of the directive */
    uint32_t inward;    /* IR_HOW_ROWS: into the region */
    uint32_t sub;       /* IR_HOW_HEADS: sub-chunk of the attention; AGAIN: of the dispatch */
};
struct ir_sum { /* of a SUM node */
    uint32_t tensor, parts;
    uint32_t layout; /* enum ir_layout of the parts and of the sum */
};

struct ir_order { /* of ORDER edges: from a group of an order directive to the next */
    uint32_t directive,
        group; /* numbers in the list of primitives, and in the directive of the group that comes after */
};

struct ir_dag {
    struct ir_nodes {
        VEC(struct ir_node);
    } nodes;
    struct ir_edges {
        VEC(struct ir_edge);
    } edges;
    struct ir_moves {
        VEC(struct ir_move);
    } moves;
    struct ir_sums {
        VEC(struct ir_sum);
    } sums;
    struct ir_orders {
        VEC(struct ir_order);
    } orders;
    uint32_t *out_first, *out_edge; /* CSR: edges leaving node i are out_edge[out_first[i]] .. */
    uint32_t *in_first, *in_edge;   /* and entering; in order of the edges' numbers */
    uint32_t *out_to, *in_from;     /* the nodes at their other ends */
};

void ir_dag_init(struct ir_dag *d);
void ir_dag_release(struct ir_dag *d);
uint32_t ir_dag_node(struct ir_dag *d, struct ir_node n);
void ir_dag_edge(struct ir_dag *d, uint32_t from, uint32_t to, enum ir_edge_kind kind, uint32_t value);
/* Rebuilds the adjacency after edges were added or redirected. */
void ir_dag_link(struct ir_dag *d);
/* Topological order, the lowest number first among the ready ones (deterministic). order has room for all nodes; returns how
 * many could be ordered: fewer than all when there is a cycle. Needs the adjacency. */
uint32_t ir_dag_sort(const struct ir_dag *d, uint32_t *order);
/* What every pass keeps: kinds and passes that exist, numbers that name rows of their tables, edges between two nodes that are
 * there, no cycle. Rebuilds the adjacency. For debug builds and tests. */
bool ir_dag_sound(struct ir_dag *d);
/* A cycle, as nodes in order (edge i goes from cycle[i] to cycle[i+1], and from the last to the first); 0 when acyclic. */
uint32_t ir_dag_cycle(const struct ir_dag *d, uint32_t *cycle);
/* Edge from a to b of the given kind, IR_NONE when there is none. */
uint32_t ir_dag_find_edge(const struct ir_dag *d, uint32_t a, uint32_t b);

#endif
