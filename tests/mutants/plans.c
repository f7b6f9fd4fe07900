/* mpirun -n RANKS plans [DRAWN [SEED [PART PARTS]]]: the jobs below for this many ranks, compiled; of each all single-field mutants of its
 * plans (mutants.h), or DRAWN of all jobs by SEED, not 0; of these each PARTS-th, from number PART of 1 to PARTS on. Each is refused, by
 * plan_open() or by a rule of the checker, or it changes nothing: a rule of mutants_harmless() says so, or it is run for two steps and an
 * evaluation: then it is refused at the start, or parameters, moments and sums of all ranks have the bits of the true plan; where
 * mutants_close() says so, sums differ by rounding alone. Prints what became of them; of all mutants by field, in the lines "TABLE FIELD
 * ANSWER NUMBER" that table.awk reads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/number.h"
#include "exec/exec.h"
#include "ir/family/family.h"
#include "ir/target.h"
#include "mutants.h"
#include "sched/check/check.h"
#include "sched/sched.h"
#include "train/init_params.h"
#include "train/pieces.h"
#include "../unit/plan_edit.h"

enum { T = 8, BATCH = 8, VOCAB = 32, STEPS = 2 };

#define GPT2 "{\"model_type\":\"gpt2\",\"vocab_size\":32,\"n_embd\":8,\"n_layer\":2,\"n_head\":2,\"n_positions\":8}"
#define LLAMA                                                                                \
    "{\"model_type\":\"llama\",\"vocab_size\":32,\"hidden_size\":8,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":2,\"num_key_value_heads\":2,\"intermediate_size\":16,\"tie_word_embeddings\":false}"
#define OLMO2                                                                                \
    "{\"model_type\":\"olmo2\",\"vocab_size\":32,\"hidden_size\":8,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":2,\"num_key_value_heads\":2,\"intermediate_size\":16,\"tie_word_embeddings\":false}"
#define MOE(capacity)                                                                                  \
    "{\"model_type\":\"qwen3_moe\",\"vocab_size\":32,\"hidden_size\":8,\"num_hidden_layers\":2,"       \
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,\"intermediate_size\":16,"     \
    "\"moe_intermediate_size\":8,\"num_experts\":4,\"num_experts_per_tok\":2,\"norm_topk_prob\":true," \
    "\"output_router_logits\":true,\"router_aux_loss_coef\":0.01," capacity "\"tie_word_embeddings\":false}"

#define BRANCH                                                                                                    \
    "{\"vocab_size\":32,\"graph\":[{\"op\":\"embed\",\"name\":\"e\",\"in\":[\"tokens\"],\"features\":8},"         \
    "{\"op\":\"linear\",\"name\":\"a\",\"in\":[\"e\"],\"out_features\":8,\"block\":1},"                           \
    "{\"op\":\"swiglu\",\"name\":\"s\",\"in\":[\"a\",\"a\"],\"block\":1},{\"op\":\"add\",\"name\":\"x\",\"in\":[" \
    "\"s\",\"a\"],\"block\":1},"                                                                                  \
    "{\"op\":\"linear\",\"name\":\"q\",\"in\":[\"x\"],\"out_features\":8,\"block\":2},"                           \
    "{\"op\":\"attention\",\"name\":\"t\",\"in\":[\"q\",\"a\",\"a\"],\"heads\":2,\"kv_heads\":2,\"block\":2},"    \
    "{\"op\":\"add\",\"name\":\"y\",\"in\":[\"t\",\"x\"],\"block\":2},"                                           \
    "{\"op\":\"head_loss\",\"name\":\"h\",\"in\":[\"y\",\"targets\"],\"block\":3}]}"

static const struct job_row {
    uint32_t ranks;
    enum ir_dtype compute;
    uint32_t optimizer;
    const char *model, *strategy;
} rows[] = {
    { 1, IR_F32, OPT_ADAMW, GPT2, "[{'op':'recompute','filter':{}}]" },
    { 1, IR_BF16, OPT_ADAMW, MOE("\"capacity_factor\":1.25,"),
      "[{'op':'split','filter':{},'num_microbatches':2},{'op':'order','filters':[[{'MB':0,'PASS':'F'}],"
      "[{'MB':1,'PASS':'F'}],[{'MB':0,'PASS':'BI'}],[{'MB':1,'PASS':'BI'}],[{'MB':0,'PASS':'BW'}],"
      "[{'MB':1,'PASS':'BW'}]]}]" },
    { 2, IR_F32, OPT_ADAMW, GPT2, "[{'op':'layout','pp':2},{'op':'schedule','kind':'1f1b','microbatches':2}]" },
    { 2, IR_F32, OPT_SGD, BRANCH, "[{'op':'layout','pp':2},{'op':'schedule','kind':'zb-h1','microbatches':2}]" },
    { 2, IR_BF16, OPT_ADAMW, GPT2,
      "[{'op':'layout','dp':2,'zero':1},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 2, IR_F32, OPT_ADAMW, GPT2,
      "[{'op':'layout','dp':2,'zero':2},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 2, IR_F32, OPT_SGD, GPT2,
      "[{'op':'layout','dp':2,'zero':3},{'op':'schedule','kind':'gpipe','microbatches':2},"
      "{'op':'recompute','filter':{}}]" },
    { 2, IR_F32, OPT_ADAMW, MOE("\"capacity_factor\":1.25,"),
      "[{'op':'layout','pp':1,'dp':2,'ep':2},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 2, IR_F32, OPT_ADAMW, MOE(""), "[{'op':'layout','pp':1,'dp':2,'ep':2,'expert_bound':1,'overflow':'rounds'}]" },
    { 2, IR_F32, OPT_SGD, MOE(""),
      "[{'op':'layout','pp':1,'dp':2,'ep':2,'zero':2,'expert_bound':1,'overflow':'rounds'},"
      "{'op':'schedule','kind':'zb-h1','microbatches':2}]" },
    { 2, IR_F32, OPT_ADAMW, MOE(""),
      "[{'op':'layout','pp':1,'dp':2,'ep':2,'expert_bound':1,'overflow':'rounds'},"
      "{'op':'recompute','filter':{},'received':'again'}]" },
    { 2, IR_F32, OPT_ADAMW, GPT2,
      "[{'op':'layout','pp':2,'dp':1,'placement':'two-way'},{'op':'schedule','kind':'dualpipe','microbatches':8}]" },
    { 2, IR_F32, OPT_ADAMW, LLAMA,
      "[{'op':'layout','cp':2,'dp':1},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 2, IR_F32, OPT_ADAMW, GPT2, "[{'op':'layout','cp':2,'dp':1,'exchange':'all-to-all'}]" },
    { 2, IR_F32, OPT_ADAMW, LLAMA,
      "[{'op':'layout','cp':2,'dp':1,'exchange':'ring'},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 2, IR_F32, OPT_ADAMW, MOE("\"capacity_factor\":1,"),
      "[{'op':'layout','cp':2,'dp':1,'ep':2},{'op':'recompute','filter':{'PP':0}}]" },
    { 2, IR_F32, OPT_ADAMW, OLMO2,
      "[{'op':'layout','tp':2,'dp':1},{'op':'schedule','kind':'gpipe','microbatches':2},{'op':'recompute','filter':{}}"
      "]" },
    { 2, IR_F32, OPT_ADAMW, MOE(""),
      "[{'op':'layout','pp':1,'dp':2,'ep':2},{'op':'schedule','kind':'gpipe','microbatches':2},"
      "{'op':'recompute','filter':{},'received':'again'}]" },
    { 4, IR_F32, OPT_ADAMW, LLAMA, "[{'op':'layout','tp':2,'cp':2,'dp':1,'vocab':true}]" },
    { 4, IR_F32, OPT_SGD, OLMO2,
      "[{'op':'layout','pp':2,'tp':2,'dp':1},{'op':'schedule','kind':'zb-h1','microbatches':2}]" },
    { 4, IR_F32, OPT_ADAMW, MOE("\"capacity_factor\":1,"), "[{'op':'layout','tp':2,'dp':2,'ep':4}]" },
    { 4, IR_BF16, OPT_ADAMW, GPT2,
      "[{'op':'layout','pp':2,'tp':2,'dp':1},{'op':'schedule','kind':'1f1b','microbatches':2}]" },
    { 4, IR_F32, OPT_ADAMW, MOE(""),
      "[{'op':'layout','pp':1,'dp':4,'ep':2,'zero':1},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 4, IR_F32, OPT_ADAMW, GPT2, "[{'op':'layout','pp':2,'dp':2},{'op':'schedule','kind':'zb-h1','microbatches':4}]" },
    { 4, IR_BF16, OPT_ADAMW, GPT2,
      "[{'op':'layout','dp':4,'zero':2,'zero_group':2},{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 4, IR_F32, OPT_ADAMW, MOE(""),
      "[{'op':'layout','dp':4,'ep':2,'zero':3,'zero_group':2,'zero_optimizer':'all'},"
      "{'op':'schedule','kind':'gpipe','microbatches':2}]" },
    { 4, IR_F32, OPT_ADAMW, MOE(""),
      "[{'op':'layout','pp':1,'dp':4,'ep':2,'zero':1,'expert_bound':1,'overflow':'rounds'}]" },
    { 4, IR_BF16, OPT_SGD, MOE(""),
      "[{'op':'layout','pp':2,'dp':2,'ep':2,'expert_bound':1,'overflow':'rounds'},"
      "{'op':'schedule','kind':'1f1b','microbatches':2}]" },
};
enum { N_ROWS = sizeof rows / sizeof *rows };

struct job {
    const struct job_row *row;
    struct ir_graph g;
    struct sched_output out;
    struct plan *plans;         /* [out.n_classes] */
    struct plan_builder *apart; /* the same, taken apart */
    struct mutants mutants;
    struct result {
        uint64_t bits;                        /* of parameters, moments and sums */
        double sums[STEPS + 1][SCALAR_COUNT]; /* of each step, and of the evaluation */
    } result;                                 /* of the true plans, on this rank */
};

/* What became of a mutant: the rule that refused it, or one of these. */
enum { BY_OPEN = RULES, BY_START, HARMLESS, RUN, CLOSE, ANOTHER, ANSWERS };
enum { FIELDS = 32 };
static uint64_t answers[PLAN_SECTIONS + 1][FIELDS][ANSWERS];
static uint64_t bad;

static const char *answer_name(uint32_t answer)
{
    static const char *const names[ANSWERS] = { [BY_OPEN] = "open", [BY_START] = "start", [HARMLESS] = "harmless",
                                                [RUN] = "same",     [CLOSE] = "close",    [ANOTHER] = "another" };
    return answer < RULES ? check_rule_name((enum check_rule)answer) : names[answer];
}

/* ---- the job ---------------------------------------------------------------------------------------------------- */

static json_t *strategy_of(const char *text)
{
    char quoted[2048];
    size_t n = 0;
    for (; text[n]; n++) {
        CHECK(n + 1 < sizeof quoted);
        quoted[n] = text[n] == '\'' ? '"' : text[n];
    }
    quoted[n] = 0;
    return json_loads(quoted, 0, NULL);
}

static enum status compile(struct job *j, struct err *e)
{
    struct notices notices;
    json_t *strategy = strategy_of(j->row->strategy), *model = json_loads(j->row->model, 0, NULL);
    CHECK(strategy && model);
    ir_graph_init(&j->g);
    notices_init(&notices);
    enum status st = ir_family_build(model, "model.json", T, &j->g, &notices, e);
    notices_release(&notices);
    json_decref(model);
    const struct sched_input in = {
        .graph = &j->g,
        .strategy = strategy,
        .strategy_name = "strategy.json",
        .ranks = world_size(),
        .batch_size = BATCH,
        .compute = j->row->compute,
        .optimizer = j->row->optimizer,
        .clip = true,
        .eval = true,
        .snapshot = true,
        .target = &ir_target_cpu,
        .comm_scratch = COMM_SCRATCH,
    };
    if (st == ST_OK)
        st = sched_compile(&in, &j->out, e);
    json_decref(strategy);
    TRY(st);
    j->plans = mem_alloc(j->out.n_classes * sizeof *j->plans);
    j->apart = mem_alloc(j->out.n_classes * sizeof *j->apart);
    for (uint32_t i = 0; i < j->out.n_classes; i++) {
        TRY(plan_open(j->out.classes[i].blob, j->out.classes[i].bytes, j->g.ops.n, j->g.params.n, j->g.tensors.n,
                      &j->plans[i], e));
        plan_unpack(&j->plans[i], &j->apart[i]);
        mutants_list(&j->apart[i], i, &j->mutants);
    }
    return ST_OK;
}

static void release(struct job *j)
{
    for (uint32_t i = 0; i < j->out.n_classes; i++)
        plan_builder_release(&j->apart[i]);
    mem_free(j->apart);
    mem_free(j->plans);
    vec_free(&j->mutants);
    sched_output_release(&j->out);
    ir_graph_release(&j->g);
}

/* ---- running ---------------------------------------------------------------------------------------------------- */

static enum status read_tokens(void *self, uint64_t sample, enum exec_input which, int32_t *to, struct err *e)
{
    (void)self;
    (void)e;
    for (uint64_t i = 0; i < T; i++)
        to[i] = (int32_t)(number_mix(sample * (T + 1) + i + (which == EXEC_TARGETS) + 1) % VOCAB);
    return ST_OK;
}

/* Of all ranks together: which holder has which part to write is not what a plan computes. */
static uint64_t hash_state(const struct plan *p, struct exec *x)
{
    struct pieces pieces;
    uint64_t h = 0;
    pieces_to_write(p, world_rank(), exec_arenas(x), &pieces);
    for (uint32_t i = 0; i < pieces.copies.n; i++)
        memcpy(pieces.copies.at[i].to, pieces.copies.at[i].from, pieces.copies.at[i].bytes);
    for (uint32_t i = 0; i < pieces.list.n; i++) {
        const struct checkpoint_piece *k = &pieces.list.at[i];
        const float *const data[] = { k->data, k->m, k->v };
        const uint64_t place = number_mix(k->param) + k->first;
        for (uint64_t n = 0; n < 3 && data[n]; n++)
            h += number_hash(data[n], k->count * sizeof(float), number_mix(place) + n);
    }
    pieces_release(&pieces);
    world_sum_u64(&h, 1);
    return h;
}

/* On this rank after the steps of a plan. It fails where this is refused, on all ranks. */
static enum status run(const struct job *j, const struct plan *p, struct result *result, struct err *e)
{
    const struct exec_setup setup = {
        .plan = p,
        .graph = &j->g,
        .machine = &exec_host,
        .compute = &compute_cpu,
        .comm = world_size() > 1 ? &comm_mpi : &comm_null,
        .optimizer = { .kind = j->row->optimizer, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f },
        .clip_norm = 1,
        .local_ranks = world_size(),
        .local_rank = world_rank()
    };
    const struct exec_data data = { read_tokens, NULL };
    struct exec *x;
    TRY(exec_open(&setup, &x, e));
    struct ir_graph own;
    ir_graph_borrow(&j->g, &own);
    init_params(&own, p, world_rank(), exec_arenas(x), 1);
    ir_graph_release(&own);
    for (uint64_t s = 1; s <= STEPS; s++) {
        const struct exec_step step = { .list = plan_find_list(p, "train"),
                                        .step = s,
                                        .update = s,
                                        .sample = (s - 1) * BATCH,
                                        .lr = 0.1,
                                        .data = &data };
        exec_run(x, &step, result->sums[s - 1]);
    }
    const struct exec_step eval = { .list = plan_find_list(p, "eval"), .step = STEPS, .sample = 0, .data = &data };
    exec_run(x, &eval, result->sums[STEPS]);
    result->bits = number_hash(result->sums, sizeof result->sums, 0) ^ hash_state(p, x);
    exec_close(x);
    return ST_OK;
}

/* ---- mutants ---------------------------------------------------------------------------------------------------- */

static uint32_t rule_of(const struct err *e)
{
    for (uint32_t r = 0; r < RULES; r++) {
        char text[64];
        snprintf(text, sizeof text, "rule %s: ", check_rule_name((enum check_rule)r));
        if (strstr(e->text, text))
            return r;
    }
    return RULES;
}

/* What the compiler's checks say of a mutant. */
static uint8_t judge(const struct job *j, const struct mutant *m)
{
    struct err e = { 0 };
    uint64_t bytes, was = mutants_apply(&j->apart[m->cls], m);
    void *blob = plan_build(&j->apart[m->cls], &bytes);
    struct plan *plans = mem_alloc(j->out.n_classes * sizeof *plans);
    memcpy(plans, j->plans, j->out.n_classes * sizeof *plans);
    uint8_t answer = BY_OPEN;
    if (plan_open(blob, bytes, j->g.ops.n, j->g.params.n, j->g.tensors.n, &plans[m->cls], &e) == ST_OK)
        answer = sched_check(plans, j->out.n_classes, &j->g, &ir_target_cpu, &e) != ST_OK ? (uint8_t)rule_of(&e)
                 : mutants_harmless(m)                                                    ? HARMLESS
                                                                                          : RUN;
    mutants_undo(&j->apart[m->cls], m, was);
    mem_free(plans);
    mem_free(blob);
    return answer;
}

/* Up to rounding. */
static bool close_to(const struct result *a, const struct result *b)
{
    for (uint32_t s = 0; s <= STEPS; s++)
        for (uint32_t k = 0; k < SCALAR_COUNT; k++)
            if (!(fabs(a->sums[s][k] - b->sums[s][k]) <= 1e-5 * (1 + fabs(b->sums[s][k]))))
                return false;
    return true;
}

/* What became of a mutant that the checks accept. */
static uint8_t run_mutant(const struct job *j, const struct mutant *m)
{
    const uint32_t mine = j->out.class_of[world_rank()];
    uint64_t bytes, was = mutants_apply(&j->apart[m->cls], m);
    void *blob = plan_build(&j->apart[m->cls], &bytes);
    struct plan p = j->plans[mine];
    struct result result = { 0 };
    struct err e = { 0 };
    char text[128];
    mutants_text(m, text);
    if (getenv("MUTANTS_SHOW") && world_rank() == 0) {
        printf("runs %s: %s\n", j->row->strategy, text);
        fflush(stdout);
    }
    if (mine == m->cls)
        CHECK(plan_open(blob, bytes, j->g.ops.n, j->g.params.n, j->g.tensors.n, &p, &e) == ST_OK);
    const enum status st = run(j, &p, &result, &e);
    uint64_t differs[2] = { result.bits != j->result.bits, !close_to(&result, &j->result) };
    world_max_u64(differs, 2);
    mutants_undo(&j->apart[m->cls], m, was);
    mem_free(blob);
    if (st != ST_OK)
        return BY_START;
    if (!differs[0])
        return RUN;
    if (mutants_close(m) && !differs[1])
        return CLOSE;
    if (world_rank() == 0)
        printf("%s: %s: accepted, and another result\n", j->row->strategy, text);
    bad++;
    return ANOTHER;
}

/* What is asked for: see the head of this file. */
struct asked {
    uint64_t drawn, seed, part, parts;
};

/* `drawn` of the mutants, in any order; 0: all as they are. */
static void draw(struct mutants *all, uint64_t drawn, uint64_t *state)
{
    if (!drawn || drawn >= all->n)
        return;
    for (uint32_t i = 0; i < drawn; i++) {
        const uint32_t k = i + (uint32_t)(number_mix(++*state) % (all->n - i));
        const struct mutant m = all->at[i];
        all->at[i] = all->at[k];
        all->at[k] = m;
    }
    all->n = (uint32_t)drawn;
}

/* Each parts-th of them. */
static void take_part(struct mutants *all, uint64_t part, uint64_t parts)
{
    uint32_t n = 0;
    for (uint64_t i = part - 1; i < all->n; i += parts)
        all->at[n++] = all->at[i];
    all->n = n;
}

static void run_job(const struct job_row *row, const struct asked *asked, uint64_t *state)
{
    struct job j = { .row = row };
    struct err e = { 0 };
    enum status st = compile(&j, &e);
    if (st == ST_OK)
        st = run(&j, &j.plans[j.out.class_of[world_rank()]], &j.result, &e);
    if (st != ST_OK) {
        printf("rank %u: %s: %s\n", world_rank(), row->strategy, e.text);
        bad++;
    }
    if (st == ST_OK) {
        draw(&j.mutants, asked->drawn, state);
        take_part(&j.mutants, asked->part, asked->parts);
        uint64_t *answer = mem_alloc(j.mutants.n * sizeof *answer + 8);
        for (uint32_t i = world_rank(); i < j.mutants.n; i += world_size())
            answer[i] = judge(&j, &j.mutants.at[i]);
        world_max_u64(answer, j.mutants.n);
        for (uint32_t i = 0; i < j.mutants.n; i++) {
            const struct mutant *m = &j.mutants.at[i];
            if (answer[i] == RUN)
                answer[i] = run_mutant(&j, m);
            answers[m->section][m->field][answer[i]]++;
        }
        mem_free(answer);
    }
    release(&j);
}

static void report(uint64_t failed)
{
    uint64_t sums[ANSWERS + 1] = { 0 };
    for (uint32_t t = 0; t <= PLAN_SECTIONS; t++)
        for (uint32_t f = 0; f < FIELDS; f++)
            for (uint32_t a = 0; a < ANSWERS; a++) {
                sums[a] += answers[t][f][a];
                sums[ANSWERS] += answers[t][f][a];
                const struct mutant m = { .section = (uint16_t)t, .field = (uint16_t)f };
                const char *table, *field = answers[t][f][a] ? mutants_field(&m, &table) : NULL;
                if (field)
                    printf("%s %s %s %llu\n", table, field, answer_name(a), (unsigned long long)answers[t][f][a]);
            }
    printf("%u ranks: %llu mutants:", world_size(), (unsigned long long)sums[ANSWERS]);
    for (uint32_t a = 0; a < ANSWERS; a++)
        printf(" %s %llu", answer_name(a), (unsigned long long)sums[a]);
    printf("; %llu failures\n", (unsigned long long)failed);
}

static uint64_t argument(int argc, char **argv, int i, uint64_t otherwise)
{
    return i < argc ? strtoull(argv[i], NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    if (world_init(&argc, &argv, &e) != ST_OK) {
        fprintf(stderr, "plans: %s\n", e.text);
        return 99;
    }
    struct asked asked = { argument(argc, argv, 1, 0), argument(argc, argv, 2, 1), argument(argc, argv, 3, 1),
                           argument(argc, argv, 4, 1) };
    uint64_t state = number_mix(asked.seed);
    uint32_t n = 0;
    CHECK(asked.part >= 1 && asked.part <= asked.parts);
    compute_cpu.set_threads(1);
    for (uint32_t i = 0; i < N_ROWS; i++)
        n += rows[i].ranks == world_size();
    asked.drawn = n ? (asked.drawn + n - 1) / n : 0;
    for (uint32_t i = 0; i < N_ROWS; i++)
        if (rows[i].ranks == world_size())
            run_job(&rows[i], &asked, &state);
    if (world_rank() == 0)
        report(bad);
    world_finalize();
    return bad != 0 || n == 0;
}
