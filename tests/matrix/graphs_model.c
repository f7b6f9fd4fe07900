/* See graphs.h. */
#include "graphs.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { POOL = 64, NARROW = GRAPH_WIDTH / 2, PARTS = 7 };

struct name {
    char at[24];
};

/* Tensors that a part may read: wide ones (T, WIDTH), narrow ones (T, WIDTH/2) for one key/value head of two. */
struct pool {
    struct name at[POOL];
    bool read[POOL];
    uint32_t n;
};

struct drawing {
    struct rng r;
    json_t *ops;
    struct pool wide, narrow;
    uint32_t part, n, losses; /* n: of the next name */
};

static bool chance(struct drawing *d, uint32_t percent)
{
    return rng_below(&d->r, 100) < percent;
}

static void offer(struct pool *p, struct name x)
{
    CHECK(p->n < POOL);
    p->read[p->n] = false;
    p->at[p->n++] = x;
}

/* Any of them; often one of the last, so that the graph is deep too. */
static struct name take(struct drawing *d, struct pool *p)
{
    const uint32_t last = p->n < 3 ? p->n : 3;
    const uint32_t i = chance(d, 50) ? p->n - 1 - rng_below(&d->r, last) : rng_below(&d->r, p->n);
    p->read[i] = true;
    return p->at[i];
}

static json_t *draw(struct drawing *d, const char *op, struct name *out, const char *in0, const char *in1,
                    const char *in2)
{
    json_t *in = json_array();
    const char *const inputs[] = { in0, in1, in2 };
    snprintf(out->at, sizeof out->at, "%s%u", op, d->n++);
    for (int i = 0; i < 3 && inputs[i]; i++)
        json_array_append_new(in, json_string(inputs[i]));
    json_t *o = json_pack("{s:s,s:s,s:o,s:i}", "op", op, "name", out->at, "in", in, "block", d->part);
    json_array_append_new(d->ops, o);
    return o;
}

static void set(json_t *op, const char *key, int value)
{
    json_object_set_new(op, key, json_integer(value));
}

static void share(json_t *op, const char *param)
{
    json_object_set_new(op, "param", json_pack("[s]", param));
}

static void flag(json_t *op, const char *key)
{
    json_object_set_new(op, key, json_true());
}

static void activation(struct drawing *d, json_t *op)
{
    static const char *const words[] = { "silu", "gelu", "gelu_tanh", "relu", "relu2", "sigmoid" };
    json_object_set_new(op, "act", json_string(words[rng_below(&d->r, 6)]));
}

/* Some weights are those of other operators, one of them of the embedding and the head. */
static struct name linear(struct drawing *d, struct name x, uint32_t out)
{
    struct name y;
    json_t *o = draw(d, "linear", &y, x.at, NULL, NULL);
    set(o, "out_features", (int)out);
    if (out == GRAPH_WIDTH && chance(d, 40))
        share(o, chance(d, 50) ? "embed.weight" : "shared.square");
    else if (out == NARROW && chance(d, 40))
        share(o, "shared.narrow");
    else
        json_object_set_new(o, "bias", json_boolean(chance(d, 50)));
    if (out == GRAPH_WIDTH && chance(d, 30))
        json_object_set_new(o, "transposed", json_true());
    return y;
}

static struct name norm(struct drawing *d, struct name x)
{
    struct name y;
    const bool rms = chance(d, 50);
    json_t *o = draw(d, rms ? "rmsnorm" : "layernorm", &y, x.at, NULL, NULL);
    if (!rms && chance(d, 30))
        flag(o, chance(d, 50) ? "no_weight" : "no_bias");
    else if (chance(d, 40))
        json_object_set_new(o, "param", rms ? json_pack("[s]", "shared.scale") : json_pack("[sn]", "shared.scale"));
    else if (rms && chance(d, 30))
        flag(o, "one_plus");
    return y;
}

/* A pool's tensor, or a linear of one that is not offered to others. */
static struct name operand(struct drawing *d)
{
    struct name x = take(d, &d->wide);
    return chance(d, 40) ? linear(d, x, GRAPH_WIDTH) : x;
}

static struct name attention(struct drawing *d)
{
    struct name q = operand(d), k, v, y;
    const bool one_head = chance(d, 40);
    if (one_head) { /* keys and values are offered to the attentions that follow */
        while (d->narrow.n < 2 || chance(d, 30))
            offer(&d->narrow, linear(d, take(d, &d->wide), NARROW));
        k = take(d, &d->narrow);
        v = chance(d, 30) ? k : take(d, &d->narrow);
    } else {
        k = chance(d, 20) ? q : operand(d);
        v = chance(d, 20) ? k : chance(d, 20) ? q : operand(d);
    }
    json_t *o = draw(d, "attention", &y, q.at, k.at, v.at);
    set(o, "heads", 2);
    set(o, "kv_heads", one_head ? 1 : 2);
    return y;
}

static struct name swiglu(struct drawing *d)
{
    struct name gate = operand(d), up = chance(d, 20) ? gate : operand(d), y;
    json_t *o = draw(d, "swiglu", &y, gate.at, up.at, NULL);
    if (chance(d, 50))
        activation(d, o);
    return norm(d, y);
}

static struct name add(struct drawing *d)
{
    struct name a = take(d, &d->wide), b = chance(d, 15) ? a : operand(d), y;
    draw(d, "add", &y, a.at, b.at, NULL);
    return y;
}

static struct name unary(struct drawing *d)
{
    static const char *const ops[] = { "gelu", "rope", "pos_embed", "act", "scale", "clamp" };
    struct name x = take(d, &d->wide), y;
    const uint32_t kind = rng_below(&d->r, 9);
    if (kind == 6) {
        struct name gate = linear(d, operand(d), 1);
        draw(d, "row_gate", &y, x.at, gate.at, NULL);
        return y;
    }
    if (kind > 6)
        return kind == 7 ? norm(d, x) : linear(d, x, GRAPH_WIDTH);
    json_t *o = draw(d, ops[kind], &y, x.at, NULL, NULL);
    if (kind == 3)
        activation(d, o);
    if (kind == 4)
        json_object_set_new(o, "scale", json_real(0.75));
    if (kind == 5)
        json_object_set_new(o, "clamp", json_real(1.5));
    if (kind == 1)
        set(o, "heads", 2);
    if (kind == 2 && chance(d, 50))
        share(o, "shared.positions");
    return y;
}

/* Experts; the weights, slots and, at times, rows are read by a second combine too, what is sent by a second group of experts. */
static struct name experts(struct drawing *d)
{
    struct name x = take(d, &d->wide), route, sent, rows, y;
    char index[40], slot[40], counts[40];
    json_t *o = draw(d, "router", &route, x.at, NULL, NULL);
    set(o, "experts", 4);
    set(o, "top_k", 2);
    json_object_set_new(o, "norm_topk", json_boolean(chance(d, 50)));
    if (chance(d, 40)) { /* a router as DeepSeek's */
        flag(o, "sigmoid");
        flag(o, chance(d, 50) ? "select_bias" : "bias");
        set(o, "groups", 2);
        set(o, "top_groups", 1);
        json_object_set_new(o, "scale", json_real(1.5));
    } else {
        json_object_set_new(o, "aux_coef", json_real(chance(d, 50) ? 0.01 : 0));
    }
    snprintf(index, sizeof index, "%s.1", route.at);
    if (chance(d, 40)) /* what is sent need not be what the router reads */
        x = take(d, &d->wide);
    o = draw(d, "dispatch", &sent, x.at, index, NULL);
    set(o, "capacity", chance(d, 60) ? 3 : 0);
    snprintf(slot, sizeof slot, "%s.1", sent.at);
    snprintf(counts, sizeof counts, "%s.2", sent.at);
    o = draw(d, "experts", &rows, sent.at, counts, NULL);
    set(o, "ffn", 8);
    json_object_set_new(o, "bias", json_boolean(chance(d, 40)));
    if (chance(d, 40))
        activation(d, o);
    draw(d, "combine", &y, rows.at, slot, route.at);
    if (chance(d, 50)) {
        struct name z, sum;
        if (chance(d, 60))
            set(draw(d, "experts", &rows, sent.at, counts, NULL), "ffn", 8);
        draw(d, "combine", &z, rows.at, slot, route.at);
        draw(d, "add", &sum, y.at, z.at, NULL);
        y = sum;
    }
    return y;
}

static void head(struct drawing *d, struct name x)
{
    struct name h;
    json_t *o = draw(d, "head_loss", &h, x.at, "targets", NULL);
    d->losses++;
    if (chance(d, 30))
        json_object_set_new(o, "score_cap", json_real(5));
    if (chance(d, 30))
        json_object_set_new(o, "scale", json_real(0.5));
    if (chance(d, 60))
        share(o, "embed.weight");
    else if (chance(d, 50))
        flag(o, "bias");
}

static void part(struct drawing *d, uint32_t kind)
{
    static struct name (*const kinds[PARTS - 1])(
        struct drawing *) = { attention, attention, swiglu, add, unary, experts };
    d->part++;
    if (kind < PARTS - 1)
        offer(&d->wide, kinds[kind](d));
    else if (d->losses < 1)
        head(d, norm(d, take(d, &d->wide)));
    else
        offer(&d->wide, norm(d, take(d, &d->wide)));
}

/* Whatever nobody has read goes into the last loss: sums, and attention for narrow ones. */
static void gather(struct drawing *d)
{
    struct name x = take(d, &d->wide), y;
    d->part++;
    for (uint32_t i = 0; i < d->narrow.n; i++)
        if (!d->narrow.read[i]) {
            struct name q = take(d, &d->wide);
            json_t *o = draw(d, "attention", &y, q.at, d->narrow.at[i].at, d->narrow.at[i].at);
            set(o, "heads", 2);
            set(o, "kv_heads", 1);
            d->narrow.read[i] = true;
            draw(d, "add", &q, x.at, y.at, NULL);
            x = q;
        }
    for (uint32_t i = 0; i < d->wide.n; i++)
        if (!d->wide.read[i]) {
            draw(d, "add", &y, x.at, d->wide.at[i].at, NULL);
            x = y;
        }
    head(d, norm(d, x));
}

/* Cuts at random between parts: into stages, and into blocks, which are programs of their own. */
static void cut(struct drawing *d, uint32_t stages)
{
    const uint32_t parts = d->part + 1;
    bool begins[256] = { false };
    CHECK(stages <= parts && parts <= 256);
    for (uint32_t left = stages - 1; left > 0;) {
        const uint32_t at = 1 + rng_below(&d->r, parts - 1);
        left -= !begins[at];
        begins[at] = true;
    }
    size_t i;
    json_t *o;
    uint32_t stage = 0, block = 0, at = 0;
    json_array_foreach(d->ops, i, o)
    {
        for (; at < json_integer_value(json_object_get(o, "block")); at++) {
            stage += begins[at + 1];
            block += begins[at + 1] || chance(d, 25);
        }
        set(o, "block", (int)block);
        json_object_set_new(o, "tags", json_pack("{s:i}", "PP", (int)stage));
    }
}

json_t *graphs_model(uint64_t seed, uint32_t stages)
{
    struct drawing d = { .r = { seed * 0x9e3779b97f4a7c15u + 1 }, .ops = json_array() };
    struct name x;
    json_t *o = draw(&d, "embed", &x, "tokens", NULL, NULL);
    set(o, "features", GRAPH_WIDTH);
    share(o, "embed.weight");
    offer(&d.wide, x);
    const uint32_t parts = 6 + rng_below(&d.r, 6) + stages;
    for (uint32_t i = 0; i < parts; i++)
        part(&d, rng_below(&d.r, PARTS));
    gather(&d);
    cut(&d, stages);
    return json_pack("{s:i,s:o}", "vocab_size", GRAPH_VOCAB, "graph", d.ops);
}

/* Between an embedding, e, and the loss of the last one. */
static const struct row {
    uint32_t graph;
    const char *op, *name, *in[3];
} rows[] = {
    /* keys are read again; values; queries */
    { 0, "linear", "q", { "e" } },
    { 0, "linear", "k", { "e" } },
    { 0, "linear", "v", { "e" } },
    { 0, "attention", "a", { "q", "k", "v" } },
    { 0, "add", "r", { "a", "k" } },
    { 1, "linear", "q", { "e" } },
    { 1, "linear", "k", { "e" } },
    { 1, "linear", "v", { "e" } },
    { 1, "attention", "a", { "q", "k", "v" } },
    { 1, "add", "r", { "a", "v" } },
    { 2, "linear", "q", { "e" } },
    { 2, "linear", "k", { "e" } },
    { 2, "linear", "v", { "e" } },
    { 2, "attention", "a", { "q", "k", "v" } },
    { 2, "add", "r", { "a", "q" } },
    /* one tensor for all */
    { 3, "rmsnorm", "x", { "e" } },
    { 3, "attention", "a", { "x", "x", "x" } },
    { 3, "add", "r", { "a", "x" } },
    /* two layers on the same keys and values */
    { 4, "linear", "q1", { "e" } },
    { 4, "linear", "k", { "e" } },
    { 4, "linear", "v", { "e" } },
    { 4, "attention", "a1", { "q1", "k", "v" } },
    { 4, "add", "x", { "e", "a1" } },
    { 4, "linear", "q2", { "x" } },
    { 4, "attention", "a2", { "q2", "k", "v" } },
    { 4, "add", "y", { "x", "a2" } },
};

json_t *graphs_case(uint32_t i)
{
    json_t *ops = json_pack("[{s:s,s:s,s:[s],s:i}]", "op", "embed", "name", "e", "in", "tokens", "features",
                            (int)GRAPH_WIDTH);
    const char *last = NULL;
    for (const struct row *r = rows; r < rows + sizeof rows / sizeof *rows; r++) {
        if (r->graph != i)
            continue;
        json_t *in = json_array(), *o = json_pack("{s:s,s:s,s:o}", "op", r->op, "name", r->name, "in", in);
        for (int k = 0; k < 3 && r->in[k]; k++)
            json_array_append_new(in, json_string(r->in[k]));
        if (!strcmp(r->op, "linear"))
            set(o, "out_features", GRAPH_WIDTH);
        if (!strcmp(r->op, "attention"))
            set(o, "heads", 2);
        json_array_append_new(ops, o);
        last = r->name;
    }
    if (!last) {
        json_decref(ops);
        return NULL;
    }
    json_array_append_new(ops, json_pack("{s:s,s:s,s:[s,s]}", "op", "head_loss", "name", "h", "in", last, "targets"));
    return json_pack("{s:i,s:o}", "vocab_size", GRAPH_VOCAB, "graph", ops);
}
