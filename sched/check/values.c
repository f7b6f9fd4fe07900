/* Values: what stands in memory is what its reader takes it for.
 *
 * Inside a program every operand of the graph has a name: a forward tensor, a saved or stashed tensor of an operator,
 * or a gradient. Programs are executed on names: an operand that is read was written under its name earlier in the
 * program, whole and not overwritten since, or it comes from outside, whole. What comes from outside must be there
 * under that name: a tensor in a buffer of that tensor and microbatch, what a forward keeps in the frame that it
 * wrote.
 *
 * Gradients have no names of their own (sums share places), so of them it is proven only that each is read whole and as
 * written. The size of a workspace is the back end's matter: only its first byte counts here. */
#include "sched/check/check.h"

#include <inttypes.h>
#include <stdlib.h>

enum { NAME_TENSOR, NAME_SAVE, NAME_STASH, NAME_GRADIENT, NAME_NONE };
struct item {     /* an operand: a name at a place of a slot */
    uint8_t name; /* NAME_.. */
    bool write;
    uint32_t id; /* tensor, operator * 2 + which, or for gradients the number of the write */
    uint32_t slot, kernel;
    uint64_t offset, bytes;
    uint64_t elements; /* sums and copies know these, but not their type */
};
struct items {
    VEC(struct item);
};
/* What a program takes from outside and what it leaves there, by slot and offset. */
struct interface {
    bool done;
    struct items in, out;
};
struct values {
    struct check *c;
    const struct check_list *l;
    const struct plan *p;
    uint32_t cls, microbatch_size;
    struct interface *programs;
    uint32_t *writer;   /* by buffer: slot (of the section) whose program wrote it last; PLAN_NONE */
    uint32_t *verified; /* by slot: the writing slot that it was held against last; PLAN_NONE */
};

/* ---- operands with names ---- */

static uint64_t bytes_of(const struct values *v, const struct ir_shape *s)
{
    return ir_shape_elements(s) * v->microbatch_size * ir_dtype_size((enum ir_dtype)s->dtype, v->p->h->compute);
}

static struct item named(const struct values *v, uint32_t name, uint32_t id, const struct ir_shape *s)
{
    return (struct item){
        .name = (uint8_t)name, .id = id, .bytes = bytes_of(v, s), .elements = ir_shape_elements(s) * v->microbatch_size
    };
}

/* Operand number `which` of a kernel; NAME_NONE: a parameter or the gradient of one. */
static struct item name_operand(const struct values *v, const struct plan_kernel *k, uint32_t which)
{
    if (which == OPERAND_WORK)
        return (struct item){ .name = NAME_GRADIENT, .bytes = 1, .elements = 1 };
    if (k->op >= IR_OP_GRAPH_COUNT)
        return (struct item){ .name = NAME_GRADIENT,
                              .bytes = k->n * ir_dtype_size(IR_COMPUTE, v->p->h->compute),
                              .elements = k->n };
    const struct ir_node_op *op = &v->c->g->ops.at[k->graph_op];
    struct ir_op_shapes s;
    ir_op_shapes((enum ir_op)op->op, &op->attrs, v->c->g->seq_len, &s);
    if (which < OPERAND_OUT)
        return named(v, NAME_TENSOR, op->in[which - OPERAND_IN], &s.in[which - OPERAND_IN]);
    if (which < OPERAND_SAVE)
        return named(v, NAME_TENSOR, op->out[which - OPERAND_OUT], &s.out[which - OPERAND_OUT]);
    if (which < OPERAND_STASH)
        return named(v, NAME_SAVE, k->graph_op * IR_MAX_SAVE + which - OPERAND_SAVE, &s.save[which - OPERAND_SAVE]);
    if (which < OPERAND_PARAM)
        return named(v, NAME_STASH, k->graph_op * IR_MAX_STASH + which - OPERAND_STASH,
                     &s.stash[which - OPERAND_STASH]);
    if (which >= OPERAND_DOUT && which < OPERAND_DIN)
        return named(v, NAME_GRADIENT, 0, &s.out[which - OPERAND_DOUT]);
    if (which >= OPERAND_DIN && which < OPERAND_DPARAM)
        return named(v, NAME_GRADIENT, 0, &s.in[(which - OPERAND_DIN) % IR_MAX_IN]);
    return (struct item){ .name = NAME_NONE };
}

/* Where a name may stand when it comes from outside. Whatever is written stays out of parameters and their gradients.
 * */
static bool may_stand(const struct item *item, uint32_t kind)
{
    if (item->write)
        return kind != SLOT_PARAM && kind != SLOT_GRAD;
    switch (item->name) {
    case NAME_TENSOR:
        return kind == SLOT_TENSOR || kind == SLOT_KEEP || kind == SLOT_STASH; /* stash: computed again by BI */
    case NAME_SAVE:
        return kind == SLOT_KEEP || kind == SLOT_STASH;
    case NAME_STASH:
        return kind == SLOT_STASH;
    default:
        return kind == SLOT_GRADIENT || kind == SLOT_STASH;
    }
}

/* Checks one operand against its slot, and appends it. */
static enum status add_item(const struct values *v, uint32_t program, struct item item, struct items *items)
{
    const struct plan *p = v->p;
    const struct plan_program *g = &p->programs[program];
    const struct plan_slot *s = &p->slots[g->first_slot + item.slot];
    struct check_place at = { .cls = v->cls };
    uint32_t number = item.kernel - g->first_kernel;
    if (item.offset > s->bytes || item.bytes > s->bytes - item.offset ||
        (item.elements > 1 && item.offset % (item.bytes / item.elements)))
        return check_wrong(v->c, RULE_PROGRAM, at,
                           "program %u, kernel %u (%s): %" PRIu64 " elements, %" PRIu64 " bytes, at %" PRIu64
                           " of slot %u, which has %" PRIu64 " bytes",
                           program, number, ir_op_info[p->kernels[item.kernel].op].name, item.elements, item.bytes,
                           item.offset, item.slot, s->bytes);
    if (item.write && !may_stand(&item, s->kind))
        return check_wrong(v->c, RULE_PROGRAM, at, "program %u, kernel %u (%s): writes into slot %u of parameters",
                           program, number, ir_op_info[p->kernels[item.kernel].op].name, item.slot);
    vec_add(items, item);
    return ST_OK;
}

/* The operands of a program, in order, reads of a kernel before its writes; parameters are not among them. */
static enum status list_items(const struct values *v, uint32_t program, struct items *items)
{
    const struct plan *p = v->p;
    const struct plan_program *g = &p->programs[program];
    for (uint32_t i = g->first_kernel; i < g->first_kernel + g->n_kernels; i++)
        for (int write = 0; write < 2; write++) {
            const struct plan_kernel *k = &p->kernels[i];
            const struct plan_operand *o = &p->operands[k->first_operand];
            for (uint32_t rest = k->mask; rest; rest &= rest - 1, o++) {
                uint32_t which = (uint32_t)__builtin_ctz(rest);
                struct item item = name_operand(v, k, which);
                if (plan_kernel_writes(k, which) != write || item.name == NAME_NONE)
                    continue;
                item.write = write;
                item.slot = o->slot;
                item.offset = o->offset;
                item.kernel = i;
                TRY(add_item(v, program, item, items));
            }
        }
    return ST_OK;
}

/* ---- execution of a program on names ---- */

struct execution {
    const struct values *v;
    uint32_t program;
    const uint64_t *start;  /* by slot: its first byte when slots stand one behind the other */
    struct check_spans map; /* writer: number of the item; PLAN_NONE: not written here */
    struct items *items;
};

static enum status wrong_item(const struct execution *run, const struct item *i, const char *what)
{
    const struct plan *p = run->v->p;
    const struct plan_kernel *k = &p->kernels[i->kernel];
    const char *op = k->op < IR_OP_GRAPH_COUNT ? run->v->c->g->ops.at[k->graph_op].name : ir_op_info[k->op].name;
    return check_wrong(run->v->c, RULE_VALUE, (struct check_place){ .cls = run->v->cls },
                       "program %u, kernel %u (%s %s): what it reads at byte %" PRIu64 " of slot %u %s", run->program,
                       i->kernel - p->programs[run->program].first_kernel, op, ir_pass_name((enum ir_pass)k->pass),
                       i->offset, i->slot, what);
}

static enum status read_item(struct execution *run, const struct item *i, struct interface *face)
{
    uint64_t at = run->start[i->slot] + i->offset;
    uint32_t from = check_spans_find(&run->map, at), to = check_spans_find(&run->map, at + i->bytes);
    check_spans_cut(&run->map, from);
    check_spans_cut(&run->map, to);
    uint32_t writer = run->map.at[from].writer;
    if (writer == PLAN_NONE) {
        for (uint32_t k = from; k < to; k = check_spans_next(&run->map, k))
            if (run->map.at[k].writer != PLAN_NONE)
                return wrong_item(run, i, "was overwritten in part");
        const struct plan_program *g = &run->v->p->programs[run->program];
        if (!may_stand(i, run->v->p->slots[g->first_slot + i->slot].kind))
            return wrong_item(run, i, "was not written, and cannot come from outside there");
        vec_add(&face->in, *i);
        return ST_OK;
    }
    const struct item *w = &run->items->at[writer];
    if (w->name != i->name || w->offset != i->offset || w->elements != i->elements ||
        (i->name != NAME_GRADIENT && w->id != i->id))
        return wrong_item(run, i, "is another value");
    uint64_t end = at + (w->bytes < i->bytes ? w->bytes
                                             : i->bytes); /* sums do not know their type: compare what both have */
    for (uint32_t k = from; k < to && run->map.bounds[k] < end; k = check_spans_next(&run->map, k))
        if (run->map.at[k].writer != writer)
            return wrong_item(run, i, "was overwritten in part");
    return ST_OK;
}

static void write_item(struct execution *run, uint32_t number)
{
    const struct item *i = &run->items->at[number];
    uint64_t at = run->start[i->slot] + i->offset;
    uint32_t from = check_spans_find(&run->map, at), to = check_spans_find(&run->map, at + i->bytes);
    check_spans_cut(&run->map, from);
    check_spans_cut(&run->map, to);
    check_spans_join(&run->map, from, to);
    run->map.at[from] = (struct check_span){ .writer = number, .buffer = PLAN_NONE, .readers = PLAN_NONE };
}

static int by_place(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    return x->slot != y->slot ? (x->slot > y->slot ? 1 : -1) : (x->offset > y->offset) - (x->offset < y->offset);
}

/* What stands in slots at the end, whole, in order of slots and offsets. A slot for a tensor or a gradient is left written from end to end, if it is
 * declared to be written. */
static enum status collect_out(struct execution *run, struct interface *face)
{
    const struct plan_program *g = &run->v->p->programs[run->program];
    uint8_t *full = mem_alloc(g->n_slots);
    for (uint32_t n = 0; n < run->items->n; n++) {
        const struct item *i = &run->items->at[n];
        uint64_t at = run->start[i->slot] + i->offset;
        if (!i->write || i->bytes == 0)
            continue;
        uint32_t from = check_spans_find(&run->map, at), to = check_spans_find(&run->map, at + i->bytes);
        check_spans_cut(&run->map, from);
        check_spans_cut(&run->map, to);
        bool whole = true;
        for (uint32_t k = from; k < to; k = check_spans_next(&run->map, k))
            whole = whole && run->map.at[k].writer == n;
        if (whole)
            vec_add(&face->out, *i);
        /* (with experts of other devices a slot may have room for more rows than one device has) */
        uint64_t room = run->v->p->slots[g->first_slot + i->slot].bytes;
        full[i->slot] |= whole && i->offset == 0 && (i->bytes == room || g->ep > 1);
    }
    enum status st = ST_OK;
    for (uint32_t k = 0; k < g->n_slots && st == ST_OK; k++) {
        const struct plan_slot *s = &run->v->p->slots[g->first_slot + k];
        bool value = s->kind == SLOT_TENSOR || s->kind == SLOT_GRADIENT;
        if (value && s->bytes && s->access & PLAN_WRITE && !full[k])
            st = check_wrong(run->v->c, RULE_PROGRAM, (struct check_place){ .cls = run->v->cls },
                             "program %u must write all of slot %u, but does not", run->program, k);
    }
    mem_free(full);
    if (face->out.n)
        qsort(face->out.at, face->out.n, sizeof *face->out.at, by_place);
    return st;
}

static enum status execute(const struct values *v, uint32_t program, struct interface *face)
{
    const struct plan_program *g = &v->p->programs[program];
    struct items items = { 0 };
    struct {
        VEC(uint64_t);
    } bounds = { 0 };
    uint64_t *start = mem_alloc(sizeof *start * ((size_t)g->n_slots + 1));
    for (uint32_t i = 0; i < g->n_slots; i++)
        start[i + 1] = start[i] + v->p->slots[g->first_slot + i].bytes;
    struct execution run = { .v = v, .program = program, .start = start, .items = &items };
    enum status st = list_items(v, program, &items);
    for (uint32_t i = 0; i < items.n; i++) {
        vec_add(&bounds, start[items.at[i].slot] + items.at[i].offset);
        vec_add(&bounds, start[items.at[i].slot] + items.at[i].offset + items.at[i].bytes);
    }
    check_spans_init(&run.map, bounds.at, bounds.n, (struct check_span){ PLAN_NONE, PLAN_NONE, PLAN_NONE });
    for (uint32_t i = 0; i < items.n && st == ST_OK; i++) {
        if (items.at[i].bytes == 0)
            continue;
        if (items.at[i].write)
            write_item(&run, i);
        else
            st = read_item(&run, &items.at[i], face);
    }
    if (st == ST_OK)
        st = collect_out(&run, face);
    face->done = true;
    check_spans_release(&run.map);
    vec_free(&items);
    mem_free(start);
    return st;
}

/* ---- instructions ---- */

/* The frame that a forward (or BI) left holds what this program reads of it, at the same places. */
static enum status check_frame(struct values *v, uint32_t i, const struct plan_program *g, uint32_t slot,
                               uint32_t writer)
{
    const struct plan_instr *in = &check_instrs(v->c, v->l, v->cls)[i];
    uint32_t number = g->first_slot + slot;
    if (writer == PLAN_NONE || v->verified[number] == writer)
        return ST_OK; /* a frame that nobody wrote is the matter of memory.c */
    v->verified[number] = writer;
    uint32_t lo = 0, hi = (uint32_t)v->p->h->count[PLAN_S_PROGRAMS];
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (v->p->programs[mid].first_slot <= writer)
            lo = mid;
        else
            hi = mid;
    }
    const struct interface *from = &v->programs[lo], *to = &v->programs[in->program];
    for (uint32_t a = 0; a < to->in.n; a++) {
        const struct item *item = &to->in.at[a];
        if (item->slot != slot || item->name == NAME_GRADIENT)
            continue;
        struct item place = { .slot = writer - v->p->programs[lo].first_slot, .offset = item->offset };
        const struct item *left = from->out.n ? bsearch(&place, from->out.at, from->out.n, sizeof place, by_place)
                                              : NULL;
        if (!left || left->name != item->name || left->id != item->id)
            return check_wrong(v->c, RULE_VALUE, (struct check_place){ v->cls, v->l, i },
                               "program %u reads byte %" PRIu64 " of slot %u, where program %u has not left that value",
                               in->program, item->offset, slot, lo);
    }
    return ST_OK;
}

/* Tensors in buffers: of that tensor, from its start. */
static enum status check_tensors(struct values *v, uint32_t i, const struct items *items)
{
    const struct plan_instr *in = &check_instrs(v->c, v->l, v->cls)[i];
    const struct plan_program *g = &v->p->programs[in->program];
    for (uint32_t k = 0; k < items->n; k++) {
        const struct item *item = &items->at[k];
        if (v->p->slots[g->first_slot + item->slot].kind != SLOT_TENSOR)
            continue;
        const struct plan_base *b = &v->p->bases[in->first_base + item->slot];
        const struct plan_buffer *f = &v->p->buffers[b->buffer];
        if (item->name != NAME_TENSOR || f->role != SLOT_TENSOR || f->what != item->id ||
            b->offset + item->offset != f->offset)
            return check_wrong(v->c, RULE_VALUE, (struct check_place){ v->cls, v->l, i },
                               "%s tensor %s in buffer %u of %s", item->write ? "writes" : "reads",
                               item->name == NAME_TENSOR ? v->c->g->tensors.at[item->id].name : "(not one)", b->buffer,
                               f->what < v->c->g->tensors.n ? v->c->g->tensors.at[f->what].name : "another kind");
    }
    return ST_OK;
}

static enum status check_run_values(struct values *v, uint32_t i, const struct plan_instr *in)
{
    const struct plan_program *g = &v->p->programs[in->program];
    struct interface *face = &v->programs[in->program];
    if (!face->done)
        TRY(execute(v, in->program, face));
    TRY(check_tensors(v, i, &face->in));
    TRY(check_tensors(v, i, &face->out));
    for (uint32_t k = 0; k < g->n_slots; k++) {
        const struct plan_base *b = &v->p->bases[in->first_base + k];
        const struct plan_slot *s = &v->p->slots[g->first_slot + k];
        if (b->arena != ARENA_WORK || s->kind == SLOT_PARAM || s->kind == SLOT_GRAD)
            continue;
        const struct plan_buffer *f = &v->p->buffers[b->buffer];
        if (s->bytes && (f->role != s->kind || (s->kind != SLOT_TEMP && f->mb != in->mb)))
            return check_wrong(v->c, RULE_VALUE, (struct check_place){ v->cls, v->l, i },
                               "base %u: buffer %u is of another kind or microbatch", k, b->buffer);
        if (s->kind == SLOT_KEEP || s->kind == SLOT_STASH)
            TRY(check_frame(v, i, g, k, v->writer[b->buffer]));
        if (s->access & PLAN_WRITE)
            v->writer[b->buffer] = g->first_slot + k;
    }
    return ST_OK;
}

/* A microbatch of a tensor, or of its gradient, that is loaded or travels. The same on both ends. */
static enum status check_moved(struct values *v, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = { v->cls, v->l, i };
    for (uint32_t k = 0; k < in->n_bases; k++) {
        const struct plan_base *b = &v->p->bases[in->first_base + k];
        if (b->arena != ARENA_WORK)
            return check_wrong(v->c, RULE_VALUE, at, "base %u is no buffer", k);
        const struct plan_buffer *f = &v->p->buffers[b->buffer];
        bool tensor = f->role == SLOT_TENSOR || (f->role == SLOT_GRADIENT && in->op != PLAN_LOAD);
        if (!tensor || f->what >= v->c->g->tensors.n || f->mb != in->mb || b->offset != f->offset ||
            (in->op == PLAN_LOAD && f->what != in->tensor))
            return check_wrong(v->c, RULE_VALUE, at, "buffer %u does not hold a tensor of this microbatch", b->buffer);
        const struct ir_shape *s = &v->c->g->tensors.at[f->what].shape;
        uint32_t type = s->dtype == IR_COMPUTE ? v->p->h->compute : s->dtype;
        if (in->op != PLAN_LOAD && (in->type != type || in->count != ir_shape_elements(s) * v->microbatch_size))
            return check_wrong(v->c, RULE_VALUE, at, "%" PRIu64 " elements of %s are not a microbatch of %s", in->count,
                               ir_dtype_name((enum ir_dtype)in->type), v->c->g->tensors.at[f->what].name);
    }
    if (in->op == PLAN_LOAD)
        return ST_OK;
    const struct check_end *end = &v->l->ends.at[v->l->comms.at[v->l->comm_of[v->l->base[v->cls] + i]].first_end];
    const struct plan *q = v->c->classes[end->cls].p;
    const struct plan_buffer *f = &v->p->buffers[v->p->bases[in->first_base].buffer];
    const struct plan_base *there = &q->bases[check_instrs(v->c, v->l, end->cls)[end->instr].first_base];
    const struct plan_buffer *o = there->arena == ARENA_WORK ? &q->buffers[there->buffer] : NULL;
    if (!o || o->role != f->role || o->what != f->what || o->mb != f->mb)
        return check_wrong(v->c, RULE_VALUE, at, "the two ends are buffers of different tensors or microbatches");
    if (in->op == PLAN_EXCHANGE) {
        const struct plan_buffer *to = &v->p->buffers[v->p->bases[in->first_base + 1].buffer];
        if (to->role != f->role || to->what != f->what)
            return check_wrong(v->c, RULE_VALUE, at, "sends one tensor and receives another");
    }
    return ST_OK;
}

/* Rows of a tensor, or of its gradient, between the devices that share the experts. */
static enum status check_rows(struct values *v, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = { v->cls, v->l, i };
    const struct plan_buffer *f[4];
    for (uint32_t k = 0; k < in->n_bases; k++) {
        const struct plan_base *b = &v->p->bases[in->first_base + k];
        f[k] = b->arena == ARENA_WORK ? &v->p->buffers[b->buffer] : NULL;
        if (!f[k] || (f[k]->role != SLOT_TENSOR && f[k]->role != SLOT_GRADIENT) || f[k]->what >= v->c->g->tensors.n ||
            f[k]->mb != in->mb || b->offset != f[k]->offset)
            return check_wrong(v->c, RULE_VALUE, at, "base %u is not a tensor of this microbatch", k);
    }
    const struct ir_shape *s = &v->c->g->tensors.at[f[0]->what].shape;
    uint32_t type = s->dtype == IR_COMPUTE ? v->p->h->compute : s->dtype;
    uint64_t members = check_group_size(v->c, v->cls, v->p->channels[in->channel].group);
    bool even = in->op == PLAN_ALL_TO_ALL;
    uint64_t count = even ? ir_shape_elements(s) * v->microbatch_size / members : s->dim[s->ndim - 1];
    if (f[0]->role != f[1]->role || f[0]->what != f[1]->what || in->type != type || in->count != count)
        return check_wrong(v->c, RULE_VALUE, at,
                           "sends and receives different tensors, or not in blocks of %" PRIu64 " elements of %s",
                           count, ir_dtype_name((enum ir_dtype)type));
    if (!even && (f[2]->role != SLOT_TENSOR || f[3]->role != SLOT_TENSOR || f[2]->what != f[3]->what ||
                  f[2]->bytes != f[3]->bytes || f[2]->bytes % (4 * members) ||
                  v->c->g->tensors.at[f[2]->what].shape.dtype != IR_I32))
        return check_wrong(v->c, RULE_VALUE, at,
                           "bases 2 and 3 are not the counts of rows for each of %" PRIu64 " members", members);
    return ST_OK;
}

static enum status check_class(struct values *v)
{
    const struct plan_instr *in = check_instrs(v->c, v->l, v->cls);
    for (uint32_t i = 0; i < check_n_instrs(v->c, v->l, v->cls); i++) {
        if (in[i].op == PLAN_RUN)
            TRY(check_run_values(v, i, &in[i]));
        else if (in[i].op == PLAN_LOAD || in[i].op == PLAN_SEND || in[i].op == PLAN_RECV || in[i].op == PLAN_EXCHANGE)
            TRY(check_moved(v, i, &in[i]));
        else if (in[i].op == PLAN_ALL_TO_ALL || in[i].op == PLAN_ALL_TO_ALL_V)
            TRY(check_rows(v, i, &in[i]));
    }
    return ST_OK;
}

enum status check_values(struct check *c, const struct check_list *l)
{
    enum status st = ST_OK;
    for (uint32_t cls = 0; cls < c->n && st == ST_OK; cls++) {
        struct values v = { .c = c, .l = l, .p = c->classes[cls].p, .cls = cls };
        const uint64_t *count = v.p->h->count;
        v.microbatch_size = v.p->lists[l->index[cls]].microbatch_size;
        v.programs = mem_alloc(sizeof *v.programs * (size_t)count[PLAN_S_PROGRAMS]);
        v.writer = mem_alloc(sizeof *v.writer * (size_t)count[PLAN_S_BUFFERS]);
        v.verified = mem_alloc(sizeof *v.verified * (size_t)count[PLAN_S_SLOTS]);
        memset(v.writer, 0xff, sizeof *v.writer * (size_t)count[PLAN_S_BUFFERS]);
        memset(v.verified, 0xff, sizeof *v.verified * (size_t)count[PLAN_S_SLOTS]);
        st = check_class(&v);
        for (uint32_t i = 0; i < count[PLAN_S_PROGRAMS]; i++) {
            vec_free(&v.programs[i].in);
            vec_free(&v.programs[i].out);
        }
        mem_free(v.programs);
        mem_free(v.writer);
        mem_free(v.verified);
    }
    return st;
}
