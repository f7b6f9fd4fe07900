/* schedule: split and one order directive per pipeline rank (DIRECTIVES.md, "Macros"; orders in SCHEDULES.md).
 *
 * Each kind is a file in sched/schedules/ and a row here: it says the order of rank r as cells; the rest is the same for
 * all. */
#include <stdio.h>

#include "sched/compile.h"

extern const struct schedule_kind schedule_gpipe, schedule_1f1b;
const struct schedule_kind *const sched_schedule_kinds[] = { &schedule_gpipe, &schedule_1f1b, NULL };

static enum status find_schedule(const struct js *js, const struct schedule_kind **kind, struct err *e)
{
    struct js v;
    const char *name;
    TRY(js_need(js, "kind", &v, e));
    TRY(js_str(&v, &name, e));
    char list[256] = "";
    for (int i = 0; sched_schedule_kinds[i]; i++) {
        *kind = sched_schedule_kinds[i];
        if (!strcmp((*kind)->name, name))
            return ST_OK;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", (*kind)->name);
    }
    return js_wrong(&v, e, "there is no schedule \"%s\"; there are: %s", name, list);
}

/* Stages of the model: indices under PP are 0 .. n-1. */
static uint32_t count_stages(const struct sched *s)
{
    uint32_t pp = ir_graph_find_tag(s->g, "PP"), n = 0;
    for (uint32_t o = 0; pp != IR_NONE && o < s->g->ops.n; o++)
        n = (uint32_t)(s->g->ops.at[o].tag[pp] + 1) > n ? (uint32_t)(s->g->ops.at[o].tag[pp] + 1) : n;
    return n;
}

static json_t *filter_of(const struct cell *c)
{
    return json_pack("{s:i, s:i, s:s}", "PP", (int)c->stage, "MB", (int)c->mb, "PASS", ir_pass_name(c->pass));
}

static json_t *order_of(const struct cells *cells)
{
    json_t *groups = json_array(), *group = NULL;
    for (uint32_t i = 0; i < cells->n; i++) {
        if (!group)
            group = json_array();
        json_array_append_new(group, filter_of(&cells->at[i]));
        if (!cells->at[i].with_next) {
            json_array_append_new(groups, group);
            group = NULL;
        }
    }
    return json_pack("{s:s, s:o}", "op", "order", "filters", groups);
}

static enum status expand_schedule(struct sched *s, const struct js *js, json_t *out, struct err *e)
{
    const struct schedule_kind *kind;
    struct js v;
    int64_t m;
    TRY(find_schedule(js, &kind, e));
    TRY(js_need(js, "microbatches", &v, e));
    TRY(js_int(&v, 1, IR_NO_MB - 1, &m, e));
    uint32_t stages = count_stages(s), chunks = kind->chunks ? kind->chunks : 1;
    if (stages % chunks)
        return js_wrong(js, e, "%s runs %u stages on each rank, but the model has %u stages", kind->name, chunks, stages);
    uint32_t p = stages / chunks;
    const char *why = kind->refuse ? kind->refuse(p, (uint32_t)m, chunks) : NULL;
    if (why)
        return js_wrong(js, e, "%s with %u pipeline ranks and %lld microbatches: %s", kind->name, p, (long long)m, why);
    json_array_append_new(out, json_pack("{s:s, s:{}, s:s, s:I}", "op", "split", "filter", "dim_name", "MB",
                                         "num_microbatches", (json_int_t)m));
    for (uint32_t r = 0; r < p; r++) {
        struct cells cells = { 0 };
        kind->build(p, (uint32_t)m, chunks, r, &cells);
        json_array_append_new(out, order_of(&cells));
        vec_free(&cells);
    }
    return ST_OK;
}

static const char *const keys[] = { "op", "kind", "microbatches", NULL };
const struct directive_kind directive_schedule = { .name = "schedule", .keys = keys, .expand = expand_schedule };
