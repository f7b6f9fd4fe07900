#include "io/model.h"

#include <string.h>

#include "io/model_private.h"

const char *const model__init_names[] = { "normal", "zeros", "ones", NULL };
const char *const model__in[MODEL_INPUTS] = { "in0", "in1", "in2" };
const char *const model__out[IR_MAX_OUT] = { "out0", "out1", "out2" };
const char *const model__param[IR_MAX_PARAM] = { "param0", "param1", "param2", "param3", "param4", "param5" };

static void hash_shape(struct sha256 *s, const struct ir_shape *shape, uint32_t dtype)
{
    sha256_add_u64(s, dtype | (uint64_t)shape->ndim << 8);
    for (uint32_t k = 0; k < shape->ndim; k++)
        sha256_add_u64(s, shape->dim[k]);
}

static void hash_mathematics(const struct ir_graph *g, struct sha256 *s)
{
    sha256_add_u64(s, (uint64_t)g->ops.n << 32 | g->tensors.n);
    sha256_add_u64(s, g->params.n);
    for (uint32_t i = 0; i < g->tensors.n; i++) {
        sha256_add_text(s, g->tensors.at[i].name);
        hash_shape(s, &g->tensors.at[i].shape, g->tensors.at[i].shape.dtype);
    }
    for (uint32_t i = 0; i < g->params.n; i++) {
        sha256_add_text(s, g->params.at[i].name);
        hash_shape(s, &g->params.at[i].shape, IR_COMPUTE); /* their own type is no mathematics: ir_attr_bits() */
    }
    for (uint32_t i = 0; i < g->ops.n; i++) {
        const struct ir_node_op *o = &g->ops.at[i];
        sha256_add_text(s, o->name);
        sha256_add_text(s, ir_op_info[o->op].name);
        for (int k = 0; k < IR_ATTR_COUNT; k++) {
            const uint32_t bits = ir_attr_bits(&o->attrs, (uint32_t)k);
            if (k >= IR_ATTR_ALWAYS && bits == 0)
                continue;
            sha256_add_text(s, ir_attr_info[k].name);
            sha256_add_u64(s, bits);
        }
        const struct ir_freqs *f = o->attrs.inv_freq;
        if (f)
            sha256_add_text(s, "inv_freq");
        for (uint32_t k = 0; f && k < f->n; k++)
            sha256_add_f64(s, (double)f->at[k]);
        for (int k = 0; k < MODEL_INPUTS; k++)
            sha256_add_u64(s, o->in[k]);
        for (int k = 0; k < IR_MAX_OUT; k++)
            sha256_add_u64(s, o->out[k]);
        for (int k = 0; k < IR_MAX_PARAM && (k < MODEL_PARAMS_ALWAYS || o->param[k] != IR_NONE); k++)
            sha256_add_u64(s, o->param[k]);
    }
}

void model_digest(const struct ir_graph *g, enum ir_dtype compute, uint8_t digest[SHA256_BYTES])
{
    struct sha256 s;
    sha256_init(&s);
    sha256_add_text(&s, "piper model 1");
    sha256_add_text(&s, ir_dtype_name(compute));
    hash_mathematics(g, &s);
    sha256_end(&s, digest);
}

void model_hash_all(const struct ir_graph *g, struct sha256 *s)
{
    hash_mathematics(g, s);
    sha256_add_text(s, g->family);
    sha256_add_u64(s, (uint64_t)g->seq_len << 32 | g->vocab);
    sha256_add_u64(s, (uint64_t)g->n_blocks << 32 | g->n_tags);
    for (uint32_t k = 0; k < g->n_tags; k++)
        sha256_add_text(s, g->tags[k]);
    for (uint32_t i = 0; i < g->tensors.n; i++)
        sha256_add_u64(s, (uint64_t)g->tensors.at[i].producer << 32 | g->tensors.at[i].output);
    for (uint32_t i = 0; i < g->params.n; i++) {
        sha256_add_u64(s, g->params.at[i].init);
        sha256_add_f64(s, (double)g->params.at[i].std);
    }
    for (uint32_t i = 0; i < g->ops.n; i++) {
        sha256_add_u64(s, g->ops.at[i].block);
        for (uint32_t k = 0; k < g->n_tags; k++)
            sha256_add_u64(s, (uint64_t)(int64_t)g->ops.at[i].tag[k]);
    }
}
