/* Filters: which nodes a directive means (piper-strategy(5), FILTERS). */
#include <stdio.h>

#include "base/parse.h"
#include "sched/compile.h"

/* The value `index` and no other. */
struct match filter_index(uint32_t index)
{
    return (struct match){ .mode = MATCH_RANGE, .given = true, .lo = (int32_t)index, .hi = (int32_t)index, .step = 1 };
}

/* "8-15", "0-62:2", "3", "*", "-", 3, null -> match. */
static enum status parse_match(const struct js *v, struct match *m, struct err *e)
{
    static const char accepted[] = "a number, a numeric string, a range \"8-15\" or \"0-62:2\", \"*\", \"-\" or null";
    *m = (struct match){ .mode = MATCH_RANGE, .given = true };
    if (!v->v || json_is_null(v->v)) {
        m->mode = MATCH_NONE;
        return ST_OK;
    }
    if (json_is_string(v->v)) {
        const char *s = json_string_value(v->v);
        struct parse_range r;
        if (!strcmp(s, "*") || !strcmp(s, "-")) {
            m->mode = *s == '*' ? MATCH_ANY : MATCH_NONE;
            return ST_OK;
        }
        if (!parse_range(s, &r) || r.hi > INT32_MAX || r.step > INT32_MAX)
            return js_expected(v, e, "%s", accepted);
        m->lo = (int32_t)r.lo;
        m->hi = (int32_t)r.hi;
        m->step = (int32_t)r.step;
        return ST_OK;
    }
    int64_t x;
    if (!json_is_integer(v->v))
        return js_expected(v, e, "%s", accepted);
    TRY(js_int(v, 0, INT32_MAX, &x, e));
    *m = filter_index((uint32_t)x);
    return ST_OK;
}

static enum status parse_pass(const struct js *v, uint8_t *pass, struct err *e)
{
    const char *s = json_is_string(v->v) ? json_string_value(v->v) : "";
    for (int p = IR_PASS_F; p < IR_PASS_COUNT; p++)
        if (!strcmp(s, ir_pass_name(p))) {
            *pass = (uint8_t)p;
            return ST_OK;
        }
    return js_expected(v, e, "one of \"F\", \"B\", \"BI\", \"BW\"");
}

static enum status parse_key(struct sched *s, const char *key, const struct js *v, struct filter *f, struct err *e)
{
    if (!strcmp(key, "PASS"))
        return parse_pass(v, &f->pass, e);
    if (!strcmp(key, s->mb_name))
        return parse_match(v, &f->mb, e);
    uint32_t tag = ir_graph_find_tag(s->g, key);
    if (tag == IR_NONE) {
        char names[256] = "";
        for (uint32_t i = 0; i < s->g->n_tags; i++)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s, ", s->g->tags[i]);
        return js_wrong(v, e, "the model has no tag \"%s\"; a filter may use %sPASS, %s", key, names, s->mb_name);
    }
    return parse_match(v, &f->tag[tag], e);
}

/* {"PP":0,"MB":1}, or the older form [["PP",0],["MB",1]]. */
enum status filter_parse(struct sched *s, const struct js *js, struct filter *f, struct err *e)
{
    *f = (struct filter){ .pass = IR_PASS_NONE };
    if (json_is_array(js->v)) {
        uint32_t n;
        TRY(js_count(js, &n, e));
        for (uint32_t i = 0; i < n; i++) {
            struct js pair = js_at(js, i), value;
            if (!json_is_array(pair.v) || json_array_size(pair.v) != 2 || !json_is_string(json_array_get(pair.v, 0)))
                return js_expected(&pair, e, "a pair [\"TAG\", index]");
            value = js_at(&pair, 1);
            TRY(parse_key(s, json_string_value(json_array_get(pair.v, 0)), &value, f, e));
        }
        return ST_OK;
    }
    if (!json_is_object(js->v))
        return js_expected(js, e, "a filter: an object {\"PP\":0,...}, or {} for everything");
    const char *key;
    json_t *unused;
    json_object_foreach(js->v, key, unused)
    {
        struct js v = *js;
        v.v = unused;
        snprintf(v.path + strlen(v.path), sizeof v.path - strlen(v.path), ".%s", key);
        TRY(parse_key(s, key, &v, f, e));
    }
    return ST_OK;
}

static bool matches(const struct match *m, int32_t value)
{
    if (!m->given)
        return true;
    switch ((enum match_mode)m->mode) {
    case MATCH_ANY:
        return value >= 0;
    case MATCH_NONE:
        return value < 0;
    case MATCH_RANGE:
        return value >= m->lo && value <= m->hi && (value - m->lo) % m->step == 0;
    }
    return false;
}

bool filter_chunk(const struct sched *s, const struct filter *f, uint32_t chunk)
{
    for (uint32_t i = 0; i < s->g->n_tags; i++)
        if (!matches(&f->tag[i], s->chunks.chunks.at[chunk].tag[i]))
            return false;
    return true;
}

void filter_index_chunks(struct sched *s)
{
    const uint32_t n = s->chunks.chunks.n;
    for (uint32_t t = 0; t < s->g->n_tags; t++) {
        struct tagged_chunks *x = &s->tagged[t];
        for (uint32_t c = 0; c < n; c++)
            if (s->chunks.chunks.at[c].tag[t] >= 0 && (uint32_t)s->chunks.chunks.at[c].tag[t] >= x->n)
                x->n = (uint32_t)s->chunks.chunks.at[c].tag[t] + 1;
        x->first = arena_array(&s->arena, uint32_t, x->n + 2);
        x->chunks = arena_array(&s->arena, uint32_t, n + 1);
        for (uint32_t c = 0; c < n; c++)
            if (s->chunks.chunks.at[c].tag[t] >= 0)
                x->first[s->chunks.chunks.at[c].tag[t] + 2]++;
        for (uint32_t i = 0; i < x->n; i++)
            x->first[i + 2] += x->first[i + 1];
        for (uint32_t c = 0; c < n; c++) /* first[i + 1] goes from the begin of i to its end */
            if (s->chunks.chunks.at[c].tag[t] >= 0)
                x->chunks[x->first[s->chunks.chunks.at[c].tag[t] + 1]++] = c;
    }
    s->all_chunks = arena_array(&s->arena, uint32_t, n + 1);
    for (uint32_t c = 0; c < n; c++)
        s->all_chunks[c] = c;
}

struct chunk_list filter_chunks(const struct sched *s, const struct filter *f)
{
    for (uint32_t t = 0; t < s->g->n_tags; t++) {
        const struct match *m = &f->tag[t];
        const struct tagged_chunks *x = &s->tagged[t];
        if (m->given && m->mode == MATCH_RANGE && m->lo == m->hi && m->lo >= 0 && (uint32_t)m->lo < x->n)
            return (struct chunk_list){ x->chunks + x->first[m->lo], x->first[m->lo + 1] - x->first[m->lo] };
    }
    return (struct chunk_list){ s->all_chunks, s->chunks.chunks.n };
}

bool filter_match(const struct sched *s, const struct filter *f, uint32_t chunk, uint32_t mb, enum ir_pass pass)
{
    return filter_chunk(s, f, chunk) && matches(&f->mb, (int32_t)mb) && (f->pass == IR_PASS_NONE || f->pass == pass);
}

struct mb_range filter_microbatches(const struct sched *s, const struct filter *f)
{
    const uint32_t m = s->microbatches;
    if (f->mb.given && f->mb.mode == MATCH_NONE)
        return (struct mb_range){ 0, 0, 1 };
    if (!f->mb.given || f->mb.mode == MATCH_ANY)
        return (struct mb_range){ 0, m, 1 };
    return (struct mb_range){ (uint32_t)f->mb.lo, (uint32_t)f->mb.hi < m ? (uint32_t)f->mb.hi + 1 : m,
                              (uint32_t)f->mb.step };
}

/* Is there such a pass? Before pass_split nobody knows which backwards are split: any will do. */
static bool exists(const struct sched *s, uint32_t chunk, uint32_t mb, enum ir_pass pass)
{
    if (!s->backward_split || pass == IR_PASS_F)
        return true;
    bool split = s->backward_split[chunk * s->microbatches + mb], pair = pass == IR_PASS_BI || pass == IR_PASS_BW;
    return split == pair;
}

/* Does the filter match a pass that exists? */
static bool matches_some(const struct sched *s, const struct filter *f)
{
    struct mb_range r = filter_microbatches(s, f);
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++)
        for (uint32_t mb = r.first; mb < r.end && filter_chunk(s, f, c); mb += r.step)
            for (int p = IR_PASS_F; p < IR_PASS_COUNT; p++)
                if ((f->pass == IR_PASS_NONE || f->pass == p) && exists(s, c, mb, (enum ir_pass)p))
                    return true;
    return false;
}

enum status filter_check(const struct sched *s, const struct filter *f, const struct js *js, struct err *e)
{
    if (matches_some(s, f))
        return ST_OK;
    char have[1024] = "";
    for (uint32_t c = 0; c < s->chunks.chunks.n && strlen(have) < 400; c++) {
        char one[128];
        chunk_text(s, c, one, sizeof one);
        if (!strstr(have, one))
            snprintf(have + strlen(have), sizeof have - strlen(have), "%s%s", c ? ", " : "", one);
    }
    return js_wrong(
        js, e,
        "this filter matches nothing; the model's chunks are: %s; microbatches 0 to %u, a backward is B, or BI "
        "and BW where an order splits it",
        have, s->microbatches - 1);
}

const char *chunk_text(const struct sched *s, uint32_t chunk, char *text, size_t size)
{
    text[0] = '\0';
    for (uint32_t i = 0; i < s->g->n_tags; i++)
        if (s->chunks.chunks.at[chunk].tag[i] >= 0)
            snprintf(text + strlen(text), size - strlen(text), "%s%s=%d", *text ? " " : "", s->g->tags[i],
                     s->chunks.chunks.at[chunk].tag[i]);
    if (!*text)
        snprintf(text, size, "chunk %u (%s ..)", chunk,
                 s->g->ops.at[s->chunks.ops.at[s->chunks.chunks.at[chunk].first_op]].name);
    return text;
}

const char *node_text(const struct sched *s, const struct ir_dag *d, uint32_t node, char *text, size_t size)
{
    const struct ir_node *n = &d->nodes.at[node];
    if (n->kind == IR_NODE_RUN) {
        chunk_text(s, s->chunks.subs.at[n->what].chunk, text, size);
        snprintf(text + strlen(text), size - strlen(text), " %s=%u %s", s->mb_name, n->mb, ir_pass_name(n->pass));
    } else if (n->kind == IR_NODE_MOVE) {
        snprintf(text, size, "%s of %s %s=%u", d->moves.at[n->what].grad ? "gradient" : "send",
                 s->g->tensors.at[d->moves.at[n->what].tensor].name, s->mb_name, n->mb);
    } else {
        snprintf(text, size, "%s %u", ir_node_kind_name(n->kind), n->what);
    }
    return text;
}
