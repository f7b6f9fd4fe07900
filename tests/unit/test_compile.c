/* What the compiler makes is accepted by the checker, for a table of strategies; and the same plans, damaged, are refused.
 *
 * sched_compile() verifies its own output, so "compiles" is "accepted"; the checker shares no code with the passes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compiled.h"
#include "plan_edit.h"

/* Cases: the strategies of tests/jobs/strategies by models. */
static const struct compiled_strategy *strategies;
static int n_strategies, n_cases;

static const struct compiled_strategy *compile_case(struct compiled *c, int i)
{
    const struct compiled_strategy *s = &strategies[i / MODELS];
    compiled_init(c, (enum compiled_model)(i % MODELS), s->text, false);
    return s;
}

START_TEST(test_accepted)
{
    struct compiled c;
    const struct compiled_strategy *s = compile_case(&c, _i);
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

/* ---- what a plan promises, judged beside the texts of tests/golden ---------------------------------------------- */

/* A list, and when its buffers are used. */
struct life {
    const struct plan *p;
    const struct plan_list *l;
    uint32_t n_streams, n_buffers;
    uint32_t *clock; /* [n_instr][n_streams]: instructions of each stream known done when one begins, last index + 1 */
    uint32_t *first, *end; /* [n_buffers] instruction of the first use, and behind the last; end 0: none in this list */
    uint32_t *touched;     /* [n_buffers][n_streams] last use on each stream, index + 1 */
};

static const struct plan_instr *life_instr(const struct life *f, uint32_t i)
{
    return &f->p->instrs[f->l->first_instr + i];
}

static void life_join(struct life *f, uint32_t i, uint32_t done)
{
    uint32_t *c = f->clock + i * f->n_streams, *d = f->clock + done * f->n_streams, own = life_instr(f, done)->stream;
    for (uint32_t s = 0; s < f->n_streams; s++)
        c[s] = d[s] > c[s] ? d[s] : c[s];
    c[own] = done + 1 > c[own] ? done + 1 : c[own];
}

static void life_begin(struct life *f, const struct plan *p, uint32_t list)
{
    *f = (struct life){ .p = p,
                        .l = &p->lists[list],
                        .n_streams = (uint32_t)p->h->count[PLAN_S_STREAMS],
                        .n_buffers = (uint32_t)p->h->count[PLAN_S_BUFFERS] };
    f->clock = mem_alloc(((size_t)f->l->n_instr * f->n_streams + 1) * sizeof *f->clock);
    f->first = mem_alloc((f->n_buffers + 1) * sizeof *f->first);
    f->end = mem_alloc((f->n_buffers + 1) * sizeof *f->end);
    f->touched = mem_alloc(((size_t)f->n_buffers * f->n_streams + 1) * sizeof *f->touched);
    for (uint32_t i = 0; i < f->l->n_instr; i++) {
        const struct plan_instr *x = life_instr(f, i);
        for (uint32_t k = i; k-- > 0;)
            if (life_instr(f, k)->stream == x->stream) {
                life_join(f, i, k);
                break;
            }
        for (uint32_t w = 0; w < x->n_waits; w++)
            life_join(f, i, p->waits[x->first_wait + w]);
        for (uint32_t k = 0; k < x->n_bases; k++) {
            const struct plan_base *b = &p->bases[x->first_base + k];
            if (b->arena != ARENA_WORK)
                continue;
            if (!f->end[b->buffer])
                f->first[b->buffer] = i;
            f->end[b->buffer] = i + 1;
            f->touched[b->buffer * f->n_streams + x->stream] = i + 1;
        }
    }
}

static void life_end(struct life *f)
{
    mem_free(f->clock);
    mem_free(f->first);
    mem_free(f->end);
    mem_free(f->touched);
}

/* Is all that uses buffer a done when the first use of b begins? */
static bool life_ordered(const struct life *f, uint32_t a, uint32_t b)
{
    for (uint32_t s = 0; s < f->n_streams; s++)
        if (f->touched[a * f->n_streams + s] > f->clock[f->first[b] * f->n_streams + s])
            return false;
    return true;
}

/* Buffers that share bytes are never alive together. */
static void check_overlaps(const struct life *f, const char *what)
{
    const struct plan_buffer *at = f->p->buffers;
    for (uint32_t a = 0; a < f->n_buffers; a++)
        for (uint32_t b = 0; f->end[a] && b < a; b++)
            if (f->end[b] && at[a].offset < at[b].offset + at[b].bytes && at[b].offset < at[a].offset + at[a].bytes)
                ck_assert_msg(life_ordered(f, a, b) || life_ordered(f, b, a), "%s: buffers %u and %u share bytes", what,
                              a, b);
}

/* Adds to the most bytes that are alive in the order of the list: of each kind; whole parameters, whole gradients and the rest,
 * each rounded up as they are placed. */
static void find_peaks(const struct life *f, uint64_t kinds[MEM_KINDS], uint64_t rooms[3])
{
    for (uint32_t i = 0; i < f->l->n_instr; i++) {
        uint64_t now[MEM_KINDS] = { 0 }, room[3] = { 0 };
        for (uint32_t b = 0; b < f->n_buffers; b++)
            if (f->first[b] <= i && i < f->end[b]) {
                const struct plan_buffer *x = &f->p->buffers[b];
                now[x->kind] += x->bytes;
                room[x->role == SLOT_PARAM  ? 0
                     : x->role == SLOT_GRAD ? 1
                                            : 2] += round_up(x->bytes, ir_target_cpu.alignment);
            }
        for (int k = 0; k < MEM_KINDS; k++)
            kinds[k] = now[k] > kinds[k] ? now[k] : kinds[k];
        for (int k = 0; k < 3; k++)
            rooms[k] = room[k] > rooms[k] ? room[k] : rooms[k];
    }
}

/* Memory of a plan: no two buffers in the same place at once, peaks that are what is alive, and little room beyond it. */
START_TEST(test_memory)
{
    struct compiled c;
    const struct compiled_strategy *s = compile_case(&c, _i);
    for (uint32_t k = 0; k < c.out.n_classes; k++) {
        const struct plan_header *h = c.plans[k].h;
        uint64_t kinds[MEM_KINDS] = { 0 }, rooms[3] = { 0 };
        for (uint32_t l = 0; l < h->count[PLAN_S_LISTS]; l++) {
            struct life f;
            life_begin(&f, &c.plans[k], l);
            check_overlaps(&f, s->text);
            find_peaks(&f, kinds, rooms);
            life_end(&f);
        }
        kinds[MEM_PARAMS] += h->arena_bytes[ARENA_PARAMS];
        kinds[MEM_GRADS] += h->arena_bytes[ARENA_GRADS];
        kinds[MEM_COMM] += h->arena_bytes[ARENA_COMM];
        for (int m = MEM_PARAMS; m < MEM_SNAPSHOT; m++)
            if (m != MEM_OPTIMIZER)
                ck_assert_msg(h->peak_bytes[m] == kinds[m], "%s: peak of %s: found %llu, alive are %llu", s->text,
                              plan_memory_name((enum plan_kind_of_memory)m), (unsigned long long)h->peak_bytes[m],
                              (unsigned long long)kinds[m]);
        uint64_t least = rooms[0] + rooms[1] + rooms[2];
        ck_assert_msg(h->arena_bytes[ARENA_WORK] >= least && (double)h->arena_bytes[ARENA_WORK] <= 1.9 * (double)least,
                      "%s: room for %llu bytes, alive are %llu", s->text,
                      (unsigned long long)h->arena_bytes[ARENA_WORK], (unsigned long long)least);
    }
    compiled_release(&c);
}
END_TEST

/* Where sequences are shared, a capacity bounds the rows that a device of sharded experts has room for: of each of its experts 5 rows a
 * sequence (1.25 * 8 tokens * 2 choices / 4 experts), from every sequence group that its expert group reaches; and never more than all
 * that its group sends. qwen3_moe, 32 features, float32. */
START_TEST(test_capacity_rows)
{
    static const struct {
        const char *layout;
        uint64_t rows;
    } rows[] = {
        { "\"tp\":2,\"cp\":2,\"dp\":1,\"ep\":4", 16 * 5 },            /* of 16 sequences; 64 are sent */
        { "\"tp\":2,\"dp\":2,\"ep\":4", 2 * 8 * 5 },                  /* of 8 in each of two groups */
        { "\"tp\":2,\"cp\":2,\"dp\":1,\"ep\":2", 2 * 64 },            /* two experts: as many as both send */
        { "\"cp\":2,\"dp\":1,\"ep\":2,\"expert_bound\":1", 1 * 128 }, /* what the strategy says */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct compiled c;
        char strategy[200];
        uint32_t n = 0;
        snprintf(strategy, sizeof strategy, "[{\"op\":\"layout\",%s}]", rows[i].layout);
        compiled_init(&c, MODEL_MOE, strategy, false);
        const struct plan *p = &c.plans[0];
        for (uint32_t k = 0; k < p->h->count[PLAN_S_INSTRS]; k++) {
            const struct plan_instr *in = &p->instrs[k];
            if (in->op != PLAN_ALL_TO_ALL_V || c.g.ops.at[c.g.tensors.at[in->tensor].producer].op != IR_OP_DISPATCH ||
                in->pass != IR_PASS_F)
                continue;
            const uint64_t bytes = p->buffers[p->bases[in->first_base + 1].buffer].bytes;
            ck_assert_msg(bytes == rows[i].rows * 32 * 4, "%s: room for %llu bytes, expected %llu rows", strategy,
                          (unsigned long long)bytes, (unsigned long long)rows[i].rows);
            n++;
        }
        ck_assert_uint_gt(n, 0);
        compiled_release(&c);
    }
}
END_TEST

static const char *stream_name(const struct plan *p, uint32_t stream)
{
    return p->text + p->streams[stream].name;
}

static bool lists_device(const json_t *devices, uint32_t device)
{
    size_t i;
    json_t *x;
    json_array_foreach(devices, i, x) if (json_integer_value(x) == device) return true;
    return false;
}

/* The stream that a directive `op` names under `key` for a device; NULL: none does. */
static const char *named_stream(const json_t *strategy, const char *op, const char *key, uint32_t device)
{
    size_t i;
    json_t *d;
    json_array_foreach(strategy, i, d)
    {
        const char *name = json_string_value(json_object_get(d, key));
        if (name && strcmp(json_string_value(json_object_get(d, "op")), op) == 0 &&
            lists_device(json_object_get(d, "devices"), device))
            return name;
    }
    return NULL;
}

/* Messages of a lane, a stream that is named after its ends: of one direction to one set of peers. */
static void check_lanes(const struct plan *p, const char *what)
{
    for (uint32_t i = 0; i < p->h->count[PLAN_S_INSTRS]; i++) {
        const struct plan_instr *a = &p->instrs[i], *b = p->instrs;
        if ((a->op != PLAN_SEND && a->op != PLAN_RECV) || !strchr(stream_name(p, a->stream), '.'))
            continue;
        for (; b < a; b++)
            if (b->stream == a->stream)
                ck_assert_msg(a->op == b->op && a->pass == b->pass &&
                                  plan_set_at(p, a->peer_set, 0) == plan_set_at(p, b->peer_set, 0),
                              "%s: messages %u and %u are on one stream", what, (uint32_t)(b - p->instrs), i);
    }
}

/* ---- groups of ZeRO ----------------------------------------------------------------------------------------------- */

/* "0,1 2,3": the sets of a group. */
static void ck_assert_sets(const struct plan *p, uint32_t group, const char *want)
{
    char text[256] = "";
    for (uint32_t s = 0; s < p->groups[group].n_sets; s++)
        for (uint32_t i = 0; i < p->sets[p->groups[group].first_set + s].size; i++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%u",
                     i   ? ","
                     : s ? " "
                         : "",
                     plan_set_at(p, p->groups[group].first_set + s, i));
    ck_assert_str_eq(text, want);
}

static const struct zero_groups {
    enum compiled_model model;
    const char *strategy, *shard, *copies;
    uint32_t split; /* of a bucket with pieces in so many blocks */
} zero_groups[] = {
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"dp\":8,\"zero\":3,\"zero_group\":4}]", "0,1,2,3 4,5,6,7", "0,4 1,5 2,6 3,7",
      1 },
    /* in the order of the set */
    { MODEL_LLAMA, "[{\"op\":\"replicate\",\"filter\":{},\"devices\":[2,0,3,1],\"zero\":1,\"zero_group\":2}]",
      "2,0 3,1", "2,3 0,1", 1 },
    /* a stage of two is on neighbouring ranks */
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"pp\":2,\"dp\":4,\"zero\":2,\"zero_group\":2}]", "0,1 2,3", "0,2 1,3", 1 },
    /* experts: those of four neighbours with the same block */
    { MODEL_MOE, "[{\"op\":\"layout\",\"dp\":8,\"ep\":2,\"zero\":3,\"zero_group\":4}]", "0,2 4,6 1,3 5,7",
      "0,4 2,6 1,5 3,7", 2 },
    /* blocks of a tensor group: two with the same one */
    { MODEL_LLAMA, "[{\"op\":\"layout\",\"dp\":4,\"tp\":2,\"zero\":1,\"zero_group\":2}]", "0,2 4,6 1,3 5,7",
      "0,4 2,6 1,5 3,7", 2 },
};
enum { N_ZERO_GROUPS = sizeof zero_groups / sizeof *zero_groups };

START_TEST(test_zero_groups)
{
    const struct zero_groups *z = &zero_groups[_i];
    struct compiled c;
    compiled_init(&c, z->model, z->strategy, false);
    const struct plan *p = &c.plans[0];
    uint32_t i = 0;
    while (p->pieces[p->buckets[i].first_piece].split != z->split)
        ck_assert_uint_lt(++i, p->h->count[PLAN_S_BUCKETS]);
    const struct plan_bucket *b = &p->buckets[i];
    ck_assert_uint_eq(b->zero_group, p->sets[p->groups[b->shard].first_set].size);
    ck_assert_sets(p, b->shard, z->shard);
    ck_assert_sets(p, b->copies, z->copies);
    compiled_release(&c);
}
END_TEST

/* Reductions of a bucket in a step. */
static uint32_t reductions_of(const struct plan *p, uint32_t bucket)
{
    const struct plan_list *l = &p->lists[plan_find_list(p, "train")];
    uint32_t n = 0;
    for (const struct plan_instr *in = p->instrs + l->first_instr; in < p->instrs + l->first_instr + l->n_instr; in++)
        n += (in->op == PLAN_ALL_REDUCE || in->op == PLAN_REDUCE_SCATTER) && !plan_moves_tensor(p, in) &&
             in->bucket == bucket;
    return n;
}

/* Experts on as many devices as a group has are whole on each of their holders, and reduced once a step; or only their state is sharded. */
START_TEST(test_experts_of_a_group)
{
    char strategy[200];
    struct compiled c;
    snprintf(strategy, sizeof strategy,
             "[{\"op\":\"layout\",\"dp\":4,\"ep\":2,\"zero\":3,\"zero_group\":2%s},"
             "{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]",
             _i ? ",\"zero_optimizer\":\"all\"" : "");
    compiled_init(&c, MODEL_MOE, strategy, false);
    uint32_t experts = 0, others = 0;
    for (uint32_t i = 0; i < c.plans[0].h->count[PLAN_S_BUCKETS]; i++) {
        const struct plan_bucket *b = &c.plans[0].buckets[i];
        const bool split = c.plans[0].pieces[b->first_piece].split > 1;
        ck_assert_uint_eq(b->zero_group, split ? 0 : 2);
        ck_assert_uint_eq(b->zero, !split ? ZERO_PARAMS : _i ? ZERO_STATE : ZERO_NONE);
        if (split)
            ck_assert_uint_eq(reductions_of(&c.plans[0], i), 1);
        experts += split;
        others += !split;
    }
    ck_assert(experts > 0 && others > 0);
    compiled_release(&c);
}
END_TEST

/* Kernels are in order on the stream of compute, what communicates is on another one unless it is named so, on the one that the
 * strategy names for that device; and what a stream's communication needs is its own. */
START_TEST(test_streams)
{
    struct compiled c;
    const struct compiled_strategy *s = compile_case(&c, _i);
    json_t *strategy = compiled_json(s->text);
    bool apart = !strstr(s->text, "\"default_stream\"");
    for (uint32_t k = 0; k < c.out.n_classes; k++) {
        const struct plan *p = &c.plans[k];
        uint32_t device = plan_set_at(p, p->h->devices, 0), n_streams = (uint32_t)p->h->count[PLAN_S_STREAMS];
        const char *sends = named_stream(strategy, "place", "stream", device);
        const char *reduces = named_stream(strategy, "replicate", "reduce_stream", device);
        ck_assert_str_eq(stream_name(p, 0), "default_stream");
        for (uint32_t i = 0; i < p->h->count[PLAN_S_INSTRS]; i++) {
            const struct plan_instr *x = &p->instrs[i];
            bool message = x->op == PLAN_SEND || x->op == PLAN_RECV || x->op == PLAN_EXCHANGE;
            bool reduction = x->op == PLAN_ALL_REDUCE || x->op == PLAN_REDUCE_SCATTER;
            const struct plan_base *from = &p->bases[x->first_base];
            bool numbers = x->op == PLAN_ALL_GATHER && from->arena == ARENA_WORK && from->access & PLAN_OWN;
            if (numbers) /* between the pieces of a program: what follows on that stream needs them */
                ck_assert_uint_eq(x->stream, 0);
            else if (x->op == PLAN_RUN || x->op == PLAN_UPDATE)
                ck_assert_uint_eq(x->stream, 0);
            else if ((message || reduction || x->op == PLAN_ALL_GATHER) && apart)
                ck_assert_msg(x->stream != 0, "%s: instruction %u is on the stream of compute", s->text, i);
            const char *named = message ? sends : reduction ? reduces : NULL;
            if (named)
                ck_assert_str_eq(stream_name(p, x->stream), named);
        }
        check_lanes(p, s->text);
        for (uint32_t a = 0; a < n_streams; a++)
            for (uint32_t b = 0; b < a; b++)
                ck_assert(p->streams[a].scratch >= p->streams[b].scratch + p->streams[b].scratch_bytes ||
                          p->streams[b].scratch >= p->streams[a].scratch + p->streams[a].scratch_bytes);
    }
    json_decref(strategy);
    compiled_release(&c);
}
END_TEST

/* ---- damage ----------------------------------------------------------------------------------------------------- */

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
    D(updates_before_norm, ALL),
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
    compile_case(&c, _i);
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
        const struct compiled_strategy *s = compile_case(&c, i);
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
    Suite *s = suite_create("compile");
    TCase *t = tcase_create("compile");
    tcase_set_timeout(t, 120);
    strategies = compiled_strategies(&n_strategies);
    n_cases = n_strategies * MODELS;
    tcase_add_loop_test(t, test_accepted, 0, n_cases);
    tcase_add_loop_test(t, test_same_bytes, 0, n_strategies);
    tcase_add_loop_test(t, test_no_damage, 0, n_cases);
    tcase_add_loop_test(t, test_damage, 0, N_DAMAGES);
    suite_add_tcase(s, t);
    t = tcase_create("promises");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_memory, 0, n_cases);
    tcase_add_loop_test(t, test_streams, 0, n_cases);
    tcase_add_test(t, test_capacity_rows);
    tcase_add_loop_test(t, test_zero_groups, 0, N_ZERO_GROUPS);
    tcase_add_loop_test(t, test_experts_of_a_group, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
