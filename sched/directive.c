/* The table of directives, and the way from JSON to struct directive: macros are expanded to primitives first, in the
 * order of the list; then every primitive is parsed. */
#include <stdio.h>
#include <stdlib.h>

#include "base/words.h"
#include "sched/passes.h"
#include "ir/family/family.h"

/* A row a directive: primitives, then macros. */
#define KINDS(ROW)     \
    ROW(place)         \
    ROW(replicate)     \
    ROW(shard)         \
    ROW(split)         \
    ROW(order)         \
    ROW(recompute)     \
    ROW(stream)        \
    ROW(layout)        \
    ROW(schedule)      \
    ROW(shard_tensor)  \
    ROW(ring_exchange) \
    ROW(fuse_collectives)
#define DECLARE(kind) extern const struct directive_kind directive_##kind;
#define ADDRESS(kind) &directive_##kind,
KINDS(DECLARE)
const struct directive_kind *const sched_directive_kinds[] = { KINDS(ADDRESS) NULL };

static enum status find_kind(const struct sched *s, const struct js *js, const struct directive_kind **kind,
                             struct err *e)
{
    struct js op;
    const char *name;
    if (!json_is_object(js->v))
        return js_expected(js, e, "a directive: an object with \"op\"");
    TRY(js_need(js, "op", &op, e));
    TRY(js_str(&op, &name, e));
    TRY(reference_answer(s, js, name, e));
    const char *names[16] = { 0 };
    char list[256] = "";
    for (int i = 0; sched_directive_kinds[i]; i++) {
        *kind = sched_directive_kinds[i];
        if (!strcmp((*kind)->name, name))
            return js_only(js, (*kind)->keys, e);
        names[i] = (*kind)->name;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", (*kind)->name);
    }
    char hint[WORDS_HINT];
    return js_wrong(&op, e, "unknown directive \"%s\", known: %s%s", name, list, words_hint(name, names, hint));
}

/* Stages that the strategy names: pp x chunks of layout, and the ends of the model that it spreads; else the highest PP index of any filter, plus one. What is beyond the model is
 * refused where the model is cut; here it must not overflow. */
enum { MOST_STAGES = 1 << 30 };

static int64_t stages_at_most(int64_t n)
{
    return n < MOST_STAGES ? n : MOST_STAGES;
}

static void highest_pp(const json_t *v, int64_t *top)
{
    const json_t *pp = json_is_object(v) ? json_object_get(v, "PP") : NULL;
    if (json_is_array(v) && json_array_size(v) == 2 && json_is_string(json_array_get(v, 0)) &&
        !strcmp(json_string_value(json_array_get(v, 0)), "PP"))
        pp = json_array_get(v, 1);
    if (!pp)
        return;
    int64_t index = 0;
    if (json_is_integer(pp))
        index = json_integer_value(pp);
    else if (json_is_string(pp)) {
        /* what is no index and no range upwards counts as none: the filter's parser answers it */
        const char *text = json_string_value(pp), *dash = strchr(text, '-');
        const int64_t first = strtoll(text, NULL, 10), last = dash ? strtoll(dash + 1, NULL, 10) : first;
        index = dash != text && last >= first ? last : 0;
    }
    index = stages_at_most(index);
    *top = index > *top ? index : *top;
}

static void highest_pp_of_filters(const json_t *v, int64_t *top)
{
    if (json_is_object(v))
        highest_pp(v, top);
    else if (json_is_array(v)) {
        highest_pp(v, top);
        for (size_t i = 0; i < json_array_size(v); i++) { /* filters nest three deep at most: groups, filters, pairs */
            const json_t *w = json_array_get(v, i);
            highest_pp(w, top);
            for (size_t k = 0; json_is_array(w) && k < json_array_size(w); k++) {
                highest_pp(json_array_get(w, k), top);
                const json_t *x = json_array_get(w, k);
                for (size_t j = 0; json_is_array(x) && j < json_array_size(x); j++)
                    highest_pp(json_array_get(x, j), top);
            }
        }
    }
}

static enum status name_stages(struct sched *s, struct err *e)
{
    if (ir_graph_find_tag(s->g, "PP") != IR_NONE)
        return ST_OK;
    int64_t top = -1;
    struct ir_ends ends = { 0 };
    for (size_t i = 0; i < json_array_size(s->in->strategy); i++) {
        const json_t *d = json_array_get(s->in->strategy, i);
        const char *op = json_string_value(json_object_get(d, "op"));
        if (op && !strcmp(op, "layout")) {
            const json_t *pp = json_object_get(d, "pp");
            ends = layout_spread(d);
            const int64_t stages = stages_at_most((json_is_integer(pp) ? stages_at_most(json_integer_value(pp)) : 1) *
                                                  layout_chunks(d)) +
                                   ends.encoder + ends.head;
            top = stages - 1 > top ? stages - 1 : top;
        } else if (op && !strcmp(op, "schedule")) {
            top = top < 0 ? 0 : top;
        }
        highest_pp_of_filters(json_object_get(d, "filter"), &top);
        highest_pp_of_filters(json_object_get(d, "filters"), &top);
    }
    return top < 0 ? ST_OK : ir_graph_cut_stages(s->in->graph, (uint32_t)top + 1, ends, s->in->strategy_name, e);
}

/* A list has one grid and one schedule: of two, one would be without effect or contradict the other. */
static enum status one_of_each_macro(const struct js *list, uint32_t n, struct err *e)
{
    const char *const macros[] = { directive_layout.name, directive_schedule.name };
    for (int k = 0; k < 2; k++)
        for (uint32_t i = 0, seen = 0; i < n; i++) {
            struct js js = js_at(list, i);
            const char *op = json_string_value(json_object_get(js.v, "op"));
            if (op && !strcmp(op, macros[k]) && seen++)
                return js_wrong(&js, e,
                                "found a second \"%s\", expected at most one; write primitive directives for what it "
                                "cannot express",
                                macros[k]);
        }
    return ST_OK;
}

enum status directives_expand(struct sched *s, struct err *e)
{
    struct js list = js_root(s->in->strategy, s->in->strategy_name);
    uint32_t n;
    if (!json_is_array(list.v))
        return js_expected(&list, e, "a list of directives");
    TRY(js_count(&list, &n, e));
    TRY(one_of_each_macro(&list, n, e));
    s->primitives = json_array();
    struct {
        VEC(uint32_t);
    } origin = { 0 };
    enum status st = name_stages(s, e);
    for (uint32_t i = 0; i < n && st == ST_OK; i++) {
        struct js js = js_at(&list, i);
        const struct directive_kind *kind;
        st = find_kind(s, &js, &kind, e);
        if (st == ST_OK && kind->expand)
            st = kind->expand(s, &js, s->primitives, e);
        else if (st == ST_OK)
            json_array_append(s->primitives, js.v);
        while (st == ST_OK && origin.n < json_array_size(s->primitives))
            vec_add(&origin, i);
    }
    s->origin = arena_copy(&s->arena, origin.at, origin.n * sizeof *origin.at);
    vec_free(&origin);
    return st;
}

static enum status parse_row(struct sched *s, const struct js *js, uint32_t number, const struct cells *row,
                             struct err *e)
{
    struct directive d = { .kind = &directive_order, .js = *js, .number = number, .set = IR_NO_SET, .line = row->line };
    TRY(order_of_cells(s, row, s->stages, &d, e));
    vec_add(&s->directives, d);
    return ST_OK;
}

/* The directive if it is a layout, else NULL. */
static const json_t *macro_layout(const json_t *d)
{
    const char *op = json_string_value(json_object_get(d, "op"));
    return op && !strcmp(op, directive_layout.name) ? d : NULL;
}

enum status directives_parse(struct sched *s, struct err *e)
{
    struct js list = js_root(s->primitives, s->in->strategy_name),
              given = js_root(s->in->strategy, s->in->strategy_name);
    uint32_t n = (uint32_t)json_array_size(s->primitives), row = 0;
    /* split first: it names the microbatch tag that the others' filters may use */
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < n; i++) {
            struct js js = js_at(&given, s->origin[i]);
            const struct directive_kind *kind;
            const bool of_macro = js.v != json_array_get(s->primitives, i);
            const json_t *layout = of_macro ? macro_layout(js.v) : NULL;
            if (of_macro) { /* its path is the macro's, with a number where one key does not tell what it came from */
                js = js_at(&list, i);
                snprintf(js.path, sizeof js.path, layout ? "$[%u]" : "$[%u] expanded, directive %u", s->origin[i], i);
            }
            if (json_is_null(js.v)) {
                if (round == 1)
                    TRY(parse_row(s, &js, i, &s->rows.at[row++], e));
                continue;
            }
            TRY(find_kind(s, &js, &kind, e));
            CHECK(kind->parse);
            if ((kind == &directive_split) != (round == 0))
                continue;
            struct directive d = { .kind = kind, .js = js, .number = i, .set = IR_NO_SET, .layout = layout };
            TRY(kind->parse(s, &js, &d, e));
            const char *key = layout ? layout_key(layout, js.v) : NULL;
            if (key)
                snprintf(d.js.path, sizeof d.js.path, "$[%u].%s", s->origin[i], key);
            vec_add(&s->directives, d);
        }
    s->microbatches = s->microbatches ? s->microbatches : 1;
    return ST_OK;
}
