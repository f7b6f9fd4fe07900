#include "view/draw_trace.h"

#include <stdlib.h>

#include "view/draw.h"
#include "view/trace_words.h"

/* What a row is made of: the compute stream of a rank as measured (0) or expected (1), or one of its streams (2 and up). */
struct row_key {
    uint32_t rank, part;
};
struct item {
    struct row_key key;
    struct draw_box box;
};
struct drawing {
    const struct trace_view *views;
    uint32_t n;
    bool all_steps;
    uint64_t step;    /* the last one */
    double from, to;  /* of what is drawn */
    uint32_t steps;   /* drawn */
    uint32_t *shades; /* [ranks * stages]: shade + 1 of a stage of a rank */
    uint32_t n_ranks, n_stages, most_mb;
    double busy, expected_busy, expected; /* seconds; expected: length of a step */
    uint32_t ranks_drawn;
    struct {
        VEC(struct item);
    } items;
    struct draw_picture picture;
};

/* ---- what an event is --------------------------------------------------------------------------------------------- */

static enum draw_kind kind_of(const struct trace_instruction *in)
{
    static const enum draw_kind kinds[TRACE_KINDS] = {
        [TRACE_OTHER] = DRAW_OTHER,
        [TRACE_F] = DRAW_F,
        [TRACE_B] = DRAW_B,
        [TRACE_BI] = DRAW_BI,
        [TRACE_BW] = DRAW_BW,
        [TRACE_UPDATE] = DRAW_UPDATE,
        [TRACE_ADD] = DRAW_REDUCE,
        [TRACE_SEND] = DRAW_MOVE,
        [TRACE_RECEIVE] = DRAW_MOVE,
        [TRACE_EXCHANGE] = DRAW_MOVE,
        [TRACE_SHIFT] = DRAW_MOVE,
        [TRACE_ALL_TO_ALL] = DRAW_ALL_TO_ALL,
        [TRACE_ALL_REDUCE] = DRAW_REDUCE,
        [TRACE_REDUCE_SCATTER] = DRAW_REDUCE,
        [TRACE_ALL_GATHER] = DRAW_GATHER,
    };
    const enum trace_kind kind = trace_kind_of(in->name);
    /* sums of activations and of scalars are not gradients */
    if (kind == TRACE_ALL_REDUCE && !strstr(in->name, " bucket "))
        return DRAW_OTHER;
    return kinds[kind];
}

static uint32_t stage_of(const struct trace_instruction *in)
{
    const uint32_t stage = trace_tag(in->tags, "PP");
    return stage == UINT32_MAX ? 0 : stage;
}

/* The compute stream is the first one of a rank. */
static bool computes(const struct trace *t, const struct trace_event *ev)
{
    return ev->location == 0 || t->locations[ev->location - 1].rank != t->locations[ev->location].rank;
}

static bool is_drawn(const struct drawing *d, const struct trace_event *ev)
{
    return d->all_steps || ev->step == d->step;
}

/* ---- what there is ------------------------------------------------------------------------------------------------- */

static void find_range(struct drawing *d)
{
    bool any = false;
    for (uint32_t k = 0; k < d->n; k++)
        for (uint64_t i = 0; i < d->views[k].t.n_events; i++)
            d->step = d->views[k].t.events[i].step > d->step ? d->views[k].t.events[i].step : d->step;
    for (uint32_t k = 0; k < d->n; k++) {
        const struct trace *t = &d->views[k].t;
        d->n_ranks = t->n_ranks > d->n_ranks ? (uint32_t)t->n_ranks : d->n_ranks;
        for (uint64_t i = 0; i < t->n_events; i++) {
            const struct trace_event *ev = &t->events[i];
            const struct trace_instruction *in = &t->instructions[ev->instruction];
            if (!is_drawn(d, ev))
                continue;
            d->from = !any || ev->t < d->from ? ev->t : d->from;
            d->to = !any || ev->t + ev->dur > d->to ? ev->t + ev->dur : d->to;
            d->n_stages = stage_of(in) >= d->n_stages ? stage_of(in) + 1 : d->n_stages;
            any = true;
            if (in->predicted_start >= 0 && in->predicted_start + in->predicted > d->expected)
                d->expected = in->predicted_start + in->predicted;
        }
    }
}

/* A rank's stages in their order: the first is the darkest. */
static void find_shades(struct drawing *d)
{
    d->shades = mem_alloc((size_t)d->n_ranks * d->n_stages * sizeof *d->shades);
    for (uint32_t k = 0; k < d->n; k++)
        for (uint64_t i = 0; i < d->views[k].t.n_events; i++) {
            const struct trace_event *ev = &d->views[k].t.events[i];
            const struct trace_instruction *in = &d->views[k].t.instructions[ev->instruction];
            if (is_drawn(d, ev) && draw_is_pass(kind_of(in)))
                d->shades[(size_t)trace_rank_of(&d->views[k].t, ev) * d->n_stages + stage_of(in)] = 1;
        }
    for (uint32_t r = 0; r < d->n_ranks; r++) {
        uint32_t n = 0, *of_rank = &d->shades[(size_t)r * d->n_stages];
        for (uint32_t s = 0; s < d->n_stages; s++)
            of_rank[s] = of_rank[s] ? ++n : 0;
        d->picture.n_shades = n > d->picture.n_shades ? n : d->picture.n_shades;
    }
}

/* ---- boxes ------------------------------------------------------------------------------------------------------------ */

static const double ms = 1e3;

static void add_event(struct drawing *d, const struct trace_view *v, uint64_t i, double began)
{
    const struct trace_event *ev = &v->t.events[i];
    const struct trace_instruction *in = &v->t.instructions[ev->instruction];
    uint32_t rank = trace_rank_of(&v->t, ev), stage = stage_of(in), mb = trace_tag(in->tags, "MB");
    struct item item = { .key = { rank, computes(&v->t, ev) ? 0 : 2 + ev->location } };
    enum draw_kind kind = kind_of(in);
    uint32_t shade = draw_is_pass(kind) ? d->shades[(size_t)rank * d->n_stages + stage] - 1 : 0;
    item.box = (struct draw_box){
        .start = ms * (v->met[i] - d->from),
        .end = ms * (ev->t + ev->dur - d->from),
        .stage = stage,
        .number = mb == UINT32_MAX ? DRAW_NO_NUMBER : mb,
        .kind = (uint8_t)kind,
        .shade = (uint8_t)(shade < 255 ? shade : 255),
    };
    d->most_mb = mb != UINT32_MAX && mb + 1 > d->most_mb ? mb + 1 : d->most_mb;
    vec_add(&d->items, item);
    bool compute = item.key.part == 0 && !trace_is_communication(ev);
    d->busy += compute ? ev->dur : 0;
    if (item.key.part != 0 || in->predicted_start < 0)
        return;
    item.key.part = 1;
    item.box.start = ms * (began + in->predicted_start - d->from);
    item.box.end = item.box.start + ms * in->predicted;
    vec_add(&d->items, item);
    d->expected_busy += compute ? in->predicted : 0;
}

/* When each step of a segment began: with its first event on any rank. Events of a step stand together for each rank. */
static void add_events(struct drawing *d, const struct trace_view *v)
{
    struct {
        VEC(struct step_began {
            uint64_t step;
            double t;
        });
    } steps = { 0 };
    const struct trace *t = &v->t;
    for (uint64_t i = 0; i < t->n_events; i++) {
        uint32_t s = 0;
        while (s < steps.n && steps.at[s].step != t->events[i].step)
            s++;
        if (s == steps.n && is_drawn(d, &t->events[i]))
            d->steps++; /* a step lies in one segment */
        if (s == steps.n)
            vec_add(&steps, ((struct step_began){ t->events[i].step, t->events[i].t }));
        if (t->events[i].t < steps.at[s].t)
            steps.at[s].t = t->events[i].t;
    }
    for (uint64_t i = 0; i < t->n_events; i++) {
        uint32_t s = 0;
        if (!is_drawn(d, &t->events[i]))
            continue;
        while (steps.at[s].step != t->events[i].step)
            s++;
        add_event(d, v, i, steps.at[s].t);
    }
    vec_free(&steps);
}

static int by_row_and_start(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->key.rank != y->key.rank)
        return x->key.rank < y->key.rank ? -1 : 1;
    if (x->key.part != y->key.part)
        return x->key.part < y->key.part ? -1 : 1;
    return (x->box.start > y->box.start) - (x->box.start < y->box.start);
}

static const char *label(struct drawing *d, const struct row_key *key)
{
    if (key->part == 0)
        return arena_printf(&d->picture.text, "rank %u", key->rank);
    if (key->part == 1)
        return "expected";
    for (uint32_t k = 0; k < d->n; k++) /* all segments of a run have the same locations */
        if (key->part - 2 < d->views[k].t.n_locations)
            return d->views[k].t.streams[d->views[k].t.locations[key->part - 2].stream];
    return "";
}

static void make_rows(struct drawing *d)
{
    struct draw_picture *p = &d->picture;
    if (d->items.n)
        qsort(d->items.at, d->items.n, sizeof *d->items.at, by_row_and_start);
    for (uint32_t i = 0; i < d->items.n; i++) {
        struct item *item = &d->items.at[i];
        const struct row_key *before = i ? &item[-1].key : NULL;
        if (!before || before->rank != item->key.rank || before->part != item->key.part) {
            vec_add(&p->rows, ((struct draw_row){ .label = label(d, &item->key),
                                                  .stream = item->key.part > 1,
                                                  .predicted = item->key.part == 1,
                                                  .rank = item->key.rank }));
            d->ranks_drawn += item->key.part == 0;
        }
        item->box.row = p->rows.n - 1;
        vec_add(&p->boxes, item->box);
        p->end = item->box.end > p->end ? item->box.end : p->end;
    }
}

static void write_titles(struct drawing *d, const char *name)
{
    struct draw_picture *p = &d->picture;
    double step = (d->to - d->from) * ms / d->steps, ranks = d->ranks_drawn * (double)d->steps;
    p->title = arena_printf(&p->text, "%s, step %llu, %u %s, %u %s: %.4g ms, bubble %.1f%%", name,
                            (unsigned long long)d->step, d->ranks_drawn, d->ranks_drawn == 1 ? "rank" : "ranks",
                            d->most_mb, d->most_mb == 1 ? "microbatch" : "microbatches", step,
                            100 * (1 - ms * d->busy / (ranks * step)));
    if (d->expected > 0)
        p->subtitle = arena_printf(&p->text, "Predicted %.4g ms, bubble %.1f%%.", ms * d->expected,
                                   100 * (1 - d->expected_busy / (ranks * d->expected)));
    p->note = "Measured, all ranks on one clock. A communication starts when its last participant arrives.";
}

void draw_trace_svg(const struct trace_view *views, uint32_t n, bool all_steps, const char *name,
                    const struct draw_view *view, FILE *to)
{
    struct drawing d = { .views = views, .n = n, .all_steps = all_steps };
    d.picture =
        (struct draw_picture){ .subtitle = "", .unit = "ms", .shades_note = "lighter: further stages of a rank" };
    arena_init(&d.picture.text);
    find_range(&d);
    find_shades(&d);
    d.picture.end = 1e-6;
    d.picture.slack = 5e-4 * ms * (d.to - d.from);
    for (uint32_t k = 0; k < n; k++)
        add_events(&d, &views[k]);
    make_rows(&d);
    write_titles(&d, name);
    draw_select(&d.picture, view);
    draw_find_spans(&d.picture);
    draw_svg(&d.picture, to);
    mem_free(d.shades);
    vec_free(&d.items);
    draw_release(&d.picture);
}
