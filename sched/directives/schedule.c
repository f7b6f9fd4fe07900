/* schedule: split and one order directive per pipeline rank (piper-strategy(5), schedule).
 *
 * Each kind is a file in sched/schedules/ and a row here: it says the order of rank r as cells; the rest is the same for
 * all. The kind "csv" reads the cells from a text (sched/directives/csv.c). Two-way: ranks r and p-1-r are one device set, so one
 * directive speaks for both. */
#include <stdio.h>

#include "base/words.h"
#include "sched/directives/csv.h"

/* A row a kind. */
#define KINDS(ROW)      \
    ROW(gpipe)          \
    ROW(1f1b)           \
    ROW(interleaved)    \
    ROW(interleaved_zb) \
    ROW(zb_h1)          \
    ROW(zb_h2)          \
    ROW(zb_v)           \
    ROW(dualpipe)       \
    ROW(dualpipev)
#define DECLARE(kind) extern const struct schedule_kind schedule_##kind;
#define ADDRESS(kind) &schedule_##kind,
KINDS(DECLARE)
const struct schedule_kind *const sched_schedule_kinds[] = { KINDS(ADDRESS) NULL };
static const char csv_kind[] = "csv";
const char *const backward_names[BACKWARDS + 1] = { "split", "whole", NULL };

/* NULL in *kind: csv. */
static enum status find_schedule(const struct js *js, const struct schedule_kind **kind, struct err *e)
{
    struct js v;
    const char *name;
    TRY(js_need(js, "kind", &v, e));
    TRY(js_str(&v, &name, e));
    char list[256] = "";
    const char *names[32] = { csv_kind };
    int i = 0;
    for (; (*kind = sched_schedule_kinds[i]); i++) {
        if (!strcmp((*kind)->name, name))
            return ST_OK;
        names[i + 1] = (*kind)->name;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s, ", (*kind)->name);
    }
    if (!strcmp(name, csv_kind))
        return ST_OK;
    char hint[WORDS_HINT];
    return js_wrong(&v, e, "unknown schedule \"%s\", known: %s%s%s", name, list, csv_kind,
                    words_hint(name, names, hint));
}

uint32_t schedule_stages(const struct sched *s)
{
    uint32_t pp = ir_graph_find_tag(s->g, "PP"), n = 0;
    for (uint32_t o = 0; pp != IR_NONE && o < s->g->ops.n; o++)
        n = (uint32_t)(s->g->ops.at[o].tag[pp] + 1) > n ? (uint32_t)(s->g->ops.at[o].tag[pp] + 1) : n;
    return n;
}

json_t *schedule_row_json(const struct cells *cells, uint32_t stages)
{
    json_t *groups = json_array(), *group = NULL;
    for (uint32_t i = 0; i < cells->n; i++) {
        const struct cell *c = &cells->at[i];
        if (!group)
            group = json_array();
        json_array_append_new(group, json_pack("{s:i, s:i, s:s}", "PP", (int)(c->stage % stages), "MB", (int)c->mb,
                                               "PASS", ir_pass_name(c->pass)));
        if (!c->with_next) {
            json_array_append_new(groups, group);
            group = NULL;
        }
    }
    return json_pack("{s:s, s:o}", "op", "order", "filters", groups);
}

/* A primitive more: the order of a rank. Its cells are s's from now on; --expand alone makes JSON of them. */
static void add_row(struct sched *s, struct cells *cells, json_t *out)
{
    vec_add(&s->rows, *cells);
    *cells = (struct cells){ 0 };
    json_array_append_new(out, json_null());
}

static json_t *split_of(uint32_t microbatches)
{
    return json_pack("{s:s, s:{}, s:s, s:I}", "op", "split", "filter", "dim_name", "MB", "num_microbatches",
                     (json_int_t)microbatches);
}

/* ---- the kinds of the table ---- */

static enum status need_placement(const struct js *js, const char *kind, enum placement need, const json_t *layout,
                                  struct err *e)
{
    enum placement have = layout ? layout_placement(layout) : need;
    if (have == need || have == PLACEMENTS) /* layout refuses a placement that does not exist */
        return ST_OK;
    return js_wrong(js, e,
                    "schedule \"%s\" requires the placement \"%s\", but the layout in this list has "
                    "\"placement\":\"%s\"; write \"placement\":\"%s\" there",
                    kind, placement_names[need], placement_names[have], placement_names[need]);
}

/* Stages per rank: of the kind, else of the layout or of "chunks" here, which must agree. */
static enum status count_chunks(const struct js *js, const struct schedule_kind *kind, const json_t *layout,
                                uint32_t *chunks, struct err *e)
{
    int64_t dflt = kind->chunks ? kind->chunks : layout ? layout_chunks(layout) : 2, n;
    struct js v;
    TRY(js_int_or(js, "chunks", 1, 1 << 10, dflt, &n, e));
    TRY(js_opt(js, "chunks", &v, e));
    if (n != dflt && kind->chunks)
        return js_expected(&v, e, "%u: \"%s\" has that many stages per rank", kind->chunks, kind->name);
    if (n != dflt && layout)
        return js_expected(&v, e, "%lld, as in the layout, or no such key", (long long)dflt);
    *chunks = (uint32_t)n;
    return ST_OK;
}

void schedule_join_backwards(struct cells *cells)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < cells->n; i++) {
        struct cell c = cells->at[i];
        if (c.pass == IR_PASS_BW) {
            if (n && cells->at[n - 1].with_next)
                cells->at[n - 1].with_next = c.with_next;
            continue;
        }
        c.pass = c.pass == IR_PASS_BI ? IR_PASS_B : c.pass;
        cells->at[n++] = c;
    }
    cells->n = n;
}

bool schedule_splits_backwards(const struct cells *cells)
{
    for (uint32_t i = 0; i < cells->n; i++)
        if (cells->at[i].pass == IR_PASS_BW)
            return true;
    return false;
}

static enum status expand_kind(struct sched *s, const struct schedule_kind *kind, const struct js *js,
                               const json_t *layout, json_t *out, struct err *e)
{
    uint32_t stages = s->stages;
    struct js v;
    int64_t m;
    uint32_t chunks = 1, backward;
    bool splits = false;
    TRY(js_need(js, "microbatches", &v, e));
    TRY(js_word_or(js, "backward", backward_names, BACKWARD_SPLIT, &backward, e));
    TRY(js_int(&v, 1, IR_NO_MB - 1, &m, e));
    if (js_has(js, "file"))
        return js_wrong(js, e, "\"file\" is for \"kind\":\"csv\" only; drop it for \"%s\"", kind->name);
    TRY(need_placement(js, kind->name, kind->placement, layout, e));
    const struct ir_ends ends = layout_spread(layout);
    if ((ends.encoder || ends.head) && kind->placement != PLACE_STANDARD)
        return js_wrong(js, e,
                        "\"%s\" has several stages per rank, the layout in this list a \"%s\" that is \"spread\": that "
                        "takes a schedule with the placement \"standard\", such as 1f1b",
                        kind->name, ends.encoder ? "encoder" : "head");
    TRY(count_chunks(js, kind, layout, &chunks, e));
    if (stages % chunks)
        return js_wrong(js, e, "\"%s\" with %u stages per rank: the model's %u stages are not a multiple of that",
                        kind->name, chunks, stages);
    uint32_t p = stages / chunks;
    const char *why = kind->refuse ? kind->refuse(p, (uint32_t)m, chunks) : NULL;
    if (why)
        return js_wrong(js, e,
                        "\"%s\" cannot run with %u pipeline ranks, %u stage%s per rank and %lld microbatches: %s",
                        kind->name, p, chunks, chunks > 1 ? "s" : "", (long long)m, why);
    bool two_way = kind->placement == PLACE_TWO_WAY;
    json_array_append_new(out, split_of((uint32_t)m / (two_way ? 2 : 1)));
    /* a spread end has no rank of its own, and its passes no order but that of data: the others leave time for it, as for a rank */
    for (uint32_t r = ends.encoder; r < p / (two_way ? 2 : 1) - ends.head; r++) {
        struct cells cells = { 0 };
        kind->build(p, (uint32_t)m, chunks, r, &cells);
        splits |= schedule_splits_backwards(&cells);
        if (backward == BACKWARD_WHOLE)
            schedule_join_backwards(&cells);
        add_row(s, &cells, out);
    }
    if (backward == BACKWARD_WHOLE && !splits)
        notices_add(s->in->notices, js->file,
                    "%s.backward: \"whole\" has no effect: no rank of \"%s\" splits a backward into BI and BW",
                    js->path, kind->name);
    return ST_OK;
}

/* ---- csv ---- */

const char *sched_file(const json_t *strategy, uint32_t i)
{
    for (size_t k = 0; k < json_array_size(strategy); k++) {
        const json_t *d = json_array_get(strategy, k);
        const char *op = json_string_value(json_object_get(d, "op")),
                   *kind = json_string_value(json_object_get(d, "kind"));
        const char *file = json_string_value(json_object_get(d, "file"));
        if (op && kind && file && !strcmp(op, directive_schedule.name) && !strcmp(kind, csv_kind) && !i--)
            return file;
    }
    return NULL;
}

static enum status find_text(const struct sched_input *in, const struct js *file, const char **name, const char **text,
                             struct err *e)
{
    TRY(js_str(file, name, e));
    for (uint32_t i = 0; i < in->n_texts; i++)
        if (!strcmp(in->texts[i].name, *name)) {
            *text = in->texts[i].text;
            return ST_OK;
        }
    js_wrong(file, e,
             "the job does not contain the schedule \"%s\"; rebuild the job with that file at this path relative to "
             "the strategy file",
             *name);
    return ST_MISSING;
}

/* The stages of the file against those of the model, once or twice; the microbatches against those of the directive. */
static enum status fit_csv(const struct js *js, const char *file, struct csv *c, const json_t *layout, uint32_t stages,
                           struct err *e)
{
    bool two_way = c->stages == 2 * stages;
    int64_t m = (int64_t)c->microbatches * (two_way ? 2 : 1), given;
    if (c->stages != stages && !two_way)
        return js_wrong(js, e, "%s has %u stages, the model has %u", file, c->stages, stages);
    if (two_way)
        TRY(need_placement(js, file, PLACE_TWO_WAY, layout, e));
    else if (layout && layout_placement(layout) == PLACE_TWO_WAY)
        return js_wrong(js, e,
                        "the layout in this list has \"placement\":\"two-way\", but %s has %u stages: the second "
                        "direction's, %u to %u, are missing",
                        file, stages, stages, 2 * stages - 1);
    TRY(js_int_or(js, "microbatches", 1, IR_NO_MB - 1, m, &given, e));
    if (given != m)
        return js_wrong(js, e, "%s has %lld microbatches, not %lld; \"microbatches\" may be omitted", file,
                        (long long)m, (long long)given);
    if (js_has(js, "backward"))
        return js_wrong(js, e, "\"backward\" does not apply to \"kind\":\"csv\": %s says what each rank runs", file);
    if (js_has(js, "chunks"))
        return js_wrong(js, e, "\"chunks\" does not apply to \"kind\":\"csv\": %s says what each rank runs", file);
    return two_way ? csv_fold(c, stages, file, e) : ST_OK;
}

/* Does a directive put microbatches of a stage on device sets of their own? */
static bool placed_apart(const json_t *strategy)
{
    for (size_t i = 0; i < json_array_size(strategy); i++) {
        const json_t *d = json_array_get(strategy, i), *filter = json_object_get(d, "filter");
        const char *op = json_string_value(json_object_get(d, "op"));
        const struct ir_ends ends = op && !strcmp(op, directive_layout.name) ? layout_spread(d) : (struct ir_ends){ 0 };
        if (ends.encoder || ends.head)
            return true;
        if (!op || (strcmp(op, directive_place.name) && strcmp(op, directive_replicate.name)))
            continue;
        bool apart = json_object_get(d, "rotate") || json_object_get(filter, "MB");
        for (size_t k = 0; k < json_array_size(filter) && !apart; k++) { /* the older form: pairs */
            const char *tag = json_string_value(json_array_get(json_array_get(filter, k), 0));
            apart = tag && !strcmp(tag, "MB");
        }
        if (apart)
            return true;
    }
    return false;
}

static enum status expand_csv(struct sched *s, const struct js *js, const json_t *layout, json_t *out, struct err *e)
{
    struct js v;
    struct csv c = { 0 };
    const char *file, *text;
    TRY(js_need(js, "file", &v, e));
    TRY(find_text(s->in, &v, &file, &text, e));
    enum status st = csv_read(text, file, placed_apart(s->in->strategy), &c, e);
    if (st == ST_OK)
        st = fit_csv(js, file, &c, layout, s->stages, e);
    if (st == ST_OK)
        json_array_append_new(out, split_of(c.microbatches));
    if (st == ST_OK && c.dropped)
        notices_add(s->in->notices, file,
                    "%u cell%s of communication (the first is %s) %s dropped: the compiler makes it from the placement",
                    c.dropped, c.dropped == 1 ? "" : "s", c.first_dropped, c.dropped == 1 ? "is" : "are");
    for (uint32_t r = 0; r < c.rows.n && st == ST_OK; r++)
        if (c.rows.at[r].n)
            add_row(s, &c.rows.at[r], out);
    csv_release(&c);
    return st;
}

static enum status expand_schedule(struct sched *s, const struct js *js, json_t *out, struct err *e)
{
    const struct schedule_kind *kind;
    const json_t *layout = layout_find(s->in->strategy);
    TRY(find_schedule(js, &kind, e));
    TRY(order_peak(s, js, e));
    s->stages = schedule_stages(s);
    return kind ? expand_kind(s, kind, js, layout, out, e) : expand_csv(s, js, layout, out, e);
}

static const char *const keys[] = { "op", "kind", "microbatches", "backward", "chunks", "file", "peak", NULL };
const struct directive_kind directive_schedule = { .name = "schedule", .keys = keys, .expand = expand_schedule };
