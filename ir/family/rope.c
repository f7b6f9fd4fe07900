#include "ir/family/rope.h"

#include "ir/rope.h"

/* One object of parameters (.v NULL: there is none), and what it says. */
struct scaling {
    const struct hf_model *m;
    struct js o;
    const char *type;
    double partial;
    struct ir_rope r;
};

/* ---- the object ----------------------------------------------------------------------------------------------- */

/* rope_scaling, or rope_parameters, which is its new name. */
static enum status find_object(const struct hf_model *m, struct js *out)
{
    struct js old = hf_get(m, "rope_scaling"), new = hf_get(m, "rope_parameters");
    if (old.v && new.v && !json_equal(old.v, new.v))
        return js_wrong(&old, m->e, "rope_scaling is the old name of rope_parameters: give one of them");
    *out = old.v ? old : new;
    if (out->v && !json_is_object(out->v))
        return js_expected(out, m->e, "an object such as {\"rope_type\": \"default\"}");
    return ST_OK;
}

/* The object of one kind of layer; flat ones are for all, or where a class has two for full layers. */
static enum status choose_kind(const struct hf_model *m, const struct rope_class *c, const char *kind, struct js *o)
{
    const char *const kinds[] = { "full_attention", "sliding_attention", NULL };
    if (!o->v || !(js_has(o, kinds[0]) || js_has(o, kinds[1]))) {
        if (c->by_kind && o->v && o->v == hf_get(m, "rope_parameters").v)
            return js_expected(o, m->e, "an object with full_attention and sliding_attention, as a %s has",
                               m->family->model_type);
        if (c->by_kind && strcmp(kind, "sliding_attention") == 0)
            o->v = NULL;
        return ST_OK;
    }
    if (!c->by_kind)
        return js_wrong(o, m->e, "found parameters by kind of layer, and a %s has one kind of positions",
                        m->family->model_type);
    TRY(js_only(o, kinds, m->e));
    struct js one;
    TRY(js_opt(o, kind, &one, m->e));
    *o = one;
    return ST_OK;
}

static enum status number(const struct scaling *s, const char *key, double dflt, double *out)
{
    *out = dflt;
    return s->o.v ? js_num_or(&s->o, key, 0, 1e30, dflt, out, s->m->e) : ST_OK;
}

static enum status read_type(struct scaling *s)
{
    s->type = "default";
    if (!s->o.v)
        return ST_OK;
    TRY(js_str_or(&s->o, "type", s->type, &s->type, s->m->e));
    return js_str_or(&s->o, "rope_type", s->type, &s->type, s->m->e);
}

/* The top level's value counts where the object has none. */
static enum status read_theta(struct scaling *s, const struct rope_class *c, bool local)
{
    const struct hf_model *m = s->m;
    double theta = c->theta ? c->theta : 10000;
    if (local && c->local_theta)
        TRY(js_num_or(&m->js, c->local_theta, 1e-3, 1e30, c->theta_local, &theta, m->e));
    else
        TRY(js_num_or(&m->js, "rope_theta", 1e-3, 1e30, theta, &theta, m->e));
    TRY(number(s, "rope_theta", theta, &s->r.theta));
    if (s->o.v && js_has(&m->js, "rope_theta") && !local && s->r.theta != theta) {
        struct js v;
        TRY(js_opt(&s->o, "rope_theta", &v, m->e));
        return js_expected(&v, m->e, "the value of rope_theta next to it, %.9g", theta);
    }
    double partial = c->partial ? c->partial : 1;
    TRY(js_num_or(&m->js, "partial_rotary_factor", 0, 1, partial, &partial, m->e));
    TRY(number(s, "partial_rotary_factor", partial, &s->partial));
    if (s->partial > 1 || (!c->partial && s->partial != 1))
        return js_wrong(&s->o, m->e, "partial_rotary_factor is %g, expected %s", s->partial,
                        c->partial ? "at most 1" : "1: the heads of this family turn as a whole");
    return ST_OK;
}

/* ---- kinds of scaling ------------------------------------------------------------------------------------------- */

#define COMMON "rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"
static const char *const keys[][16] = {
    [IR_ROPE_DEFAULT] = { COMMON },
    [IR_ROPE_LINEAR] = { COMMON, "factor" },
    [IR_ROPE_DYNAMIC] = { COMMON, "factor" },
    [IR_ROPE_LLAMA3] = { COMMON, "factor", "low_freq_factor", "high_freq_factor" },
    [IR_ROPE_YARN] = { COMMON, "factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
                       "truncate", "finetuned" },
    [IR_ROPE_LONGROPE] = { COMMON, "factor", "attention_factor", "short_factor", "long_factor" },
};

static enum status read_kind(struct scaling *s, bool longrope)
{
    if (longrope && (strcmp(s->type, "su") == 0 || strcmp(s->type, "yarn") == 0))
        s->type = "longrope";
    const uint32_t kind = ir_rope_kind_by_name(s->type);
    s->r.kind = (enum ir_rope_kind)kind;
    if (kind <= IR_ROPE_LONGROPE)
        return js_only(&s->o, keys[kind], s->m->e);
    struct js v;
    TRY(js_opt(&s->o, js_has(&s->o, "rope_type") ? "rope_type" : "type", &v, s->m->e));
    return js_expected(&v, s->m->e, "default, linear, dynamic, llama3, yarn or longrope");
}

static enum status read_list(const struct scaling *s, const char *key, const double **out)
{
    struct js list, v;
    uint32_t n;
    TRY(js_need(&s->o, key, &list, s->m->e));
    TRY(js_count(&list, &n, s->m->e));
    if (n != s->r.dim / 2)
        return js_wrong(&list, s->m->e, "found %u factors, expected one for each of the %u pairs of a head", n,
                        s->r.dim / 2);
    double *at = arena_array(&s->m->g->arena, double, n);
    for (uint32_t i = 0; i < n; i++) {
        v = js_at(&list, i);
        TRY(js_num(&v, 0, 1e30, &at[i], s->m->e));
    }
    *out = at;
    return ST_OK;
}

/* at_top: original_max_position_embeddings stands beside the object, or in it. */
static enum status read_numbers(struct scaling *s, bool at_top)
{
    struct ir_rope *r = &s->r;
    const struct {
        const char *key;
        double *to;
    } numbers[] = {
        { "factor", &r->factor },
        { "low_freq_factor", &r->low_freq_factor },
        { "high_freq_factor", &r->high_freq_factor },
        { "beta_fast", &r->beta_fast },
        { "beta_slow", &r->beta_slow },
        { "attention_factor", &r->attention_factor },
        { "mscale", &r->mscale },
        { "mscale_all_dim", &r->mscale_all_dim },
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        TRY(number(s, numbers[i].key, 0, numbers[i].to));
    bool truncate;
    TRY(js_bool_or(&s->o, "truncate", true, &truncate, s->m->e));
    r->no_truncate = !truncate;
    r->max_positions = s->m->c.max_position_embeddings;
    const struct js *o = at_top && js_has(&s->m->js, "original_max_position_embeddings") ? &s->m->js : &s->o;
    TRY(js_num_or(o, "original_max_position_embeddings", 1, INT32_MAX, r->max_positions, &r->original, s->m->e));
    if (r->kind != IR_ROPE_LONGROPE)
        return ST_OK;
    TRY(read_list(s, "short_factor", &r->short_factor));
    return read_list(s, "long_factor", &r->long_factor);
}

static enum status apply(struct scaling *s, const struct rope_class *c, struct rope *out)
{
    const struct hf_model *m = s->m;
    TRY(read_kind(s, c->longrope));
    if (s->r.kind == IR_ROPE_DEFAULT)
        return ST_OK;
    TRY(read_numbers(s, c->longrope));
    float *f = arena_array(&m->g->arena, float, s->r.dim / 2);
    double scale;
    const char *wrong = ir_rope_frequencies(&s->r, m->g->seq_len, f, &scale);
    if (wrong)
        return js_wrong(&s->o, m->e, "%s", wrong);
    const double factor = s->r.factor > 0 ? s->r.factor : s->r.max_positions / s->r.original;
    out->theta = 0;
    out->inv_freq = ir_graph_freqs(m->g, f, s->r.dim / 2);
    out->scale = (float)scale;
    out->mscale = s->r.mscale_all_dim != 0 ? ir_rope_mscale(factor, s->r.mscale_all_dim) : 1;
    return ST_OK;
}

/* What the configuration has, or the class where it has nothing; *dflt keeps that alive. */
static enum status open_object(struct scaling *s, const struct rope_class *c, const char *kind, json_t **dflt)
{
    TRY(find_object(s->m, &s->o));
    if (!s->o.v && c->unless_given) {
        *dflt = json_loads(c->unless_given, 0, NULL);
        CHECK(*dflt);
        s->o = js_root(*dflt, s->m->js.file);
    }
    TRY(choose_kind(s->m, c, kind, &s->o));
    TRY(read_type(s));
    return read_theta(s, c, strcmp(kind, "sliding_attention") == 0);
}

enum status rope_read(const struct hf_model *m, const struct rope_class *c, const char *kind, uint32_t width,
                      struct rope *out)
{
    struct scaling s = { .m = m };
    json_t *dflt = NULL;
    enum status st = open_object(&s, c, kind, &dflt);
    s.r.dim = c->rotary ? c->rotary : (uint32_t)(width * s.partial);
    if (st == ST_OK && (s.r.dim == 0 || s.r.dim % 2 != 0 || s.r.dim / 2 > IR_FREQS_MAX))
        st = js_wrong(&m->js, m->e,
                      "rotary positions take %u of the %u elements of a head, expected an even number from 2 to %d",
                      s.r.dim, width, 2 * IR_FREQS_MAX);
    *out = (struct rope){ .rotary = s.r.dim, .theta = (float)s.r.theta, .scale = 1, .mscale = 1 };
    if (st == ST_OK && s.o.v)
        st = apply(&s, c, out);
    json_decref(dflt);
    return st;
}
