#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/model_private.h"

enum { ROWS_MOST = 1 << 22 };

/* Names in order of the alphabet, to find ids by name. */
struct name_index {
    const char **names; /* by id, borrowed */
    uint32_t *sorted;
    uint32_t n;
};

struct model_reader {
    struct ir_graph *g;
    struct arena scratch;
    struct name_index tensors, params, ops;
    const char **strings; /* last string column */
    int64_t *num;         /* last integer column */
    struct err *e;
};

static int compare_names(const void *a, const void *b, void *names)
{
    const char **s = names;
    return strcmp(s[*(const uint32_t *)a], s[*(const uint32_t *)b]);
}

static void index_names(struct name_index *x, struct arena *a, const char **names, uint64_t n)
{
    *x = (struct name_index){ names, arena_array(a, uint32_t, n), (uint32_t)n };
    for (uint32_t i = 0; i < x->n; i++)
        x->sorted[i] = i;
    qsort_r(x->sorted, x->n, sizeof *x->sorted, compare_names, names);
}

static uint32_t find_name(const struct name_index *names, const char *name)
{
    uint32_t lo = 0, hi = names->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int order = strcmp(names->names[names->sorted[mid]], name);
        if (order == 0)
            return names->sorted[mid];
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return IR_NONE;
}

static int word_number(const char *word, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    return -1;
}

static enum status get_names(struct model_reader *r, const struct h5_at *at, const char *column, uint64_t *n)
{
    return h5_get_strings(at, column, n, &r->scratch, &r->strings, r->e);
}

static enum status get_ints(struct model_reader *r, const struct h5_at *at, const char *column, uint64_t n, int64_t lo,
                            int64_t hi)
{
    return h5_get_i64(at, &(struct h5_data){ .name = column, .rank = 1, .dim = { n } }, lo, hi, &r->scratch, &r->num,
                      r->e);
}

/* The first column of a table: its names say how many rows there are. */
static enum status get_keys(struct model_reader *r, const struct h5_at *at, struct name_index *names)
{
    uint64_t n = H5_ANY;
    TRY(get_names(r, at, "name", &n));
    if (n == 0 || n > ROWS_MOST)
        return err_set(r->e, ST_INPUT, at->where, "name: found %" PRIu64 " rows, expected 1 to %d", n, ROWS_MOST);
    for (uint64_t i = 0; i < n; i++)
        r->strings[i] = arena_strdup(&r->g->arena, r->strings[i]);
    index_names(names, &r->scratch, r->strings, n);
    return ST_OK;
}

static enum status get_shapes(struct model_reader *r, const struct h5_at *at, uint64_t n, struct ir_shape *first,
                              size_t stride)
{
    static const enum ir_dtype types[] = { IR_COMPUTE, IR_F32, IR_I32, IR_BF16, IR_F64, IR_BYTE };
    struct h5_data d = { .name = "shape", .rank = 2, .dim = { n, 3 } };
    TRY(h5_get_i64(at, &d, 0, UINT32_MAX, &r->scratch, &r->num, r->e));
    TRY(get_names(r, at, "dtype", &n));
    for (uint64_t i = 0; i < n; i++) {
        struct ir_shape *s = (void *)((char *)first + i * stride);
        size_t t = 0;
        while (t < sizeof types / sizeof types[0] && strcmp(ir_dtype_name(types[t]), r->strings[i]) != 0)
            t++;
        if (t == sizeof types / sizeof types[0])
            return err_set(r->e, ST_INPUT, at->where, "dtype, row %" PRIu64 ": unknown type \"%s\"", i, r->strings[i]);
        s->dtype = (uint8_t)types[t];
        const int64_t *dim = r->num + 3 * i;
        for (s->ndim = 0; s->ndim < 3 && dim[s->ndim]; s->ndim++)
            s->dim[s->ndim] = (uint32_t)dim[s->ndim];
        for (int k = s->ndim; k < 3; k++)
            if (dim[k])
                return err_set(r->e, ST_INPUT, at->where, "shape, row %" PRIu64 ": a dimension after a 0", i);
    }
    return ST_OK;
}

/* Where a column goes: field of the first row, bytes from row to row. */
struct target_field {
    uint32_t *field;
    size_t stride;
};

/* A column of names that refer to another table; "" is IR_NONE. */
static enum status get_references(struct model_reader *r, const struct h5_at *at, const char *column, uint64_t n,
                                  const struct name_index *names, struct target_field to)
{
    TRY(get_names(r, at, column, &n));
    for (uint64_t i = 0; i < n; i++) {
        uint32_t id = r->strings[i][0] ? find_name(names, r->strings[i]) : IR_NONE;
        if (r->strings[i][0] && id == IR_NONE)
            return err_set(r->e, ST_INPUT, at->where, "%s, row %" PRIu64 ": there is no \"%s\"", column, i,
                           r->strings[i]);
        *(uint32_t *)((char *)to.field + i * to.stride) = id;
    }
    return ST_OK;
}

static enum status get_tensors(struct model_reader *r, const struct h5_at *at)
{
    static const char *const known[] = { "name", "shape", "dtype", "producer", "output", NULL };
    struct ir_tensor *t = r->g->tensors.at;
    uint64_t n = r->tensors.n;
    TRY(h5_only(at, known, r->e));
    TRY(get_shapes(r, at, n, &t[0].shape, sizeof *t));
    TRY(get_references(r, at, "producer", n, &r->ops, (struct target_field){ &t[0].producer, sizeof *t }));
    TRY(get_ints(r, at, "output", n, 0, IR_MAX_OUT - 1));
    for (uint64_t i = 0; i < n; i++) {
        t[i].name = r->tensors.names[i];
        t[i].output = (uint8_t)r->num[i];
    }
    return ST_OK;
}

static enum status get_params(struct model_reader *r, const struct h5_at *at)
{
    static const char *const known[] = { "name", "shape", "dtype", "init", "std", NULL };
    struct ir_param *p = r->g->params.at;
    uint64_t n = r->params.n;
    double *std;
    TRY(h5_only(at, known, r->e));
    TRY(get_shapes(r, at, n, &p[0].shape, sizeof *p));
    TRY(h5_get_f64(at, &(struct h5_data){ .name = "std", .rank = 1, .dim = { n } }, &r->scratch, &std, r->e));
    TRY(get_names(r, at, "init", &n));
    for (uint64_t i = 0; i < n; i++) {
        int init = word_number(r->strings[i], model__init_names);
        if (init < 0)
            return err_set(r->e, ST_INPUT, at->where,
                           "init, row %" PRIu64 ": found \"%s\", expected normal, zeros or ones", i, r->strings[i]);
        if (!isfinite(std[i]) || std[i] < 0)
            return err_set(r->e, ST_INPUT, at->where, "std, row %" PRIu64 ": found %g, expected 0 or more", i, std[i]);
        p[i].name = r->params.names[i];
        p[i].init = (uint8_t)init;
        p[i].std = (float)std[i];
    }
    return ST_OK;
}

static enum status get_attr_columns(struct model_reader *r, const struct h5_at *at)
{
    struct ir_node_op *ops = r->g->ops.at;
    uint64_t n = r->g->ops.n;
    for (int k = 0; k < IR_ATTR_COUNT; k++) {
        const struct ir_attr_info *info = &ir_attr_info[k];
        struct h5_data d = { .name = info->name, .rank = 1, .dim = { n } };
        double *real = NULL;
        if (k >= IR_ATTR_ALWAYS && !h5_has(at, info->name))
            continue; /* 0 in all rows */
        if (info->type == 'f')
            TRY(h5_get_f64(at, &d, &r->scratch, &real, r->e));
        else
            TRY(h5_get_i64(at, &d, 0, UINT32_MAX, &r->scratch, &r->num, r->e));
        for (uint64_t i = 0; i < n; i++) {
            char *field = (char *)&ops[i].attrs + info->offset;
            if (info->type == 'f')
                memcpy(field, &(float){ (float)real[i] }, 4);
            else
                memcpy(field, &(uint32_t){ (uint32_t)r->num[i] }, 4);
        }
    }
    return ST_OK;
}

/* The lists of put_freqs(). Their lengths are compared with the operators' attributes by ir_graph_validate(). */
static enum status get_freqs(struct model_reader *r, const struct h5_at *at)
{
    uint64_t n = r->g->ops.n, sum = 0;
    double *all;
    if (!h5_has(at, MODEL_FREQ_COUNT))
        return ST_OK;
    TRY(get_ints(r, at, MODEL_FREQ_COUNT, n, 0, IR_FREQS_MAX));
    for (uint64_t i = 0; i < n; i++)
        sum += (uint64_t)r->num[i];
    TRY(h5_get_f64(at, &(struct h5_data){ .name = MODEL_FREQS, .rank = 1, .dim = { sum } }, &r->scratch, &all, r->e));
    for (uint64_t i = 0; i < n; i++) {
        float list[IR_FREQS_MAX];
        const uint32_t count = (uint32_t)r->num[i];
        for (uint32_t k = 0; k < count; k++)
            list[k] = (float)*all++;
        if (count)
            r->g->ops.at[i].attrs.inv_freq = ir_graph_freqs(r->g, list, count);
    }
    return ST_OK;
}

static enum status get_tag_columns(struct model_reader *r, const struct h5_at *at)
{
    struct ir_graph *g = r->g;
    for (uint32_t i = 0; i < g->ops.n; i++)
        for (int k = 0; k < IR_MAX_TAGS; k++)
            g->ops.at[i].tag[k] = -1;
    for (uint32_t k = 0; k < g->n_tags; k++) {
        char name[MODEL_COLUMN_NAME];
        snprintf(name, sizeof name, "tag.%s", g->tags[k]);
        TRY(get_ints(r, at, name, g->ops.n, -1, INT32_MAX));
        for (uint32_t i = 0; i < g->ops.n; i++)
            g->ops.at[i].tag[k] = (int32_t)r->num[i];
    }
    return ST_OK;
}

/* Every column that the operators' table has: fixed ones, attributes, tags. */
static enum status known_columns(struct model_reader *r, const struct h5_at *at)
{
    static const char *const fixed[] = {
        "name",   "op",     "block",  "in0",    "in1",    "in2",    "out0",           "out1",     "out2",
        "param0", "param1", "param2", "param3", "param4", "param5", MODEL_FREQ_COUNT, MODEL_FREQS
    };
    enum { FIXED = sizeof fixed / sizeof fixed[0] };
    const char *known[FIXED + IR_ATTR_COUNT + IR_MAX_TAGS + 1] = { 0 };
    uint32_t n = FIXED;
    memcpy(known, fixed, sizeof fixed);
    for (int k = 0; k < IR_ATTR_COUNT; k++)
        known[n++] = ir_attr_info[k].name;
    for (uint32_t k = 0; k < r->g->n_tags; k++)
        known[n++] = arena_printf(&r->scratch, "tag.%s", r->g->tags[k]);
    return h5_only(at, known, r->e);
}

static enum status get_operators(struct model_reader *r, const struct h5_at *at)
{
    struct ir_node_op *ops = r->g->ops.at;
    uint64_t n = r->g->ops.n;
    TRY(known_columns(r, at));
    TRY(get_ints(r, at, "block", n, 0, UINT32_MAX));
    for (uint64_t i = 0; i < n; i++)
        ops[i].block = (uint32_t)r->num[i];
    TRY(get_names(r, at, "op", &n));
    for (uint64_t i = 0; i < n; i++) {
        ops[i].name = r->ops.names[i];
        ops[i].op = (uint32_t)ir_op_by_name(r->strings[i]);
        if (ops[i].op >= IR_OP_GRAPH_COUNT)
            return err_set(r->e, ST_INPUT, at->where, "op, row %" PRIu64 ": there is no operator \"%s\"", i,
                           r->strings[i]);
    }
    for (uint64_t i = 0; i < n; i++)
        for (int k = MODEL_INPUTS; k < IR_MAX_IN; k++)
            ops[i].in[k] = IR_NONE;
    for (int k = 0; k < MODEL_INPUTS; k++)
        TRY(get_references(r, at, model__in[k], n, &r->tensors, (struct target_field){ &ops[0].in[k], sizeof *ops }));
    for (int k = 0; k < IR_MAX_OUT; k++)
        TRY(get_references(r, at, model__out[k], n, &r->tensors, (struct target_field){ &ops[0].out[k], sizeof *ops }));
    for (int k = 0; k < IR_MAX_PARAM; k++) {
        for (uint64_t i = 0; i < n; i++)
            ops[i].param[k] = IR_NONE;
        if (k < MODEL_PARAMS_ALWAYS || h5_has(at, model__param[k]))
            TRY(get_references(r, at, model__param[k], n, &r->params,
                               (struct target_field){ &ops[0].param[k], sizeof *ops }));
    }
    TRY(get_attr_columns(r, at));
    TRY(get_freqs(r, at));
    return get_tag_columns(r, at);
}

static enum status get_head(struct model_reader *r, const struct h5_at *model, const char *const *extra)
{
    static const char *const attrs[] = { "family", "seq_len", "vocab", "n_blocks", NULL };
    const char *known[16] = { "tags", "operators", "tensors", "params" };
    uint32_t k = 4;
    for (; extra && *extra; extra++)
        known[k++] = *extra;
    TRY(h5_only(model, known, r->e));
    TRY(h5_only_attrs(model, attrs, r->e));
    TRY(h5_get_attr_text(model, "family", &r->g->arena, &r->g->family, r->e));
    uint64_t x[3] = { 0 };
    for (int i = 0; i < 3; i++)
        TRY(h5_get_attr_u64(model, attrs[1 + i], UINT32_MAX, &x[i], r->e));
    r->g->seq_len = (uint32_t)x[0];
    r->g->vocab = (uint32_t)x[1];
    r->g->n_blocks = (uint32_t)x[2];
    uint64_t n = H5_ANY;
    TRY(get_names(r, model, "tags", &n));
    if (n > IR_MAX_TAGS)
        return err_set(r->e, ST_INPUT, model->where, "found %" PRIu64 " tags, expected at most %d", n, IR_MAX_TAGS);
    for (uint64_t i = 0; i < n; i++) {
        if (strlen(r->strings[i]) + 5 > MODEL_COLUMN_NAME)
            return err_set(r->e, ST_INPUT, model->where, "tag %" PRIu64 " has a name that is too long", i);
        r->g->tags[i] = arena_strdup(&r->g->arena, r->strings[i]);
    }
    r->g->n_tags = (uint32_t)n;
    return ST_OK;
}

static enum status get_all(struct model_reader *r, struct h5_at *model, struct h5_at table[3], const char *const *extra)
{
    TRY(get_head(r, model, extra));
    TRY(h5_group(model, "operators", &table[0], r->e));
    TRY(h5_group(model, "tensors", &table[1], r->e));
    TRY(h5_group(model, "params", &table[2], r->e));
    TRY(get_keys(r, &table[0], &r->ops));
    TRY(get_keys(r, &table[1], &r->tensors));
    TRY(get_keys(r, &table[2], &r->params));
    vec_grow(&r->g->ops, r->ops.n);
    vec_grow(&r->g->tensors, r->tensors.n);
    vec_grow(&r->g->params, r->params.n);
    TRY(get_operators(r, &table[0]));
    TRY(get_tensors(r, &table[1]));
    TRY(get_params(r, &table[2]));
    TRY(ir_graph_validate(r->g, model->where, r->e));
    ir_graph_roles(r->g);
    return ST_OK;
}

enum status model_get(const struct h5_at *at, const char *const *extra, struct ir_graph *g, struct err *e)
{
    struct model_reader r = { .g = g, .e = e };
    struct h5_at model, table[3] = { { .id = -1 }, { .id = -1 }, { .id = -1 } };
    arena_init(&r.scratch);
    ir_graph_init(g);
    enum status st = h5_group(at, "model", &model, e);
    if (st == ST_OK)
        st = get_all(&r, &model, table, extra);
    for (int i = 0; i < 3; i++)
        h5_close(&table[i]);
    h5_close(&model);
    arena_release(&r.scratch);
    if (st != ST_OK)
        ir_graph_release(g);
    return st;
}
