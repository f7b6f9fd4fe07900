/* split: microbatches; and which backwards are split into BI and BW (piper-strategy(5), split and order).
 *
 * Needs: chunks, parsed directives. Gives: microbatches, backward_split. */
#include "sched/passes.h"

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
        return js_wrong(js, e, "dim_name \"%s\" is already a tag; choose another name for the microbatch tag", name);
    if (s->microbatches && (s->microbatches != d->microbatches || strcmp(s->mb_name, name)))
        return js_wrong(js, e, "an earlier split makes %u microbatches under the tag %s; all splits must agree",
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
                            "the split does not cover %s; a part of a model cannot be split: use \"filter\":{}",
                            chunk_text(s, c, text, sizeof text));
        }
    return ST_OK;
}

/* What the filters of an order directive name of a chunk and microbatch: B, BI, BW. */
struct named {
    uint8_t b, bi, bw;
};
/* By chunk*m + mb, and where something is named, so that a directive costs what it says and not what the job has. */
struct names {
    struct named *of;
    struct {
        VEC(uint32_t);
    } at;
};

static enum status name_pass(struct sched *s, const struct directive *d, enum ir_pass pass, uint32_t i,
                             struct names *names, struct err *e)
{
    struct named *k = &names->of[i];
    char text[160];
    uint32_t m = s->microbatches;
    uint8_t *x = pass == IR_PASS_B ? &k->b : pass == IR_PASS_BI ? &k->bi : &k->bw;
    if (pass == IR_PASS_BW && !k->bi)
        return js_wrong(&d->js, e, "BW of %s %s=%u precedes its BI in the order",
                        chunk_text(s, i / m, text, sizeof text), s->mb_name, i % m);
    if (pass != IR_PASS_B && *x)
        return js_wrong(&d->js, e, "%s of %s %s=%u appears twice in the order", ir_pass_name(pass),
                        chunk_text(s, i / m, text, sizeof text), s->mb_name, i % m);
    if (!k->b && !k->bi && !k->bw)
        vec_add(&names->at, i);
    *x = 1;
    return ST_OK;
}

static enum status name_passes(struct sched *s, const struct directive *d, struct names *names, struct err *e)
{
    uint32_t first = s->groups.at[d->first_group].first_filter;
    const struct order_group *last = &s->groups.at[d->first_group + d->n_groups - 1];
    for (uint32_t k = first; k < last->first_filter + last->n_filters; k++) {
        const struct filter *f = &s->filters.at[k];
        if (f->pass != IR_PASS_B && f->pass != IR_PASS_BI && f->pass != IR_PASS_BW)
            continue;
        struct mb_range r = filter_microbatches(s, f);
        const struct chunk_list chunks = filter_chunks(s, f);
        for (uint32_t i = 0; i < chunks.n; i++)
            for (uint32_t mb = r.first; mb < r.end && filter_chunk(s, f, chunks.at[i]); mb += r.step)
                TRY(name_pass(s, d, (enum ir_pass)f->pass, chunks.at[i] * s->microbatches + mb, names, e));
    }
    return ST_OK;
}

/* What one directive names against what the others do: fused[i] where one names B. */
static enum status merge_names(struct sched *s, const struct directive *d, const struct names *names, uint8_t *fused,
                               struct err *e)
{
    char text[160];
    for (uint32_t k = 0; k < names->at.n; k++) {
        uint32_t i = names->at.at[k], mb = i % s->microbatches, c = i / s->microbatches;
        const struct named *named = &names->of[i];
        if (named->bi != named->bw)
            return js_wrong(&d->js, e,
                            "BI of %s %s=%u has no BW in this order; a split backward needs both in one directive",
                            chunk_text(s, c, text, sizeof text), s->mb_name, mb);
        if (named->bi && s->backward_split[i])
            return js_wrong(&d->js, e, "the backward of %s %s=%u is split by two order directives",
                            chunk_text(s, c, text, sizeof text), s->mb_name, mb);
        s->backward_split[i] |= named->bi;
        fused[i] |= named->b;
        if (fused[i] && s->backward_split[i])
            return js_wrong(&d->js, e,
                            "%s %s=%u is ordered both as B and as the pair BI, BW; once split, B no longer matches it",
                            chunk_text(s, c, text, sizeof text), s->mb_name, mb);
    }
    return ST_OK;
}

static void forget_names(struct names *names)
{
    for (uint32_t k = 0; k < names->at.n; k++)
        names->of[names->at.at[k]] = (struct named){ 0 };
    names->at.n = 0;
}

/* What of a chunk travels on a stream beside that of computation. */
enum { TALKS = 1, TALKS_ROWS = 2 };

static uint8_t communicates(const struct sched *s, uint32_t chunk)
{
    const struct ir_chunk *c = &s->chunks.chunks.at[chunk];
    const uint32_t experts = expert_shard(s, chunk);
    bool any = false;
    if (experts != IR_NONE && s->directives.at[experts].stream)
        return TALKS | TALKS_ROWS;
    for (uint32_t k = c->first_op; s->sides && k < c->first_op + c->n_ops && !any; k++) {
        const uint32_t region = s->sides[s->chunks.ops.at[k]].directive;
        any = region != IR_NONE && s->directives.at[region].stream;
    }
    return any ? TALKS : 0;
}

static bool group_talks(const struct sched *s, const struct order_group *group, const uint8_t *talks, uint8_t how)
{
    const struct filter *first = &s->filters.at[group->first_filter], *end = first + group->n_filters;
    for (const struct filter *f = first; f < end; f++) {
        const struct chunk_list chunks = filter_chunks(s, f);
        for (uint32_t i = 0; i < chunks.n; i++)
            if ((talks[chunks.at[i]] & how) && filter_chunk(s, f, chunks.at[i]))
                return true;
    }
    return false;
}

/* The B of a group may run as BI and BW. */
static void mark_backwards(const struct sched *s, const struct order_group *group)
{
    const struct filter *first = &s->filters.at[group->first_filter], *end = first + group->n_filters;
    for (const struct filter *f = first; f < end; f++) {
        const struct mb_range r = filter_microbatches(s, f);
        const struct chunk_list chunks = filter_chunks(s, f);
        for (uint32_t i = 0; i < chunks.n && (f->pass == IR_PASS_B || f->pass == IR_PASS_NONE); i++)
            for (uint32_t mb = r.first; mb < r.end && filter_chunk(s, f, chunks.at[i]); mb += r.step)
                s->overlapped[chunks.at[i] * s->microbatches + mb] = 1;
    }
}

/* Groups whose compute overlaps with their communication, and the B in them. What regions exchange is too short for a B alone: its BW
 * stands beside that anyway (sched/build.c). */
static void find_overlapped(struct sched *s)
{
    const uint32_t n = s->chunks.chunks.n;
    uint8_t *talks = mem_alloc(n + 1);
    for (uint32_t c = 0; c < n; c++)
        talks[c] = communicates(s, c);
    for (uint32_t g = 0; g < s->groups.n; g++) {
        struct order_group *group = &s->groups.at[g];
        if (group->n_filters > 1)
            group->overlaps = group_talks(s, group, talks, TALKS);
        else if (s->filters.at[group->first_filter].pass == IR_PASS_B)
            group->fills = group_talks(s, group, talks, TALKS_ROWS);
        s->pairs = s->pairs || group->overlaps;
        s->overlaps = s->overlaps || group->overlaps || group->fills;
        if (group->overlaps || group->fills)
            mark_backwards(s, group);
    }
    mem_free(talks);
}

enum status pass_split(struct sched *s, struct err *e)
{
    TRY(check_cover(s, e));
    uint32_t n = s->chunks.chunks.n * s->microbatches;
    s->backward_split = arena_alloc(&s->arena, n);
    s->overlapped = arena_alloc(&s->arena, n);
    uint8_t *fused = arena_alloc(&s->arena, n);
    struct names names = { .of = mem_alloc(n * sizeof *names.of) };
    enum status st = ST_OK;
    for (uint32_t i = 0; i < s->directives.n && st == ST_OK; i++) {
        const struct directive *d = &s->directives.at[i];
        if (d->kind != &directive_order)
            continue;
        st = name_passes(s, d, &names, e);
        if (st == ST_OK)
            st = merge_names(s, d, &names, fused, e);
        forget_names(&names);
    }
    vec_free(&names.at);
    mem_free(names.of);
    find_overlapped(s);
    return st;
}
