#include "ir/chunk.h"

#include <stdlib.h>

static bool same_tags(const struct ir_graph *g, uint32_t a, uint32_t b)
{
    return !memcmp(g->ops.at[a].tag, g->ops.at[b].tag, g->n_tags * sizeof(int32_t));
}

/* Level per operator, and connected components of equal tags and level (union-find; the root is the smallest id). */
static uint32_t find_root(uint32_t *parent, uint32_t x)
{
    while (parent[x] != x)
        x = parent[x] = parent[parent[x]];
    return x;
}

static void find_components(const struct ir_graph *g, uint32_t *level, uint32_t *parent)
{
    for (uint32_t o = 0; o < g->ops.n; o++) {
        const struct ir_node_op *op = &g->ops.at[o];
        parent[o] = o;
        for (int i = 0; i < IR_MAX_IN; i++) {
            if (op->in[i] == IR_NONE || g->tensors.at[op->in[i]].producer == IR_NONE)
                continue;
            uint32_t p = g->tensors.at[op->in[i]].producer;
            uint32_t l = level[p] + !same_tags(g, p, o);
            level[o] = l > level[o] ? l : level[o];
        }
    }
    for (uint32_t o = 0; o < g->ops.n; o++)
        for (int i = 0; i < IR_MAX_IN; i++) {
            uint32_t t = g->ops.at[o].in[i];
            uint32_t p = t == IR_NONE ? IR_NONE : g->tensors.at[t].producer;
            if (p == IR_NONE || level[p] != level[o] || !same_tags(g, p, o))
                continue;
            uint32_t a = find_root(parent, p), b = find_root(parent, o);
            parent[a > b ? a : b] = a < b ? a : b;
        }
}

struct component {
    uint32_t level, root;
};
static int by_level(const void *pa, const void *pb)
{
    const struct component *a = pa, *b = pb;
    if (a->level != b->level)
        return a->level < b->level ? -1 : 1;
    return (a->root > b->root) - (a->root < b->root);
}

void ir_chunks_build(struct ir_chunks *c, const struct ir_graph *g)
{
    *c = (struct ir_chunks){ 0 };
    uint32_t n = g->ops.n;
    uint32_t *level = mem_alloc(n * sizeof *level), *parent = mem_alloc(n * sizeof *parent);
    find_components(g, level, parent);
    struct {
        VEC(struct component);
    } order = { 0 };
    for (uint32_t o = 0; o < n; o++)
        if (find_root(parent, o) == o)
            vec_add(&order, ((struct component){ level[o], o }));
    qsort(order.at, order.n, sizeof *order.at, by_level);

    uint32_t *number = mem_alloc(n * sizeof *number);
    for (uint32_t i = 0; i < order.n; i++) {
        number[order.at[i].root] = i;
        struct ir_chunk *k = vec_push(&c->chunks);
        *k = (struct ir_chunk){ .level = order.at[i].level };
        memset(k->tag, -1, sizeof k->tag);
        memcpy(k->tag, g->ops.at[order.at[i].root].tag, g->n_tags * sizeof(int32_t));
    }
    c->chunk_of = mem_alloc(n * sizeof(uint32_t));
    c->sub_of = mem_alloc(n * sizeof(uint32_t));
    for (uint32_t o = 0; o < n; o++) {
        c->chunk_of[o] = number[find_root(parent, o)];
        c->chunks.at[c->chunk_of[o]].n_ops++;
    }
    uint32_t first = 0;
    for (uint32_t i = 0; i < c->chunks.n; i++) {
        c->chunks.at[i].first_op = first;
        first += c->chunks.at[i].n_ops;
        c->chunks.at[i].n_ops = 0;
    }
    vec_grow(&c->ops, n);
    for (uint32_t o = 0; o < n; o++) {
        struct ir_chunk *k = &c->chunks.at[c->chunk_of[o]];
        c->ops.at[k->first_op + k->n_ops++] = o;
    }
    vec_free(&order);
    mem_free(level);
    mem_free(parent);
    mem_free(number);
}

/* ---- sub-chunks ------------------------------------------------------------------------------------------------ */

static uint64_t op_param_bytes(const struct ir_graph *g, const struct ir_node_op *op, const uint8_t *seen,
                               enum ir_dtype compute)
{
    uint64_t bytes = 0;
    for (int i = 0; i < IR_MAX_PARAM; i++)
        if (op->param[i] != IR_NONE && !seen[op->param[i]])
            bytes += ir_shape_elements(&g->params.at[op->param[i]].shape) *
                     ir_dtype_size(g->params.at[op->param[i]].shape.dtype, compute);
    return bytes;
}

/* What cuts a chunk: its rule, and regions. bytes: of parameters of the piece so far. */
struct cutter {
    struct ir_cut_rule rule;
    const uint32_t *regions;
    uint8_t *seen;
    enum ir_dtype compute;
    uint64_t bytes;
};

static void cut_chunk(struct ir_chunks *c, const struct ir_graph *g, uint32_t chunk, struct cutter *by)
{
    struct ir_chunk *k = &c->chunks.at[chunk];
    k->first_sub = c->subs.n;
    by->bytes = 0;
    for (uint32_t i = 0; i < k->n_ops; i++) {
        const uint32_t o = c->ops.at[k->first_op + i], before = i ? c->ops.at[k->first_op + i - 1] : o;
        const struct ir_node_op *op = &g->ops.at[o];
        uint64_t add = op_param_bytes(g, op, by->seen, by->compute);
        bool piece = i == 0 || (by->rule.how == IR_CUT_BYTES && by->bytes && add && by->bytes + add > by->rule.bytes) ||
                     (by->rule.how == IR_CUT_BLOCK && op->block != g->ops.at[before].block);
        if (piece) {
            c->pieces++;
            by->bytes = 0;
        }
        if (piece || (by->regions && by->regions[o] != by->regions[before]))
            *vec_push(
                &c->subs) = (struct ir_sub){ .chunk = chunk, .piece = c->pieces - 1, .first_op = k->first_op + i };
        by->bytes += add;
        for (int j = 0; j < IR_MAX_PARAM; j++)
            if (op->param[j] != IR_NONE)
                by->seen[op->param[j]] = 1;
        c->subs.at[c->subs.n - 1].n_ops++;
        c->sub_of[o] = c->subs.n - 1;
    }
    k->n_subs = c->subs.n - k->first_sub;
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t sort_unique(uint32_t *ids, uint32_t n)
{
    qsort(ids, n, sizeof *ids, by_id);
    uint32_t out = 0;
    for (uint32_t i = 0; i < n; i++)
        if (!out || ids[out - 1] != ids[i])
            ids[out++] = ids[i];
    return out;
}

/* Tensors that are read in a sub-chunk other than their producer's. */
static uint8_t *find_crossing(const struct ir_chunks *c, const struct ir_graph *g)
{
    uint8_t *crossing = mem_alloc(g->tensors.n);
    for (uint32_t o = 0; o < g->ops.n; o++)
        for (int i = 0; i < IR_MAX_IN; i++) {
            uint32_t t = g->ops.at[o].in[i];
            if (t != IR_NONE &&
                (g->tensors.at[t].producer == IR_NONE || c->sub_of[g->tensors.at[t].producer] != c->sub_of[o]))
                crossing[t] = 1;
        }
    return crossing;
}

/* used_in: by parameter, the last sub-chunk so far that uses it. */
static void fill_sub(struct ir_chunks *c, const struct ir_graph *g, uint32_t self, const uint8_t *crossing,
                     uint32_t *used_in)
{
    struct ir_sub *s = &c->subs.at[self];
    s->first_in = c->tensors.n;
    for (uint32_t i = 0; i < s->n_ops; i++) {
        const struct ir_node_op *op = &g->ops.at[c->ops.at[s->first_op + i]];
        for (int j = 0; j < IR_MAX_IN; j++) {
            uint32_t t = op->in[j];
            if (t != IR_NONE && (g->tensors.at[t].producer == IR_NONE || c->sub_of[g->tensors.at[t].producer] != self))
                vec_add(&c->tensors, t);
        }
    }
    s->n_in = sort_unique(c->tensors.at + s->first_in, c->tensors.n - s->first_in);
    c->tensors.n = s->first_in + s->n_in;
    s->first_out = c->tensors.n;
    for (uint32_t i = 0; i < s->n_ops; i++) {
        const struct ir_node_op *op = &g->ops.at[c->ops.at[s->first_op + i]];
        for (int j = 0; j < IR_MAX_OUT; j++)
            if (op->out[j] != IR_NONE && crossing[op->out[j]])
                vec_add(&c->tensors, op->out[j]);
    }
    s->n_out = sort_unique(c->tensors.at + s->first_out, c->tensors.n - s->first_out);
    s->first_param = c->params.n;
    for (uint32_t i = 0; i < s->n_ops; i++)
        for (int j = 0; j < IR_MAX_PARAM; j++) {
            uint32_t p = g->ops.at[c->ops.at[s->first_op + i]].param[j];
            if (p == IR_NONE || used_in[p] == self)
                continue;
            used_in[p] = self;
            vec_add(&c->params, p);
        }
    s->n_param = c->params.n - s->first_param;
}

void ir_chunks_cut(struct ir_chunks *c, const struct ir_graph *g, const struct ir_cut_rule *rules,
                   const uint32_t *regions, enum ir_dtype compute)
{
    struct cutter by = { .regions = regions, .seen = mem_alloc(g->params.n), .compute = compute };
    for (uint32_t i = 0; i < c->chunks.n; i++) {
        by.rule = rules[i];
        cut_chunk(c, g, i, &by);
    }
    mem_free(by.seen);
    uint8_t *crossing = find_crossing(c, g);
    uint32_t *used_in = mem_alloc((g->params.n + 1) * sizeof *used_in);
    memset(used_in, 0xff, g->params.n * sizeof *used_in);
    for (uint32_t i = 0; i < c->subs.n; i++)
        fill_sub(c, g, i, crossing, used_in);
    mem_free(crossing);
    mem_free(used_in);
}

void ir_chunks_release(struct ir_chunks *c)
{
    vec_free(&c->chunks);
    vec_free(&c->subs);
    vec_free(&c->ops);
    vec_free(&c->tensors);
    vec_free(&c->params);
    mem_free(c->chunk_of);
    mem_free(c->sub_of);
    *c = (struct ir_chunks){ 0 };
}
