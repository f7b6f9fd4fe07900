/* Greedy tokens of a tiny model of every family, with weights as in parity.c, against those of transformers' generate() in float64
 * (generate.json, make_generate.py): the prompt at once and token by token; with matrices in bfloat16 against the same model in
 * float32 whose matrices were rounded. Prints TAP. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/number.h"
#include "exec/compute.h"
#include "ir/family/family.h"
#include "speak/sample.h"
#include "speak/speaker.h"
#include "weights.h"

static const double near = 1e-4; /* of logits, relative to the largest */
static const struct sample_how greedy = { .top_p = 1 };
static uint32_t cases, bad;

static void result(bool good, const char *name, const char *what)
{
    printf("%sok %u - %s: %s\n", good ? "" : "not ", ++cases, name, what);
    bad += !good;
}

/* A model with the weights of its row; `rounded`: matrices of two dimensions and more are what bfloat16 makes of them. */
static enum status load(const json_t *row, uint32_t tokens, enum ir_dtype type, bool rounded, struct speak_model *m,
                        struct err *e)
{
    const struct speak_want want = { SPEAK_GENERATE, type };
    const char *name = json_string_value(json_object_get(row, "name"));
    *m = (struct speak_model){ .compute = type };
    ir_graph_init(&m->graph);
    enum status st = ir_family_build(json_object_get(row, "config"), name, tokens, &m->graph, NULL, e);
    if (st == ST_OK)
        st = speak_model_begin(m, &want, name, e);
    for (uint32_t i = 0; st == ST_OK && i < m->graph.params.n; i++) {
        const uint64_t n = ir_shape_elements(&m->graph.params.at[i].shape);
        float *x = mem_alloc(n * sizeof *x);
        if (weights_walk(&m->graph, row, i, x, weights_fill))
            st = err_set(e, ST_INPUT, name, "a tensor is missing");
        for (uint64_t k = 0; rounded && k < n; k++)
            x[k] = number_from_bf16(number_to_bf16(x[k]));
        if (st == ST_OK)
            st = speak_model_put(m, &(struct checkpoint_piece){ .param = i, .count = n, .data = x }, e);
        mem_free(x);
    }
    return speak_model_end(m, &want, st);
}

static uint32_t read_ids(const json_t *list, uint32_t *ids)
{
    const uint32_t n = (uint32_t)json_array_size(list);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    return n;
}

enum { MOST = 64 };
struct task {
    uint32_t prompt[MOST], want[MOST], n_prompt, n_want;
};

/* Follows the expected tokens. Returns how many of them come; logits of each place, (n_want, V). told: those that do not come are. */
static uint32_t follow(const struct speak_model *m, const struct task *t, bool one_by_one, bool told, float *logits)
{
    const uint32_t vocab = m->graph.vocab;
    struct speaker *s;
    struct err e = { 0 };
    uint32_t good = 0;
    const float *z = NULL;
    if (speaker_open(m, t->n_prompt + t->n_want, &s, &e) != ST_OK) {
        printf("Bail out! %s\n", e.text);
        exit(99);
    }
    if (!one_by_one)
        z = speaker_add(s, t->prompt, t->n_prompt);
    for (uint32_t i = 0; one_by_one && i < t->n_prompt; i++)
        z = speaker_add(s, &t->prompt[i], 1);
    for (uint32_t i = 0; i < t->n_want; i++) {
        const uint32_t id = sample_token(&greedy, z, vocab, i);
        memcpy(logits + i * vocab, z, vocab * sizeof *z);
        if (id != t->want[i] && told)
            printf("# token %u: %u instead of %u\n", i, id, t->want[i]);
        good += id == t->want[i];
        z = speaker_add(s, &t->want[i], 1);
    }
    speaker_close(s);
    return good;
}

static bool same_logits(const float *a, const float *b, uint64_t n)
{
    double most = 0, off = 0;
    for (uint64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i]));
        const double here = fabs((double)a[i] - (double)b[i]);
        off = here > off || isnan(here) ? here : off; /* NaN is worst */
    }
    if (!(off <= near * most))
        printf("# logits differ by %.2e of the largest\n", off / most);
    return off <= near * most;
}

static void run(const json_t *row, const json_t *of)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    struct task t;
    struct speak_model m, half;
    struct err e = { 0 };
    t.n_prompt = read_ids(json_object_get(of, "prompt"), t.prompt);
    t.n_want = read_ids(json_object_get(of, "ids"), t.want);
    const uint32_t tokens = t.n_prompt + t.n_want;
    if (load(row, tokens, IR_F32, false, &m, &e) != ST_OK) {
        printf("# %s\n", e.text);
        result(false, name, "load");
        return;
    }
    const uint64_t n = (uint64_t)t.n_want * m.graph.vocab;
    float *a = mem_alloc(n * sizeof *a), *b = mem_alloc(n * sizeof *b);
    result(follow(&m, &t, false, true, a) == t.n_want && follow(&m, &t, true, true, b) == t.n_want &&
               same_logits(a, b, n),
           name, "tokens of transformers");
    speak_model_free(&m);
    if (load(row, tokens, IR_F32, true, &m, &e) != ST_OK || load(row, tokens, IR_BF16, true, &half, &e) != ST_OK) {
        printf("# %s\n", e.text);
        result(false, name, "load of matrices that are rounded");
    } else {
        follow(&m, &t, false, false, a);
        follow(&half, &t, false, false, b);
        result(half.bytes < m.bytes && same_logits(a, b, n), name, "matrices in bfloat16");
        speak_model_free(&m);
        speak_model_free(&half);
    }
    mem_free(a);
    mem_free(b);
}

/* Some without a table of positions, with windows and without; experts would be chosen otherwise by the last bits of a score. */
static bool takes_long(const char *name)
{
    static const char *const names[] = { "llama", "mistral", "gemma3_text", "qwen3" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static void run_long(const json_t *row)
{
    enum { LONG = 600 }; /* more than src/speak computes at once */
    const char *name = json_string_value(json_object_get(row, "name"));
    struct speak_model m;
    struct speaker *all, *each;
    struct err e = { 0 };
    uint32_t ids[LONG];
    if (load(row, LONG, IR_F32, false, &m, &e) != ST_OK || speaker_open(&m, LONG, &all, &e) != ST_OK ||
        speaker_open(&m, LONG, &each, &e) != ST_OK) {
        printf("Bail out! %s\n", e.text);
        exit(99);
    }
    for (uint32_t i = 0; i < LONG; i++)
        ids[i] = (uint32_t)(weights_hash_at(1, i) % m.graph.vocab);
    const float *b = NULL, *a = speaker_add(all, ids, LONG);
    for (uint32_t i = 0; i < LONG; i++)
        b = speaker_add(each, &ids[i], 1);
    result(same_logits(a, b, m.graph.vocab), name, "a long prompt at once and token by token");
    speaker_close(all);
    speaker_close(each);
    speak_model_free(&m);
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    const char *top = getenv("top_srcdir");
    char path[512];
    json_t *models, *ids, *row;
    size_t i;
    snprintf(path, sizeof path, "%s/tests/parity/parity.json", top ? top : ".");
    CHECK(js_load_file(path, &models, &e) == ST_OK);
    snprintf(path, sizeof path, "%s/tests/parity/generate.json", top ? top : ".");
    CHECK(js_load_file(path, &ids, &e) == ST_OK);
    compute_cpu.set_threads(argc > 1 ? atoi(argv[1]) : 1);
    json_array_foreach(json_object_get(models, "models"), i, row)
    {
        const json_t *of = json_object_get(ids, json_string_value(json_object_get(row, "name")));
        if (of)
            run(row, of);
        if (takes_long(json_string_value(json_object_get(row, "name"))))
            run_long(row);
    }
    json_decref(models);
    json_decref(ids);
    printf("1..%u\n", cases);
    return bad || cases < 100;
}
