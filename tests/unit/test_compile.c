/* What the compiler makes is accepted by the checker, for a table of strategies; and the same plans, damaged, are refused.
 *
 * sched_compile() verifies its own output, so "compiles" is "accepted"; the checker shares no code with the passes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compiled.h"

#define S(kind, m)           ",{\"op\":\"schedule\",\"kind\":\"" kind "\",\"microbatches\":" #m "}"
#define L(pp, dp)            "{\"op\":\"layout\",\"pp\":" #pp ",\"dp\":" #dp "}"
#define L_MORE(pp, dp, more) "{\"op\":\"layout\",\"pp\":" #pp ",\"dp\":" #dp "," more "}"
#define SPLIT(m)             "{\"op\":\"split\",\"filter\":{},\"num_microbatches\":" #m "}"
#define PLACE(pp, devices, stream) \
    "{\"op\":\"place\",\"filter\":{\"PP\":" #pp "},\"devices\":" devices ",\"stream\":\"" stream "\"}"
#define COPY(pp, devices, stream, bucket)                                                                         \
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
      SPLIT(2) "," PLACE(0, "[1]", "a") "," PLACE(
          1, "[0]", "b") ",{\"op\":\"order\",\"filters\":["
                         "[{\"PP\":1,\"MB\":0,\"PASS\":\"F\"}],[{\"PP\":1,\"MB\":0,\"PASS\":\"BI\"}],"
                         "[{\"PP\":1,\"MB\":1,\"PASS\":\"F\"}],[{\"PP\":1,\"MB\":1,\"PASS\":\"BI\"}],"
                         "[{\"PP\":1,\"MB\":0,\"PASS\":\"BW\"}],[{\"PP\":1,\"MB\":1,\"PASS\":\"BW\"}]]}" },
    { 2, 2, 1,
      SPLIT(2) "," PLACE(0, "[0]", "a") "," PLACE(
          1, "[1]", "a") ",{\"op\":\"order\",\"filters\":["
                         "[{\"PP\":0,\"MB\":1,\"PASS\":\"F\"}],[{\"PP\":0,\"MB\":0,\"PASS\":\"F\"}],"
                         "[{\"PP\":0,\"MB\":0,\"PASS\":\"B\"}],[{\"PP\":0,\"MB\":1,\"PASS\":\"B\"}]]}" },
    { 4, 2, 4, L_MORE(1, 4, "\"zero\":1") S("gpipe", 2) },
    { 4, 4, 2, L_MORE(2, 2, "\"zero\":2") S("1f1b", 4) },
    { 4, 2, 2, L_MORE(2, 2, "\"zero\":3") S("1f1b", 2) },
    { 2, 2, 2, L_MORE(1, 2, "\"zero\":3") S("gpipe", 2) ",{\"op\":\"recompute\",\"filter\":{}}" },
    { 4, 4, 2, L(2, 2) S("1f1b", 4) ",{\"op\":\"recompute\",\"filter\":{\"PP\":0}}" },
    { 4, 4, 1, L(4, 1) S("zb-h1", 4) },
    { 4, 4, 2, L_MORE(2, 2, "\"placement\":\"v\"") S("zb-v", 4) },
    { 2, 4, 1, L_MORE(2, 1, "\"placement\":\"interleaved\"") S("interleaved", 4) },
    { 2, 4, 2, L_MORE(2, 1, "\"placement\":\"two-way\"") S("dualpipe", 8) },
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

/* An instruction of the list "train" with its own waits, by id, so that instructions may move, go and come twice. */
struct record {
    struct plan_instr in;
    uint32_t id, n_waits;
    const uint32_t *waits;   /* ids */
    struct plan_base *bases; /* [in.n_bases] */
};
/* A plan taken apart. */
struct open_plan {
    const struct plan *p;
    struct plan_builder b;
    struct record *records;
    uint32_t n;
    struct plan_base *bases; /* all of the plan */
};

static void take_apart(const struct plan *p, struct open_plan *o)
{
    *o = (struct open_plan){ .p = p, .b = { .h = *p->h } };
#define TAKE(section, SECTION)                                                                              \
    memcpy((vec_grow(&o->b.section, (uint32_t)p->h->count[PLAN_S_##SECTION]), o->b.section.at), p->section, \
           p->h->count[PLAN_S_##SECTION] * sizeof *p->section)
    TAKE(ranges, RANGES);
    TAKE(sets, SETS);
    TAKE(groups, GROUPS);
    TAKE(channels, CHANNELS);
    TAKE(streams, STREAMS);
    TAKE(buckets, BUCKETS);
    TAKE(pieces, PIECES);
    TAKE(slots, SLOTS);
    TAKE(operands, OPERANDS);
    TAKE(kernels, KERNELS);
    TAKE(programs, PROGRAMS);
    TAKE(buffers, BUFFERS);
    TAKE(lists, LISTS);
    TAKE(text, TEXT);
    const struct plan_list *l = &p->lists[plan_find_list(p, "train")];
    uint64_t bytes = p->h->count[PLAN_S_BASES] * sizeof *o->bases;
    o->n = l->n_instr;
    o->records = mem_alloc(o->n * sizeof *o->records);
    o->bases = mem_alloc(bytes);
    memcpy(o->bases, p->bases, bytes);
    for (uint32_t i = 0; i < o->n; i++) {
        const struct plan_instr *x = &p->instrs[l->first_instr + i];
        o->records[i] = (struct record){ *x, i, x->n_waits, p->waits + x->first_wait, o->bases + x->first_base };
    }
}

/* Waits for what comes later, or is gone, are left out. */
static void put_record(struct open_plan *o, uint32_t at)
{
    struct record *r = &o->records[at];
    r->in.first_wait = o->b.waits.n;
    r->in.first_base = o->b.bases.n;
    for (uint32_t w = 0; w < r->n_waits; w++)
        for (uint32_t k = 0; k < at; k++)
            if (o->records[k].id == r->waits[w] && o->records[k].in.stream != r->in.stream) {
                vec_add(&o->b.waits, k);
                break;
            }
    r->in.n_waits = (uint16_t)(o->b.waits.n - r->in.first_wait);
    for (uint32_t k = 0; k < r->in.n_bases; k++)
        vec_add(&o->b.bases, r->bases[k]);
    vec_add(&o->b.instrs, r->in);
}

/* The list "train" from the records, the others as they were; the blob is the caller's. */
static void *put_together(struct open_plan *o, uint64_t *bytes)
{
    for (uint32_t l = 0; l < o->b.lists.n; l++) {
        struct plan_list *list = &o->b.lists.at[l];
        uint32_t first = list->first_instr;
        bool train = l == plan_find_list(o->p, "train");
        list->first_instr = o->b.instrs.n;
        list->n_instr = train ? o->n : list->n_instr;
        for (uint32_t i = 0; i < list->n_instr && train; i++)
            put_record(o, i);
        for (uint32_t i = 0; i < list->n_instr && !train; i++) {
            struct plan_instr x = o->p->instrs[first + i];
            for (uint32_t w = 0; w < x.n_waits; w++)
                vec_add(&o->b.waits, o->p->waits[x.first_wait + w]);
            for (uint32_t k = 0; k < x.n_bases; k++)
                vec_add(&o->b.bases, o->bases[x.first_base + k]);
            x.first_wait = o->b.waits.n - x.n_waits;
            x.first_base = o->b.bases.n - x.n_bases;
            vec_add(&o->b.instrs, x);
        }
    }
    return plan_build(&o->b, bytes);
}

static void throw_away(struct open_plan *o)
{
    plan_builder_release(&o->b);
    mem_free(o->records);
    mem_free(o->bases);
}

/* The first or last instruction of a kind and pass; NULL: there is none. */
static struct record *find(struct open_plan *o, enum plan_op op, enum ir_pass pass, bool last)
{
    for (uint32_t i = 0; i < o->n; i++) {
        struct record *x = &o->records[last ? o->n - 1 - i : i];
        if (x->in.op == op && (pass == IR_PASS_NONE || x->in.pass == pass))
            return x;
    }
    return NULL;
}

static struct record *find_backward(struct open_plan *o, bool last)
{
    struct record *b = find(o, PLAN_RUN, IR_PASS_B, last);
    return b ? b : find(o, PLAN_RUN, IR_PASS_BW, last);
}

static bool drop(struct open_plan *o, struct record *x)
{
    if (!x)
        return false;
    memmove(x, x + 1, (size_t)(o->records + o->n - (x + 1)) * sizeof *x);
    o->n--;
    return true;
}

static bool drop_waits(struct record *x)
{
    if (!x || !x->n_waits)
        return false;
    x->n_waits = 0;
    return true;
}

static bool swap(struct record *a, struct record *b)
{
    if (!a || !b || a == b)
        return false;
    struct record t = *a;
    *a = *b;
    *b = t;
    return true;
}

/* Puts a buffer of one role on the memory of another, of an instruction that uses both. */
static bool overlay(struct open_plan *o, const struct record *x, enum plan_slot_kind from, enum plan_slot_kind onto)
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
    if (!a || !b || buffers[a->buffer].offset + buffers[b->buffer].bytes > o->p->h->arena_bytes[ARENA_WORK])
        return false;
    buffers[b->buffer].offset = buffers[a->buffer].offset;
    for (uint64_t i = 0; i < o->p->h->count[PLAN_S_BASES]; i++)
        if (o->bases[i].arena == ARENA_WORK && o->bases[i].buffer == b->buffer)
            o->bases[i].offset = buffers[a->buffer].offset;
    return true;
}

/* The same in the first run of a pass that uses both. */
static bool overlay_in(struct open_plan *o, enum ir_pass pass, enum plan_slot_kind from, enum plan_slot_kind onto)
{
    for (uint32_t i = 0; i < o->n; i++)
        if (o->records[i].in.op == PLAN_RUN && o->records[i].in.pass == pass && overlay(o, &o->records[i], from, onto))
            return true;
    return false;
}

/* Each changes one thing, where there is such a thing: false where not. */
#define DAMAGE(name)                       \
    static bool name(struct open_plan *o); \
    static bool name(struct open_plan *o)
/* Changes a field of the instruction x, where there is one. */
#define CHANGE(x_, ...)        \
    do {                       \
        struct record *x = x_; \
        if (!x)                \
            return false;      \
        __VA_ARGS__;           \
        return true;           \
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
    struct record *a = find(o, PLAN_SEND, IR_PASS_NONE, false), *b = find(o, PLAN_SEND, IR_PASS_NONE, true);
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
    for (uint32_t i = 0; i < o->n; i++) /* the run that waits for a receive */
        for (uint32_t w = 0; o->records[i].in.op == PLAN_RUN && w < o->records[i].n_waits; w++)
            if (o->records[o->records[i].waits[w]].in.op == PLAN_RECV)
                return drop_waits(&o->records[i]);
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
    struct record *a = find(o, PLAN_ALL_REDUCE, IR_PASS_NONE, false), *b = find(o, PLAN_ALL_REDUCE, IR_PASS_NONE, true);
    return swap(a, b) && o->b.channels.n > 0;
}
DAMAGE(updates_twice)
{
    uint32_t first = find(o, PLAN_UPDATE, IR_PASS_NONE, false)->in.what;
    CHANGE(find(o, PLAN_UPDATE, IR_PASS_NONE, true), if (x->in.what == first) return false; x->in.what = first);
}
DAMAGE(updates_before_norm)
{
    return swap(find(o, PLAN_SCALARS, IR_PASS_NONE, false), find(o, PLAN_UPDATE, IR_PASS_NONE, true));
}
DAMAGE(norm_of_other_bucket)
{
    uint32_t first = find(o, PLAN_SUMSQ, IR_PASS_NONE, false)->in.what;
    CHANGE(find(o, PLAN_SUMSQ, IR_PASS_NONE, true), if (x->in.what == first) return false; x->in.what = first);
}
DAMAGE(never_first)
{
    bool any = false;
    for (uint64_t i = 0; i < o->p->h->count[PLAN_S_BASES]; i++) {
        any |= o->bases[i].first;
        o->bases[i].first = 0;
    }
    return any;
}
DAMAGE(first_again)
{
    struct record *b = find_backward(o, true);
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

static const struct damage {
    const char *name;
    bool (*apply)(struct open_plan *o);
    uint32_t least; /* cases in which the checker, not plan_open() before it, has to refuse such a thing */
} damages[] = {
#define D(name, least)     \
    {                      \
#name, name, least \
    }
    D(no_load, N_CASES),
    D(no_forward, N_CASES),
    D(no_backward, N_CASES),
    D(no_send, 80),
    D(no_receive, 80),
    D(no_reduction, 60),
    D(no_norm, N_CASES),
    D(no_scalars, N_CASES),
    D(no_update, N_CASES),
    D(backward_of_other_microbatch, 80),
    D(backward_before_forward, N_CASES),
    D(loads_other_tensor, N_CASES),
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
    D(updates_before_norm, N_CASES),
    D(norm_of_other_bucket, 100),
    D(never_first, N_CASES),
    D(first_again, 60),
    D(piece_of_other_parameter, N_CASES),
    D(piece_short, N_CASES),
    D(kernel_of_other_operator, N_CASES),
    D(operand_elsewhere, 100),
    D(slot_too_small, N_CASES),
    D(slot_only_read, N_CASES),
};
enum { N_DAMAGES = sizeof damages / sizeof *damages };

/* What becomes of a job whose class 0 is damaged. */
enum answer { NOTHING_TO_DAMAGE, ACCEPTED, REFUSED_BY_OPEN, REFUSED };
static enum answer try_damage(const struct compiled *c, const struct damage *d)
{
    struct open_plan o;
    struct err e = { 0 };
    enum answer answer = NOTHING_TO_DAMAGE;
    take_apart(&c->plans[0], &o);
    if (!d || d->apply(&o)) {
        uint64_t bytes;
        void *blob = put_together(&o, &bytes);
        struct plan *plans = mem_alloc(c->out.n_classes * sizeof *plans);
        memcpy(plans, c->plans, c->out.n_classes * sizeof *plans);
        answer = REFUSED_BY_OPEN;
        if (plan_open(blob, bytes, c->g.ops.n, c->g.params.n, c->g.tensors.n, &plans[0], &e) == ST_OK)
            answer = sched_check(plans, c->out.n_classes, &c->g, &e) == ST_OK ? ACCEPTED : REFUSED;
        mem_free(plans);
        mem_free(blob);
    }
    throw_away(&o);
    return answer;
}

/* Taken apart and put together, a plan is what it was: what refuses the damaged ones is the damage. */
START_TEST(test_no_damage)
{
    struct compiled c;
    compile_case(&c, _i);
    ck_assert_int_eq(try_damage(&c, NULL), ACCEPTED);
    compiled_release(&c);
}
END_TEST

START_TEST(test_damage)
{
    const struct damage *d = &damages[_i];
    uint32_t refused = 0;
    for (int i = 0; i < N_CASES; i++) {
        struct compiled c;
        const struct strategy *s = compile_case(&c, i);
        enum answer answer = try_damage(&c, d);
        ck_assert_msg(answer != ACCEPTED, "%s: accepted in [%s] of %s", d->name, s->text, c.g.family);
        refused += answer == REFUSED;
        compiled_release(&c);
    }
    ck_assert_msg(refused >= d->least, "%s: refused by the checker in %u cases, expected %u", d->name, refused,
                  d->least);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("compile");
    TCase *t = tcase_create("compile");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_accepted, 0, N_CASES);
    tcase_add_loop_test(t, test_same_bytes, 0, N_STRATEGIES);
    tcase_add_loop_test(t, test_no_damage, 0, N_CASES);
    tcase_add_loop_test(t, test_damage, 0, N_DAMAGES);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
