#include "train/init_params.h"

#include <math.h>

#include "base/number.h"
#include "exec/bucket_view.h"

void init_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t w = counter[0], x = counter[1], y = counter[2], z = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53 * w, b = (uint64_t)0xCD9E8D57 * y;
        w = (uint32_t)(b >> 32) ^ x ^ k0;
        x = (uint32_t)b;
        y = (uint32_t)(a >> 32) ^ z ^ k1;
        z = (uint32_t)a;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    out[0] = w;
    out[1] = x;
    out[2] = y;
    out[3] = z;
}

/* 53 bits as a number in (0,1): never 0, whose logarithm is infinite. */
static double uniform(uint32_t high, uint32_t low)
{
    return ((double)(((uint64_t)high << 32 | low) >> 11) + 0.5) * 0x1p-53;
}

static void normal_pair(uint64_t block, uint64_t stream, uint64_t seed, double pair[2])
{
    const uint32_t counter[4] = { (uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream,
                                  (uint32_t)(stream >> 32) };
    const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    uint32_t r[4];
    init_philox(counter, key, r);
    double radius = sqrt(-2 * log(uniform(r[0], r[1]))), angle = 2 * 3.14159265358979323846 * uniform(r[2], r[3]);
    pair[0] = radius * cos(angle);
    pair[1] = radius * sin(angle);
}

void init_normal(float *to, uint64_t first, uint64_t count, uint64_t seed, const char *name, float std)
{
    uint64_t stream = number_hash(name, strlen(name), 0);
    uint64_t begin = first / 2, blocks = (first + count + 1) / 2 - begin;
#pragma omp parallel for schedule(static)
    for (uint64_t i = 0; i < blocks; i++) {
        double pair[2];
        normal_pair(begin + i, stream, seed, pair);
        for (uint64_t j = 0; j < 2; j++) {
            uint64_t element = 2 * (begin + i) + j;
            if (element >= first && element < first + count)
                to[element - first] = (float)(std * pair[j]);
        }
    }
}

static void fill(float *to, const struct ir_param *param, const struct bucket_view_piece *s, uint64_t seed)
{
    if (param->init == IR_INIT_NORMAL) {
        init_normal(to, s->first, s->count, seed, param->name, param->std);
        return;
    }
    float x = param->init == IR_INIT_ONES ? 1 : 0;
    for (uint64_t i = 0; i < s->count; i++)
        to[i] = x;
}

/* The piece in the bucket's type; bfloat16 by way of a small float32 block. */
static void fill_typed(const struct bucket_view *b, const struct ir_param *what, const struct bucket_view_piece *s,
                       uint64_t seed)
{
    const uint64_t at = s->offset - b->params.first;
    if (b->type != IR_BF16) {
        fill((float *)b->param + at, what, s, seed);
        return;
    }
    enum { BLOCK = 4096 };
    float block[BLOCK];
    for (uint64_t done = 0; done < s->count; done += BLOCK) {
        struct bucket_view_piece part = *s;
        part.first += done;
        part.count = s->count - done < BLOCK ? s->count - done : BLOCK;
        fill(block, what, &part, seed);
        for (uint64_t i = 0; i < part.count; i++)
            ((uint16_t *)b->param)[at + done + i] = number_to_bf16(block[i]);
    }
}

void init_params(const struct ir_graph *g, const struct plan *p, uint32_t rank, unsigned char *const base[ARENA_COUNT],
                 uint64_t seed)
{
    for (uint32_t b = 0; b < p->h->count[PLAN_S_BUCKETS]; b++) {
        struct bucket_view s = bucket_view_of(p, b, rank, base);
        const struct plan_bucket *bucket = &p->buckets[b];
        for (uint32_t i = bucket->first_piece; i < bucket->first_piece + bucket->n_pieces; i++) {
            struct bucket_view_piece piece = { 0 }, state = { 0 };
            while (bucket_view_next(p, i, rank, s.params, &piece))
                fill_typed(&s, &g->params.at[piece.param], &piece, seed);
            while (s.master && bucket_view_next(p, i, rank, s.state, &state))
                fill(s.master + (state.offset - s.state.first), &g->params.at[state.param], &state, seed);
        }
    }
}
