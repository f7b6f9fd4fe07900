/* Plans of the compiler, damaged: the checker refuses each, for a table of strategies; as they are, it accepts them. */
#include <stdlib.h>
#include <string.h>

#include "compiled.h"
#include "plan_edit.h"

static int n_cases;

/* A plan taken apart. */
struct open_plan {
    struct plan_builder b;
    struct plan_edit edit;
    struct plan_records *train;
};

/* The first or last instruction of a kind and pass; NULL: there is none. */
static struct plan_record *find(struct open_plan *o, enum plan_op op, enum ir_pass pass, bool last)
{
    for (uint32_t i = 0; i < o->train->n; i++) {
        struct plan_record *x = &o->train->at[last ? o->train->n - 1 - i : i];
        if (x->in.op == op && (pass == IR_PASS_NONE || x->in.pass == pass))
            return x;
    }
    return NULL;
}

static struct plan_record *find_backward(struct open_plan *o, bool last)
{
    struct plan_record *b = find(o, PLAN_RUN, IR_PASS_B, last);
    return b ? b : find(o, PLAN_RUN, IR_PASS_BW, last);
}

static bool drop(struct open_plan *o, struct plan_record *x)
{
    if (!x)
        return false;
    plan_edit_drop(o->train, (uint32_t)(x - o->train->at));
    return true;
}

static bool drop_waits(struct plan_record *x)
{
    if (!x || !x->n_waits)
        return false;
    x->n_waits = 0;
    return true;
}

static bool swap(struct plan_record *a, struct plan_record *b)
{
    if (!a || !b || a == b)
        return false;
    struct plan_record t = *a;
    *a = *b;
    *b = t;
    return true;
}

/* Puts a buffer of one role on the memory of another, of an instruction that uses both. */
static bool overlay(struct open_plan *o, const struct plan_record *x, enum plan_slot_kind from,
                    enum plan_slot_kind onto)
{
    const struct plan_base *a = NULL, *b = NULL;
    struct plan_buffer *buffers = o->b.buffers.at;
    for (uint32_t i = 0; i < x->in.n_bases; i++) {
        const struct plan_base *at = &x->bases[i];
        if (at->arena != ARENA_WORK || !buffers[at->buffer].bytes)
            continue;
        if (buffers[at->buffer].role == onto && !a)
            a = at;
        else if (buffers[at->buffer].role == from && !b)
            b = at;
    }
    if (!a || !b || buffers[a->buffer].offset + buffers[b->buffer].bytes > o->b.h.arena_bytes[ARENA_WORK])
        return false;
    buffers[b->buffer].offset = buffers[a->buffer].offset;
    for (uint64_t i = 0; i < o->edit.n_bases; i++)
        if (o->edit.bases[i].arena == ARENA_WORK && o->edit.bases[i].buffer == b->buffer)
            o->edit.bases[i].offset = buffers[a->buffer].offset;
    return true;
}

/* The same in the first run of a pass that uses both. */
static bool overlay_in(struct open_plan *o, enum ir_pass pass, enum plan_slot_kind from, enum plan_slot_kind onto)
{
    for (uint32_t i = 0; i < o->train->n; i++)
        if (o->train->at[i].in.op == PLAN_RUN && o->train->at[i].in.pass == pass &&
            overlay(o, &o->train->at[i], from, onto))
            return true;
    return false;
}

/* Each changes one thing, where there is such a thing: false where not. */
#define DAMAGE(name)                       \
    static bool name(struct open_plan *o); \
    static bool name(struct open_plan *o)
/* Changes a field of the instruction x, where there is one. */
#define CHANGE(x_, ...)             \
    do {                            \
        struct plan_record *x = x_; \
        if (!x)                     \
            return false;           \
        __VA_ARGS__;                \
        return true;                \
    } while (0)

DAMAGE(no_load)
{
    return drop(o, find(o, PLAN_LOAD, IR_PASS_NONE, true));
}
DAMAGE(no_forward)
{
    return drop(o, find(o, PLAN_RUN, IR_PASS_F, true));
}
DAMAGE(no_backward)
{
    return drop(o, find_backward(o, true));
}
DAMAGE(no_send)
{
    return drop(o, find(o, PLAN_SEND, IR_PASS_NONE, false));
}
DAMAGE(no_receive)
{
    return drop(o, find(o, PLAN_RECV, IR_PASS_NONE, true));
}
DAMAGE(no_reduction)
{
    return drop(o, find(o, PLAN_ALL_REDUCE, IR_PASS_NONE, false));
}
DAMAGE(no_norm)
{
    return drop(o, find(o, PLAN_SUMSQ, IR_PASS_NONE, false));
}
DAMAGE(no_scalars)
{
    return drop(o, find(o, PLAN_SCALARS, IR_PASS_NONE, false));
}
DAMAGE(no_update)
{
    return drop(o, find(o, PLAN_UPDATE, IR_PASS_NONE, true));
}
DAMAGE(backward_of_other_microbatch)
{
    if (o->b.lists.at[0].microbatches < 2)
        return false;
    CHANGE(find_backward(o, true), x->in.mb = !x->in.mb);
}
DAMAGE(backward_before_forward)
{
    return swap(find(o, PLAN_RUN, IR_PASS_F, false), find_backward(o, false));
}
DAMAGE(loads_other_tensor)
{
    CHANGE(find(o, PLAN_LOAD, IR_PASS_NONE, false), x->in.what = !x->in.what);
}
DAMAGE(temp_on_keep)
{
    return overlay_in(o, IR_PASS_B, SLOT_TEMP, SLOT_KEEP) || overlay_in(o, IR_PASS_BI, SLOT_TEMP, SLOT_KEEP);
}
DAMAGE(input_on_keep)
{
    return overlay_in(o, IR_PASS_F, SLOT_TENSOR, SLOT_KEEP);
}
DAMAGE(gradient_on_keep)
{
    return overlay_in(o, IR_PASS_B, SLOT_GRADIENT, SLOT_KEEP);
}
DAMAGE(sends_crossed)
{
    struct plan_record *a = find(o, PLAN_SEND, IR_PASS_NONE, false), *b = find(o, PLAN_SEND, IR_PASS_NONE, true);
    if (!a || a == b)
        return false;
    struct plan_base *t = a->bases; /* each sends what the other should */
    a->bases = b->bases;
    b->bases = t;
    return true;
}
DAMAGE(sends_half)
{
    CHANGE(find(o, PLAN_SEND, IR_PASS_NONE, false), x->in.count /= 2);
}
DAMAGE(sends_under_other_tag)
{
    CHANGE(find(o, PLAN_SEND, IR_PASS_NONE, false), x->in.tag += 1000);
}
DAMAGE(sends_to_itself)
{
    CHANGE(find(o, PLAN_SEND, IR_PASS_NONE, false), x->in.peer_set = x->in.my_set);
}
DAMAGE(sends_what_is_not_there)
{
    return drop_waits(find(o, PLAN_SEND, IR_PASS_NONE, false));
}
DAMAGE(reads_before_receive)
{
    for (uint32_t i = 0; i < o->train->n; i++) /* the run that waits for a receive */
        for (uint32_t w = 0; o->train->at[i].in.op == PLAN_RUN && w < o->train->at[i].n_waits; w++)
            if (o->train->at[o->train->at[i].waits[w]].in.op == PLAN_RECV)
                return drop_waits(&o->train->at[i]);
    return false;
}
DAMAGE(reduces_too_early)
{
    return drop_waits(find(o, PLAN_ALL_REDUCE, IR_PASS_NONE, true));
}
DAMAGE(reduces_less)
{
    CHANGE(find(o, PLAN_ALL_REDUCE, IR_PASS_NONE, false), x->in.count--);
}
DAMAGE(reductions_swapped)
{
    struct plan_record *a = find(o, PLAN_ALL_REDUCE, IR_PASS_NONE, false),
                       *b = find(o, PLAN_ALL_REDUCE, IR_PASS_NONE, true);
    return swap(a, b) && o->b.channels.n > 0;
}
DAMAGE(updates_twice)
{
    uint32_t first = find(o, PLAN_UPDATE, IR_PASS_NONE, false)->in.what;
    CHANGE(find(o, PLAN_UPDATE, IR_PASS_NONE, true), if (x->in.what == first) return false; x->in.what = first);
}
DAMAGE(updates_before_norm)
{
    return o->b.h.clip && swap(find(o, PLAN_SCALARS, IR_PASS_NONE, false), find(o, PLAN_UPDATE, IR_PASS_NONE, true));
}
DAMAGE(norm_of_other_bucket)
{
    uint32_t first = find(o, PLAN_SUMSQ, IR_PASS_NONE, false)->in.what;
    CHANGE(find(o, PLAN_SUMSQ, IR_PASS_NONE, true), if (x->in.what == first) return false; x->in.what = first);
}
DAMAGE(never_first)
{
    bool any = false;
    for (uint64_t i = 0; i < o->edit.n_bases; i++) {
        any |= o->edit.bases[i].first;
        o->edit.bases[i].first = 0;
    }
    return any;
}
DAMAGE(first_again)
{
    struct plan_record *b = find_backward(o, true);
    for (uint32_t k = 0; k < b->in.n_bases; k++)
        if (b->bases[k].arena == ARENA_GRADS && !b->bases[k].first) {
            b->bases[k].first = 1;
            return true;
        }
    return false;
}
DAMAGE(piece_of_other_parameter)
{
    o->b.pieces.at[1].param = o->b.pieces.at[0].param;
    return true;
}
DAMAGE(piece_short)
{
    o->b.pieces.at[0].count--;
    return true;
}
DAMAGE(kernel_of_other_operator)
{
    o->b.kernels.at[1].graph_op = o->b.kernels.at[0].graph_op;
    return true;
}
DAMAGE(operand_elsewhere)
{
    const struct plan_kernel *k = &o->b.kernels.at[1]; /* the second operator reads what the first one wrote */
    if (!(k->mask & 1u << OPERAND_IN))
        return false;
    o->b.operands.at[k->first_operand].offset += 64;
    return true;
}
DAMAGE(slot_too_small)
{
    o->b.slots.at[0].bytes /= 2;
    return true;
}
DAMAGE(slot_only_read)
{
    for (uint32_t i = 0; i < o->b.slots.n; i++)
        if (o->b.slots.at[i].kind == SLOT_GRAD && o->b.slots.at[i].bytes) {
            o->b.slots.at[i].access = PLAN_READ;
            return true;
        }
    return false;
}

enum { ALL = -1 };
static const struct damage {
    const char *name;
    bool (*apply)(struct open_plan *o);
    int least; /* cases in which the checker, not plan_open() before it, has to refuse such a thing */
} damages[] = {
#define D(name, least)     \
    {                      \
#name, name, least \
    }
    D(no_load, ALL),
    D(no_forward, ALL),
    D(no_backward, ALL),
    D(no_send, 80),
    D(no_receive, 80),
    D(no_reduction, 60),
    D(no_norm, ALL),
    D(no_scalars, ALL),
    D(no_update, ALL),
    D(backward_of_other_microbatch, 80),
    D(backward_before_forward, ALL),
    D(loads_other_tensor, ALL),
    D(temp_on_keep, 100),
    D(input_on_keep, 100),
    D(gradient_on_keep, 100),
    D(sends_crossed, 60),
    D(sends_half, 80),
    D(sends_under_other_tag, 80),
    D(sends_to_itself, 80),
    D(sends_what_is_not_there, 80),
    D(reads_before_receive, 80),
    D(reduces_too_early, 60),
    D(reduces_less, 60),
    D(reductions_swapped, 60),
    D(updates_twice, 100),
    D(updates_before_norm, 80),
    D(norm_of_other_bucket, 100),
    D(never_first, ALL),
    D(first_again, 60),
    D(piece_of_other_parameter, ALL),
    D(piece_short, ALL),
    D(kernel_of_other_operator, ALL),
    D(operand_elsewhere, 100),
    D(slot_too_small, ALL),
    D(slot_only_read, ALL),
};
enum { N_DAMAGES = sizeof damages / sizeof *damages };

/* What becomes of a job whose class 0 is damaged. */
enum answer { NOTHING_TO_DAMAGE, ACCEPTED, REFUSED_BY_OPEN, REFUSED };
static enum answer try_damage(const struct compiled *c, const struct damage *d)
{
    struct open_plan o;
    struct err e = { 0 };
    enum answer answer = NOTHING_TO_DAMAGE;
    plan_unpack(&c->plans[0], &o.b);
    plan_edit_begin(&o.b, &o.edit);
    o.train = &o.edit.lists[plan_find_list(&c->plans[0], "train")];
    bool damaged = !d || d->apply(&o);
    plan_edit_end(&o.edit);
    if (damaged) {
        uint64_t bytes;
        void *blob = plan_build(&o.b, &bytes);
        struct plan *plans = mem_alloc(c->out.n_classes * sizeof *plans);
        memcpy(plans, c->plans, c->out.n_classes * sizeof *plans);
        answer = REFUSED_BY_OPEN;
        if (plan_open(blob, bytes, c->g.ops.n, c->g.params.n, c->g.tensors.n, &plans[0], &e) == ST_OK)
            answer = sched_check(plans, c->out.n_classes, &c->g, &ir_target_cpu, &e) == ST_OK ? ACCEPTED : REFUSED;
        mem_free(plans);
        mem_free(blob);
    }
    plan_builder_release(&o.b);
    return answer;
}

/* Taken apart and put together, a plan is what it was: what refuses the damaged ones is the damage. */
START_TEST(test_no_damage)
{
    struct compiled c;
    compiled_case(&c, _i);
    ck_assert_int_eq(try_damage(&c, NULL), ACCEPTED);
    compiled_release(&c);
}
END_TEST

START_TEST(test_damage)
{
    const struct damage *d = &damages[_i];
    int refused = 0, least = d->least == ALL ? n_cases : d->least;
    for (int i = 0; i < n_cases; i++) {
        struct compiled c;
        const struct compiled_strategy *s = compiled_case(&c, i);
        enum answer answer = try_damage(&c, d);
        ck_assert_msg(answer != ACCEPTED, "%s: accepted in %s of %s", d->name, s->text, c.g.family);
        refused += answer == REFUSED;
        compiled_release(&c);
    }
    ck_assert_msg(refused >= least, "%s: refused by the checker in %d cases, expected %d", d->name, refused, least);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("damage");
    TCase *t = tcase_create("damage");
    tcase_set_timeout(t, 120);
    compiled_strategies(&n_cases);
    n_cases *= MODELS; /* of compiled_case() */
    tcase_add_loop_test(t, test_no_damage, 0, n_cases);
    tcase_add_loop_test(t, test_damage, 0, N_DAMAGES);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
