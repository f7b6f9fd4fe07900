/* From tapes and operators to programs: every value gets a slot and an offset.
 *
 * Inside a program kernels run one after the other on one stream, so places in the temporary frame are shared by liveness in
 * list order, and a chain of partial gradients (each kernel adds to the value before it) shares one place. */
#include "sched/lower/program.h"

#include <stdlib.h>

void programs_init(struct programs *ps, struct sched *s, struct plan_builder *pb)
{
    *ps = (struct programs){ .s = s, .pb = pb };
    ps->has_grad = find_gradients(s->g);
    ps->first_tape = mem_alloc((s->chunks.subs.n + 1) * sizeof(uint32_t));
    ps->first_program = mem_alloc((s->chunks.subs.n + 1) * sizeof(uint32_t));
    memset(ps->first_tape, 0xff, s->chunks.subs.n * sizeof(uint32_t));
    memset(ps->first_program, 0xff, s->chunks.subs.n * sizeof(uint32_t));
    ps->param_offset = mem_alloc((s->g->params.n + 1) * sizeof(uint64_t));
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        uint64_t at = 0, align = elements_of(&s->buckets.at[b], s->in->target->alignment);
        for (uint32_t i = 0; i < s->buckets.at[b].n_params; i++) {
            uint32_t p = s->bucket_params.at[s->buckets.at[b].first_param + i];
            at = round_up(at, align);
            ps->param_offset[p] = at;
            at += s->cuts[p].count;
        }
    }
}

void programs_release(struct programs *ps)
{
    for (uint32_t i = 0; i < ps->tapes.n; i++)
        tape_free(ps->tapes.at[i]);
    vec_free(&ps->tapes);
    vec_free(&ps->refs);
    mem_free(ps->first_tape);
    mem_free(ps->first_program);
    mem_free(ps->keys);
    mem_free(ps->has_grad);
    mem_free(ps->param_offset);
}

/* Do the backwards of two microbatches compute the same again, and do the same dispatches run again before them? */
static bool same_backward(const struct sched *s, const struct ir_sub *sub, uint32_t a, uint32_t b)
{
    bool same = side_recomputes(s, sub, a) == side_recomputes(s, sub, b);
    for (uint32_t i = 0; i < sub->n_ops && same && a != b; i++) {
        const uint32_t o = s->chunks.ops.at[sub->first_op + i];
        same = again_permutes(s, o, a) == again_permutes(s, o, b);
    }
    return same;
}

const struct tape *tape_get(struct programs *ps, uint32_t sub, uint32_t mb, const uint32_t *parts)
{
    const struct ir_sub *u = &ps->s->chunks.subs.at[sub];
    for (uint32_t i = ps->first_tape[sub]; i != IR_NONE; i = ps->tapes.at[i]->next) {
        struct tape *t = ps->tapes.at[i];
        if (same_backward(ps->s, u, t->mb, mb) && !memcmp(t->parts, parts, u->n_out * sizeof *parts))
            return t;
    }
    struct tape *t = tape_build(ps, sub, mb, parts);
    t->next = ps->first_tape[sub];
    ps->first_tape[sub] = ps->tapes.n;
    vec_add(&ps->tapes, t);
    return t;
}

/* ---- a program in the making ------------------------------------------------------------------------------------- */

struct place {
    uint32_t slot;
    uint64_t offset;
};
struct temp { /* a value in the temporary frame, alive from kernel `from` to kernel `to` */
    uint64_t bytes, offset;
    uint32_t from, to;
};
enum { BLOCK = 32 };
struct temp_block { /* the temporaries that are alive in one of its kernels */
    VEC(uint32_t);
};
struct program_maker {
    struct programs *ps;
    struct sched *s;
    uint32_t first_slot, first_kernel;
    uint32_t ep;            /* devices that the experts are split over */
    uint32_t tokens, parts; /* of plan_program */
    uint64_t temp_bytes;
    struct {
        VEC(struct temp);
    } temps; /* of this program, placed */
    struct {
        VEC(struct temp_block);
    } blocks; /* by BLOCK kernels of the program */
};

static uint32_t slot(struct program_maker *m, struct slot_ref ref, uint64_t bytes, uint32_t access,
                     enum plan_slot_kind kind)
{
    struct plan_builder *pb = m->ps->pb;
    for (uint32_t i = m->first_slot; i < pb->slots.n; i++) {
        struct slot_ref *r = &m->ps->refs.at[i];
        if (r->what == ref.what && r->id == ref.id && r->index == ref.index) {
            pb->slots.at[i].access |= access;
            return i - m->first_slot;
        }
    }
    vec_add(&m->ps->refs, ref);
    *vec_push(&pb->slots) = (struct plan_slot){ .bytes = bytes, .access = access, .kind = kind };
    return pb->slots.n - 1 - m->first_slot;
}

/* Behind those of a block that are in the way of t where it lies. */
static uint64_t behind(const struct program_maker *m, const struct temp_block *b, struct temp t)
{
    for (uint32_t i = 0; i < b->n; i++) {
        const struct temp *x = &m->temps.at[b->at[i]];
        if (x->from <= t.to && t.from <= x->to && x->offset < t.offset + t.bytes && t.offset < x->offset + x->bytes)
            t.offset = x->offset + x->bytes;
    }
    return t.offset;
}

/* First fit among the temporaries that are alive at the same time. */
static uint64_t place_temp(struct program_maker *m, uint64_t bytes, uint32_t from, uint32_t to)
{
    struct temp t = { .bytes = round_up(bytes ? bytes : 1, m->s->in->target->alignment), .from = from, .to = to };
    while (m->blocks.n <= to / BLOCK)
        *vec_push(&m->blocks) = (struct temp_block){ 0 };
    for (uint64_t was = UINT64_MAX; was != t.offset;) {
        was = t.offset;
        for (uint32_t b = from / BLOCK; b <= to / BLOCK; b++)
            t.offset = behind(m, &m->blocks.at[b], t);
    }
    for (uint32_t b = from / BLOCK; b <= to / BLOCK; b++)
        vec_add(&m->blocks.at[b], m->temps.n);
    vec_add(&m->temps, t);
    m->temp_bytes = t.offset + t.bytes > m->temp_bytes ? t.offset + t.bytes : m->temp_bytes;
    return t.offset;
}

static uint32_t temp_slot(struct program_maker *m)
{
    return slot(m, (struct slot_ref){ WHAT_TEMP, 0, 0 }, 0, PLAN_READ | PLAN_WRITE, SLOT_TEMP);
}

static void operand(struct program_maker *m, struct plan_kernel *k, uint32_t index, struct place p, uint32_t flags)
{
    k->mask |= UINT64_C(1) << index;
    *vec_push(&m->ps->pb->operands) = (struct plan_operand){ .slot = p.slot, .flags = flags, .offset = p.offset };
}

static struct plan_kernel *kernel(struct program_maker *m, uint32_t op, uint32_t graph_op, enum ir_pass pass,
                                  uint64_t n)
{
    struct plan_builder *pb = m->ps->pb;
    struct plan_kernel *k = vec_push(&pb->kernels);
    *k = (struct plan_kernel){
        .op = op, .graph_op = graph_op, .pass = (uint8_t)pass, .first_operand = pb->operands.n, .n = n
    };
    if (!m->s->sides || graph_op == PLAN_NONE || !m->s->sides[graph_op].split)
        return k;
    k->split = m->s->sides[graph_op].split;
    k->parts = m->s->sides[graph_op].parts;
    m->parts = k->split == IR_TURNED   ? m->ps->heads_group
               : k->split == IR_COUNTS ? m->ps->pb->h.share_group
                                       : m->ps->tensor_group;
    return k;
}

static void work(struct program_maker *m, struct plan_kernel *k, uint32_t at)
{
    if (k->graph_op == PLAN_NONE)
        return;
    const struct ir_attrs local = side_attrs(m->s, k->graph_op);
    uint64_t bytes = m->s->in->target->workspace(&(struct ir_kernel){ .op = (enum ir_op)k->op,
                                                                      .pass = (enum ir_pass)k->pass,
                                                                      .attrs = &local,
                                                                      .b = m->s->microbatch_size,
                                                                      .t = side_op_tokens(m->s, k->graph_op),
                                                                      .ep = m->ep,
                                                                      .compute = m->s->in->compute,
                                                                      .share = side_share(m->s, k->graph_op) });
    if (bytes)
        operand(m, k, OPERAND_WORK, (struct place){ temp_slot(m), place_temp(m, bytes, at, at) }, 0);
}

static struct place param_place(struct program_maker *m, uint32_t param, bool gradient)
{
    uint32_t b = m->s->bucket_of[param];
    const enum ir_dtype type = m->s->buckets.at[b].type;
    uint32_t size = gradient ? 4 : ir_dtype_size(type, type);
    uint32_t i = slot(m, (struct slot_ref){ gradient ? WHAT_GRAD : WHAT_PARAM, b, 0 },
                      m->s->buckets.at[b].elements * size, gradient ? PLAN_READ | PLAN_WRITE : PLAN_READ,
                      gradient ? SLOT_GRAD : SLOT_PARAM);
    return (struct place){ i, m->ps->param_offset[param] * size };
}

/* A tensor that crosses the sub-chunk's border has a buffer of its own. */
static bool crossing_place(struct program_maker *m, const struct ir_sub *sub, uint32_t tensor, bool outputs,
                           uint32_t access, struct place *p)
{
    if (!tensor_crosses(m->s, sub, tensor, outputs))
        return false;
    const struct ir_shape shape = side_tensor(m->s, sub, tensor);
    *p = (struct place){ slot(m, (struct slot_ref){ WHAT_TENSOR, tensor, 0 }, value_bytes(m->s, sub->chunk, &shape),
                              access, SLOT_TENSOR),
                         0 };
    return true;
}

static uint32_t keep_slot(struct program_maker *m, const struct tape *t, uint32_t frame, uint32_t access)
{
    return slot(m, (struct slot_ref){ WHAT_KEEP, frame, 0 }, t->keep_bytes[frame], access, SLOT_KEEP);
}

static uint32_t sent_slot(struct program_maker *m, const struct tape *t, uint32_t access)
{
    return slot(m, (struct slot_ref){ WHAT_SENT, 0, 0 }, t->sent_bytes, access, SLOT_KEEP);
}

/* ---- forward ------------------------------------------------------------------------------------------------------ */

/* By tensor made or read in the sub-chunk: the last operator (position in it) that has it. Owned by the caller. */
static uint32_t *last_uses(const struct sched *s, const struct ir_sub *sub)
{
    uint32_t *last = mem_alloc((s->g->tensors.n + 1) * sizeof *last);
    for (uint32_t i = 0; i < sub->n_ops; i++) {
        const struct ir_node_op *op = &s->g->ops.at[s->chunks.ops.at[sub->first_op + i]];
        for (int k = 0; k < IR_MAX_IN; k++)
            if (op->in[k] != IR_NONE)
                last[op->in[k]] = i;
        for (int k = 0; k < IR_MAX_OUT; k++)
            if (op->out[k] != IR_NONE)
                last[op->out[k]] = i;
    }
    return last;
}

/* The last operator that reads what the one at position i saved as number j, in the forward: itself, or a dispatch that reads its
 * counts. */
static uint32_t last_use_of_saved(const struct sched *s, const struct ir_sub *sub, uint32_t i, uint32_t j)
{
    const uint32_t o = s->chunks.ops.at[sub->first_op + i];
    uint32_t last = i;
    for (uint32_t k = i; k < sub->n_ops && side_is_kept(s, o, j); k++)
        if (side_counts(s, s->chunks.ops.at[sub->first_op + k]) == o)
            last = k;
    return last;
}

/* A value that the operator at position `from` makes, and the one at `to` is the last to read. */
struct made {
    enum value_kind kind;
    uint32_t a, b; /* struct value */
    uint64_t bytes;
    uint32_t from, to;
};

static struct place made_place(struct program_maker *m, const struct ir_sub *sub, const struct tape *t,
                               struct made made)
{
    struct place p;
    if (made.kind == VALUE_TENSOR && crossing_place(m, sub, made.a, true, PLAN_WRITE, &p))
        return p;
    uint32_t v = t ? tape_find(t, made.kind, made.a, made.b) : IR_NONE;
    if (v != IR_NONE && t->keep_frame[v] != 0xff)
        return (struct place){ keep_slot(m, t, t->keep_frame[v], PLAN_WRITE), t->keep_offset[v] };
    if (v != IR_NONE && t->sent_offset[v] != UINT64_MAX)
        return (struct place){ sent_slot(m, t, PLAN_WRITE), t->sent_offset[v] };
    return (struct place){ temp_slot(m), place_temp(m, made.bytes, made.from, made.to) };
}

/* The forward of a sub-chunk. */
struct forward {
    struct program_maker *m;
    const struct ir_sub *sub;
    const struct tape *t;
    struct place *at;   /* of tensors made here */
    struct place *told; /* by operator: of the counts that a router here tells */
    uint32_t *last;     /* last_uses() */
};

static void forward_inputs(struct forward *f, struct plan_kernel *k, uint32_t o)
{
    const struct ir_node_op *op = &f->m->s->g->ops.at[o];
    const uint32_t router = side_counts(f->m->s, o);
    for (uint32_t j = 0; j < IR_MAX_IN; j++) {
        struct place p;
        if (router != IR_NONE && j == side_counts_input)
            operand(f->m, k, OPERAND_IN + j, f->told[router], 0);
        if (op->in[j] == IR_NONE)
            continue;
        if (!crossing_place(f->m, f->sub, op->in[j], true, PLAN_READ, &p))
            p = f->at[op->in[j]];
        operand(f->m, k, OPERAND_IN + j, p, 0);
    }
}

/* Of the operator at position i. */
static void forward_outputs(struct forward *f, struct plan_kernel *k, uint32_t i)
{
    struct sched *s = f->m->s;
    const uint32_t o = s->chunks.ops.at[f->sub->first_op + i], chunk = f->sub->chunk;
    const struct ir_node_op *op = &s->g->ops.at[o];
    struct ir_op_shapes shapes;
    side_shapes(s, o, &shapes);
    for (uint32_t j = 0; j < IR_MAX_OUT; j++) {
        if (op->out[j] == IR_NONE)
            continue;
        const uint64_t bytes = value_bytes(s, chunk, &shapes.out[j]);
        f->at[op->out[j]] = made_place(f->m, f->sub, f->t,
                                       (struct made){ VALUE_TENSOR, op->out[j], 0, bytes, i, f->last[op->out[j]] });
        operand(f->m, k, OPERAND_OUT + j, f->at[op->out[j]], 0);
    }
    for (uint32_t j = 0; j < IR_MAX_SAVE; j++) {
        if (!shapes.save[j].ndim || (!f->t && !j && op->op == IR_OP_HEAD_LOSS))
            continue; /* no gradient in place of logits in eval */
        const struct made made = { VALUE_SAVE, o,
                                   j,          value_bytes(s, chunk, &shapes.save[j]),
                                   i,          last_use_of_saved(s, f->sub, i, j) };
        const struct place p = made_place(f->m, f->sub, f->t, made);
        operand(f->m, k, OPERAND_SAVE + j, p, 0);
        if (side_is_kept(s, o, j))
            f->told[o] = p;
    }
}

static void forward(struct program_maker *m, const struct ir_sub *sub, const struct tape *t)
{
    struct sched *s = m->s;
    struct forward f = { .m = m, .sub = sub, .t = t, .last = last_uses(s, sub) };
    f.at = mem_alloc((s->g->tensors.n + 1) * sizeof *f.at);
    f.told = mem_alloc((s->g->ops.n + 1) * sizeof *f.told);
    for (uint32_t i = 0; i < sub->n_ops; i++) {
        const uint32_t o = s->chunks.ops.at[sub->first_op + i];
        const struct ir_node_op *op = &s->g->ops.at[o];
        struct plan_kernel *k = kernel(m, op->op, o, IR_PASS_F, 0);
        forward_inputs(&f, k, o);
        forward_outputs(&f, k, i);
        for (uint32_t j = 0; j < IR_MAX_PARAM; j++)
            if (op->param[j] != IR_NONE)
                operand(m, k, OPERAND_PARAM + j, param_place(m, op->param[j], false), 0);
        work(m, k, i);
    }
    mem_free(f.at);
    mem_free(f.told);
    mem_free(f.last);
}

/* ---- backward ------------------------------------------------------------------------------------------------------ */

struct backward {
    struct program_maker *m;
    const struct ir_sub *sub;
    const struct tape *t;
    enum ir_pass pass;
    uint32_t part;          /* of BW: struct ir_node */
    uint32_t *first, *last; /* by value: steps of this program that make and last use it; IR_NONE */
    uint32_t *join;         /* by value: the value whose place it shares, itself at the end of a chain */
    struct place *at;       /* by value, of those in the temporary frame */
};

static bool in_program(const struct backward *bw, const struct step *k)
{
    return bw->pass == IR_PASS_B || (k->pass == IR_PASS_BW) == (bw->pass == IR_PASS_BW);
}

/* Has the program this operand of a step? Of a BW in parts those that its part gives, and what they need. */
static bool has_operand(const struct backward *bw, const struct step *k, uint32_t j)
{
    if (k->operand[j] == IR_NONE || !bw->part || k->pass != IR_PASS_BW)
        return k->operand[j] != IR_NONE;
    const struct ir_node_op *op = &bw->m->s->g->ops.at[k->graph_op];
    const uint32_t params = ir_op_bw_params((enum ir_op)k->op, &op->attrs, bw->part - 1);
    if (j >= OPERAND_DPARAM)
        return params >> (j - OPERAND_DPARAM) & 1;
    const uint32_t bit = j < OPERAND_OUT     ? IR_IN(j - OPERAND_IN)
                         : j < OPERAND_SAVE  ? IR_OUT(j - OPERAND_OUT)
                         : j < OPERAND_STASH ? IR_SAVE(j - OPERAND_SAVE)
                         : j < OPERAND_PARAM ? IR_STASH(j - OPERAND_STASH)
                         : j < OPERAND_DOUT  ? IR_PARAM(j - OPERAND_PARAM)
                                             : IR_DOUT(j - OPERAND_DOUT);
    return ir_op_bw_reads((enum ir_op)k->op, params) & bit;
}

/* Is v what travels between the pieces of a ring? */
static bool is_ring(const struct backward *bw, uint32_t v)
{
    const struct value *val = &bw->t->values.at[v];
    return val->kind == VALUE_STASH && val->b == 1 && side_ring(bw->m->s, bw->sub) == val->a;
}

/* Is the place of v the temporary frame of this program? */
static bool is_temp(const struct backward *bw, uint32_t v)
{
    const struct value *val = &bw->t->values.at[v];
    if (is_ring(bw, v))
        return false;
    bool made = val->kind == VALUE_GRAD || val->kind == VALUE_STASH;
    if (bw->t->keep_frame[v] != 0xff)
        return false;
    if (bw->t->recompute)
        made = made || val->kind == VALUE_SAVE ||
               (val->kind == VALUE_TENSOR && !tensor_crosses(bw->m->s, bw->sub, val->a, false));
    return made && !val->leaves && (bw->pass == IR_PASS_B || bw->t->stash_offset[v] == UINT64_MAX);
}

static void find_lives(struct backward *bw)
{
    const struct tape *t = bw->t;
    for (uint32_t v = 0; v < t->values.n; v++) {
        bw->first[v] = IR_NONE;
        bw->join[v] = v;
    }
    for (uint32_t k = 0; k < t->steps.n; k++)
        for (uint32_t i = 0; i < OPERAND_COUNT; i++) {
            uint32_t v = t->steps.at[k].operand[i];
            if (!in_program(bw, &t->steps.at[k]) || !has_operand(bw, &t->steps.at[k], i))
                continue;
            bw->first[v] = bw->first[v] == IR_NONE ? k : bw->first[v];
            bw->last[v] = k;
        }
}

/* din may take the place of acc where nothing reads acc afterwards, or beside it in the same kernel. */
static void find_chains(struct backward *bw)
{
    for (uint32_t k = 0; k < bw->t->steps.n; k++) {
        const struct step *step = &bw->t->steps.at[k];
        if (!in_program(bw, step))
            continue;
        for (int i = 0; i < IR_MAX_IN; i++) {
            uint32_t acc = step->operand[OPERAND_ACC + i], din = step->operand[OPERAND_DIN + i], uses = 0;
            if (acc == IR_NONE || !is_temp(bw, acc) || bw->last[acc] != k)
                continue;
            for (int j = 0; j < OPERAND_COUNT; j++)
                uses += step->operand[j] == acc;
            if (uses == 1)
                bw->join[acc] = din;
        }
    }
    for (uint32_t v = bw->t->values.n;
         v-- > 0;) { /* a later value of a chain has a larger number: roots are done first */
        uint32_t root = bw->join[v];
        if (root == v)
            continue;
        bw->join[v] = bw->join[root];
        root = bw->join[v];
        bw->first[root] = bw->first[v] < bw->first[root] ? bw->first[v] : bw->first[root];
    }
}

/* In the order in which they are made. */
static void place_temps(struct backward *bw)
{
    uint32_t n = bw->t->values.n,
             *made = mem_alloc((bw->t->steps.n + 1) * sizeof *made), /* by step: the first of its */
                 *next = mem_alloc((n + 1) * sizeof *next);
    memset(made, 0xff, bw->t->steps.n * sizeof *made);
    for (uint32_t v = n; v-- > 0;)
        if (bw->first[v] != IR_NONE && bw->join[v] == v && is_temp(bw, v)) {
            next[v] = made[bw->first[v]];
            made[bw->first[v]] = v;
        }
    for (uint32_t k = 0; k < bw->t->steps.n; k++)
        for (uint32_t v = made[k]; v != IR_NONE; v = next[v])
            bw->at[v] = (struct place){ temp_slot(bw->m),
                                        place_temp(bw->m, bw->t->values.at[v].bytes, k, bw->last[v]) };
    mem_free(made);
    mem_free(next);
}

static struct place value_place(struct backward *bw, uint32_t v, uint32_t access)
{
    struct place p;
    v = bw->join[v];
    const struct value *val = &bw->t->values.at[v];
    switch ((enum value_kind)val->kind) {
    case VALUE_PARAM:
    case VALUE_DPARAM:
        return param_place(bw->m, val->a, val->kind == VALUE_DPARAM);
    case VALUE_PART:
        return (struct place){
            slot(bw->m, (struct slot_ref){ WHAT_PART, val->a, val->b }, val->bytes, access, SLOT_GRADIENT), 0
        };
    case VALUE_TENSOR:
        if (crossing_place(bw->m, bw->sub, val->a, !bw->t->recompute, access, &p))
            return p;
        break;
    case VALUE_GRAD:
        if (val->leaves)
            return (struct place){
                slot(bw->m, (struct slot_ref){ WHAT_LEAVING, val->a, 0 }, val->bytes, access, SLOT_GRADIENT), 0
            };
        break;
    case VALUE_SAVE:
    case VALUE_STASH:
        break;
    }
    if (is_ring(bw, v))
        return (struct place){ slot(bw->m, (struct slot_ref){ WHAT_RING, 0, 0 }, val->bytes, access, SLOT_RING), 0 };
    if (bw->t->keep_frame[v] != 0xff)
        return (struct place){ keep_slot(bw->m, bw->t, bw->t->keep_frame[v], access), bw->t->keep_offset[v] };
    if (is_temp(bw, v))
        return bw->at[v];
    CHECK(bw->t->stash_offset[v] != UINT64_MAX);
    return (struct place){ slot(bw->m, (struct slot_ref){ WHAT_STASH, 0, 0 }, bw->t->stash_bytes, access, SLOT_STASH),
                           bw->t->stash_offset[v] };
}

static void backward(struct program_maker *m, const struct program_key *key)
{
    const struct tape *t = key->tape;
    uint32_t n = t->values.n + 1;
    struct backward bw = {
        .m = m, .sub = &m->s->chunks.subs.at[key->sub], .t = t, .pass = (enum ir_pass)key->pass, .part = key->part
    };
    bw.first = mem_alloc(n * sizeof(uint32_t));
    bw.last = mem_alloc(n * sizeof(uint32_t));
    bw.join = mem_alloc(n * sizeof(uint32_t));
    bw.at = mem_alloc(n * sizeof *bw.at);
    find_lives(&bw);
    find_chains(&bw);
    place_temps(&bw);
    for (uint32_t i = 0; i < t->steps.n; i++) {
        const struct step *step = &t->steps.at[i];
        if (!in_program(&bw, step))
            continue;
        struct plan_kernel *k = kernel(m, step->op, step->graph_op, (enum ir_pass)step->pass, step->n);
        k->again = step->pass == IR_PASS_F;
        k->type = (uint8_t)step->type;
        k->tensor = step->tensor;
        for (uint32_t j = 0; j < OPERAND_WORK; j++) {
            if (!has_operand(&bw, step, j))
                continue;
            bool add = j >= OPERAND_DPARAM && (step->add >> (j - OPERAND_DPARAM) & 1);
            operand(m, k, j, value_place(&bw, step->operand[j], step_writes(step, j) ? PLAN_WRITE : PLAN_READ),
                    add ? PLAN_OPERAND_ADD : 0);
        }
        work(m, k, i);
    }
    mem_free(bw.first);
    mem_free(bw.last);
    mem_free(bw.join);
    mem_free(bw.at);
}

/* ---- the table of programs ------------------------------------------------------------------------------------------ */

static struct program_maker begin(struct programs *ps, uint32_t sub)
{
    return (struct program_maker){ .ps = ps,
                                   .s = ps->s,
                                   .ep = expert_parts(ps->s, ps->s->chunks.subs.at[sub].chunk),
                                   .tokens = side_program_tokens(ps->s, &ps->s->chunks.subs.at[sub]),
                                   .first_slot = ps->pb->slots.n,
                                   .first_kernel = ps->pb->kernels.n };
}

/* Pieces behind the first of the program that is made. */
static uint32_t later_pieces(const struct program_maker *m, const struct ir_sub *sub, uint32_t pass)
{
    const struct plan_builder *pb = m->ps->pb;
    const bool backward = pass == IR_PASS_B || pass == IR_PASS_BI;
    uint32_t n = 0;
    if (side_ring(m->s, sub) != IR_NONE)
        return pass == IR_PASS_F ? m->s->share.context - 1 : backward ? m->s->share.context : 0;
    for (uint32_t k = m->first_kernel; k < pb->kernels.n; k++)
        n += plan_told(&pb->kernels.at[k]) < OPERAND_COUNT;
    return n;
}

static uint32_t finish(struct program_maker *m, struct program_key key)
{
    struct programs *ps = m->ps;
    struct plan_builder *pb = ps->pb;
    for (uint32_t i = m->first_slot; i < pb->slots.n; i++)
        if (pb->slots.at[i].kind == SLOT_TEMP)
            pb->slots.at[i].bytes = m->temp_bytes;
    *vec_push(
        &pb->programs) = (struct plan_program){ .chunk = m->s->chunks.subs.at[key.sub].chunk,
                                                .sub = key.sub,
                                                .pass = key.pass,
                                                .first_kernel = m->first_kernel,
                                                .n_kernels = pb->kernels.n - m->first_kernel,
                                                .first_slot = m->first_slot,
                                                .n_slots = pb->slots.n - m->first_slot,
                                                .ep = m->ep,
                                                .tokens = m->tokens,
                                                .parts = m->parts,
                                                .phases = later_pieces(m, &m->s->chunks.subs.at[key.sub], key.pass),
                                                .eval = key.pass == IR_PASS_F && !key.tape };
    vec_reserve_((void **)&ps->keys, &ps->keys_cap, pb->programs.n, sizeof *ps->keys);
    key.next = ps->first_program[key.sub];
    ps->first_program[key.sub] = pb->programs.n - 1;
    ps->keys[pb->programs.n - 1] = key;
    for (uint32_t b = 0; b < m->blocks.n; b++)
        vec_free(&m->blocks.at[b]);
    vec_free(&m->blocks);
    vec_free(&m->temps);
    return pb->programs.n - 1;
}

static uint32_t find_program(const struct programs *ps, struct program_key key)
{
    for (uint32_t i = ps->first_program[key.sub]; i != IR_NONE; i = ps->keys[i].next) {
        const struct program_key *k = &ps->keys[i];
        if (k->pass == key.pass && k->tensor == key.tensor && k->parts == key.parts && k->layout == key.layout &&
            k->tape == key.tape && k->part == key.part)
            return i;
    }
    return IR_NONE;
}

uint32_t program_get(struct programs *ps, uint32_t sub, enum ir_pass pass, uint32_t part, const struct tape *tape)
{
    struct program_key key = { .sub = sub, .pass = pass, .part = part, .tape = tape };
    uint32_t found = find_program(ps, key);
    if (found != IR_NONE)
        return found;
    struct program_maker m = begin(ps, sub);
    if (pass == IR_PASS_F)
        forward(&m, &ps->s->chunks.subs.at[sub], tape);
    else
        backward(&m, &key);
    return finish(&m, key);
}

uint32_t program_sum(struct programs *ps, const struct sum_program *sum)
{
    struct program_key key = {
        .sub = sum->sub, .pass = IR_PASS_NONE, .tensor = sum->tensor, .parts = sum->parts, .layout = sum->layout
    };
    uint32_t found = find_program(ps, key);
    if (found != IR_NONE)
        return found;
    struct program_maker m = begin(ps, sum->sub);
    uint32_t chunk = ps->s->chunks.subs.at[sum->sub].chunk, tensor = sum->tensor;
    uint64_t bytes = value_bytes(ps->s, chunk, &sum->shape), n = value_elements(ps->s, chunk, &sum->shape);
    struct place out = {
        slot(&m, (struct slot_ref){ WHAT_LEAVING, tensor, 0 }, bytes, PLAN_READ | PLAN_WRITE, SLOT_GRADIENT), 0
    };
    struct place total = { slot(&m, (struct slot_ref){ WHAT_PART, tensor, 0 }, bytes, PLAN_READ, SLOT_GRADIENT), 0 };
    for (uint32_t i = 1; i < sum->parts; i++) {
        struct place part = { slot(&m, (struct slot_ref){ WHAT_PART, tensor, i }, bytes, PLAN_READ, SLOT_GRADIENT), 0 };
        struct plan_kernel *k = kernel(&m, IR_OP_SUM, PLAN_NONE, IR_PASS_BI, n);
        k->type = sum->shape.dtype;
        k->tensor = tensor;
        operand(&m, k, OPERAND_IN, total, 0);
        operand(&m, k, OPERAND_IN + 1, part, 0);
        operand(&m, k, OPERAND_OUT, out, 0);
        total = out;
    }
    return finish(&m, key);
}

uint32_t program_turn(struct programs *ps, const struct turn_program *turn)
{
    struct program_key key = {
        .sub = turn->sub, .pass = IR_PASS_NONE, .tensor = turn->tensor, .parts = turn->grad, .layout = turn->layout
    };
    uint32_t found = find_program(ps, key), chunk = ps->s->chunks.subs.at[turn->sub].chunk;
    if (found != IR_NONE)
        return found;
    struct program_maker m = begin(ps, turn->sub);
    const bool blocks = turn->layout == IR_LAYOUT_BLOCKS;
    const enum plan_slot_kind kind = turn->grad ? SLOT_GRADIENT : SLOT_TENSOR;
    const uint64_t bytes = value_bytes(ps->s, chunk, &turn->shape), n = value_elements(ps->s, chunk, &turn->shape);
    const struct place in = { slot(&m, (struct slot_ref){ WHAT_TENSOR, turn->tensor, 0 }, bytes, PLAN_READ, kind), 0 },
                       out = { slot(&m, (struct slot_ref){ WHAT_TENSOR, turn->tensor, 1 }, bytes, PLAN_WRITE, kind),
                               0 };
    m.tokens = ps->s->g->seq_len / ps->s->share.context;
    struct plan_kernel *k = kernel(&m, blocks ? IR_OP_TO_BLOCKS : IR_OP_FROM_BLOCKS, PLAN_NONE, IR_PASS_BI, n);
    k->type = turn->shape.dtype;
    k->tensor = turn->tensor;
    operand(&m, k, OPERAND_IN, in, 0);
    operand(&m, k, OPERAND_OUT, out, 0);
    return finish(&m, key);
}

/* ---- a dispatch again ------------------------------------------------------------------------------------------------ */

/* Where the forward has left what a dispatch reads: in a buffer of its own, or in a frame. */
static struct place left_place(struct program_maker *m, const struct ir_sub *sub, const struct tape *t,
                               enum value_kind kind, uint32_t a, uint32_t b)
{
    struct place p;
    if (kind == VALUE_TENSOR && crossing_place(m, sub, a, true, PLAN_READ, &p))
        return p;
    const uint32_t v = tape_find(t, kind, a, b);
    CHECK(v != IR_NONE);
    if (t->keep_frame[v] != 0xff)
        return (struct place){ keep_slot(m, t, t->keep_frame[v], PLAN_READ), t->keep_offset[v] };
    CHECK(t->sent_offset[v] != UINT64_MAX);
    return (struct place){ sent_slot(m, t, PLAN_READ), t->sent_offset[v] };
}

/* The rows go to their all-to-all; slots and counts are what they were, and nobody reads them. */
static void again_outputs(struct program_maker *m, const struct ir_sub *sub, struct plan_kernel *k, uint32_t rows)
{
    const struct ir_node_op *op = &m->s->g->ops.at[k->graph_op];
    struct ir_op_shapes shapes;
    side_shapes(m->s, k->graph_op, &shapes);
    for (uint32_t j = 0; j < IR_MAX_OUT; j++) {
        if (op->out[j] == IR_NONE)
            continue;
        const uint64_t bytes = value_bytes(m->s, sub->chunk, &shapes.out[j]);
        const struct slot_ref made = { WHAT_TENSOR, rows, MADE_AGAIN };
        struct place p = { 0 };
        if (op->out[j] == rows)
            p.slot = slot(m, made, bytes, PLAN_WRITE, SLOT_TENSOR);
        else
            p = (struct place){ temp_slot(m), place_temp(m, bytes, 0, 0) };
        operand(m, k, OPERAND_OUT + j, p, 0);
    }
}

uint32_t program_again(struct programs *ps, uint32_t sub, uint32_t rows, const struct tape *tape)
{
    struct program_key key = { .sub = sub, .pass = IR_PASS_NONE, .tensor = rows, .tape = tape };
    uint32_t found = find_program(ps, key);
    if (found != IR_NONE)
        return found;
    struct program_maker m = begin(ps, sub);
    const struct ir_sub *u = &ps->s->chunks.subs.at[sub];
    const uint32_t o = ps->s->g->tensors.at[rows].producer, router = side_counts(ps->s, o);
    const struct ir_node_op *op = &ps->s->g->ops.at[o];
    struct plan_kernel *k = kernel(&m, op->op, o, IR_PASS_F, 0);
    k->again = 1;
    for (uint32_t j = 0; j < IR_MAX_IN; j++) {
        if (router != IR_NONE && j == side_counts_input)
            operand(&m, k, OPERAND_IN + j, left_place(&m, u, tape, VALUE_SAVE, router, 1), 0);
        if (op->in[j] != IR_NONE)
            operand(&m, k, OPERAND_IN + j, left_place(&m, u, tape, VALUE_TENSOR, op->in[j], 0), 0);
    }
    again_outputs(&m, u, k, rows);
    work(&m, k, 0);
    return finish(&m, key);
}
