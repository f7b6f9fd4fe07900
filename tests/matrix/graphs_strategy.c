/* Every kind of schedule that fits so many ranks, with levels of ZeRO, experts over replicas and recomputing in turn. */
#include <string.h>

#include "graphs.h"

struct kind {
    const char *name, *placement;
    uint32_t chunks; /* of a rank */
    uint32_t rounds; /* microbatches are a multiple of so many times the ranks of a pipeline */
    bool even;       /* ranks of a pipeline */
};
static const struct kind kinds[] = {
    { "gpipe", "standard", 1, 1, false },
    { "1f1b", "standard", 1, 1, false },
    { "zb-h1", "standard", 1, 1, false },
    { "zb-h2", "standard", 1, 1, false },
    { "interleaved", "interleaved", 2, 1, false },
    { "interleaved-zb", "interleaved", 2, 1, false },
    { "zb-v", "v", 2, 1, false },
    { "dualpipev", "v", 2, 2, false },
    { "dualpipe", "two-way", 1, 2, true },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static json_t *layout(uint32_t ranks, const struct kind *k, uint32_t pp, uint32_t number, uint32_t *stages)
{
    const uint32_t dp = ranks / pp, zero = number % 4;
    uint32_t m = pp * k->rounds;
    if (m == 1 || (number % 3 == 1 && GRAPH_BATCH % (2 * m * dp) == 0))
        m *= 2;
    if (GRAPH_BATCH % (m * dp) || (k->even && pp % 2) || (k->chunks > 1 && pp == 1))
        return NULL;
    *stages = pp * k->chunks;
    json_t *l = json_pack("{s:s,s:i,s:i,s:i,s:s}", "op", "layout", "pp", pp, "dp", dp, "zero", dp > 1 ? (int)zero : 0,
                          "placement", k->placement);
    if (dp % 2 == 0 && number % 2)
        json_object_set_new(l, "ep", json_integer(2));
    json_t *s = json_pack("[o,{s:s,s:s,s:i}]", l, "op", "schedule", "kind", k->name, "microbatches", m);
    if (number % 5 == 2)
        json_array_append_new(s, json_pack("{s:s,s:{}}", "op", "recompute", "filter"));
    return s;
}

json_t *graphs_strategy(uint32_t ranks, uint32_t cell, uint32_t *stages)
{
    uint32_t seen = 0;
    for (uint32_t pp = 1; pp <= ranks; pp++)
        for (uint32_t k = 0; k < KINDS && ranks % pp == 0; k++) {
            json_t *s = layout(ranks, &kinds[k], pp, cell + k, stages);
            if (s && seen++ == cell)
                return s;
            json_decref(s);
        }
    return NULL;
}
