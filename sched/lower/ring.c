/* Lowering: a ring (piper-strategy(5), shard, exchange "ring"). The program of an attention runs in pieces. The first has the keys and
 * values of the device's own tokens; while one runs, these go on to the next of the context group, and those of the one before come, for
 * the piece behind it. In a backward their gradients follow: what a piece has added to goes on when it is done, and with the last shift they
 * are at home. Shifts stand behind the piece that they run beside, on the stream of the region. */
#include "sched/lower/lower.h"

struct ring {
    struct class_lowering *c;
    const struct ir_node_op *op;
    uint32_t node, program, stream, channel;
    uint32_t first_run; /* instruction of the first piece */
    uint32_t extra;     /* instructions of the node so far, beside the first */
    uint32_t *buffer;   /* by slot: of this piece; PLAN_NONE: that of the first */
};

static const struct slot_ref *ref_of(const struct ring *r, uint32_t slot)
{
    return &r->c->programs.refs.at[r->c->pb.programs.at[r->program].first_slot + slot];
}

/* Has the slot keys or values, which the attention reads? */
static bool has_keys(const struct ring *r, uint32_t slot)
{
    const struct slot_ref *ref = ref_of(r, slot);
    return ref->what == WHAT_TENSOR && (ref->id == r->op->in[1] || ref->id == r->op->in[2]);
}

static bool has_gradients(const struct ring *r, uint32_t slot)
{
    return ref_of(r, slot)->what == WHAT_RING;
}

/* What the slot has goes on; the next piece has another buffer there. */
static void shift(struct ring *r, uint32_t slot)
{
    struct class_lowering *c = r->c;
    const uint32_t first = c->pb.bases.at[c->pb.instrs.at[r->first_run].first_base + slot].buffer;
    const uint32_t from = r->buffer[slot] == PLAN_NONE ? first : r->buffer[slot];
    const struct plan_buffer like = c->pb.buffers.at[from];
    const bool keys = has_keys(r, slot);
    const enum ir_dtype type = keys ? c->x->s->in->compute : IR_F32;
    r->buffer[slot] = lower_new_buffer(c, like.bytes, MEM_COMM, (enum plan_slot_kind)like.role, like.what, like.mb);
    c->pb.buffers.at[r->buffer[slot]].layout = like.layout;
    struct plan_instr *i = lower_begin(c, r->node, PLAN_SHIFT, r->stream);
    i->node = r->node + ++r->extra * c->list->dag.nodes.n;
    i->tensor = keys ? like.what : r->op->in[1];
    i->channel = r->channel;
    i->type = (uint16_t)type;
    i->count = like.bytes / ir_dtype_size(type, type);
    lower_work_base(c, i, from, PLAN_READ);
    lower_work_base(c, i, r->buffer[slot], PLAN_WRITE);
}

/* The program once more, on what the ring has brought. */
static void run_piece(struct ring *r, uint32_t piece)
{
    struct class_lowering *c = r->c;
    const uint32_t n_slots = c->pb.programs.at[r->program].n_slots;
    c->instr_of[r->node] = c->pb.instrs.n - c->first_instr;
    struct plan_instr *i = lower_begin(c, r->node, PLAN_RUN, 0);
    i->program = r->program;
    i->count = piece;
    i->node = r->node + ++r->extra * c->list->dag.nodes.n;
    i->n_bases = (uint16_t)n_slots;
    for (uint32_t k = 0; k < n_slots; k++) {
        struct plan_base base = c->pb.bases.at[c->pb.instrs.at[r->first_run].first_base + k];
        base.buffer = r->buffer[k] == PLAN_NONE ? base.buffer : r->buffer[k];
        vec_add(&c->pb.bases, base);
    }
}

void lower_ring(struct class_lowering *c, uint32_t node, const struct ir_node *n, uint32_t program)
{
    const struct sched *s = c->x->s;
    const struct plan_program p = c->pb.programs.at[program];
    const uint32_t op = side_ring(s, &s->chunks.subs.at[n->what]);
    struct ring r = { .c = c,
                      .op = &s->g->ops.at[op],
                      .node = node,
                      .program = program,
                      .stream = s->directives.at[s->sides[op].directive].stream,
                      .first_run = c->pb.instrs.n - 1,
                      .buffer = mem_alloc((p.n_slots + 1) * sizeof *r.buffer) };
    r.channel = lower_context_channel(c, n->set, r.stream);
    CHECK((uint64_t)c->list->dag.nodes.n * 4 * (p.phases + 1) < PLAN_NONE);
    memset(r.buffer, 0xff, p.n_slots * sizeof *r.buffer);
    for (uint32_t piece = 1; piece <= p.phases; piece++) {
        const bool home = piece == s->share.context; /* of a backward: nothing but gradients */
        for (uint32_t k = 0; k < p.n_slots; k++) {
            if (has_keys(&r, k) && !home)
                shift(&r, k);
            else if (has_keys(&r, k))
                r.buffer[k] = PLAN_NONE;
        }
        for (uint32_t k = 0; k < p.n_slots; k++)
            if (has_gradients(&r, k))
                shift(&r, k);
        run_piece(&r, piece);
    }
    mem_free(r.buffer);
}
