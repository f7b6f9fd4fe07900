/* Programs in pieces: where members tell each other numbers in the middle of a pass, it runs in pieces, one behind the other on the same
 * bases, and between two of them the numbers of the kernel that the later piece begins with are gathered, in the order of the members. */
#include "sched/check/values.h"

#include <inttypes.h>

/* The kernel of a program whose numbers piece `piece` begins with; NULL: there is none. */
static const struct plan_kernel *phased_kernel(const struct plan *p, const struct plan_program *g, uint64_t piece)
{
    for (uint32_t k = g->first_kernel; k < g->first_kernel + g->n_kernels; k++) {
        if (plan_told(&p->kernels[k]) < OPERAND_COUNT && --piece == 0)
            return &p->kernels[k];
    }
    return NULL;
}

/* The gather between two pieces: over the group that the program is split over, of what the members told each other, in their order. */
enum status pieces_numbers(struct values *v, uint32_t i, const struct plan_instr *in)
{
    struct check_place at = { v->cls, v->l, i };
    const struct plan *p = v->p;
    const struct plan_instr *run = i ? in - 1 : in;
    const struct plan_kernel *k = run->op == PLAN_RUN ? phased_kernel(p, &p->programs[run->program], run->count + 1)
                                                      : NULL;
    const uint32_t bit = k ? plan_told(k) : OPERAND_COUNT;
    if (in->op != PLAN_ALL_GATHER || !k || !(k->mask >> bit & 1))
        return check_wrong(v->c, RULE_VALUE, at, "gathers numbers, but not behind a piece of a program");
    const struct plan_program *g = &p->programs[run->program];
    const uint32_t group = p->channels[in->channel].group;
    const struct plan_operand *o =
        &p->operands[k->first_operand + (uint32_t)__builtin_popcountll(k->mask & ((UINT64_C(1) << bit) - 1))];
    const struct plan_base *held = &p->bases[run->first_base + o->slot], *b = &p->bases[in->first_base];
    struct ir_attrs local;
    struct ir_op_shapes s;
    struct ir_kernel part = check_kernel_part(v->c, g, k, &local);
    ir_op_part_shapes(part.op, &local, part.t, &part.share, &s);
    const struct ir_shape *told = bit == OPERAND_STASH ? &s.stash[0] : &s.save[1];
    uint64_t count = ir_shape_elements(told) * v->microbatch_size;
    if (b[0].buffer != held->buffer || b[1].buffer != held->buffer || b[0].offset != held->offset + o->offset ||
        b[1].offset != b[0].offset || in->type != told->dtype || in->mb != run->mb || in->stream != run->stream ||
        in->count * part.share.parts != count)
        return check_wrong(v->c, RULE_VALUE, at, "does not gather the numbers of operator %s",
                           v->c->g->ops.at[k->graph_op].name);
    return check_same_members(v->c, v->cls, group, g->parts, true)
               ? ST_OK
               : check_wrong(v->c, RULE_LAYOUT, at, "gathers numbers over group %u, the program is split over group %u",
                             group, g->parts);
}

enum status pieces_run(struct values *v, uint32_t i, const struct plan_instr *in)
{
    const struct plan *p = v->p;
    const struct plan_program *g = &p->programs[in->program];
    struct check_place at = { v->cls, v->l, i };
    const uint32_t n = check_n_instrs(v->c, v->l, v->cls);
    if (plan_ring(p, g) != PLAN_NONE)
        return ring_run(v, i, in);
    bool more = phased_kernel(p, g, in->count + 1) != NULL;
    if (more != (in->count < g->phases))
        return check_wrong(v->c, RULE_PROGRAM, at, "program %u says %u exchanges", in->program, g->phases);
    const struct plan_instr *next = in + 2;
    bool fits = !more ||
                (i + 2 < n && in[1].op == PLAN_ALL_GATHER && next->op == PLAN_RUN && next->program == in->program &&
                 next->count == in->count + 1 && next->mb == in->mb &&
                 memcmp(&p->bases[in->first_base], &p->bases[next->first_base], in->n_bases * sizeof *p->bases) == 0);
    const struct plan_instr *last = i >= 2 ? in - 2 : in;
    fits = fits && (in->count == 0 || (last != in && last->op == PLAN_RUN && last->program == in->program &&
                                       last->count + 1 == in->count && last->mb == in->mb));
    return fits ? ST_OK
                : check_wrong(v->c, RULE_VALUE, at, "piece %u of program %u does not stand behind the one before it",
                              (uint32_t)in->count, in->program);
}
