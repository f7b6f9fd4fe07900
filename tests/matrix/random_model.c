/* Small random models: every family, with and without PP annotations and tags of the user's, and graphs whose branches join
 * again, skip stages, share parameters or carry two losses. */
#include "random.h"

#include <stdio.h>

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t next(struct rng *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)((next(r) >> 32) * n >> 32);
}

bool rng_chance(struct rng *r, uint32_t percent)
{
    return rng_below(r, 100) < percent;
}

void rng_shuffle(struct rng *r, uint32_t *at, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t k = rng_below(r, i), x = at[i - 1];
        at[i - 1] = at[k];
        at[k] = x;
    }
}

/* ---- families ---------------------------------------------------------------------------------------------------- */

/* PP by regions that follow each other, cut anywhere: between layers, or between the halves of one; and LAYER. */
static json_t *annotate(struct rng *r, uint32_t layers, bool layer_tag)
{
    json_t *list = json_array();
    uint32_t regions = 2 * layers, stages = 1 + rng_below(r, regions < 6 ? regions : 6), stage = 0;
    json_t *match = json_pack("[s]", "embed");
    for (uint32_t i = 0; i < regions; i++) {
        uint32_t left = regions - i, need = stages - 1 - stage;
        if (i && need && (need == left || rng_below(r, left) < need)) {
            json_array_append_new(list, json_pack("{s:s,s:i,s:o}", "tag", "PP", "index", stage++, "match", match));
            match = json_array();
        }
        json_array_append_new(match, json_sprintf(i % 2 ? "layers.%u.mlp" : "layers.%u.attn", i / 2));
    }
    json_array_append_new(match, json_string("norm"));
    json_array_append_new(match, json_string("head"));
    json_array_append_new(list, json_pack("{s:s,s:i,s:o}", "tag", "PP", "index", stage, "match", match));
    for (uint32_t i = 0; i < layers && layer_tag; i++)
        json_array_append_new(
            list, json_pack("{s:s,s:i,s:[o]}", "tag", "LAYER", "index", i, "match", json_sprintf("layers.%u", i)));
    return list;
}

/* The experts of a layer are a region beside its mlp and go where that goes. */
static void add_experts(json_t *annotations, const json_t *sparse)
{
    size_t i, k;
    json_t *entry, *v, *layer;
    json_array_foreach(annotations, i, entry)
    {
        json_t *match = json_object_get(entry, "match");
        json_array_foreach((json_t *)sparse, k, layer)
        {
            char mlp[32];
            snprintf(mlp, sizeof mlp, "layers.%d.mlp", (int)json_integer_value(layer));
            size_t n = json_array_size(match);
            for (size_t x = 0; x < n; x++)
                if ((v = json_array_get(match, x)) && !strcmp(json_string_value(v), mlp))
                    json_array_append_new(match, json_sprintf("layers.%d.experts", (int)json_integer_value(layer)));
        }
    }
}

static json_t *dense(struct rng *r, uint32_t layers)
{
    static const uint32_t hidden[] = { 16, 24, 32 };
    uint32_t c = hidden[rng_below(r, 3)], heads = rng_chance(r, 50) ? 2 : 4;
    if (rng_chance(r, 40))
        return json_pack("{s:s,s:i,s:i,s:i,s:i,s:i,s:b}", "model_type", "gpt2", "vocab_size", 256, "n_embd", c,
                         "n_layer", layers, "n_head", heads, "n_positions", 16, "tie_word_embeddings",
                         !rng_chance(r, 20));
    return json_pack("{s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:b,s:b}", "model_type", rng_chance(r, 60) ? "llama" : "qwen3",
                     "vocab_size", 256 + rng_below(r, 4), "hidden_size", c, "num_hidden_layers", layers,
                     "num_attention_heads", heads, "num_key_value_heads", heads / 2, "head_dim", 8, "intermediate_size",
                     20 + 4 * rng_below(r, 10), "tie_word_embeddings", rng_chance(r, 40), "attention_bias",
                     rng_chance(r, 30));
}

/* sparse: layers with experts. */
static json_t *experts(struct rng *r, uint32_t layers, json_t *sparse)
{
    static const uint32_t counts[] = { 2, 4, 4, 8 };
    uint32_t n = counts[rng_below(r, 4)];
    bool mixtral = rng_chance(r, 25);
    json_t *m = json_pack("{s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:b,s:f}", "model_type",
                          mixtral ? "mixtral" : "qwen3_moe", "vocab_size", 256, "hidden_size", 16, "num_hidden_layers",
                          layers, "num_attention_heads", 2, "num_key_value_heads", 1, "head_dim", 8,
                          "intermediate_size", 24, "num_experts_per_tok", 1 + rng_below(r, 2), "output_router_logits",
                          rng_chance(r, 60), "router_aux_loss_coef", 0.01);
    json_object_set_new(m, mixtral ? "num_local_experts" : "num_experts", json_integer(n));
    if (rng_chance(r, 60))
        json_object_set_new(m, "capacity_factor", json_real(1 + 0.25 * rng_below(r, 4)));
    uint32_t step = mixtral || rng_chance(r, 70) ? 1 : 2;
    if (!mixtral) {
        json_object_set_new(m, "moe_intermediate_size", json_integer(12 + 4 * rng_below(r, 4)));
        json_object_set_new(m, "norm_topk_prob", json_boolean(rng_chance(r, 50)));
        json_object_set_new(m, "decoder_sparse_step", json_integer(step));
        json_object_set_new(m, "tie_word_embeddings", json_boolean(rng_chance(r, 25)));
    }
    for (uint32_t i = 0; i < layers; i++)
        if ((i + 1) % step == 0)
            json_array_append_new(sparse, json_integer(i));
    return m;
}

static void family(struct rng *r, bool moe, struct random_model *m)
{
    uint32_t layers = 2 + rng_below(r, 4);
    json_t *sparse = json_array();
    m->json = moe ? experts(r, layers, sparse) : dense(r, layers);
    m->most_stages = layers;
    if (rng_chance(r, 50)) {
        json_t *list = annotate(r, layers, rng_chance(r, 40));
        add_experts(list, sparse);
        json_object_set_new(m->json, "annotate", list);
        m->most_stages = 0;
    }
    json_decref(sparse);
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

struct drawing {
    struct rng *r;
    json_t *ops;
    uint32_t width, pp, block, n; /* n: number of the next part, for names */
    int tower;                    /* index of the tag TOWER; -1: none */
    bool tied;                    /* the matrices of all linear parts are shared */
};
struct name {
    char at[32];
};

static json_t *draw(struct drawing *d, const char *op, struct name name, const char *in0, const char *in1)
{
    json_t *in = json_array(), *tags = json_pack("{s:i}", "PP", d->pp);
    if (d->tower >= 0)
        json_object_set_new(tags, "TOWER", json_integer(d->tower));
    json_array_append_new(in, json_string(in0));
    if (in1)
        json_array_append_new(in, json_string(in1));
    json_t *o = json_pack("{s:s,s:s,s:o,s:o,s:i}", "op", op, "name", name.at, "in", in, "tags", tags, "block",
                          d->block);
    json_array_append_new(d->ops, o);
    return o;
}

static struct name sub(const struct drawing *d, const char *leaf)
{
    struct name n;
    snprintf(n.at, sizeof n.at, "p%u.%s", d->n, leaf);
    return n;
}

static struct name linear(struct drawing *d, const char *leaf, struct name x, uint32_t out)
{
    struct name y = sub(d, leaf);
    json_t *o = draw(d, "linear", y, x.at, NULL);
    json_object_set_new(o, "out_features", json_integer(out));
    json_object_set_new(o, "bias", json_boolean(!d->tied && rng_chance(d->r, 50)));
    if (d->tied)
        json_object_set_new(o, "param", json_pack("[o]", json_sprintf("shared.%s", leaf)));
    return y;
}

static struct name moe(struct drawing *d, struct name x)
{
    struct name route = sub(d, "router"), slots = sub(d, "dispatch"), rows = sub(d, "experts"), y = sub(d, "combine");
    char index[40], slot[40], counts[40];
    snprintf(index, sizeof index, "%s.1", route.at);
    snprintf(slot, sizeof slot, "%s.1", slots.at);
    snprintf(counts, sizeof counts, "%s.2", slots.at);
    json_t *o = draw(d, "router", route, x.at, NULL);
    json_object_set_new(o, "experts", json_integer(4));
    json_object_set_new(o, "top_k", json_integer(2));
    json_object_set_new(o, "aux_coef", json_real(rng_chance(d->r, 50) ? 0.01 : 0));
    uint32_t capacity = rng_chance(d->r, 60) ? 3 + rng_below(d->r, 3) : 0;
    o = draw(d, "dispatch", slots, x.at, index);
    json_object_set_new(o, "capacity", json_integer(capacity));
    o = draw(d, "experts", rows, slots.at, counts);
    json_object_set_new(o, "ffn", json_integer(12));
    json_object_set_new(o, "experts", json_integer(4));
    json_object_set_new(o, "top_k", json_integer(2));
    json_object_set_new(o, "capacity", json_integer(capacity));
    o = draw(d, "combine", y, rows.at, slot);
    json_array_append_new(json_object_get(o, "in"), json_string(route.at));
    json_object_set_new(o, "experts", json_integer(4));
    json_object_set_new(o, "top_k", json_integer(2));
    json_object_set_new(o, "capacity", json_integer(capacity));
    return y;
}

static struct name add(struct drawing *d, struct name x, struct name y)
{
    struct name sum = sub(d, "add");
    draw(d, "add", sum, x.at, y.at);
    return sum;
}

/* x + f(norm(x)) with f a perceptron, an attention or experts. */
static struct name part(struct drawing *d, struct name x, bool with_experts)
{
    struct name y = sub(d, "norm"), z = sub(d, "act");
    uint32_t kind = rng_below(d->r, with_experts ? 4 : 2);
    d->block++;
    draw(d, rng_chance(d->r, 50) ? "rmsnorm" : "layernorm", y, x.at, NULL);
    if (kind >= 2) {
        y = moe(d, y);
    } else if (kind == 1 && !d->tied) {
        y = linear(d, "qkv", y, 3 * d->width);
        json_t *o = draw(d, "attention", z, y.at, NULL);
        json_object_set_new(o, "heads", json_integer(2));
        json_object_set_new(o, "packed", json_true());
        y = linear(d, "out", z, d->width);
    } else {
        y = linear(d, "up", y, 28);
        draw(d, "gelu", z, y.at, NULL);
        y = linear(d, "down", z, d->width);
    }
    y = add(d, x, y);
    d->n++;
    return y;
}

static struct name chain(struct drawing *d, struct name x, uint32_t n, bool with_experts)
{
    for (uint32_t i = 0; i < n; i++) {
        d->pp += i && rng_chance(d->r, 60);
        x = part(d, x, with_experts);
    }
    return x;
}

static void head(struct drawing *d, struct name x, const char *name, bool tied)
{
    struct name h;
    snprintf(h.at, sizeof h.at, "%s", name);
    json_t *o = draw(d, "head_loss", h, x.at, "targets");
    if (tied)
        json_object_set_new(o, "param", json_pack("[s]", "embed.weight"));
}

/* embed; two towers (one may be empty: a skip over stages) from it, or from an embedding each; join; parts; loss. */
static void graph(struct rng *r, struct random_model *m)
{
    struct drawing d = { .r = r, .ops = json_array(), .width = rng_chance(r, 50) ? 16 : 24, .tower = -1 };
    bool towers = rng_chance(r, 60), tags = rng_chance(r, 50), moe_parts = rng_chance(r, 40),
         tied_head = rng_chance(r, 50);
    struct name x = { "embed" }, a, b;
    d.tied = rng_chance(r, 25);
    json_object_set_new(draw(&d, "embed", x, "tokens", NULL), "features", json_integer(d.width));
    a = b = x;
    d.pp += rng_chance(r, 60);
    d.tower = tags ? 0 : -1;
    a = chain(&d, a, 1 + rng_below(r, 3), moe_parts);
    if (towers) {
        d.pp += rng_chance(r, 70);
        d.tower = tags ? 1 : -1;
        if (rng_chance(r, 30)) {
            json_t *o = draw(&d, "embed", (b = sub(&d, "embed")), "tokens", NULL);
            json_object_set_new(o, "features", json_integer(d.width));
            if (rng_chance(r, 50))
                json_object_set_new(o, "param", json_pack("[s]", "embed.weight"));
        }
        b = chain(&d, b, 1 + rng_below(r, 2), moe_parts);
    }
    d.tower = -1;
    if (rng_chance(r, 25))
        head(&d, b, "early", rng_chance(r, 50));
    d.pp += rng_chance(r, 60);
    d.block++;
    x = add(&d, a, b);
    d.n++;
    x = chain(&d, x, rng_below(r, 3), moe_parts);
    d.pp += rng_chance(r, 40);
    d.block++;
    struct name norm = { "norm" };
    draw(&d, "rmsnorm", norm, x.at, NULL);
    head(&d, norm, "head", tied_head);
    m->json = json_pack("{s:i,s:o}", "vocab_size", 256, "graph", d.ops);
    m->most_stages = 0;
}

void random_model(uint32_t number, struct random_model *m)
{
    static const uint32_t batches[] = { 8, 16, 24, 32 };
    struct rng r = { .state = 0x6d6f64656cu + number };
    *m = (struct random_model){ .batch = batches[rng_below(&r, 4)], .seq_len = 6 + 2 * rng_below(&r, 4) };
    switch (number % 4) {
    case 0:
        family(&r, false, m);
        break;
    case 1:
    case 2:
        family(&r, true, m);
        break;
    default:
        graph(&r, m);
        break;
    }
}
