#include "view/draw_plan.h"

#include <math.h>
#include <stdlib.h>

#include "view/draw.h"
#include "job/compile_job.h"
#include "sched/cost/simulate.h"

/* A row of the picture: a device that is replica 0 of some stage. */
struct place {
    uint32_t cls, device, first_stage;
    uint32_t stands_for; /* ranks */
};
struct drawing {
    const struct plan *plans;
    uint32_t n_classes;
    const struct ir_graph *g;
    const struct draw_view *view; /* NULL: all of it */
    struct timeline t;
    struct {
        VEC(struct place);
    } places;
    uint32_t stages;
    uint32_t **stage_of; /* by class, by program */
    uint32_t **set_of;   /* by class, by stage: device set, PLAN_NONE where the class does not run it */
    struct draw_picture picture;
};

static const struct plan_instr *instrs_of(const struct drawing *d, uint32_t cls)
{
    const struct plan *p = &d->plans[cls];
    return &p->instrs[p->lists[d->t.classes[cls].list].first_instr];
}

/* ---- stages and their device sets --------------------------------------------------------------------------------- */

static void find_stages(struct drawing *d)
{
    d->stage_of = mem_alloc(d->n_classes * sizeof *d->stage_of);
    for (uint32_t c = 0; c < d->n_classes; c++) {
        uint32_t n = (uint32_t)d->plans[c].h->count[PLAN_S_PROGRAMS];
        d->stage_of[c] = mem_alloc(n * sizeof **d->stage_of);
        for (uint32_t i = 0; i < n; i++) {
            d->stage_of[c][i] = timeline_stage(&d->plans[c], i, d->g);
            d->stages = d->stage_of[c][i] >= d->stages ? d->stage_of[c][i] + 1 : d->stages;
        }
    }
}

/* What is loaded, sent or received names its device set; the passes that write or read it are of that set. */
static void find_sets(const struct drawing *d, uint32_t cls, uint32_t *set_of)
{
    const struct plan *p = &d->plans[cls];
    const struct plan_instr *in = instrs_of(d, cls), *end = in + d->t.classes[cls].n;
    uint32_t n = (uint32_t)p->h->count[PLAN_S_BUFFERS];
    uint32_t *written = mem_alloc((n + 1) * sizeof *written), *read = mem_alloc((n + 1) * sizeof *read); /* set + 1 */
    for (const struct plan_instr *i = in; i < end; i++) {
        const struct plan_base *b = &p->bases[i->first_base];
        if (i->op == PLAN_SEND || i->op == PLAN_EXCHANGE)
            written[b->buffer] = i->my_set + 1;
        if (i->op == PLAN_LOAD || i->op == PLAN_RECV)
            read[b->buffer] = i->my_set + 1;
        if (i->op == PLAN_EXCHANGE)
            read[b[1].buffer] = i->peer_set + 1;
    }
    for (const struct plan_instr *i = in; i < end; i++)
        for (uint32_t k = 0; i->op == PLAN_RUN && k < i->n_bases; k++) {
            const struct plan_base *b = &p->bases[i->first_base + k];
            uint32_t stage = d->stage_of[cls][i->program];
            if (b->arena != ARENA_WORK || set_of[stage] != PLAN_NONE)
                continue;
            uint32_t set = b->access & PLAN_WRITE ? written[b->buffer] : read[b->buffer];
            if (set)
                set_of[stage] = set - 1;
        }
    for (const struct plan_instr *i = in; i < end; i++)
        if (i->op == PLAN_RUN && set_of[d->stage_of[cls][i->program]] == PLAN_NONE)
            set_of[d->stage_of[cls][i->program]] = p->h->devices;
    mem_free(written);
    mem_free(read);
}

static int by_first_stage(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->first_stage != y->first_stage ? (x->first_stage < y->first_stage ? -1 : 1)
           : x->device < y->device          ? -1
                                            : 1;
}

static void find_places(struct drawing *d)
{
    d->set_of = mem_alloc(d->n_classes * sizeof *d->set_of);
    for (uint32_t c = 0; c < d->n_classes; c++) {
        const struct plan *p = &d->plans[c];
        uint32_t first = d->places.n;
        d->set_of[c] = mem_alloc(d->stages * sizeof **d->set_of);
        memset(d->set_of[c], 0xff, d->stages * sizeof **d->set_of);
        find_sets(d, c, d->set_of[c]);
        for (uint32_t s = 0; s < d->stages; s++) {
            uint32_t k = first, device;
            if (d->set_of[c][s] == PLAN_NONE)
                continue;
            device = plan_set_at(p, d->set_of[c][s], 0);
            while (k < d->places.n && d->places.at[k].device != device)
                k++;
            if (k == d->places.n)
                vec_add(&d->places, ((struct place){ c, device, s, 0 }));
        }
        for (uint32_t k = first; k < d->places.n; k++)
            d->places.at[k].stands_for = p->sets[p->h->devices].size / (d->places.n - first);
    }
    qsort(d->places.at, d->places.n, sizeof *d->places.at, by_first_stage);
}

/* ---- boxes ------------------------------------------------------------------------------------------------------------ */

static enum draw_kind kind_of(const struct plan_instr *in)
{
    static const enum draw_kind passes[] = {
        [IR_PASS_F] = DRAW_F, [IR_PASS_B] = DRAW_B, [IR_PASS_BI] = DRAW_BI, [IR_PASS_BW] = DRAW_BW
    };
    switch ((enum plan_op)in->op) {
    case PLAN_RUN:
        return in->pass < IR_PASS_COUNT ? passes[in->pass] : DRAW_OTHER;
    case PLAN_SUMSQ:
    case PLAN_UPDATE:
        return DRAW_UPDATE;
    case PLAN_SEND:
    case PLAN_RECV:
    case PLAN_EXCHANGE:
    case PLAN_SHIFT:
        return DRAW_MOVE;
    case PLAN_ALL_TO_ALL:
    case PLAN_ALL_TO_ALL_V:
    case PLAN_TO_EXPERTS:
    case PLAN_FROM_EXPERTS:
        return DRAW_ALL_TO_ALL;
    case PLAN_ALL_REDUCE:
    case PLAN_REDUCE_SCATTER:
    case PLAN_ADD:
        return DRAW_REDUCE;
    case PLAN_ALL_GATHER:
        return DRAW_GATHER;
    default:
        return DRAW_OTHER;
    }
}

/* Shade of each stage of a place, in the order of their direction and number; returns how many it has. replica[stage]: which
 * replica of it the device is; of the rows drawn it is 0 but for the second of two directions. */
static uint32_t find_shades(const struct drawing *d, const struct place *place, uint8_t *shade, uint32_t *replica)
{
    uint32_t n = 0;
    for (uint32_t s = 0; s < d->stages; s++) {
        uint32_t set = d->set_of[place->cls][s];
        replica[s] = set == PLAN_NONE ? PLAN_NONE : plan_set_index(&d->plans[place->cls], set, place->device);
    }
    for (uint32_t s = 0; s < d->stages; s++) {
        uint32_t before = 0;
        for (uint32_t k = 0; k < d->stages; k++)
            before += replica[k] < replica[s] || (replica[k] == replica[s] && k < s);
        if (replica[s] == PLAN_NONE)
            continue;
        shade[s] = (uint8_t)(before < 255 ? before : 255);
        n++;
    }
    return n;
}

/* [stage * microbatches + mb]: the backward is a B, though regions run it as BI and BW. */
static uint8_t *find_fused(const struct drawing *d, uint32_t cls, uint32_t microbatches)
{
    const struct plan_instr *in = instrs_of(d, cls);
    uint8_t *fused = mem_alloc((size_t)d->stages * microbatches + 1);
    for (uint32_t i = 0; i < d->t.classes[cls].n; i++)
        if (in[i].op == PLAN_RUN && in[i].pass == IR_PASS_B)
            fused[d->stage_of[cls][in[i].program] * microbatches + in[i].mb] = 1;
    return fused;
}

/* The boxes of one stream of a place. */
static void add_boxes(struct drawing *d, const struct place *place, uint32_t stream, uint32_t row, const uint8_t *shade,
                      const uint32_t *replica)
{
    const struct plan *p = &d->plans[place->cls];
    const struct timeline_class *c = &d->t.classes[place->cls];
    const struct plan_instr *in = instrs_of(d, place->cls);
    uint32_t m = p->lists[c->list].microbatches;
    uint8_t *fused = find_fused(d, place->cls, m);
    for (uint32_t i = 0; i < c->n; i++, in++) {
        if (in->stream != stream || in->op == PLAN_ROUNDS || plan_is_extra(in))
            continue;
        struct draw_box b = { .start = c->spans[i].start, .end = c->spans[i].end, .row = row, .kind = kind_of(in) };
        b.number = in->mb == 0xffff ? DRAW_NO_NUMBER : in->mb;
        uint32_t direction = 0;
        if (in->op == PLAN_RUN) {
            b.stage = d->stage_of[place->cls][in->program];
            b.shade = shade[b.stage];
            direction = replica[b.stage];
            if ((b.kind == DRAW_BI || b.kind == DRAW_BW) && fused[b.stage * m + in->mb])
                b.kind = DRAW_B;
        } else if (in->my_set != PLAN_NONE) {
            direction = plan_set_index(p, in->my_set, place->device);
        }
        if (b.number != DRAW_NO_NUMBER && direction != PLAN_NONE)
            b.number += direction * m;
        vec_add(&d->picture.boxes, b);
    }
    mem_free(fused);
}

static bool stream_used(const struct drawing *d, uint32_t cls, uint32_t stream)
{
    const struct plan_instr *in = instrs_of(d, cls);
    for (uint32_t i = 0; i < d->t.classes[cls].n; i++)
        if (in[i].stream == stream && d->t.classes[cls].spans[i].end > d->t.classes[cls].spans[i].start)
            return true;
    return false;
}

/* ---- memory ----------------------------------------------------------------------------------------------------------- */

struct change {
    double t;
    int64_t bytes;
};

static int by_time(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    return x->t != y->t ? (x->t < y->t ? -1 : 1) : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* When the buffers of a class begin and cease to be used: [n] changes, in their order, owned by the caller. */
static struct change *find_changes(const struct drawing *d, uint32_t cls, uint32_t *n)
{
    const struct plan *p = &d->plans[cls];
    const struct timeline_class *c = &d->t.classes[cls];
    const uint32_t buffers = (uint32_t)p->h->count[PLAN_S_BUFFERS];
    struct timeline_span *used = mem_alloc((buffers + 1) * sizeof *used);
    struct change *changes = mem_alloc((2 * (size_t)buffers + 1) * sizeof *changes);
    const struct plan_instr *in = instrs_of(d, cls);
    for (uint32_t i = 0; i < buffers; i++)
        used[i] = (struct timeline_span){ INFINITY, -INFINITY };
    for (uint32_t i = 0; i < c->n; i++)
        for (uint32_t k = 0; k < in[i].n_bases; k++) {
            const struct plan_base *b = &p->bases[in[i].first_base + k];
            if (b->arena != ARENA_WORK || b->buffer >= buffers)
                continue;
            used[b->buffer].start = fmin(used[b->buffer].start, c->spans[i].start);
            used[b->buffer].end = fmax(used[b->buffer].end, c->spans[i].end);
        }
    *n = 0;
    for (uint32_t i = 0; i < buffers; i++)
        if (used[i].start < used[i].end) {
            changes[(*n)++] = (struct change){ used[i].start, (int64_t)p->buffers[i].bytes };
            changes[(*n)++] = (struct change){ used[i].end, -(int64_t)p->buffers[i].bytes };
        }
    qsort(changes, *n, sizeof *changes, by_time);
    mem_free(used);
    return changes;
}

/* A row with what is alive of activations, gradients on their way and buffers of communication. */
static void add_memory(struct drawing *d, const struct place *place)
{
    struct draw_picture *pic = &d->picture;
    uint32_t n;
    struct change *changes = find_changes(d, place->cls, &n);
    int64_t bytes = 0;
    double most = 0;
    const uint32_t row = pic->rows.n;
    for (uint32_t i = 0; i < n; i++) {
        bytes += changes[i].bytes;
        if (i + 1 < n && changes[i + 1].t == changes[i].t)
            continue;
        vec_add(&pic->points, ((struct draw_point){ changes[i].t, (double)bytes, row }));
        most = fmax(most, (double)bytes);
    }
    char text[32];
    vec_add(&pic->rows, ((struct draw_row){ .label = arena_printf(&pic->text, "to %s", compile_bytes(most, text)),
                                            .curve = true,
                                            .rank = place->device }));
    pic->most_value = fmax(pic->most_value, most);
    mem_free(changes);
}

static void add_place(struct drawing *d, const struct place *place)
{
    struct draw_picture *pic = &d->picture;
    const struct plan *p = &d->plans[place->cls];
    uint8_t *shade = mem_alloc(d->stages);
    uint32_t *replica = mem_alloc(d->stages * sizeof *replica);
    uint32_t shades = find_shades(d, place, shade, replica);
    pic->n_shades = shades > pic->n_shades ? shades : pic->n_shades;
    for (uint32_t s = 0; s < d->stages; s++)
        if (replica[s] != PLAN_NONE && replica[s])
            pic->shades_note = "lighter: second direction";
    for (uint32_t s = 0; s < p->h->count[PLAN_S_STREAMS]; s++) {
        struct draw_row row = { .label = p->text + p->streams[s].name,
                                .stream = s != PLAN_COMPUTE_STREAM,
                                .rank = place->device };
        if (row.stream && !stream_used(d, place->cls, s))
            continue;
        if (!row.stream)
            row.label = place->stands_for == 1
                            ? arena_printf(&pic->text, "rank %u", place->device)
                            : arena_printf(&pic->text, "rank %u x%u", place->device, place->stands_for);
        vec_add(&pic->rows, row);
        add_boxes(d, place, s, pic->rows.n - 1, shade, replica);
    }
    if (d->view && d->view->memory)
        add_memory(d, place);
    mem_free(shade);
    mem_free(replica);
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */

static void simulate(const struct drawing *d, const struct timeline_units *given, struct timeline *t)
{
    struct timeline_units u = *given;
    timeline_units_init(&u, d->plans, d->n_classes, d->g);
    timeline_run(d->plans, d->n_classes, "train", &(struct timeline_cost){ .time = timeline_units_time, .self = &u },
                 t);
    timeline_units_release(&u);
}

/* d->t: filled in. */
static void begin(struct drawing *d, const char *unit)
{
    struct draw_picture *pic = &d->picture;
    arena_init(&pic->text);
    pic->end = d->t.step;
    pic->unit = unit;
    pic->shades_note = "lighter: further stages of a rank";
    find_stages(d);
    find_places(d);
    for (uint32_t i = 0; i < d->places.n; i++)
        add_place(d, &d->places.at[i]);
    draw_select(pic, d->view ? d->view : &(struct draw_view){ .lanes = DRAW_LANES_ALL });
    draw_find_spans(pic);
}

static void end(struct drawing *d)
{
    for (uint32_t c = 0; c < d->n_classes; c++) {
        mem_free(d->stage_of[c]);
        mem_free(d->set_of[c]);
    }
    mem_free(d->stage_of);
    mem_free(d->set_of);
    vec_free(&d->places);
    draw_release(&d->picture);
    timeline_release(&d->t);
}

static void set_title(struct drawing *d)
{
    struct draw_picture *pic = &d->picture;
    uint32_t ranks = d->plans[0].h->world, m = d->plans[0].lists[d->t.classes[0].list].microbatches;
    pic->title = arena_printf(&pic->text, "%s, %u %s, %u %s: bubble %.1f%%", d->g->family, ranks,
                              ranks == 1 ? "rank" : "ranks", m, m == 1 ? "microbatch" : "microbatches",
                              100 * d->t.bubble);
}

void draw_simulated_svg(const struct simulate_input *in, const struct draw_view *view, FILE *to)
{
    struct drawing d = { .plans = in->plans, .n_classes = in->n_classes, .g = in->graph, .view = view };
    simulate_run(in, NULL, &d.t);
    for (uint32_t c = 0; c < d.n_classes; c++) /* milliseconds */
        for (uint32_t i = 0; i < d.t.classes[c].n; i++) {
            d.t.classes[c].spans[i].start *= 1e3;
            d.t.classes[c].spans[i].end *= 1e3;
        }
    d.t.step *= 1e3;
    begin(&d, "ms");
    set_title(&d);
    d.picture.subtitle = arena_printf(&d.picture.text, "%.4g ms predicted on %s", d.t.step, in->machine->name);
    d.picture.note = "Times predicted by the cost model, contention for links included.";
    draw_svg(&d.picture, to);
    end(&d);
}

void draw_plan_svg(const struct plan *plans, uint32_t n_classes, const struct ir_graph *g, const struct draw_view *view,
                   FILE *to)
{
    struct timeline_units u = { .move = 0.1, .all_to_all = 0.5, .collective = 0.5, .update = 0.25 };
    struct drawing d = { .plans = plans, .n_classes = n_classes, .g = g, .view = view };
    struct timeline bare;
    simulate(&d, &u, &d.t);
    begin(&d, "units");
    simulate(&d, &(struct timeline_units){ 0 }, &bare);
    struct draw_picture *pic = &d.picture;
    set_title(&d);
    pic->subtitle = arena_printf(&pic->text, "%.4g time units, computation alone %.4g, bubble %.1f%%", d.t.step,
                                 bare.step, 100 * bare.bubble);
    pic->note = arena_printf(&pic->text,
                             "Assumed, in time units: F, BI, BW of a stage 1, B 2; all-to-alls of a pass %g; a "
                             "transfer %g; gradients of a rank %g, update %g.",
                             u.all_to_all, u.move, u.collective, u.update);
    draw_svg(pic, to);
    timeline_release(&bare);
    end(&d);
}

void draw_plan_text(const struct plan *plans, uint32_t n_classes, const struct ir_graph *g,
                    const struct draw_terminal *terminal, FILE *to)
{
    struct drawing d = { .plans = plans, .n_classes = n_classes, .g = g };
    simulate(&d, &(struct timeline_units){ 0 }, &d.t);
    begin(&d, "units");
    fprintf(to, "\nschedule      %.4g time units (F, BI, BW of a stage 1, B 2, communication 0), bubble %.1f%%\n",
            d.t.step, 100 * d.t.bubble);
    if (draw_text(&d.picture, 1, terminal->columns, terminal->colour, to))
        fputs("Microbatch modulo 10: F is 0 1 2 ..., B and BI are a b c ..., BW is A B C ...; --svg FILE draws it.\n",
              to);
    else
        fprintf(to, "Too large for %u columns; --svg FILE draws it.\n", terminal->columns);
    end(&d);
}
