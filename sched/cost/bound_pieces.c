/* Pieces of stages, as buckets cut them: what recompute runs again, and what waits for a backward. */
#include "sched/cost/bound_private.h"

#include "ir/chunk.h"
#include "ir/family/family.h"

static bool reads(uint32_t mask, int i, uint32_t first)
{
    return mask & first << i;
}

/* ---- pieces ----------------------------------------------------------------------------------------------------------- */

/* By operator the number of its piece, as the compiler cuts the stages. Owned. */
static uint32_t *cut_pieces(const struct bound *b, const struct bound_cut *cut, uint32_t bucket_mib)
{
    const struct ir_cut_rule rule = { bucket_mib ? IR_CUT_BYTES : IR_CUT_BLOCK, (uint64_t)bucket_mib << 20 };
    struct ir_graph g;
    struct ir_chunks c;
    struct err e = { 0 };
    ir_graph_borrow(b->job.graph, &g);
    CHECK(ir_graph_cut_stages(&g, cut->n, (struct ir_ends){ false, false }, "model", &e) == ST_OK);
    ir_chunks_build(&c, &g);
    struct ir_cut_rule *rules = mem_alloc((c.chunks.n + 1) * sizeof *rules);
    for (uint32_t i = 0; i < c.chunks.n; i++)
        rules[i] = rule;
    ir_chunks_cut(&c, &g, rules, NULL, b->job.compute);
    uint32_t *piece_of = c.sub_of;
    c.sub_of = NULL;
    mem_free(rules);
    ir_chunks_release(&c);
    ir_graph_release(&g);
    return piece_of;
}

/* What recompute runs again at least: forwards of a piece whose results its backward reads, and what these are made from in it. A loss
 * over split words and a ring are not computed again, routers' numbers are kept: they are left out. Where sequences are shared what was
 * summed or gathered is kept, so that what it was made from is not: there the results that are read themselves count, and those that
 * attention reads only where it has all tokens. */
static void mark_again(const struct bound *b, const uint32_t *piece_of, uint8_t *marks)
{
    const struct ir_graph *g = b->job.graph;
    uint8_t *wanted = mem_alloc(g->tensors.n + 1);
    for (uint32_t o = g->ops.n; o-- > 0;) {
        const struct ir_node_op *op = bound__op(b, o);
        const struct ir_op_info *info = &ir_op_info[op->op];
        const uint32_t mask = bound__read_by_bi(b, o) | bound__read_by_bw(b, o);
        uint8_t again = 0;
        for (int i = 0; i < IR_MAX_OUT; i++)
            if (op->out[i] != IR_NONE)
                again |= wanted[op->out[i]] | (reads(mask, i, IR_OUT(0)) ? AGAIN_READ : 0);
        for (int i = 0; i < IR_MAX_SAVE; i++)
            again |= i < info->n_save && reads(mask, i, IR_SAVE(0)) ? AGAIN_READ : 0;
        for (int i = 0; i < IR_MAX_IN; i++) {
            const uint32_t from = bound__maker(b, o, i);
            if (from == IR_NONE || piece_of[from] != piece_of[o])
                continue;
            if (reads(mask, i, IR_IN(0)))
                wanted[op->in[i]] |= op->op == IR_OP_ATTENTION ? AGAIN_ATTENTION : AGAIN_READ;
            wanted[op->in[i]] |= again ? AGAIN_MADE : 0;
        }
        const bool kept = op->op == IR_OP_HEAD_LOSS || op->op == IR_OP_ATTENTION || op->op == IR_OP_ROUTER ||
                          op->op == IR_OP_DISPATCH;
        marks[o] = kept ? 0 : again;
    }
    mem_free(wanted);
}

/* ---- what is kept ----------------------------------------------------------------------------------------------------- */

static double tensor_bytes(const struct bound *b, uint32_t t)
{
    const struct ir_tensor *x = &b->job.graph->tensors.at[t];
    if (x->producer == IR_NONE || x->shape.dtype == IR_I32)
        return 0;
    return (double)ir_shape_elements(&x->shape) * ir_dtype_size((enum ir_dtype)x->shape.dtype, b->job.compute);
}

/* How many rows of input i of an operator a device has. */
static int rows_of(const struct bound *b, uint32_t o, int i)
{
    const struct ir_node_op *op = bound__op(b, o);
    if (op->attrs.capacity)
        return KEPT_CAPPED;
    if (op->op == IR_OP_EXPERTS)
        return KEPT_ROWS;
    const uint32_t from = bound__maker(b, o, i);
    return from != IR_NONE && bound__op(b, from)->op == IR_OP_EXPERTS ? KEPT_BACK : KEPT_PLAIN;
}

/* Adds what a backward of the operator reads, each tensor once: stamped. */
static void keep(struct bound *b, uint32_t o, uint32_t mask, double kept[KEPTS])
{
    const struct ir_node_op *op = bound__op(b, o);
    const struct ir_op_info *info = &ir_op_info[op->op];
    const int own = op->attrs.capacity ? KEPT_CAPPED : op->op == IR_OP_EXPERTS ? KEPT_ROWS : KEPT_PLAIN;
    struct ir_op_shapes shapes;
    ir_op_shapes((enum ir_op)op->op, &op->attrs, b->job.graph->seq_len, &shapes);
    for (int i = 0; i < IR_MAX_SAVE; i++)
        if (i < info->n_save && reads(mask, i, IR_SAVE(0)) && shapes.save[i].ndim && shapes.save[i].dtype != IR_I32)
            kept[own] += (double)ir_shape_elements(&shapes.save[i]) *
                         ir_dtype_size((enum ir_dtype)shapes.save[i].dtype, b->job.compute);
    for (int i = 0; i < IR_MAX_IN + IR_MAX_OUT; i++) {
        const bool in = i < IR_MAX_IN;
        const int k = in ? i : i - IR_MAX_IN;
        const uint32_t t = in ? op->in[k] : op->out[k];
        if (t == IR_NONE || b->seen[t] == b->stamp || !reads(mask, k, in ? IR_IN(0) : IR_OUT(0)))
            continue;
        b->seen[t] = b->stamp;
        kept[in ? rows_of(b, o, k) : op->attrs.capacity ? KEPT_CAPPED : KEPT_PLAIN] += tensor_bytes(b, t);
    }
}

/* The tensors that enter the piece of an operator, and that its backward or the forward that runs again reads. */
static void keep_inputs(struct bound *b, const uint32_t *piece_of, const uint8_t *again, uint32_t o,
                        struct bound_kept *kept)
{
    const struct ir_node_op *op = bound__op(b, o);
    const uint32_t mask = bound__read_by_bi(b, o) | bound__read_by_bw(b, o);
    for (int i = 0; i < IR_MAX_IN; i++) {
        const uint32_t from = bound__maker(b, o, i);
        const bool direct = reads(mask, i, IR_IN(0));
        if (from == IR_NONE || piece_of[from] == piece_of[o] || b->seen[op->in[i]] == b->stamp ||
            (!again[o] && !direct))
            continue;
        b->seen[op->in[i]] = b->stamp;
        kept->inputs[rows_of(b, o, i)] += tensor_bytes(b, op->in[i]);
        kept->direct[rows_of(b, o, i)] += direct ? tensor_bytes(b, op->in[i]) : 0;
    }
}

static void keep_of_stage(struct bound *b, const struct bound_cut *cut, const struct bound_pieces *p,
                          const uint32_t *piece_of, uint32_t stage)
{
    const uint32_t n = b->job.graph->ops.n;
    struct bound_kept *k = &p->kept[stage];
    bool any = false;
    b->stamp++;
    for (uint32_t o = 0; o < n; o++)
        if (cut->stage_of[o] == stage)
            keep(b, o, bound__read_by_bi(b, o) | bound__read_by_bw(b, o), k->all);
    b->stamp++;
    for (uint32_t o = 0; o < n; o++)
        if (cut->stage_of[o] == stage)
            keep(b, o, bound__read_by_bw(b, o), k->behind);
    b->stamp++;
    for (uint32_t o = 0; o < n; o++)
        if (cut->stage_of[o] == stage)
            keep_inputs(b, piece_of, p->again, o, k);
    for (uint32_t o = 0; o < n; o++) {
        if (cut->stage_of[o] != stage)
            continue;
        const bool begins = o == 0 || bound__op(b, o - 1)->block != bound__op(b, o)->block;
        if (begins && bound__maker(b, o, 0) != IR_NONE && (!any || !p->bucket_mib))
            k->first_inputs += tensor_bytes(b, bound__op(b, o)->in[0]);
        any = true;
    }
}

struct bound_pieces *bound__pieces_new(struct bound *b, const struct bound_cut *cut, uint32_t bucket_mib)
{
    struct bound_pieces *p = mem_alloc(sizeof *p);
    uint32_t *piece_of = cut_pieces(b, cut, bucket_mib);
    p->bucket_mib = bucket_mib;
    p->again = mem_alloc(b->job.graph->ops.n + 1);
    p->kept = mem_alloc(cut->n * sizeof *p->kept);
    mark_again(b, piece_of, p->again);
    for (uint32_t i = 0; i < cut->n; i++)
        keep_of_stage(b, cut, p, piece_of, i);
    mem_free(piece_of);
    return p;
}

void bound__pieces_free(struct bound_pieces *p)
{
    mem_free(p->again);
    mem_free(p->kept);
    mem_free(p);
}
