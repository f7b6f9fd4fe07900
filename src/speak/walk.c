#include "speak/walk.h"

#include "ir/target.h"

enum { ALIGN = 64 };

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* What attention reads of all tokens so far: keys and values, or the packed input. */
static bool reads_whole(const struct ir_node_op *o, uint32_t i)
{
    return o->op == IR_OP_ATTENTION && (i > 0 || o->attrs.flags & IR_PACKED);
}

/* A block of memory that tensors have one after the other. */
struct slot {
    unsigned char *at;
    uint64_t bytes;
    uint32_t busy; /* until behind this operator */
};
struct slots {
    VEC(struct slot);
};

/* The smallest that is free and large enough. */
static struct slot *take(struct walk *w, struct slots *slots, uint64_t bytes, uint32_t now)
{
    struct slot *best = NULL;
    for (uint32_t i = 0; i < slots->n; i++) {
        struct slot *s = &slots->at[i];
        if (s->busy < now && s->bytes >= bytes && (!best || s->bytes < best->bytes))
            best = s;
    }
    if (best)
        return best;
    best = vec_push(slots);
    *best = (struct slot){ (void *)round_up((uintptr_t)arena_alloc(&w->memory, bytes + ALIGN), ALIGN), bytes, 0 };
    return best;
}

static uint64_t tensor_bytes(const struct walk *w, const struct ir_node_op *o, uint32_t out, uint32_t tokens)
{
    struct ir_op_shapes s;
    ir_op_shapes((enum ir_op)o->op, &o->attrs, tokens, &s);
    return ir_shape_elements(&s.out[out]) * ir_dtype_size((enum ir_dtype)s.out[out].dtype, w->compute);
}

/* last [tensors]: the operator that reads it last. Marks those that are kept. */
static void find_last(struct walk *w, uint32_t *last)
{
    const struct ir_graph *g = &w->m->graph;
    for (uint32_t k = 0; k < g->ops.n; k++)
        for (uint32_t i = 0; i < ir_op_inputs((enum ir_op)g->ops.at[k].op, &g->ops.at[k].attrs); i++) {
            const uint32_t t = g->ops.at[k].in[i];
            last[t] = k;
            w->tensors[t].kept |= w->room > 0 && reads_whole(&g->ops.at[k], i);
        }
}

static void give_memory(struct walk *w)
{
    const struct ir_graph *g = &w->m->graph;
    uint32_t *last = mem_alloc(g->tensors.n * sizeof *last);
    struct slots slots = { 0 };
    find_last(w, last);
    for (uint32_t k = 0; k < g->ops.n; k++) {
        const struct ir_node_op *o = &g->ops.at[k];
        for (uint32_t i = 0; i < IR_MAX_OUT && o->out[i] != IR_NONE; i++) {
            struct walk_tensor *t = &w->tensors[o->out[i]];
            t->row_bytes = tensor_bytes(w, o, i, 1);
            if (t->kept) {
                t->at = arena_alloc(&w->memory, w->room * t->row_bytes + ALIGN);
                t->at = (void *)round_up((uintptr_t)t->at, ALIGN);
                continue;
            }
            struct slot *s = take(w, &slots, tensor_bytes(w, o, i, w->most), k);
            s->busy = last[o->out[i]] > k ? last[o->out[i]] : k;
            t->at = s->at;
        }
    }
    vec_free(&slots);
    mem_free(last);
}

static uint64_t work_bytes(const struct walk *w)
{
    const struct ir_graph *g = &w->m->graph;
    uint64_t most = 0;
    for (uint32_t k = 0; k < g->ops.n; k++) {
        const uint64_t n = ir_target_cpu.workspace(&(struct ir_kernel){ .op = (enum ir_op)g->ops.at[k].op,
                                                                        .pass = IR_PASS_F,
                                                                        .attrs = &g->ops.at[k].attrs,
                                                                        .b = 1,
                                                                        .t = w->most,
                                                                        .ep = 1,
                                                                        .compute = w->compute,
                                                                        .share = { .keys = w->room } });
        most = n > most ? n : most;
    }
    return most;
}

void walk_open(const struct speak_model *m, uint32_t most, uint32_t room, struct walk *w)
{
    *w = (struct walk){ .m = m, .compute = room ? IR_F32 : m->compute, .most = most, .room = room };
    arena_init(&w->memory);
    w->tensors = mem_alloc(m->graph.tensors.n * sizeof *w->tensors);
    give_memory(w);
    w->work = (void *)round_up((uintptr_t)arena_alloc(&w->memory, work_bytes(w) + ALIGN), ALIGN);
}

void walk_close(struct walk *w)
{
    mem_free(w->tensors);
    arena_release(&w->memory);
}

/* ---- one operator after the other ---------------------------------------------------------------------------------- */

/* From the tokens on that are new. */
static unsigned char *fresh(const struct walk *w, uint32_t tensor)
{
    const struct walk_tensor *t = &w->tensors[tensor];
    return t->kept ? t->at + w->past * t->row_bytes : t->at;
}

static void bind(struct walk *w, const struct ir_node_op *o, struct op_args *a)
{
    for (uint32_t i = 0; i < ir_op_inputs((enum ir_op)o->op, &o->attrs); i++)
        a->in[i] = w->room && reads_whole(o, i) ? w->tensors[o->in[i]].at : fresh(w, o->in[i]);
    for (uint32_t i = 0; i < IR_MAX_OUT && o->out[i] != IR_NONE; i++)
        a->out[i] = fresh(w, o->out[i]);
    for (uint32_t i = 0; i < ir_op_params((enum ir_op)o->op, &o->attrs); i++)
        a->param[i] = w->m->params[o->param[i]].at;
    if (o->attrs.flags & IR_DOCUMENTS)
        a->document = w->document;
    if (w->room && (o->op == IR_OP_ATTENTION || o->op == IR_OP_ROPE || o->op == IR_OP_POS_EMBED))
        a->positions = &w->positions;
}

/* Of the last token alone. */
static void bind_logits(struct walk *w, const struct ir_node_op *o, struct op_args *a)
{
    a->in[0] = (unsigned char *)a->in[0] + (a->t - 1) * w->tensors[o->in[0]].row_bytes;
    a->in[1] = NULL;
    a->t = 1;
    a->logits = w->logits;
}

static void set_inputs(struct walk *w)
{
    static const char *const names[] = { "tokens", "targets", "documents" };
    const int32_t *const at[] = { w->tokens, w->targets, w->document };
    for (int i = 0; i < 3; i++) {
        const uint32_t t = ir_graph_find_input(&w->m->graph, names[i]);
        if (t != IR_NONE)
            w->tensors[t] = (struct walk_tensor){ .at = (unsigned char *)(uintptr_t)at[i] };
    }
}

void walk_run(struct walk *w, uint32_t n)
{
    const struct ir_graph *g = &w->m->graph;
    set_inputs(w);
    w->positions = (struct op_positions){ .t_all = w->room,
                                          .row_s = n,
                                          .row_i = 1,
                                          .key_s = w->past + n,
                                          .key_i = 1,
                                          .run = { { w->past, n }, { 0, 0 } },
                                          .keys = w->past + n,
                                          .parts = 1 };
    for (uint32_t k = 0; k < g->ops.n; k++) {
        const struct ir_node_op *o = &g->ops.at[k];
        struct op_args a = { .attrs = &o->attrs,
                             .op = o->op,
                             .b = 1,
                             .t = n,
                             .ep = 1,
                             .compute = w->compute,
                             .work = w->work,
                             .scalars = w->scalars,
                             .generates = w->room > 0 };
        bind(w, o, &a);
        if (w->room && o->op == IR_OP_HEAD_LOSS && !w->logits)
            continue;
        if (w->room && o->op == IR_OP_HEAD_LOSS)
            bind_logits(w, o, &a);
        if (w->room && ir_op_params((enum ir_op)o->op, &o->attrs) && w->m->params[o->param[0]].half)
            a.weights = IR_BF16;
        compute_cpu.kernel((enum ir_op)o->op, IR_PASS_F)(&a);
    }
    w->past += w->room ? n : 0;
}
