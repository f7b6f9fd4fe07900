/* What the compiler makes is accepted by the checker, for a table of strategies; and the same plans, damaged, are refused.
 *
 * sched_compile() verifies its own output, so "compiles" is "accepted"; the checker shares no code with the passes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compiled.h"

#define S(kind, m) ",{\"op\":\"schedule\",\"kind\":\"" kind "\",\"microbatches\":" #m "}"
#define L(pp, dp) "{\"op\":\"layout\",\"pp\":" #pp ",\"dp\":" #dp "}"
#define L_MORE(pp, dp, more) "{\"op\":\"layout\",\"pp\":" #pp ",\"dp\":" #dp "," more "}"
#define SPLIT(m) "{\"op\":\"split\",\"filter\":{},\"num_microbatches\":" #m "}"
#define PLACE(pp, devices, stream) \
    "{\"op\":\"place\",\"filter\":{\"PP\":" #pp "},\"devices\":" devices ",\"stream\":\"" stream "\"}"
#define COPY(pp, devices, stream, bucket)                                                                            \
    "{\"op\":\"replicate\",\"filter\":{\"PP\":" #pp "},\"devices\":" devices ",\"reduce_stream\":\"" stream "\"," \
    "\"bucket_size\":" bucket "}"

static const struct strategy {
    uint32_t ranks, microbatches, replicas;
    const char *text;
} strategies[] = {
    { 1, 1, 1, "" },
    { 1, 1, 1, L(1, 1) S("gpipe", 1) },
    { 1, 2, 1, L(1, 1) S("1f1b", 2) },
    { 1, 8, 1, L(1, 1) S("gpipe", 8) },
    { 2, 1, 2, L(1, 2) },
    { 2, 2, 2, L(1, 2) S("1f1b", 2) },
    { 4, 1, 4, L(1, 4) },
    { 4, 4, 4, L(1, 4) S("gpipe", 4) },
    { 8, 1, 8, L(1, 8) },
    { 8, 2, 8, L(1, 8) S("1f1b", 2) },
    { 2, 1, 1, L(2, 1) },
    { 2, 1, 1, L(2, 1) S("1f1b", 1) },
    { 2, 2, 1, L(2, 1) S("1f1b", 2) },
    { 2, 4, 1, L(2, 1) S("gpipe", 4) },
    { 2, 8, 1, L(2, 1) S("1f1b", 8) },
    { 4, 1, 2, L(2, 2) S("gpipe", 1) },
    { 4, 2, 2, L(2, 2) S("gpipe", 2) },
    { 4, 4, 2, L(2, 2) S("1f1b", 4) },
    { 4, 8, 2, L(2, 2) S("1f1b", 8) },
    { 8, 1, 4, L(2, 4) },
    { 8, 2, 4, L(2, 4) S("1f1b", 2) },
    { 8, 4, 4, L(2, 4) S("gpipe", 4) },
    { 3, 4, 1, L(3, 1) S("1f1b", 4) },
    { 6, 4, 2, L(3, 2) S("gpipe", 4) },
    { 4, 1, 1, L(4, 1) S("1f1b", 1) },
    { 4, 4, 1, L(4, 1) S("gpipe", 4) },
    { 4, 8, 1, L(4, 1) S("1f1b", 8) },
    { 8, 2, 2, L(4, 2) S("1f1b", 2) },
    { 8, 8, 2, L(4, 2) S("1f1b", 8) },
    { 8, 4, 2, L_MORE(4, 2, "\"outer\":\"pp\"") S("gpipe", 4) },
    { 4, 2, 2, L_MORE(2, 2, "\"bucket_size\":0.001") S("1f1b", 2) },
    { 4, 2, 2, L_MORE(2, 2, "\"bucket_size\":0.004") S("gpipe", 2) },
    { 4, 2, 2, L_MORE(2, 2, "\"bucket_size\":25") S("1f1b", 2) },
    { 4, 4, 2, L_MORE(2, 2, "\"stream\":\"one\",\"reduce_stream\":\"one\"") S("1f1b", 4) },
    { 4, 4, 2, L_MORE(2, 2, "\"stream\":\"default_stream\",\"reduce_stream\":\"default_stream\"") S("1f1b", 4) },
    { 2, 4, 1, L_MORE(2, 1, "\"placement\":\"interleaved\"") "," SPLIT(4) },
    { 4, 2, 2, L_MORE(2, 2, "\"placement\":\"v\"") "," SPLIT(2) },
    { 4, 2, 2,
      SPLIT(2) "," PLACE(0, "[2,0]", "a") "," PLACE(1, "[1,3]", "b") "," COPY(0, "[2,0]", "dp", "0.002") "," COPY(
          1, "[1,3]", "dp", "\"layer\"") },
    { 2, 2, 1,
      SPLIT(2) "," PLACE(0, "[1]", "a") "," PLACE(1, "[0]", "b") ",{\"op\":\"order\",\"filters\":["
               "[{\"PP\":1,\"MB\":0,\"PASS\":\"F\"}],[{\"PP\":1,\"MB\":0,\"PASS\":\"BI\"}],"
               "[{\"PP\":1,\"MB\":1,\"PASS\":\"F\"}],[{\"PP\":1,\"MB\":1,\"PASS\":\"BI\"}],"
               "[{\"PP\":1,\"MB\":0,\"PASS\":\"BW\"}],[{\"PP\":1,\"MB\":1,\"PASS\":\"BW\"}]]}" },
    { 2, 2, 1,
      SPLIT(2) "," PLACE(0, "[0]", "a") "," PLACE(1, "[1]", "a") ",{\"op\":\"order\",\"filters\":["
               "[{\"PP\":0,\"MB\":1,\"PASS\":\"F\"}],[{\"PP\":0,\"MB\":0,\"PASS\":\"F\"}],"
               "[{\"PP\":0,\"MB\":0,\"PASS\":\"B\"}],[{\"PP\":0,\"MB\":1,\"PASS\":\"B\"}]]}" },
};
enum { N_STRATEGIES = sizeof strategies / sizeof *strategies, N_CASES = N_STRATEGIES * MODELS };

/* Case i: strategies by models. */
static const struct strategy *compile_case(struct compiled *c, int i)
{
    const struct strategy *s = &strategies[i / MODELS];
    char *text = NULL;
    ck_assert_int_gt(asprintf(&text, "[%s]", s->text), 0);
    compiled_init(c, (enum compiled_model)(i % MODELS), text, false);
    free(text);
    return s;
}

START_TEST(test_accepted)
{
    struct compiled c;
    const struct strategy *s = compile_case(&c, _i);
    const struct plan *p = &c.plans[0];
    const struct plan_list *l = &p->lists[plan_find_list(p, "train")];
    ck_assert_uint_eq(c.out.ranks, s->ranks);
    ck_assert_uint_eq(l->microbatches, s->microbatches);
    ck_assert_uint_eq(l->replicas, s->replicas);
    ck_assert_uint_eq((uint64_t)l->microbatches * l->microbatch_size * l->replicas, 16);
    ck_assert_uint_ne(plan_find_list(p, "eval"), PLAN_NONE);
    compiled_release(&c);
}
END_TEST

/* The same job twice: the same bytes. */
START_TEST(test_same_bytes)
{
    struct compiled a, b;
    compile_case(&a, _i * MODELS);
    compile_case(&b, _i * MODELS);
    ck_assert_uint_eq(a.out.n_classes, b.out.n_classes);
    for (uint32_t i = 0; i < a.out.n_classes; i++) {
        ck_assert_uint_eq(a.out.classes[i].bytes, b.out.classes[i].bytes);
        ck_assert(memcmp(a.out.classes[i].blob, b.out.classes[i].blob, a.out.classes[i].bytes) == 0);
    }
    compiled_release(&a);
    compiled_release(&b);
}
END_TEST

/* ---- damage ----------------------------------------------------------------------------------------------------- */

/* A plan that may be written: views of its records, not constant. */
struct open_plan {
    const struct plan *p;
    struct plan_instr *instrs; /* of the list "train" */
    uint32_t n;
    struct plan_base *bases;
    struct plan_buffer *buffers;
    struct plan_kernel *kernels;
    struct plan_operand *operands;
    struct plan_bucket *buckets;
    struct plan_piece *pieces;
    struct plan_slot *slots;
};

static struct open_plan open_for_damage(const struct plan *p)
{
    const struct plan_list *l = &p->lists[plan_find_list(p, "train")];
    return (struct open_plan){
        .p = p,
        .instrs = (struct plan_instr *)(uintptr_t)(p->instrs + l->first_instr),
        .n = l->n_instr,
        .bases = (struct plan_base *)(uintptr_t)p->bases,
        .buffers = (struct plan_buffer *)(uintptr_t)p->buffers,
        .kernels = (struct plan_kernel *)(uintptr_t)p->kernels,
        .operands = (struct plan_operand *)(uintptr_t)p->operands,
        .buckets = (struct plan_bucket *)(uintptr_t)p->buckets,
        .pieces = (struct plan_piece *)(uintptr_t)p->pieces,
        .slots = (struct plan_slot *)(uintptr_t)p->slots,
    };
}

/* The nth instruction (from the end when last) of a kind and pass; NULL: there is none. */
static struct plan_instr *find(struct open_plan *o, enum plan_op op, enum ir_pass pass, bool last)
{
    for (uint32_t i = 0; i < o->n; i++) {
        struct plan_instr *x = &o->instrs[last ? o->n - 1 - i : i];
        if (x->op == op && (pass == IR_PASS_NONE || x->pass == pass))
            return x;
    }
    return NULL;
}

static struct plan_instr *find_backward(struct open_plan *o, bool last)
{
    struct plan_instr *b = find(o, PLAN_RUN, IR_PASS_B, last);
    return b ? b : find(o, PLAN_RUN, IR_PASS_BW, last);
}

/* Puts a buffer of one role on the memory of another, of an instruction that uses both. */
static bool overlay(struct open_plan *o, const struct plan_instr *x, enum plan_slot_kind from, enum plan_slot_kind onto)
{
    struct plan_base *a = NULL, *b = NULL;
    for (uint32_t i = 0; i < x->n_bases; i++) {
        struct plan_base *at = &o->bases[x->first_base + i];
        if (at->arena != ARENA_WORK || !o->buffers[at->buffer].bytes)
            continue;
        if (o->buffers[at->buffer].role == onto && !a)
            a = at;
        else if (o->buffers[at->buffer].role == from && !b)
            b = at;
    }
    if (!a || !b || o->buffers[a->buffer].offset + o->buffers[b->buffer].bytes > o->p->h->arena_bytes[ARENA_WORK])
        return false;
    o->buffers[b->buffer].offset = o->buffers[a->buffer].offset;
    for (uint64_t i = 0; i < o->p->h->count[PLAN_S_BASES]; i++)
        if (o->bases[i].arena == ARENA_WORK && o->bases[i].buffer == b->buffer)
            o->bases[i].offset = o->buffers[a->buffer].offset;
    return true;
}

/* The same in the first run of a pass that uses both. */
static bool overlay_in(struct open_plan *o, enum ir_pass pass, enum plan_slot_kind from, enum plan_slot_kind onto)
{
    for (uint32_t i = 0; i < o->n; i++)
        if (o->instrs[i].op == PLAN_RUN && o->instrs[i].pass == pass && overlay(o, &o->instrs[i], from, onto))
            return true;
    return false;
}

static bool drop_waits(struct plan_instr *x)
{
    if (!x || !x->n_waits)
        return false;
    x->n_waits = 0;
    return true;
}

static void swap_work(struct plan_instr *a, struct plan_instr *b)
{
    struct plan_instr t = *a;
    *a = *b;
    *b = t;
    a->n_waits = b->n_waits = 0; /* those that they had would name later instructions */
}

/* Each changes one thing, where there is such a thing: false where not. */
#define DAMAGE(name)                               \
    static bool name(struct open_plan *o);         \
    static bool name(struct open_plan *o)

DAMAGE(forgets_backward)
{
    struct plan_instr *b = find_backward(o, true), *f = find(o, PLAN_RUN, IR_PASS_F, true);
    *b = *f;
    return true;
}
DAMAGE(backward_of_other_microbatch)
{
    struct plan_instr *b = find_backward(o, true);
    if (o->p->lists[0].microbatches < 2)
        return false;
    b->mb = b->mb ? 0 : 1;
    return true;
}
DAMAGE(backward_before_forward)
{
    struct plan_instr *f = find(o, PLAN_RUN, IR_PASS_F, false), *b = find_backward(o, false);
    swap_work(f, b);
    return true;
}
DAMAGE(other_program)
{
    struct plan_instr *f = find(o, PLAN_RUN, IR_PASS_F, false), *l = find(o, PLAN_RUN, IR_PASS_F, true);
    if (f->what == l->what)
        return false;
    f->what = l->what;
    return true;
}
DAMAGE(loads_other_tensor)
{
    struct plan_instr *x = find(o, PLAN_LOAD, IR_PASS_NONE, false);
    if (!x)
        return false;
    x->what = !x->what;
    return true;
}
DAMAGE(temp_on_keep) { return overlay_in(o, IR_PASS_B, SLOT_TEMP, SLOT_KEEP) || overlay_in(o, IR_PASS_BI, SLOT_TEMP, SLOT_KEEP); }
DAMAGE(input_on_keep) { return overlay_in(o, IR_PASS_F, SLOT_TENSOR, SLOT_KEEP); }
DAMAGE(gradient_on_keep) { return overlay_in(o, IR_PASS_B, SLOT_GRADIENT, SLOT_KEEP); }
DAMAGE(buffer_beyond_arena)
{
    o->buffers[0].offset = o->p->h->arena_bytes[ARENA_WORK];
    return true;
}
DAMAGE(sends_twice)
{
    struct plan_instr *a = find(o, PLAN_SEND, IR_PASS_NONE, false), *b = find(o, PLAN_SEND, IR_PASS_NONE, true);
    if (a == b)
        return false;
    *b = *a;
    return true;
}
DAMAGE(sends_half)
{
    struct plan_instr *a = find(o, PLAN_SEND, IR_PASS_NONE, false);
    if (!a)
        return false;
    a->count /= 2;
    return true;
}
DAMAGE(sends_under_other_tag)
{
    struct plan_instr *a = find(o, PLAN_SEND, IR_PASS_NONE, false);
    if (!a)
        return false;
    a->tag += 1000;
    return true;
}
DAMAGE(sends_to_itself)
{
    struct plan_instr *a = find(o, PLAN_SEND, IR_PASS_NONE, false);
    if (!a)
        return false;
    a->peer_set = a->my_set;
    return true;
}
DAMAGE(sends_what_is_not_there) { return drop_waits(find(o, PLAN_SEND, IR_PASS_NONE, false)); }
DAMAGE(reduces_too_early) { return drop_waits(find(o, PLAN_ALL_REDUCE, IR_PASS_NONE, true)); }
DAMAGE(forgets_reduction)
{
    struct plan_instr *a = find(o, PLAN_ALL_REDUCE, IR_PASS_NONE, false), *b = find(o, PLAN_ALL_REDUCE, IR_PASS_NONE, true);
    if (a == b)
        return false;
    *b = *a;
    return true;
}
DAMAGE(reduces_less)
{
    struct plan_instr *a = find(o, PLAN_ALL_REDUCE, IR_PASS_NONE, false);
    if (!a)
        return false;
    a->count--;
    return true;
}
DAMAGE(updates_twice)
{
    struct plan_instr *a = find(o, PLAN_UPDATE, IR_PASS_NONE, false), *b = find(o, PLAN_UPDATE, IR_PASS_NONE, true);
    if (a == b)
        return false;
    b->what = a->what;
    return true;
}
DAMAGE(updates_before_norm)
{
    struct plan_instr *s = find(o, PLAN_SCALARS, IR_PASS_NONE, false), *u = find(o, PLAN_UPDATE, IR_PASS_NONE, true);
    swap_work(s, u);
    return true;
}
DAMAGE(norm_without_bucket)
{
    struct plan_instr *a = find(o, PLAN_SUMSQ, IR_PASS_NONE, false), *b = find(o, PLAN_SUMSQ, IR_PASS_NONE, true);
    if (a == b)
        return false;
    b->what = a->what;
    return true;
}
DAMAGE(never_first)
{
    bool any = false;
    for (uint32_t i = 0; i < o->n; i++)
        for (uint32_t k = 0; k < o->instrs[i].n_bases; k++) {
            struct plan_base *b = &o->bases[o->instrs[i].first_base + k];
            any |= b->first;
            b->first = 0;
        }
    return any;
}
DAMAGE(first_again)
{
    struct plan_instr *b = find_backward(o, true);
    for (uint32_t k = 0; k < b->n_bases; k++) {
        struct plan_base *x = &o->bases[b->first_base + k];
        if (x->arena == ARENA_GRADS && !x->first) {
            x->first = 1;
            return true;
        }
    }
    return false;
}
DAMAGE(gradient_of_other_bucket)
{
    struct plan_instr *b = find_backward(o, true);
    for (uint32_t k = 0; o->p->h->count[PLAN_S_BUCKETS] > 1 && k < b->n_bases; k++) {
        struct plan_base *x = &o->bases[b->first_base + k];
        if (x->arena == ARENA_GRADS) {
            x->buffer = !x->buffer;
            x->offset = o->buckets[x->buffer].grad;
            return true;
        }
    }
    return false;
}
DAMAGE(buckets_overlap)
{
    if (o->p->h->count[PLAN_S_BUCKETS] < 2)
        return false;
    o->buckets[1].param = o->buckets[0].param;
    return true;
}
DAMAGE(piece_of_other_parameter)
{
    if (o->p->h->count[PLAN_S_PIECES] < 2)
        return false;
    o->pieces[1].param = o->pieces[0].param;
    return true;
}
DAMAGE(piece_short)
{
    o->pieces[0].count--;
    return true;
}
DAMAGE(kernel_of_other_operator)
{
    o->kernels[1].graph_op = o->kernels[0].graph_op;
    return true;
}
DAMAGE(operand_elsewhere)
{
    const struct plan_kernel *k = &o->kernels[1]; /* the second operator reads what the first one wrote */
    if (!(k->mask & 1u << OPERAND_IN))
        return false;
    o->operands[k->first_operand].offset += 64;
    return true;
}
DAMAGE(slot_too_small)
{
    o->slots[0].bytes /= 2;
    return true;
}
DAMAGE(slot_only_read)
{
    for (uint64_t i = 0; i < o->p->h->count[PLAN_S_SLOTS]; i++)
        if (o->slots[i].kind == SLOT_GRAD) {
            o->slots[i].access = PLAN_READ;
            return true;
        }
    return false;
}

static const struct damage {
    const char *name;
    bool (*apply)(struct open_plan *o);
    uint32_t least; /* cases that must have such a thing */
} damages[] = {
#define D(name, least) { #name, name, least }
    D(forgets_backward, N_CASES),
    D(backward_of_other_microbatch, 70),
    D(backward_before_forward, 100),
    D(other_program, 60),
    D(loads_other_tensor, N_CASES),
    D(temp_on_keep, 30),
    D(input_on_keep, 30),
    D(gradient_on_keep, 30),
    D(buffer_beyond_arena, N_CASES),
    D(sends_twice, 40),
    D(sends_half, 60),
    D(sends_under_other_tag, 60),
    D(sends_to_itself, 60),
    D(sends_what_is_not_there, 40),
    D(reduces_too_early, 40),
    D(forgets_reduction, 40),
    D(reduces_less, 60),
    D(updates_twice, 60),
    D(updates_before_norm, N_CASES),
    D(norm_without_bucket, 60),
    D(never_first, N_CASES),
    D(first_again, 60),
    D(gradient_of_other_bucket, 60),
    D(buckets_overlap, 60),
    D(piece_of_other_parameter, N_CASES),
    D(piece_short, N_CASES),
    D(kernel_of_other_operator, N_CASES),
    D(operand_elsewhere, 60),
    D(slot_too_small, N_CASES),
    D(slot_only_read, N_CASES),
};
enum { N_DAMAGES = sizeof damages / sizeof *damages };

/* Is the job with class 0 damaged so refused? 2: there is nothing to damage. */
static int refused(const struct compiled *c, const struct damage *d)
{
    uint64_t bytes = c->out.classes[0].bytes;
    struct plan *plans = mem_alloc(c->out.n_classes * sizeof *plans);
    void *blob = mem_alloc(bytes);
    memcpy(plans, c->plans, c->out.n_classes * sizeof *plans);
    memcpy(blob, c->out.classes[0].blob, bytes);
    struct err e = { 0 };
    enum status st = plan_open(blob, bytes, c->g.ops.n, c->g.params.n, c->g.tensors.n, &plans[0], &e);
    ck_assert_msg(st == ST_OK, "%s", e.text);
    struct open_plan o = open_for_damage(&plans[0]);
    int answer = 2;
    if (d->apply(&o)) {
        st = plan_open(blob, bytes, c->g.ops.n, c->g.params.n, c->g.tensors.n, &plans[0], &e);
        if (st == ST_OK)
            st = sched_check(plans, c->out.n_classes, &c->g, &e);
        answer = st == ST_BUG;
if (getenv("SHOW")) fprintf(stderr, "%s: %s\n", d->name, e.text);
    }
    mem_free(blob);
    mem_free(plans);
    return answer;
}

START_TEST(test_damage)
{
    const struct damage *d = &damages[_i];
    uint32_t done = 0;
    for (int i = 0; i < N_CASES; i++) {
        struct compiled c;
        const struct strategy *s = compile_case(&c, i);
        int answer = refused(&c, d);
        ck_assert_msg(answer != 0, "%s: accepted in [%s] of %s", d->name, s->text, c.g.family);
        done += answer == 1;
        compiled_release(&c);
    }
    ck_assert_msg(done >= d->least, "%s: applied in %u cases, expected %u or more", d->name, done, d->least);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("compile");
    TCase *t = tcase_create("compile");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_accepted, 0, N_CASES);
    tcase_add_loop_test(t, test_same_bytes, 0, N_STRATEGIES);
    tcase_add_loop_test(t, test_damage, 0, N_DAMAGES);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
