/* Parts of a model and the filters that match them; device lists: in all their spellings. */
#include "random.h"

/* ---- parts of the model ------------------------------------------------------------------------------------------ */

bool random_chunk_edge(const struct random_job *j, uint32_t from, uint32_t to)
{
    for (uint32_t o = 0; o < j->g.ops.n; o++)
        for (int i = 0; i < IR_MAX_IN && j->chunks.chunk_of[o] == to; i++) {
            uint32_t t = j->g.ops.at[o].in[i], p = t == IR_NONE ? IR_NONE : j->g.tensors.at[t].producer;
            if (p != IR_NONE && j->chunks.chunk_of[p] == from && from != to)
                return true;
        }
    return false;
}

static bool same(const struct random_job *j, uint32_t a, uint32_t b, uint32_t tags)
{
    for (uint32_t i = 0; i < j->g.n_tags; i++)
        if ((tags >> i & 1) && j->chunks.chunks.at[a].tag[i] != j->chunks.chunks.at[b].tag[i])
            return false;
    return true;
}

/* Units are taken away as long as one has no predecessor left. */
static bool is_acyclic(const struct random_job *j, const struct random_part *p)
{
    uint32_t chunks = j->chunks.chunks.n, gone = 0;
    bool *left = mem_alloc(p->n * sizeof *left), moved = true;
    while (moved) {
        moved = false;
        for (uint32_t u = 0; u < p->n; u++) {
            bool ready = !left[u];
            for (uint32_t a = 0; a < chunks && ready; a++)
                for (uint32_t b = 0; b < chunks && ready; b++)
                    ready = p->of[b] != u || p->of[a] == u || left[p->of[a]] || !random_chunk_edge(j, a, b);
            if (!ready)
                continue;
            left[u] = moved = true;
            gone++;
        }
    }
    mem_free(left);
    return gone == p->n;
}

bool random_part(const struct random_job *j, uint32_t tags, bool acyclic, struct random_part *p)
{
    uint32_t n = j->chunks.chunks.n;
    *p = (struct random_part){ .tags = tags, .of = mem_alloc(n * sizeof(uint32_t)) };
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = 0;
        while (k < i && !same(j, k, i, tags))
            k++;
        p->of[i] = k < i ? p->of[k] : p->n++;
    }
    if (!acyclic || is_acyclic(j, p))
        return true;
    random_part_release(p);
    return false;
}

void random_part_release(struct random_part *p)
{
    mem_free(p->of);
    *p = (struct random_part){ 0 };
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void put(json_t *filter, bool pairs, const char *key, json_t *value)
{
    if (pairs)
        json_array_append_new(filter, json_pack("[s,o]", key, value));
    else
        json_object_set_new(filter, key, value);
}

static json_t *range(struct random_job *j, uint32_t lo, uint32_t hi)
{
    if (lo == hi && !rng_chance(&j->rng, 10))
        return rng_chance(&j->rng, 10) ? json_sprintf("%u", lo) : json_integer(lo);
    return json_sprintf("%u-%u", lo, hi);
}

json_t *random_filter(struct random_job *j, uint32_t chunk, uint32_t tags, uint32_t mb_lo, uint32_t mb_hi,
                      const char *pass)
{
    bool pairs = rng_chance(&j->rng, 5);
    json_t *f = pairs ? json_array() : json_object();
    for (uint32_t i = 0; i < j->g.n_tags; i++) {
        int32_t at = j->chunks.chunks.at[chunk].tag[i];
        if (!(tags >> i & 1))
            continue;
        put(f, pairs, j->g.tags[i],
            at >= 0                   ? range(j, (uint32_t)at, (uint32_t)at)
            : rng_chance(&j->rng, 50) ? json_null()
                                      : json_string("-"));
    }
    if (mb_lo <= mb_hi && (mb_lo || mb_hi + 1 < j->microbatches))
        put(f, pairs, j->mb_name, range(j, mb_lo, mb_hi));
    else if (j->microbatches > 1 && rng_chance(&j->rng, 15))
        put(f, pairs, j->mb_name, json_string("*"));
    if (pass)
        put(f, pairs, "PASS", json_string(pass));
    return f;
}

json_t *random_devices(struct random_job *j, const uint32_t *device, uint32_t n)
{
    json_t *list = json_array();
    uint32_t step = n > 1 && device[1] > device[0] ? device[1] - device[0] : 0;
    for (uint32_t i = 1; i < n; i++)
        step = device[i] == device[0] + i * step ? step : 0;
    if (step && rng_chance(&j->rng, 40)) {
        json_array_append_new(list, step == 1 ? json_sprintf("%u-%u", device[0], device[n - 1])
                                              : json_sprintf("%u-%u:%u", device[0], device[n - 1], step));
        return list;
    }
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(device[i]));
    return list;
}
