#include "cells.h"

#include <stdio.h>
#include <string.h>

static const char llama[] = "{\"model_type\":\"llama\",\"vocab_size\":48,\"hidden_size\":16,\"num_hidden_layers\":4,"
                            "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"intermediate_size\":24}";
static const char gpt2[] =
    "{\"model_type\":\"gpt2\",\"vocab_size\":48,\"n_embd\":16,\"n_layer\":4,\"n_head\":2,\"n_positions\":8}";
#define EXPERTS                                                                                       \
    "{\"model_type\":\"qwen3_moe\",\"vocab_size\":48,\"hidden_size\":16,\"num_hidden_layers\":4,"     \
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":8,\"moe_intermediate_size\":8," \
    "\"num_experts\":4,\"num_experts_per_tok\":2"
static const char moe[] = EXPERTS ",\"capacity_factor\":1.5}", dropless[] = EXPERTS "}";

static const char *const schedules[][2] = {
    { "gpipe", "standard" }, { "1f1b", "standard" },    { "interleaved", "interleaved" },
    { "zb-h1", "standard" }, { "zb-h2", "standard" },   { "interleaved-zb", "interleaved" },
    { "zb-v", "v" },         { "dualpipe", "two-way" }, { "dualpipev", "v" },
};
enum { SCHEDULES = sizeof schedules / sizeof *schedules, ZEROS = 4, EXPERT_VALUES = 4 };

static void layout(struct cell *c, const char *model, uint32_t pp, uint32_t dp, uint32_t ep, uint32_t zero,
                   const char *placement, const char *schedule, const char *more)
{
    c->model = model;
    c->ranks = pp * dp;
    snprintf(c->name, sizeof c->name, "%s %s zero=%u %s%.0u pp=%u dp=%u%s", schedule, placement, zero,
             ep ? "ep=" : "dense", ep, pp, dp, strlen(more) ? " more" : "");
    snprintf(c->strategy, sizeof c->strategy,
             "[{\"op\":\"layout\",\"pp\":%u,\"dp\":%u,\"ep\":%u,\"zero\":%u,\"placement\":\"%s\"},"
             "{\"op\":\"schedule\",\"kind\":\"%s\",\"microbatches\":%u}%s]",
             pp, dp, ep ? ep : 1, zero, placement, schedule, pp > 2 ? 8 : 4, more);
}

/* Cell i of schedule x ZeRO x experts. */
static int matrix(uint32_t ranks, int all, uint32_t i, struct cell *c)
{
    static const uint32_t experts[] = { 0, 1, 2, 4 };
    for (uint32_t s = 0; s < SCHEDULES; s++)
        for (uint32_t zero = 0; zero < ZEROS; zero++)
            for (uint32_t x = 0; x < EXPERT_VALUES; x++) {
                if (!all && x != (s + zero) % EXPERT_VALUES)
                    continue;
                layout(c, experts[x] ? moe : llama, 2, experts[x] ? 4 : 2, experts[x], zero, schedules[s][1],
                       schedules[s][0], "");
                if (c->ranks == ranks && !i--)
                    return 1;
            }
    return 0;
}

static const struct {
    const char *name, *model, *strategy;
    uint32_t ranks;
} others[] = {
    { "exchanges in a ring of three", llama,
      "[{\"op\":\"place\",\"filter\":{\"PP\":0},\"devices\":[0,1,2,3]},"
      "{\"op\":\"place\",\"filter\":{\"PP\":1},\"devices\":[1,2,0,3]},"
      "{\"op\":\"replicate\",\"filter\":{\"PP\":0},\"devices\":[0,1,2,3]},"
      "{\"op\":\"replicate\",\"filter\":{\"PP\":1},\"devices\":[1,2,0,3]},"
      "{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2}]",
      4 },
    { "reduce each, zero 0", moe,
      "[{\"op\":\"layout\",\"pp\":1,\"dp\":4,\"ep\":2,\"reduce\":\"each\"},"
      "{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2}]",
      4 },
    { "rows without capacity", dropless,
      "[{\"op\":\"layout\",\"pp\":1,\"dp\":4,\"ep\":4,\"zero\":3},"
      "{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2}]",
      4 },
    { "rows that fit into a round", dropless,
      "[{\"op\":\"layout\",\"pp\":1,\"dp\":4,\"ep\":4,\"expert_bound\":1,\"overflow\":\"rounds\"},"
      "{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2}]",
      4 },
    { "tied parameters, zero 2", gpt2,
      "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"zero\":2},{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":4}]",
      4 },
    { "zero 3 in groups of two, state over all", llama,
      "[{\"op\":\"layout\",\"dp\":4,\"zero\":3,\"zero_group\":2,\"zero_optimizer\":\"all\"},"
      "{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2}]",
      4 },
    { "zero 1 in groups of two, experts", moe,
      "[{\"op\":\"layout\",\"pp\":2,\"dp\":4,\"ep\":2,\"zero\":1,\"zero_group\":2},"
      "{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":4}]",
      8 },
    { "rows without capacity, dualpipev", dropless,
      "[{\"op\":\"layout\",\"pp\":2,\"dp\":4,\"ep\":2,\"zero\":2,\"placement\":\"v\"},"
      "{\"op\":\"schedule\",\"kind\":\"dualpipev\",\"microbatches\":4}]",
      8 },
    { "heads exchanged", gpt2,
      "[{\"op\":\"layout\",\"cp\":2,\"dp\":2,\"exchange\":\"all-to-all\",\"zero\":1},"
      "{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]",
      4 },
    { "keys in a ring of four", llama,
      "[{\"op\":\"layout\",\"cp\":4,\"dp\":1,\"exchange\":\"ring\"},{\"op\":\"schedule\",\"kind\":\"gpipe\","
      "\"microbatches\":2}]",
      4 },
    { "resources of a stream", moe,
      "[{\"op\":\"layout\",\"pp\":2,\"dp\":4,\"ep\":2,\"expert_stream\":\"ep\"},"
      "{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":4},"
      "{\"op\":\"stream\",\"name\":\"ep\",\"max_ctas\":3,\"priority\":\"high\"}]",
      8 },
    { "two streams to one rank", llama,
      "[{\"op\":\"place\",\"filter\":{\"PP\":0},\"devices\":[0,1],\"stream\":\"a\"},"
      "{\"op\":\"replicate\",\"filter\":{\"PP\":0},\"devices\":[0,1]},"
      "{\"op\":\"place\",\"filter\":{\"PP\":1},\"devices\":[2,3],\"stream\":\"a\"},"
      "{\"op\":\"replicate\",\"filter\":{\"PP\":1},\"devices\":[2,3]},"
      "{\"op\":\"place\",\"filter\":{\"PP\":2},\"devices\":[0,1],\"stream\":\"b\"},"
      "{\"op\":\"replicate\",\"filter\":{\"PP\":2},\"devices\":[0,1]},"
      "{\"op\":\"place\",\"filter\":{\"PP\":3},\"devices\":[2,3],\"stream\":\"b\"},"
      "{\"op\":\"replicate\",\"filter\":{\"PP\":3},\"devices\":[2,3]},"
      "{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2},"
      "{\"op\":\"stream\",\"name\":\"a\",\"max_ctas\":2},{\"op\":\"stream\",\"name\":\"b\",\"max_ctas\":5}]",
      4 },
};

int cell_at(uint32_t ranks, int all, uint32_t i, struct cell *out)
{
    uint32_t n = 0;
    struct cell c;
    while (matrix(ranks, all, n, &c))
        n++;
    if (i < n)
        return matrix(ranks, all, i, out);
    for (size_t k = 0; k < sizeof others / sizeof *others; k++)
        if (others[k].ranks == ranks && i-- == n) {
            *out = (struct cell){ .model = others[k].model, .ranks = ranks };
            snprintf(out->name, sizeof out->name, "%s", others[k].name);
            snprintf(out->strategy, sizeof out->strategy, "%s", others[k].strategy);
            return 1;
        }
    return 0;
}
