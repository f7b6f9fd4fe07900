/* Plans of shared sequences against the formulas of tensor and context parallelism: what a layer keeps for its backward, and what a
 * device gets in each pass from the others, to the byte. The formulas stand here by themselves, for llama's and gpt2's layers; the
 * compiler and its checker have no such. */
#include "compiled.h"

/* Rows of a microbatch: so many that a number a row fills the alignment of every target. */
enum { SEQUENCES = 4, TOKENS = 512, MICROBATCH = SEQUENCES * TOKENS };

struct shape {
    const char *family;
    uint64_t c, heads, kv, d, f; /* width, heads, those of keys, their size, width of the ffn */
};
static const struct shape llama = { "llama", 128, 16, 8, 8, 384 };
static const struct shape few_keys = { "llama", 128, 16, 2, 8, 384 };
static const struct shape gpt2 = { "gpt2", 128, 16, 16, 8, 512 };
static const struct shape olmo2 = { "olmo2", 128, 16, 8, 8, 384 }; /* norms q and k over all heads */

enum exchange { BY_GATHER, BY_ALL_TO_ALL, BY_RING };
static const char *const exchanges[] = { "gather", "all-to-all", "ring" };
struct layout {
    uint32_t tp, cp, pp, vocab;
    enum exchange exchange;
    bool whole; /* "keep" */
    enum ir_dtype type;
    const struct ir_target *target;
};

/* ---- formulas, bytes --------------------------------------------------------------------------------------------- */

static uint64_t element(const struct layout *l)
{
    return l->type == IR_BF16 ? 2 : 4;
}

static bool is_gpt2(const struct shape *s)
{
    return s == &gpt2;
}

/* Columns of keys and values on a member of a tensor group. */
static uint64_t key_width(const struct shape *s, const struct layout *l)
{
    return 2 * s->d * (s->kv < l->tp ? 1 : s->kv / l->tp);
}

/* Norms whose rows the members of a tensor group share; each tells the others a number a row, in F and again in the backward. */
static uint64_t shared_norms(const struct shape *s)
{
    return s == &olmo2 ? 2 : 0;
}

/* What a layer keeps of a microbatch. llama: x, the two normed, x between; q, k, v, o; gate, up and act; a log-sum-exp a head, a number
 * a norm. gpt2: the same with a hidden layer and its gelu, and two numbers a norm. olmo2: x, what attention and ffn give, and x between; what
 * its norms of q and k take too, and their numbers. */
static uint64_t kept(const struct shape *s, const struct layout *l)
{
    const uint64_t e = element(l), n = l->tp * l->cp, rows = MICROBATCH / n, part = MICROBATCH / l->cp;
    uint64_t bytes = is_gpt2(s) ? rows * (16 * e * s->c + 4 * s->heads + 16)
                                : rows * (e * (4 * s->c + 2 * s->heads * s->d + 3 * s->f) + 4 * s->heads + 8) +
                                      e * part * key_width(s, l);
    if (shared_norms(s))
        bytes += e * (rows * s->heads * s->d + part * key_width(s, l) / 2) + 4 * part * shared_norms(s);
    if (l->whole) /* whole inputs of both regions, and keys by position, in place of own tokens */
        bytes += 2 * e * (part - rows) * s->c + e * (MICROBATCH - part) * key_width(s, l);
    if (l->exchange == BY_ALL_TO_ALL) /* the output of attention, of all tokens and of own ones */
        bytes += e * rows * s->heads * s->d;
    return bytes;
}

/* A gather or sum over a tensor group. */
static uint64_t border(const struct shape *s, const struct layout *l)
{
    return element(l) * MICROBATCH / l->cp * s->c * (l->tp - 1) / l->tp;
}

/* A gather of keys and values, or a sum of their gradients, over a context group. */
static uint64_t keys(const struct shape *s, const struct layout *l)
{
    return element(l) * MICROBATCH / l->cp * key_width(s, l) * (l->cp - 1);
}

/* What a context group exchanges in F, or in the backward. */
static uint64_t exchanged(const struct shape *s, const struct layout *l, bool backward)
{
    if (l->exchange == BY_ALL_TO_ALL) /* queries, keys, values and the output, or their gradients */
        return element(l) * MICROBATCH / (l->tp * l->cp) * 2 * (s->heads + s->kv) * s->d * (l->cp - 1) / l->cp;
    if (l->exchange == BY_RING && backward) /* gradients of keys and values go all the way round, in float32 */
        return MICROBATCH / l->cp * key_width(s, l) * (element(l) * (l->cp - 1) + 4 * l->cp);
    return l->exchange == BY_GATHER && backward && !l->whole ? 2 * keys(s, l) : keys(s, l);
}

/* ---- plans ------------------------------------------------------------------------------------------------------- */

static void compile(struct compiled *c, const struct shape *s, const struct layout *l, uint32_t layers)
{
    char model[512], strategy[512];
    struct notices notices;
    struct err e = { 0 };
    *c = (struct compiled){ .dump = NULL };
    if (is_gpt2(s))
        snprintf(
            model, sizeof model,
            "{\"model_type\":\"gpt2\",\"vocab_size\":256,\"n_embd\":%d,\"n_layer\":%u,\"n_head\":%d,\"n_inner\":%d,"
            "\"n_positions\":%d}",
            (int)s->c, layers, (int)s->heads, (int)s->f, TOKENS);
    else
        snprintf(model, sizeof model,
                 "{\"model_type\":\"%s\",\"vocab_size\":256,\"hidden_size\":%d,\"num_hidden_layers\":%u,"
                 "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"intermediate_size\":%d,\"tie_word_"
                 "embeddings\":false}",
                 s->family, (int)s->c, layers, (int)s->heads, (int)s->kv, (int)s->f);
    char exchange[40] = "";
    if (l->exchange)
        snprintf(exchange, sizeof exchange, ",\"exchange\":\"%s\"", exchanges[l->exchange]);
    snprintf(strategy, sizeof strategy, "[{\"op\":\"layout\",\"pp\":%u,\"dp\":1,\"tp\":%u,\"cp\":%u%s%s%s}]", l->pp,
             l->tp, l->cp, l->vocab ? ",\"vocab\":true" : "",
             l->whole && l->tp * l->cp > 1 ? ",\"keep\":\"whole\"" : "", exchange);
    json_t *doc = compiled_json(model), *list = compiled_json(strategy);
    ir_graph_init(&c->g);
    notices_init(&notices);
    ck_assert_msg(ir_family_build(doc, "model.json", TOKENS, &c->g, &notices, &e) == ST_OK, "%s", e.text);
    notices_release(&notices);
    const struct sched_input in = { .graph = &c->g,
                                    .strategy = list,
                                    .strategy_name = "strategy.json",
                                    .batch_size = SEQUENCES,
                                    .compute = l->type,
                                    .target = l->target,
                                    .comm_scratch = 1 << 20 };
    ck_assert_msg(sched_compile(&in, &c->out, &e) == ST_OK, "%s: %s", strategy, e.text);
    json_decref(doc);
    json_decref(list);
    c->plans = mem_alloc(c->out.n_classes * sizeof *c->plans);
    for (uint32_t i = 0; i < c->out.n_classes; i++)
        ck_assert_msg(plan_open(c->out.classes[i].blob, c->out.classes[i].bytes, c->g.ops.n, c->g.params.n,
                                c->g.tensors.n, &c->plans[i], &e) == ST_OK,
                      "%s", e.text);
}

/* Of rank 0. */
struct figures {
    uint64_t live;                         /* buffers that are written in the forward, and read later */
    uint64_t work;                         /* the arena of all buffers */
    uint64_t activations, comm, workspace; /* peaks of piper plan */
    uint64_t borders[2], keys[2];          /* bytes in by F, by the backward: of streams tp and cp */
    uint64_t numbers;                      /* on the stream of compute */
    uint64_t message;                      /* of a microbatch to the next stage */
};

static void add_collective(const struct plan *p, const struct plan_instr *in, struct figures *f)
{
    const struct plan_channel *channel = &p->channels[in->channel];
    const char *stream = p->text + p->streams[channel->stream].name;
    const uint64_t members = plan_group_size(p, channel->group, 0);
    const uint64_t bytes = in->count * ir_dtype_size((enum ir_dtype)in->type, p->h->compute) *
                           (in->op == PLAN_SHIFT ? 1 : members - 1);
    if (!strcmp(stream, "tp"))
        f->borders[in->pass != IR_PASS_F] += bytes;
    else if (!strcmp(stream, "cp"))
        f->keys[in->pass != IR_PASS_F] += bytes;
    else if (plan_moves_tensor(p, in))
        f->numbers += bytes;
}

static uint64_t live_bytes(const struct plan *p, const struct plan_list *l)
{
    const struct plan_instr *in = p->instrs + l->first_instr;
    uint64_t sum = 0;
    uint32_t forward = 0;
    for (uint32_t i = 0; i < l->n_instr; i++)
        if (in[i].op == PLAN_RUN && in[i].pass == IR_PASS_F)
            forward = i;
    uint8_t *seen = mem_alloc(p->h->count[PLAN_S_BUFFERS] + 1); /* 1: before the end of the forward, 2: counted */
    for (uint32_t i = 0; i < l->n_instr; i++)
        for (uint32_t k = in[i].first_base; k < in[i].first_base + in[i].n_bases; k++) {
            if (p->bases[k].arena != ARENA_WORK)
                continue;
            uint8_t *s = &seen[p->bases[k].buffer];
            if (i > forward && *s == 1)
                sum += p->buffers[p->bases[k].buffer].bytes;
            *s = i > forward ? 2 : 1;
        }
    mem_free(seen);
    return sum;
}

static struct figures figures_of(const struct shape *s, const struct layout *l, uint32_t layers)
{
    struct compiled c;
    compile(&c, s, l, layers);
    const struct plan *p = &c.plans[c.out.class_of[0]];
    const struct plan_list *list = &p->lists[plan_find_list(p, "train")];
    struct figures f = { .live = live_bytes(p, list),
                         .activations = p->h->peak_bytes[MEM_ACTIVATIONS],
                         .comm = p->h->peak_bytes[MEM_COMM],
                         .workspace = p->h->peak_bytes[MEM_WORKSPACE],
                         .work = p->h->arena_bytes[ARENA_WORK] };
    for (uint32_t i = list->first_instr; i < list->first_instr + list->n_instr; i++) {
        const struct plan_instr *in = &p->instrs[i];
        if (in->op == PLAN_ALL_GATHER || in->op == PLAN_REDUCE_SCATTER || in->op == PLAN_ALL_TO_ALL ||
            in->op == PLAN_SHIFT)
            add_collective(p, in, &f);
        else if (in->op == PLAN_SEND)
            f.message += in->count * ir_dtype_size((enum ir_dtype)in->type, p->h->compute);
    }
    compiled_release(&c);
    return f;
}

static void same(const struct shape *s, const struct layout *l, const char *what, uint64_t plan, uint64_t formula)
{
    ck_assert_msg(plan == formula, "%s, tp %u, cp %u by %s, %s, %s, %s: %s: the plan has %llu bytes, the formula %llu",
                  s->family, l->tp, l->cp, exchanges[l->exchange], l->whole ? "whole" : "part", ir_dtype_name(l->type),
                  l->target->name, what, (unsigned long long)plan, (unsigned long long)formula);
}

/* From layer to layer. */
static void check_layer(const struct shape *s, const struct layout *l)
{
    const struct figures two = figures_of(s, l, 2);
    for (uint32_t layers = 3; layers < 5; layers++) {
        const struct figures f = figures_of(s, l, layers);
        const uint64_t n = layers - 2;
        same(s, l, "kept", f.live - two.live, n * kept(s, l));
        const bool received = l->whole ||
                              s == &olmo2; /* is kept: what is gathered, or what olmo2's norms take of regions */
        same(s, l, "peak", f.activations - two.activations + (received ? f.comm - two.comm : 0), n * kept(s, l));
        same(s, l, "borders of F", f.borders[0] - two.borders[0], n * 4 * border(s, l));
        same(s, l, "borders of B", f.borders[1] - two.borders[1], n * (l->whole ? 4 : 6) * border(s, l));
        same(s, l, "keys of F", f.keys[0] - two.keys[0], n * exchanged(s, l, false));
        same(s, l, "keys of B", f.keys[1] - two.keys[1], n * exchanged(s, l, true));
        same(s, l, "numbers", f.numbers - two.numbers, n * 2 * shared_norms(s) * 4 * MICROBATCH / l->cp * (l->tp - 1));
    }
}

static const uint32_t tps[] = { 1, 2, 8 }, cps[] = { 1, 2, 4 };
static const struct shape *const shapes[] = { &llama, &few_keys, &gpt2, &olmo2 };

/* Kept tensors and borders, with "part" and with "whole". */
START_TEST(layers)
{
    for (int k = 0; k < 9; k++)
        for (int whole = 0; whole < 2; whole++)
            for (int cuda = 0; cuda < 2; cuda++)
                check_layer(shapes[_i], &(struct layout){ .tp = tps[k % 3],
                                                          .cp = cps[k / 3],
                                                          .pp = 1,
                                                          .whole = whole,
                                                          .type = cuda ? IR_BF16 : IR_F32,
                                                          .target = cuda ? &ir_target_cuda : &ir_target_cpu });
}
END_TEST

/* The other ways in which keys and values meet queries: where their heads divide. */
START_TEST(ways)
{
    static const uint32_t groups[][2] = { { 1, 2 }, { 1, 4 }, { 2, 2 }, { 2, 4 } };
    for (int k = 0; k < 8; k++)
        for (int cuda = 0; cuda < 2; cuda++)
            check_layer(k < 4 ? &llama : &gpt2, &(struct layout){ .tp = groups[k % 4][0],
                                                                  .cp = groups[k % 4][1],
                                                                  .pp = 1,
                                                                  .exchange = (enum exchange)_i,
                                                                  .type = cuda ? IR_BF16 : IR_F32,
                                                                  .target = cuda ? &ir_target_cuda : &ir_target_cpu });
}
END_TEST

/* The arena has room for what is alive at once, not for what all layers gather: gaps are a third of it at most. */
START_TEST(arenas)
{
    for (int k = 0; k < 9; k++) {
        const struct layout l = {
            .tp = tps[k % 3], .cp = cps[k / 3], .pp = 1, .type = IR_BF16, .target = &ir_target_cuda
        };
        const struct figures f = figures_of(shapes[_i], &l, 24);
        const double most = 1.3 * (double)(f.activations + f.comm + f.workspace);
        ck_assert_msg((double)f.work <= most, "%s, tp %u, cp %u: %.0f bytes, at most %.0f", shapes[_i]->family, l.tp,
                      l.cp, (double)f.work, most);
    }
}
END_TEST

/* A message to the next stage carries own tokens. */
START_TEST(messages)
{
    for (int k = 0; k < 9; k++) {
        const struct layout l = {
            .tp = tps[k % 3], .cp = cps[k / 3], .pp = 2, .type = IR_BF16, .target = &ir_target_cpu
        };
        same(shapes[_i], &l, "message", figures_of(shapes[_i], &l, 2).message,
             2 * MICROBATCH / (l.tp * l.cp) * shapes[_i]->c);
    }
}
END_TEST

/* "vocab": gathers and sums at both ends of the model, and three numbers a row. */
START_TEST(words)
{
    for (int k = 0; k < 9; k++) {
        struct layout l = { .tp = tps[k % 3], .cp = cps[k / 3], .pp = 1, .type = IR_BF16, .target = &ir_target_cpu };
        const struct figures without = figures_of(shapes[_i], &l, 2);
        l.vocab = l.tp > 1;
        const struct figures f = figures_of(shapes[_i], &l, 2);
        same(shapes[_i], &l, "borders of F", f.borders[0] - without.borders[0], 2 * border(shapes[_i], &l));
        same(shapes[_i], &l, "borders of B", f.borders[1] - without.borders[1], 3 * border(shapes[_i], &l));
        same(shapes[_i], &l, "numbers", f.numbers - without.numbers, 12 * MICROBATCH / l.cp * (l.tp - 1));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bytes");
    TCase *t = tcase_create("bytes");
    const int n = sizeof shapes / sizeof *shapes;
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, layers, 0, n);
    tcase_add_loop_test(t, ways, BY_ALL_TO_ALL, BY_RING + 1);
    tcase_add_loop_test(t, arenas, 0, n);
    tcase_add_loop_test(t, messages, 0, n);
    tcase_add_loop_test(t, words, 0, n);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_tap(r, "-");
    srunner_run_all(r, CK_SILENT);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
