#include <stdio.h>
#include <string.h>

#include "io/model_private.h"

/* One column at a time: strings of the graph picked into a scratch row. */
struct columns {
    const struct ir_graph *g;
    const struct h5_at *at;
    const char **s;
    void *num; /* 4 bytes a row */
    struct err *e;
};

static enum status put_shapes(struct columns *c, uint32_t n, const struct ir_shape *first, size_t stride)
{
    uint32_t *dims = mem_alloc(sizeof *dims * 3 * n);
    for (uint32_t i = 0; i < n; i++) {
        const struct ir_shape *s = (const void *)((const char *)first + i * stride);
        for (uint32_t k = 0; k < s->ndim; k++)
            dims[3 * i + k] = s->dim[k];
        c->s[i] = ir_dtype_name((enum ir_dtype)s->dtype);
    }
    enum status st = h5_put(c->at,
                            &(struct h5_data){ .name = "shape", .units = "elements", .rank = 2, .dim = { n, 3 } },
                            H5_U32, dims, c->e);
    mem_free(dims);
    return st == ST_OK ? h5_put_strings(c->at, "dtype", c->s, n, c->e) : st;
}

static const char *tensor_name(const struct ir_graph *g, uint32_t id)
{
    return id == IR_NONE ? "" : g->tensors.at[id].name;
}

static const char *param_name(const struct ir_graph *g, uint32_t id)
{
    return id == IR_NONE ? "" : g->params.at[id].name;
}

static enum status put_references(struct columns *c)
{
    const struct ir_graph *g = c->g;
    for (int k = 0; k < MODEL_INPUTS; k++) {
        for (uint32_t i = 0; i < g->ops.n; i++)
            c->s[i] = tensor_name(g, g->ops.at[i].in[k]);
        TRY(h5_put_strings(c->at, model__in[k], c->s, g->ops.n, c->e));
    }
    for (int k = 0; k < IR_MAX_OUT; k++) {
        for (uint32_t i = 0; i < g->ops.n; i++)
            c->s[i] = tensor_name(g, g->ops.at[i].out[k]);
        TRY(h5_put_strings(c->at, model__out[k], c->s, g->ops.n, c->e));
    }
    for (int k = 0; k < IR_MAX_PARAM; k++) {
        bool any = k < MODEL_PARAMS_ALWAYS;
        for (uint32_t i = 0; i < g->ops.n; i++) {
            c->s[i] = param_name(g, g->ops.at[i].param[k]);
            any = any || *c->s[i];
        }
        if (!any)
            continue;
        TRY(h5_put_strings(c->at, model__param[k], c->s, g->ops.n, c->e));
    }
    return ST_OK;
}

static enum status put_attr_columns(struct columns *c)
{
    const struct ir_graph *g = c->g;
    for (int k = 0; k < IR_ATTR_COUNT; k++) {
        const struct ir_attr_info *info = &ir_attr_info[k];
        bool any = k < IR_ATTR_ALWAYS;
        for (uint32_t i = 0; i < g->ops.n; i++) {
            memcpy((char *)c->num + 4 * (size_t)i, (const char *)&g->ops.at[i].attrs + info->offset, 4);
            any = any || ((const uint32_t *)c->num)[i] != 0;
        }
        if (!any)
            continue;
        struct h5_data d = { .name = info->name, .rank = 1, .dim = { g->ops.n } };
        TRY(h5_put(c->at, &d, info->type == 'f' ? H5_F32 : H5_U32, c->num, c->e));
    }
    return ST_OK;
}

/* inv_freq_count: of each operator; inv_freq: the lists, one behind the other. Only where a model has one. */
static enum status put_freqs(struct columns *c)
{
    const struct ir_graph *g = c->g;
    uint32_t sum = 0, at = 0;
    for (uint32_t i = 0; i < g->ops.n; i++) {
        const struct ir_freqs *f = g->ops.at[i].attrs.inv_freq;
        sum += ((uint32_t *)c->num)[i] = f ? f->n : 0;
    }
    if (sum == 0)
        return ST_OK;
    float *all = mem_alloc(sizeof *all * sum);
    for (uint32_t i = 0; i < g->ops.n; i++) {
        const struct ir_freqs *f = g->ops.at[i].attrs.inv_freq;
        for (uint32_t k = 0; f && k < f->n; k++)
            all[at++] = f->at[k];
    }
    enum status st = h5_put(c->at, &(struct h5_data){ .name = MODEL_FREQ_COUNT, .rank = 1, .dim = { g->ops.n } },
                            H5_U32, c->num, c->e);
    if (st == ST_OK)
        st = h5_put(c->at, &(struct h5_data){ .name = MODEL_FREQS, .units = "radians", .rank = 1, .dim = { sum } },
                    H5_F32, all, c->e);
    mem_free(all);
    return st;
}

static enum status put_tag_columns(struct columns *c)
{
    const struct ir_graph *g = c->g;
    for (uint32_t k = 0; k < g->n_tags; k++) {
        char name[MODEL_COLUMN_NAME];
        snprintf(name, sizeof name, "tag.%s", g->tags[k]);
        for (uint32_t i = 0; i < g->ops.n; i++)
            ((int32_t *)c->num)[i] = g->ops.at[i].tag[k];
        TRY(h5_put(c->at, &(struct h5_data){ .name = name, .rank = 1, .dim = { g->ops.n } }, H5_I32, c->num, c->e));
    }
    return ST_OK;
}

static enum status put_operators(struct columns *c)
{
    const struct ir_graph *g = c->g;
    for (uint32_t i = 0; i < g->ops.n; i++)
        c->s[i] = g->ops.at[i].name;
    TRY(h5_put_strings(c->at, "name", c->s, g->ops.n, c->e));
    for (uint32_t i = 0; i < g->ops.n; i++)
        c->s[i] = ir_op_info[g->ops.at[i].op].name;
    TRY(h5_put_strings(c->at, "op", c->s, g->ops.n, c->e));
    for (uint32_t i = 0; i < g->ops.n; i++)
        ((uint32_t *)c->num)[i] = g->ops.at[i].block;
    TRY(h5_put(c->at, &(struct h5_data){ .name = "block", .rank = 1, .dim = { g->ops.n } }, H5_U32, c->num, c->e));
    TRY(put_references(c));
    TRY(put_attr_columns(c));
    TRY(put_freqs(c));
    return put_tag_columns(c);
}

static enum status put_tensors(struct columns *c)
{
    const struct ir_graph *g = c->g;
    uint32_t n = g->tensors.n;
    for (uint32_t i = 0; i < n; i++)
        c->s[i] = g->tensors.at[i].name;
    TRY(h5_put_strings(c->at, "name", c->s, n, c->e));
    TRY(put_shapes(c, n, n ? &g->tensors.at[0].shape : NULL, sizeof(struct ir_tensor)));
    for (uint32_t i = 0; i < n; i++) {
        uint32_t p = g->tensors.at[i].producer;
        c->s[i] = p == IR_NONE ? "" : g->ops.at[p].name;
        ((uint32_t *)c->num)[i] = g->tensors.at[i].output;
    }
    TRY(h5_put_strings(c->at, "producer", c->s, n, c->e));
    return h5_put(c->at, &(struct h5_data){ .name = "output", .rank = 1, .dim = { n } }, H5_U32, c->num, c->e);
}

static enum status put_params(struct columns *c)
{
    const struct ir_graph *g = c->g;
    uint32_t n = g->params.n;
    for (uint32_t i = 0; i < n; i++)
        c->s[i] = g->params.at[i].name;
    TRY(h5_put_strings(c->at, "name", c->s, n, c->e));
    TRY(put_shapes(c, n, n ? &g->params.at[0].shape : NULL, sizeof(struct ir_param)));
    for (uint32_t i = 0; i < n; i++) {
        c->s[i] = model__init_names[g->params.at[i].init];
        ((float *)c->num)[i] = g->params.at[i].std;
    }
    TRY(h5_put_strings(c->at, "init", c->s, n, c->e));
    return h5_put(c->at, &(struct h5_data){ .name = "std", .rank = 1, .dim = { n } }, H5_F32, c->num, c->e);
}

static enum status put_table(const struct h5_at *model, const char *name, enum status (*put)(struct columns *),
                             struct columns *c)
{
    struct h5_at group;
    enum status st = h5_make_group(model, name, &group, c->e);
    c->at = &group;
    if (st == ST_OK)
        st = put(c);
    h5_close(&group);
    return st;
}

static enum status put_all(const struct h5_at *model, const struct ir_graph *g, struct columns *c)
{
    TRY(h5_attr_text(model, "family", g->family, c->e));
    TRY(h5_attr_u64(model, "seq_len", g->seq_len, c->e));
    TRY(h5_attr_u64(model, "vocab", g->vocab, c->e));
    TRY(h5_attr_u64(model, "n_blocks", g->n_blocks, c->e));
    TRY(h5_put_strings(model, "tags", g->tags, g->n_tags, c->e));
    TRY(put_table(model, "operators", put_operators, c));
    TRY(put_table(model, "tensors", put_tensors, c));
    return put_table(model, "params", put_params, c);
}

static enum status put_graph(const struct h5_at *at, const struct ir_graph *g, struct err *e)
{
    uint32_t rows = g->ops.n > g->tensors.n ? g->ops.n : g->tensors.n;
    rows = rows > g->params.n ? rows : g->params.n;
    struct columns c = { g, NULL, mem_alloc(sizeof *c.s * rows), mem_alloc(4 * (size_t)rows), e };
    struct h5_at model;
    enum status st = h5_make_group(at, "model", &model, e);
    if (st == ST_OK)
        st = put_all(&model, g, &c);
    h5_close(&model);
    mem_free(c.s);
    mem_free(c.num);
    return st;
}

/* The model's own graph is written, whatever a job and its compiler have made of it. */
enum status model_put(const struct h5_at *at, const struct ir_graph *g, struct err *e)
{
    struct ir_graph own;
    ir_graph_borrow(g, &own);
    enum status st = put_graph(at, &own, e);
    ir_graph_release(&own);
    return st;
}
