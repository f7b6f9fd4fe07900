/* What a rank holds (src/exec/bucket_view.c), first values (src/train/init_params.c), a checkpoint's view of it (src/train/pieces.c), and the comparison of
 * copies (src/train/replicas.c): all of them read the shard map of a plan, so they are tested on one made by hand. */
#include <check.h>
#include <math.h>

#include "comm/comm.h"
#include "train/init_params.h"
#include "base/number.h"
#include "train/pieces.h"
#include "train/replicas.h"
#include "exec/bucket_view.h"
#include "tests/unit/suite.h"

enum { HOLDERS = 4, W = 100, BIAS = 7, EXPERT = 10, PAD = 132 };

/* One bucket of four holders: w (100 elements), b (7), padded to 132 with a gap between; and a bucket of one holder each
 * with that device's block of a stacked tensor of 4 x 10. */
struct world {
    struct ir_graph g;
    void *blob;
    struct plan p;
    unsigned char *base[HOLDERS][ARENA_COUNT];
};

/* level of ZeRO, + 4 with a snapshot, + 8 in groups of two neighbours, + 16 with state over all nonetheless */
enum { SNAPSHOT = 4, GROUPS = 8, ALL = 16 };
static uint32_t shard_of(uint32_t variant)
{
    return PAD / (variant & GROUPS ? 2 : HOLDERS);
}
static uint32_t state_of(uint32_t variant)
{
    return variant & ALL ? PAD / HOLDERS : shard_of(variant);
}

static void make_plan(struct plan_builder *b, uint32_t variant)
{
    const uint32_t level = variant % SNAPSHOT;
    const bool snapshot = variant & SNAPSHOT;
    b->h = (struct plan_header){ .world = HOLDERS, .n_classes = 1, .compute = IR_F32 };
    vec_add(&b->ranges, ((struct plan_range){ 0, 1, HOLDERS }));
    vec_add(&b->sets, ((struct plan_set){ 0, 1, HOLDERS }));
    for (uint32_t i = 0; i < HOLDERS; i++) {
        vec_add(&b->ranges, ((struct plan_range){ i, 1, 1 }));
        vec_add(&b->sets, ((struct plan_set){ 1 + i, 1, 1 }));
    }
    vec_add(&b->groups, ((struct plan_group){ PLAN_GROUP_UNION, 0, 1 }));
    vec_add(&b->groups, ((struct plan_group){ PLAN_GROUP_EACH, 1, HOLDERS }));
    for (uint32_t i = 0; i < 4; i++) { /* 0,1 and 2,3; 0,2 and 1,3 */
        vec_add(&b->ranges, ((struct plan_range){ i < 2 ? 2 * i : i - 2, i < 2 ? 1 : 2, 2 }));
        vec_add(&b->sets, ((struct plan_set){ 1 + HOLDERS + i, 1, 2 }));
    }
    vec_add(&b->groups, ((struct plan_group){ PLAN_GROUP_EACH, 1 + HOLDERS, 2 }));
    vec_add(&b->groups, ((struct plan_group){ PLAN_GROUP_EACH, 3 + HOLDERS, 2 }));
    uint64_t part = PAD / HOLDERS, state = level ? state_of(variant) : PAD,
             params = level == 3 ? shard_of(variant) : PAD;
    uint64_t grads = level >= 2 ? shard_of(variant) : PAD;
    vec_add(&b->pieces, ((struct plan_piece){ .param = 0, .bucket = 0, .count = W, .split = 1 }));
    vec_add(&b->pieces, ((struct plan_piece){ .param = 1, .bucket = 0, .count = BIAS, .offset = 112, .split = 1 }));
    vec_add(&b->pieces, ((struct plan_piece){ .param = 2, .bucket = 1, .count = EXPERT, .split = HOLDERS }));
    uint64_t none = UINT64_MAX, own = 3 * 4 * part;
    vec_add(&b->buckets, ((struct plan_bucket){ 0, 2, 0, level, IR_F32, PLAN_RULE_OPTIMIZER, PAD, W, 0, 0, none, 0,
                                                4 * state, snapshot ? 0 : none, 0, 0, 0, 0 }));
    vec_add(&b->buckets,
            ((struct plan_bucket){ 2, 1, 1, 0, IR_F32, PLAN_RULE_OPTIMIZER, EXPERT, EXPERT, 4 * params, 4 * grads, none,
                                   8 * state, 8 * state + 4 * EXPERT, snapshot ? own : none, 0, 0, 0, 0 }));
    if (variant & GROUPS) {
        struct plan_bucket *u = &b->buckets.at[0];
        u->zero_group = 2;
        u->shard = 2;
        u->copies = 3;
        u->state_all = variant & ALL ? 1 : 0;
    }
    b->h.arena_bytes[ARENA_PARAMS] = 4 * (params + EXPERT);
    b->h.arena_bytes[ARENA_GRADS] = 4 * (grads + EXPERT);
    b->h.arena_bytes[ARENA_OPTIM] = 8 * (state + EXPERT);
    b->h.arena_bytes[ARENA_SNAPSHOT] = snapshot ? own + 3 * 4 * EXPERT : 0;
}

static void setup(struct world *w, uint32_t variant)
{
    *w = (struct world){ 0 };
    ir_graph_init(&w->g);
    struct ir_shape weight = { IR_COMPUTE, 2, { 10, 10, 0 } }, bias = { IR_COMPUTE, 1, { BIAS, 0, 0 } },
                    experts = { IR_COMPUTE, 2, { HOLDERS, EXPERT, 0 } };
    ir_graph_param(&w->g, "w", weight, IR_INIT_NORMAL, 0.5f);
    ir_graph_param(&w->g, "b", bias, IR_INIT_ONES, 0);
    ir_graph_param(&w->g, "experts.*.up", experts, IR_INIT_NORMAL, 0.02f);
    struct plan_builder b = { 0 };
    uint64_t bytes;
    make_plan(&b, variant);
    w->blob = plan_build(&b, &bytes);
    plan_builder_release(&b);
    /* the tables alone: a whole plan would need instructions */
    const struct plan_header *h = w->blob;
    const unsigned char *at = w->blob;
    w->p = (struct plan){ .h = h,
                          .ranges = (const void *)(at + h->first[PLAN_S_RANGES]),
                          .sets = (const void *)(at + h->first[PLAN_S_SETS]),
                          .groups = (const void *)(at + h->first[PLAN_S_GROUPS]),
                          .buckets = (const void *)(at + h->first[PLAN_S_BUCKETS]),
                          .pieces = (const void *)(at + h->first[PLAN_S_PIECES]) };
    for (uint32_t r = 0; r < HOLDERS; r++)
        for (uint32_t a = 0; a < ARENA_COUNT; a++)
            w->base[r][a] = mem_alloc(h->arena_bytes[a]);
}

static void teardown(struct world *w)
{
    for (uint32_t r = 0; r < HOLDERS; r++)
        for (uint32_t a = 0; a < ARENA_COUNT; a++)
            mem_free(w->base[r][a]);
    mem_free(w->blob);
    ir_graph_release(&w->g);
}

static const int variants[] = { 0,
                                1,
                                2,
                                3,
                                SNAPSHOT + 0,
                                SNAPSHOT + 1,
                                SNAPSHOT + 2,
                                SNAPSHOT + 3,
                                GROUPS + 1,
                                GROUPS + 2,
                                GROUPS + 3,
                                GROUPS + SNAPSHOT + 3,
                                ALL + GROUPS + 1,
                                ALL + GROUPS + 2,
                                ALL + GROUPS + 3,
                                ALL + GROUPS + SNAPSHOT + 1 };
enum { VARIANTS = sizeof variants / sizeof *variants };

START_TEST(philox_known_answers)
{
    /* kat_vectors of the Random123 distribution, philox4x32 10 rounds */
    const uint32_t zero[4] = { 0 }, ones[4] = { ~0u, ~0u, ~0u, ~0u };
    const uint32_t pi[4] = { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, key[2] = { 0xa4093822, 0x299f31d0 };
    const uint32_t expected[3][4] = { { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 },
                                      { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd },
                                      { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } };
    uint32_t out[4];
    init_philox(zero, zero, out);
    ck_assert_mem_eq(out, expected[0], sizeof out);
    init_philox(ones, ones, out);
    ck_assert_mem_eq(out, expected[1], sizeof out);
    init_philox(pi, key, out);
    ck_assert_mem_eq(out, expected[2], sizeof out);
}
END_TEST

START_TEST(normal_values)
{
    enum { N = 200001 };
    float *x = mem_alloc(N * sizeof *x), part[9];
    double sum = 0, squares = 0, fourth = 0;
    init_normal(x, 0, N, 5, "a", 2);
    for (int i = 0; i < N; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
        fourth += pow(x[i], 4);
    }
    ck_assert_double_eq_tol(sum / N, 0, 0.02);
    ck_assert_double_eq_tol(squares / N, 4, 0.05);
    ck_assert_double_eq_tol(fourth / N, 3 * 16, 2);
    for (uint64_t first = 0; first < 6; first++) { /* any stretch has the bits of the whole */
        init_normal(part, first, 9, 5, "a", 2);
        ck_assert_mem_eq(part, x + first, sizeof part);
    }
    init_normal(part, 0, 9, 6, "a", 2);
    ck_assert(part[0] != x[0] && part[8] != x[8]);
    init_normal(part, 0, 9, 5, "b", 2);
    ck_assert(part[0] != x[0] && part[8] != x[8]);
    mem_free(x);
}
END_TEST

/* Every copy has the values of the logical tensor, whatever is sharded. */
START_TEST(init_does_not_depend_on_sharding)
{
    struct world w;
    float weight[W], experts[HOLDERS * EXPERT];
    setup(&w, (uint32_t)variants[_i]);
    init_normal(weight, 0, W, 3, "w", 0.5f);
    init_normal(experts, 0, HOLDERS * EXPERT, 3, "experts.*.up", 0.02f);
    for (uint32_t r = 0; r < HOLDERS; r++) {
        init_params(&w.g, &w.p, r, w.base[r], 3);
        struct bucket_view s = bucket_view_of(&w.p, 0, r, w.base[r]), x = bucket_view_of(&w.p, 1, r, w.base[r]);
        for (uint64_t i = 0; i < s.params.count; i++) {
            uint64_t at = s.params.first + i;
            float expected = at < W ? weight[at] : at >= 112 && at < 112 + BIAS ? 1 : 0;
            ck_assert(((float *)s.param)[i] == expected);
        }
        ck_assert_mem_eq(x.param, experts + r * EXPERT, EXPERT * sizeof(float));
    }
    teardown(&w);
}
END_TEST

START_TEST(shards_cover_the_bucket)
{
    struct world w;
    setup(&w, (uint32_t)variants[_i]);
    for (uint32_t r = 0; r < HOLDERS; r++) {
        struct bucket_view s = bucket_view_of(&w.p, 0, r, w.base[r]);
        const uint32_t v = (uint32_t)variants[_i], level = v % SNAPSHOT;
        /* of the groups 0,1 and 2,3 the first of each has shard 0, of which rank 0 owns the first half, rank 2 the other */
        const uint32_t place = v & GROUPS ? r % 2 * 2 + r / 2 : r, shard = v & GROUPS ? r % 2 : r;
        ck_assert_uint_eq(s.own.first, place * (PAD / HOLDERS));
        ck_assert_uint_eq(s.own.count, PAD / HOLDERS);
        ck_assert_uint_eq(s.shard.first, shard * shard_of(v));
        ck_assert_uint_eq(s.shard.count, shard_of(v));
        ck_assert_uint_eq(s.state.first, level < 1 ? 0 : v & ALL ? s.own.first : s.shard.first);
        ck_assert_uint_eq(s.state.count, level >= 1 ? state_of(v) : PAD);
        ck_assert_uint_eq(s.grads.count, level >= 2 ? shard_of(v) : PAD);
        ck_assert_uint_eq(s.params.count, level >= 3 ? shard_of(v) : PAD);
        ck_assert_ptr_null(s.master);
    }
    teardown(&w);
}
END_TEST

/* What the ranks write is every element once, and reading it back gives every rank what it had. */
START_TEST(written_once_and_read_back)
{
    struct world w, again;
    float tensor[3][3][W] = { 0 }; /* values, m, v of each parameter */
    int written[3][W] = { 0 };
    setup(&w, (uint32_t)variants[_i]);
    setup(&again, (uint32_t)variants[_i]);
    for (uint32_t r = 0; r < HOLDERS; r++) {
        init_params(&w.g, &w.p, r, w.base[r], 3);
        for (uint32_t b = 0; b < 2; b++) {
            struct bucket_view s = bucket_view_of(&w.p, b, r, w.base[r]);
            for (uint64_t i = 0; i < s.state.count; i++) {
                s.m[i] = (float)(1000 * (b + 1) + s.state.first + i + (b ? 100 * r : 0));
                s.v[i] = -s.m[i];
            }
        }
        struct pieces out;
        pieces_to_write(&w.p, r, w.base[r], &out);
        ck_assert_uint_eq(out.copies.n, variants[_i] & SNAPSHOT ? 6 : 0);
        for (uint32_t k = 0; k < out.copies.n; k++)
            memcpy(out.copies.at[k].to, out.copies.at[k].from, out.copies.at[k].bytes);
        unsigned char *from = variants[_i] & SNAPSHOT ? w.base[r][ARENA_SNAPSHOT] : w.base[r][ARENA_PARAMS];
        uint64_t bytes = w.p.h->arena_bytes[variants[_i] & SNAPSHOT ? ARENA_SNAPSHOT : ARENA_PARAMS];
        for (uint32_t k = 0; k < out.list.n; k++) {
            const struct checkpoint_piece *q = &out.list.at[k];
            ck_assert((unsigned char *)q->data >= from && (unsigned char *)(q->data + q->count) <= from + bytes);
            for (uint64_t i = 0; i < q->count; i++) {
                written[q->param][q->first + i]++;
                tensor[q->param][0][q->first + i] = q->data[i];
                tensor[q->param][1][q->first + i] = q->m[i];
                tensor[q->param][2][q->first + i] = q->v[i];
            }
        }
        pieces_release(&out);
    }
    const int sizes[] = { W, BIAS, HOLDERS * EXPERT };
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < W; i++)
            ck_assert_int_eq(written[t][i], i < sizes[t]);
    for (uint32_t r = 0; r < HOLDERS; r++) {
        struct pieces in;
        pieces_to_read(&again.p, r, again.base[r], &in);
        for (uint32_t k = 0; k < in.list.n; k++) {
            const struct checkpoint_piece *q = &in.list.at[k];
            memcpy(q->data, &tensor[q->param][0][q->first], q->count * sizeof(float));
            if (q->m)
                memcpy(q->m, &tensor[q->param][1][q->first], q->count * sizeof(float));
            if (q->v)
                memcpy(q->v, &tensor[q->param][2][q->first], q->count * sizeof(float));
        }
        pieces_take(&again.p, r, again.base[r], &in);
        pieces_release(&in);
        ck_assert_mem_eq(again.base[r][ARENA_PARAMS], w.base[r][ARENA_PARAMS], w.p.h->arena_bytes[ARENA_PARAMS]);
        struct bucket_view a = bucket_view_of(&w.p, 1, r, w.base[r]), b = bucket_view_of(&again.p, 1, r, again.base[r]);
        ck_assert_mem_eq(a.m, b.m, EXPERT * sizeof(float));
        ck_assert_mem_eq(a.v, b.v, EXPERT * sizeof(float));
    }
    teardown(&w);
    teardown(&again);
}
END_TEST

/* ---- copies --------------------------------------------------------------------------------------------------- */

/* The ranks take turns in this process. What they give to a gathering stays until they give something else, so after a turn
 * of all of them each finds what the others would have sent. */
static struct {
    uint32_t rank;
    unsigned char given[HOLDERS][4096];
} turn;

uint32_t world_size(void)
{
    return HOLDERS;
}

void world_max_u64(uint64_t *values, uint64_t n)
{
    (void)values; /* the ranks of this plan have equally many stretches */
    (void)n;
}

void world_all_gather(const void *mine, uint64_t size, void *all)
{
    ck_assert_uint_le(size, sizeof turn.given[0]);
    memcpy(turn.given[turn.rank], mine, size);
    for (uint32_t r = 0; r < HOLDERS; r++)
        memcpy((unsigned char *)all + r * size, turn.given[r], size);
}

/* What all ranks find; the same on each. */
static enum status compare(struct world *w, struct err *e)
{
    struct replicas *copies[HOLDERS];
    enum status st = ST_OK;
    memset(&turn, 0, sizeof turn);
    for (uint32_t r = 0; r < HOLDERS; r++)
        copies[r] = replicas_open(&w->g, &w->p, r, w->base[r]);
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t r = 0; r < HOLDERS; r++) {
            struct err found = { 0 };
            turn.rank = r;
            enum status got = replicas_compare(copies[r], 12, &found);
            if (round == 0)
                continue;
            ck_assert(r == 0 || (got == st && strcmp(found.text, e->text) == 0));
            st = got;
            *e = found;
        }
    for (uint32_t r = 0; r < HOLDERS; r++)
        replicas_close(copies[r]);
    return st;
}

static void ck_assert_differs(struct world *w, const char *first, const char *second)
{
    struct err e = { 0 };
    ck_assert_int_eq(compare(w, &e), ST_BUG);
    ck_assert_msg(strstr(e.text, first) && strstr(e.text, second), "message: %s", e.text);
}

START_TEST(equal_copies_pass)
{
    struct world w;
    struct err e = { 0 };
    setup(&w, (uint32_t)variants[_i]);
    for (uint32_t r = 0; r < HOLDERS; r++)
        init_params(&w.g, &w.p, r, w.base[r], 3);
    ck_assert_int_eq(compare(&w, &e), ST_OK);
    teardown(&w);
}
END_TEST

/* Every element of the bucket in turn, on every rank: one bit of it is wrong. */
START_TEST(one_wrong_bit_is_found)
{
    struct world w;
    setup(&w, 0);
    for (uint32_t r = 0; r < HOLDERS; r++)
        init_params(&w.g, &w.p, r, w.base[r], 3);
    for (uint32_t at = 0; at < 112 + BIAS; at += at == W - 1 ? 112 - at : 1)
        for (uint32_t r = 0; r < HOLDERS; r++) {
            uint32_t *bits = (uint32_t *)bucket_view_of(&w.p, 0, r, w.base[r]).param + at;
            *bits ^= 1;
            ck_assert_differs(&w, at < W ? "replicas of w (elements 0 to 99)" : "replicas of b (elements 0 to 6)",
                              "value");
            *bits ^= 1;
        }
    for (uint32_t r = 0; r < HOLDERS; r++) {
        struct bucket_view s = bucket_view_of(&w.p, 0, r, w.base[r]);
        float *const moments[] = { s.m, s.v };
        for (int k = 0; k < 2; k++) {
            moments[k][W - 1] = 1e-30f;
            ck_assert_differs(&w, "replicas of w", "optimizer state");
            moments[k][W - 1] = 0;
        }
    }
    struct err e = { 0 };
    ck_assert_int_eq(compare(&w, &e), ST_OK);
    teardown(&w);
}
END_TEST

/* Where owners alone update, their own part runs ahead of the copies until the next step: only the copies must agree. In groups the
 * copies of a shard update alike, unless state is sharded over all. Where parameters are sharded over all there are no copies. */
START_TEST(owners_run_ahead_of_copies)
{
    struct world w;
    const uint32_t v = (uint32_t)variants[_i], level = v % SNAPSHOT;
    if (!level)
        return; /* nobody is an owner */
    setup(&w, v);
    for (uint32_t r = 0; r < HOLDERS; r++) {
        init_params(&w.g, &w.p, r, w.base[r], 3);
        struct bucket_view s = bucket_view_of(&w.p, 0, r, w.base[r]);
        for (uint64_t i = 0; i < s.state.count; i++)
            ((float *)s.param)[s.state.first - s.params.first + i] += 1;
        s.m[0] = (float)s.state.first;
    }
    struct err e = { 0 };
    ck_assert_int_eq(compare(&w, &e), ST_OK);
    /* b is in the second half, in its last quarter: rank 3 owns it, 1 and 3 are those with this shard in groups; ranks 0 to 2, 0 and 2 have
     * copies that they do not update */
    const uint32_t rank = level < 3 ? 2 : 3;
    struct bucket_view s = bucket_view_of(&w.p, 0, rank, w.base[rank]);
    ((float *)s.param)[112 - s.params.first] += 1;
    if (level < 3 || (v & GROUPS && !(v & ALL)))
        ck_assert_differs(&w, "replicas of b", "value");
    else
        ck_assert_int_eq(compare(&w, &e), ST_OK);
    teardown(&w);
}
END_TEST

START_TEST(bfloat16_rounds_to_even)
{
    ck_assert_uint_eq(number_to_bf16(1.0f), 0x3f80);
    ck_assert_uint_eq(number_to_bf16(1.00390625f), 0x3f80); /* half way: to the even one */
    ck_assert_uint_eq(number_to_bf16(1.01171875f), 0x3f82);
    ck_assert_uint_eq(number_to_bf16(-INFINITY), 0xff80);
    ck_assert_uint_eq(number_to_bf16(3.4e38f), 0x7f80);
    ck_assert(isnan(number_from_bf16(number_to_bf16(NAN))));
    ck_assert(number_from_bf16(0x4049) == 3.140625f);
}
END_TEST

/* ---- blocks of split parameters ------------------------------------------------------------------------------------ */

/* A bucket with one piece, in `split` blocks over one tensor group of p devices. */
static void open_blocks(struct world *w, uint32_t p, const struct plan_piece *piece)
{
    struct plan_builder b = { 0 };
    struct err e = { 0 };
    uint64_t bytes;
    b.h = (struct plan_header){ .world = p, .n_classes = 1, .compute = IR_F32 };
    vec_add(&b.ranges, ((struct plan_range){ 0, 1, p }));
    vec_add(&b.sets, ((struct plan_set){ 0, 1, p }));
    vec_add(&b.groups, ((struct plan_group){ PLAN_GROUP_UNION, 0, 1 }));
    vec_add(&b.groups, ((struct plan_group){ PLAN_GROUP_EACH, 0, 1 }));
    vec_add(&b.pieces, *piece);
    b.h.arena_bytes[ARENA_PARAMS] = b.h.arena_bytes[ARENA_GRADS] = 4 * piece->count * p;
    vec_add(&b.buckets, ((struct plan_bucket){ .type = IR_F32,
                                               .n_pieces = 1,
                                               .elements = piece->count * p,
                                               .n_decay = piece->count,
                                               .master = UINT64_MAX,
                                               .m = UINT64_MAX,
                                               .v = UINT64_MAX,
                                               .snapshot = UINT64_MAX }));
    vec_add(&b.streams, ((struct plan_stream){ .name = plan_builder_text(&b, "default_stream") }));
    w->blob = plan_build(&b, &bytes);
    plan_builder_release(&b);
    ck_assert_msg(plan_open(w->blob, bytes, 1, 1, 1, &w->p, &e) == ST_OK, "%s", e.text);
}

/* seen[element]: how often the blocks of one member each hold it, where a member's part is read in `parts` ranges. */
static void count_blocks(const struct world *w, uint32_t p, const struct plan_piece *piece, uint32_t parts,
                         uint32_t *seen)
{
    for (uint32_t rank = 0; rank < p; rank += p / piece->split) {
        uint64_t at = 0;
        for (uint32_t k = 0; k < parts; k++) {
            const struct bucket_view_range in = { piece->count * k / parts,
                                                  piece->count * (k + 1) / parts - piece->count * k / parts };
            struct bucket_view_piece s = { 0 };
            while (bucket_view_next(&w->p, 0, rank, in, &s)) {
                ck_assert_uint_ge(s.offset, at); /* ascending, each once */
                at = s.offset + s.count;
                for (uint64_t i = 0; i < s.count; i++)
                    seen[s.first + i]++;
            }
        }
    }
}

/* All blocks of a tensor together cover it once: rows of W, columns of W, rows of blocks, words; in whole and in parts of holders. */
START_TEST(blocks_cover_the_tensor)
{
    const uint32_t p = (uint32_t)_i + 1, rows = 24 * p, columns = 7 * p, words = 5 * p - (p > 1 ? 2 : 0);
    const uint64_t n = (uint64_t)rows * columns;
    const struct plan_piece forms[] = {
        { .count = n / p, .split = p, .owners = 1 },
        { .count = n / p, .run = columns / p, .stride = columns, .split = p, .owners = 1 },
        { .count = n / p, .run = n / 3 / p, .stride = n / 3, .split = p, .owners = 1 },
        { .count = 5 * 3, .elements = (uint64_t)words * 3, .split = p, .owners = 1 },
        { .count = n, .split = 1 },
    };
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        struct plan_piece piece = forms[f];
        const uint64_t elements = piece.elements ? piece.elements : n;
        if (p == 1 && piece.owners) /* one block is the whole tensor, the last form */
            continue;
        for (uint32_t parts = 1; parts <= 5; parts++) {
            struct world w;
            uint32_t *seen = mem_alloc((size_t)elements * sizeof *seen);
            open_blocks(&w, p, &piece);
            count_blocks(&w, piece.split == 1 ? 1 : p, &piece, parts, seen);
            for (uint64_t i = 0; i < elements; i++)
                ck_assert_msg(seen[i] == 1, "p %u, form %zu, %u parts: element %llu is there %u times", p, f, parts,
                              (unsigned long long)i, seen[i]);
            mem_free(seen);
            mem_free(w.blob);
        }
    }
}
END_TEST

/* And so do all blocks of the parts of a parameter that is taken apart, by rows and by columns, each in blocks of its own number. */
START_TEST(parts_cover_the_parameter)
{
    enum { ROWS = 6 };
    const uint32_t p = (uint32_t)_i + 1, width[3] = { 8 * p, 3, 5 * p }, split[3] = { p, 1, p };
    const uint64_t all = width[0] + width[1] + width[2], n = ROWS * all;
    for (int columns = 0; columns < 2; columns++) {
        uint32_t *seen = mem_alloc(n * sizeof *seen);
        for (uint32_t i = 0, from = 0; i < 3; from += width[i++]) {
            struct plan_piece piece = { .count = (uint64_t)ROWS * width[i] / split[i],
                                        .part_of = 1,
                                        .first = columns ? from : (uint64_t)from * ROWS,
                                        .split = split[i],
                                        .owners = split[i] > 1 };
            if (columns) {
                piece.run = width[i] / split[i];
                piece.stride = all;
            }
            struct world w;
            open_blocks(&w, p, &piece);
            count_blocks(&w, split[i], &piece, 2, seen);
            mem_free(w.blob);
        }
        for (uint64_t k = 0; k < n; k++)
            ck_assert_msg(seen[k] == 1, "p %u, %s: element %llu is there %u times", p, columns ? "columns" : "rows",
                          (unsigned long long)k, seen[k]);
        mem_free(seen);
    }
}
END_TEST

/* With fewer blocks than members, neighbours hold the same one. */
START_TEST(neighbours_share_blocks)
{
    const struct plan_piece piece = { .count = 30, .run = 5, .stride = 10, .split = 2, .owners = 1 };
    struct world w;
    open_blocks(&w, 4, &piece);
    for (uint32_t rank = 0; rank < 4; rank++) {
        struct bucket_view_piece s = { 0 };
        ck_assert(bucket_view_next(&w.p, 0, rank, (struct bucket_view_range){ 7, 10 }, &s));
        ck_assert_uint_eq(s.first, 10 + (rank < 2 ? 0 : 5) + 2);
        ck_assert_uint_eq(s.count, 3);
        ck_assert(bucket_view_next(&w.p, 0, rank, (struct bucket_view_range){ 7, 10 }, &s));
        ck_assert_uint_eq(s.first, 20 + (rank < 2 ? 0 : 5));
    }
    mem_free(w.blob);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("state");
    TCase *t = tcase_create("state");
    tcase_add_loop_test(t, blocks_cover_the_tensor, 0, 8);
    tcase_add_loop_test(t, parts_cover_the_parameter, 0, 8);
    tcase_add_test(t, neighbours_share_blocks);
    tcase_add_test(t, philox_known_answers);
    tcase_add_test(t, normal_values);
    tcase_add_loop_test(t, init_does_not_depend_on_sharding, 0, VARIANTS);
    tcase_add_loop_test(t, shards_cover_the_bucket, 0, VARIANTS);
    tcase_add_loop_test(t, written_once_and_read_back, 0, VARIANTS);
    tcase_add_loop_test(t, equal_copies_pass, 0, VARIANTS);
    tcase_add_test(t, one_wrong_bit_is_found);
    tcase_add_loop_test(t, owners_run_ahead_of_copies, 0, VARIANTS);
    tcase_add_test(t, bfloat16_rounds_to_even);
    suite_add_tcase(s, t);
    return suite_run(s);
}
