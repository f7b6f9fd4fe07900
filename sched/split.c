/* split: microbatches; and which backwards are split into BI and BW (piper-strategy(5), split and order).
 *
 * Needs: chunks, parsed directives. Gives: microbatches, backward_split. */
#include "sched/compile.h"

static enum status parse_split(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    struct js v;
    const char *name;
    int64_t m;
    TRY(js_need(js, "filter", &v, e));
    TRY(filter_parse(s, &v, &d->filter, e));
    TRY(js_need(js, "num_microbatches", &v, e));
    TRY(js_int(&v, 1, IR_NO_MB - 1, &m, e));
    d->microbatches = (uint32_t)m;
    TRY(js_str_or(js, "dim_name", "MB", &name, e));
    if (!strcmp(name, "PASS") || !strcmp(name, "PP") || !strcmp(name, "EP") || ir_graph_find_tag(s->g, name) != IR_NONE)
        return js_wrong(js, e, "dim_name \"%s\" is a tag already; choose another name for the microbatch tag", name);
    if (s->microbatches && (s->microbatches != d->microbatches || strcmp(s->mb_name, name)))
        return js_wrong(js, e, "an earlier split makes %u microbatches under the tag %s; several splits must agree",
                        s->microbatches, s->mb_name);
    s->microbatches = d->microbatches;
    s->mb_name = arena_strdup(&s->arena, name);
    return ST_OK;
}

static const char *const keys[] = { "op", "filter", "dim_name", "num_microbatches", NULL };
const struct directive_kind directive_split = { .name = "split", .keys = keys, .parse = parse_split };

/* Every split covers every chunk together: a split of part of the model is refused for now. */
static enum status check_cover(struct sched *s, struct err *e)
{
    const struct directive *last = NULL;
    uint32_t n = s->chunks.chunks.n;
    uint8_t *covered = arena_alloc(&s->arena, n);
    for (uint32_t i = 0; i < s->directives.n; i++) {
        const struct directive *d = &s->directives.at[i];
        if (d->kind != &directive_split)
            continue;
        last = d;
        TRY(filter_check(s, &d->filter, &d->js, e));
        for (uint32_t c = 0; c < n; c++)
            covered[c] |= filter_chunk(s, &d->filter, c);
    }
    for (uint32_t c = 0; c < n && last; c++)
        if (!covered[c]) {
            char text[160];
            return js_wrong(&last->js, e,
                            "the split leaves out %s; for now all of the model is split: use \"filter\":{}",
                            chunk_text(s, c, text, sizeof text));
        }
    return ST_OK;
}

/* One key of the pair: the number of filters of an order directive that name this pass of a chunk and microbatch. */
struct key_count {
    uint8_t b, bi, bw;
};

static enum status count_keys(struct sched *s, const struct directive *d, struct key_count *count, struct err *e)
{
    uint32_t m = s->microbatches, n = s->chunks.chunks.n;
    for (uint32_t g = d->first_group; g < d->first_group + d->n_groups; g++)
        for (uint32_t k = 0; k < s->groups.at[g].n_filters; k++) {
            const struct filter *f = &s->filters.at[s->groups.at[g].first_filter + k];
            if (f->pass != IR_PASS_B && f->pass != IR_PASS_BI && f->pass != IR_PASS_BW)
                continue;
            for (uint32_t c = 0; c < n; c++)
                for (uint32_t mb = 0; mb < m && filter_chunk(s, f, c); mb++) {
                    struct key_count *k2 = &count[c * m + mb];
                    if (!filter_match(s, f, c, mb, (enum ir_pass)f->pass))
                        continue;
                    uint8_t *x = f->pass == IR_PASS_B ? &k2->b : f->pass == IR_PASS_BI ? &k2->bi : &k2->bw;
                    char text[160];
                    if (f->pass == IR_PASS_BW && !k2->bi)
                        return js_wrong(&d->js, e, "BW of %s %s=%u stands before its BI in the order",
                                        chunk_text(s, c, text, sizeof text), s->mb_name, mb);
                    if (f->pass != IR_PASS_B && *x)
                        return js_wrong(&d->js, e, "%s of %s %s=%u stands twice in the order", ir_pass_name(f->pass),
                                        chunk_text(s, c, text, sizeof text), s->mb_name, mb);
                    *x = 1;
                }
        }
    return ST_OK;
}

static enum status merge_keys(struct sched *s, const struct directive *d, const struct key_count *count, uint8_t *fused,
                              struct err *e)
{
    uint32_t m = s->microbatches;
    for (uint32_t i = 0; i < s->chunks.chunks.n * m; i++) {
        char text[160];
        const char *name = chunk_text(s, i / m, text, sizeof text);
        if (count[i].bi != count[i].bw)
            return js_wrong(&d->js, e,
                            "BI of %s %s=%u has no BW in this order; a split backward needs both in one directive",
                            name, s->mb_name, i % m);
        if (count[i].bi && s->backward_split[i])
            return js_wrong(&d->js, e, "the backward of %s %s=%u is split by two order directives", name, s->mb_name,
                            i % m);
        s->backward_split[i] |= count[i].bi;
        fused[i] |= count[i].b;
        if (fused[i] && s->backward_split[i])
            return js_wrong(&d->js, e,
                            "%s %s=%u is named with B and with the pair BI, BW; after the split B no longer matches it",
                            name, s->mb_name, i % m);
    }
    return ST_OK;
}

enum status pass_split(struct sched *s, struct err *e)
{
    s->microbatches = s->microbatches ? s->microbatches : 1;
    TRY(check_cover(s, e));
    uint32_t n = s->chunks.chunks.n * s->microbatches;
    s->backward_split = arena_alloc(&s->arena, n);
    uint8_t *fused = arena_alloc(&s->arena, n);
    struct key_count *count = mem_alloc(n * sizeof *count);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < s->directives.n && st == ST_OK; i++) {
        const struct directive *d = &s->directives.at[i];
        if (d->kind != &directive_order)
            continue;
        memset(count, 0, n * sizeof *count);
        st = count_keys(s, d, count, e);
        if (st == ST_OK)
            st = merge_keys(s, d, count, fused, e);
    }
    mem_free(count);
    return st;
}
