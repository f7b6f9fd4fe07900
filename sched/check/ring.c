/* Rings: keys and values of the context parts come one after the other (piper-strategy(5), shard, exchange "ring"). The program of an
 * attention runs in as many pieces as there are parts, in a backward in one more. Between two pieces all members of a context group give what
 * they have to the next one. So piece k has what began k members before: proven is that it has been shifted k times from the device's own
 * tensors, and nothing else. The gradients of keys and values go the same way, and each piece adds to them once; the last piece has those that
 * have been around, and takes them. */
#include "sched/check/values.h"

#include <inttypes.h>

static enum status wrong(const struct values *v, uint32_t i, const struct plan_instr *in, const char *what)
{
    return check_wrong(v->c, RULE_VALUE, (struct check_place){ v->cls, v->l, i }, "piece %" PRIu64 " of program %u %s",
                       in->count, in->program, what);
}

/* The piece before, with nothing but shifts between; NULL: something else stands there. */
static const struct plan_instr *piece_before(const struct plan_instr *first, const struct plan_instr *in)
{
    const struct plan_instr *before = in;
    while (before > first && (--before)->op == PLAN_SHIFT)
        ;
    return before < in && before->op == PLAN_RUN && before->program == in->program && before->mb == in->mb &&
                   before->count + 1 == in->count && before->stream == in->stream
               ? before
               : NULL;
}

/* Does the slot have keys or values: a tensor that the ring's attention reads as such? */
static bool has_keys(const struct values *v, const struct plan_kernel *ring, uint32_t buffer, uint32_t kind)
{
    const struct ir_node_op *op = &v->c->g->ops.at[ring->graph_op];
    const uint32_t tensor = v->p->buffers[buffer].what;
    return kind == SLOT_TENSOR && (tensor == op->in[1] || tensor == op->in[2]);
}

/* A base of a later piece, against that of the piece before and of the first. */
static enum status check_base(struct values *v, uint32_t i, uint32_t k, const struct plan_instr *before,
                              const struct plan_kernel *ring)
{
    const struct plan_instr *in = &check_instrs(v->c, v->l, v->cls)[i];
    const struct plan_program *g = &v->p->programs[in->program];
    const struct plan_base *b = &v->p->bases[in->first_base + k], *was = &v->p->bases[before->first_base + k];
    const uint32_t kind = v->p->slots[g->first_slot + k].kind;
    const bool keys = b->arena == ARENA_WORK && has_keys(v, ring, b->buffer, kind),
               home = in->count == v->p->h->context;
    if (kind != SLOT_RING && !keys)
        return memcmp(b, was, sizeof *b) == 0 ? ST_OK : wrong(v, i, in, "has other bases than the one before it");
    const struct plan_buffer *f = &v->p->buffers[b->buffer];
    struct held *held = &v->held[b->buffer];
    if (b->arena != ARENA_WORK || b->offset != f->offset || f->role != kind || f->mb != in->mb ||
        b->access != was->access)
        return wrong(v, i, in, "has keys, values or their gradients in another kind of memory");
    if (keys && home)
        return held->shifts == 0 ? ST_OK : wrong(v, i, in, "has keys or values that are not at home");
    if (held->shifts != in->count || held->from != was->buffer || f->what != v->p->buffers[was->buffer].what)
        return wrong(v, i, in, "does not have what the piece before it had, one member further");
    if (kind == SLOT_RING && held->pieces != in->count)
        return wrong(v, i, in, "has gradients to which not each piece has added once");
    held->pieces += kind == SLOT_RING && !home;
    return ST_OK;
}

/* Kernels behind the ring's run in the last piece: they only add and copy. */
static bool ends_well(const struct values *v, const struct plan_program *g, uint32_t ring)
{
    for (uint32_t k = ring + 1; k < g->first_kernel + g->n_kernels; k++)
        if (v->p->kernels[k].op < IR_OP_GRAPH_COUNT)
            return false;
    return true;
}

enum status ring_run(struct values *v, uint32_t i, const struct plan_instr *in)
{
    const struct plan_program *g = &v->p->programs[in->program];
    const uint32_t number = plan_ring(v->p, g), n = check_n_instrs(v->c, v->l, v->cls);
    const struct plan_instr *first = check_instrs(v->c, v->l, v->cls),
                            *before = in->count ? piece_before(first, in) : NULL;
    const struct plan_kernel *ring = &v->p->kernels[number];
    const uint32_t context = v->p->h->context, later = g->pass == IR_PASS_F ? context - 1 : context;
    if (g->phases != later || !ends_well(v, g, number) || (ring->pass == IR_PASS_F) != (g->pass == IR_PASS_F))
        return wrong(v, i, in, "is of no ring over the context parts");
    for (uint32_t k = 0; k < g->n_slots && in->count; k++)
        if (before)
            TRY(check_base(v, i, k, before, ring));
    if (in->count && !before)
        return wrong(v, i, in, "does not stand behind the one before it");
    if (in->count == later)
        return ST_OK;
    uint32_t next = i + 1;
    while (next < n && first[next].op == PLAN_SHIFT)
        next++;
    return next < n && piece_before(first, &first[next]) == in ? ST_OK
                                                               : wrong(v, i, in, "is not followed by the next one");
}

enum status ring_shift(struct values *v, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = { v->cls, v->l, i };
    const struct plan_base *b = &v->p->bases[in->first_base];
    const struct plan_buffer *f[2];
    const uint32_t group = v->p->channels[in->channel].group;
    for (uint32_t k = 0; k < 2; k++) {
        f[k] = b[k].arena == ARENA_WORK ? &v->p->buffers[b[k].buffer] : NULL;
        if (!f[k] || f[k]->mb != in->mb || b[k].offset != f[k]->offset ||
            (f[k]->role != SLOT_TENSOR && f[k]->role != SLOT_RING) || f[k]->role != f[0]->role ||
            f[k]->what != f[0]->what || f[k]->layout != f[0]->layout || f[k]->bytes != f[0]->bytes ||
            (f[k]->role == SLOT_TENSOR && f[k]->what != in->tensor))
            return check_wrong(v->c, RULE_VALUE, at,
                               "base %u is not keys, values or their gradients of this microbatch", k);
    }
    if (in->tensor >= v->c->g->tensors.n || !check_shared_by(v->c, v->cls, group, SHARED_BY_CONTEXT))
        return check_wrong(v->c, RULE_LAYOUT, at, "shifts over group %u, which are not context groups", group);
    const struct ir_tensor *t = &v->c->g->tensors.at[in->tensor];
    const uint32_t type = f[0]->role == SLOT_RING        ? IR_F32
                          : t->shape.dtype == IR_COMPUTE ? v->p->h->compute
                                                         : t->shape.dtype;
    if (in->type != type || in->count * ir_dtype_size((enum ir_dtype)type, v->p->h->compute) != f[0]->bytes)
        return check_wrong(v->c, RULE_LAYOUT, at, "shifts %" PRIu64 " elements of %s, buffer %u has %" PRIu64 " bytes",
                           in->count, ir_dtype_name((enum ir_dtype)in->type), b[0].buffer, f[0]->bytes);
    const struct held *from = &v->held[b[0].buffer];
    struct held *to = &v->held[b[1].buffer];
    to->shifts = from->shifts + 1;
    to->pieces = from->pieces;
    to->from = b[0].buffer;
    to->sum = from->sum;
    to->away = from->away;
    return ST_OK;
}

enum status ring_check_home(const struct values *v, uint32_t i, const struct plan_instr *in)
{
    for (uint32_t k = 0; k < in->n_bases && check_is_comm(in->op) && in->op != PLAN_SHIFT; k++) {
        const struct plan_base *b = &v->p->bases[in->first_base + k];
        if (b->arena == ARENA_WORK && b->access & PLAN_READ && v->held[b->buffer].shifts)
            return check_wrong(v->c, RULE_LAYOUT, (struct check_place){ v->cls, v->l, i },
                               "base %u: buffer %u holds the keys or values of another member", k, b->buffer);
    }
    return ST_OK;
}
