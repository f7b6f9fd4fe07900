#include "speak/model.h"

#include <stdio.h>

#include "base/json.h"
#include "base/number.h"
#include "host/memory_room.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "ir/family/family.h"
#include "ir/target_cpu.h"

/* ---- how each parameter is kept -------------------------------------------------------------------------------- */

static bool is_matrix(const struct ir_node_op *o, uint32_t i)
{
    return cpu_takes_half((enum ir_op)o->op) && ir_op_param_decays((enum ir_op)o->op, i);
}

static bool is_turned(const struct ir_node_op *o, uint32_t i)
{
    return o->op == IR_OP_LINEAR && i == 0 && o->attrs.flags & IR_TRANSPOSED;
}

/* All who read it must take it so. */
static void choose_generate(struct speak_model *m)
{
    for (uint32_t k = 0; k < m->graph.params.n; k++)
        m->params[k] = (struct speak_param){ NULL, m->compute == IR_BF16, true };
    for (uint32_t k = 0; k < m->graph.ops.n; k++) {
        const struct ir_node_op *o = &m->graph.ops.at[k];
        for (uint32_t i = 0; i < ir_op_params((enum ir_op)o->op, &o->attrs); i++) {
            struct speak_param *p = &m->params[o->param[i]];
            p->half = p->half && is_matrix(o, i);
            p->turned = p->turned && is_turned(o, i);
        }
    }
}

/* Then the operators say what is so now. */
static void change_operators(struct speak_model *m)
{
    for (uint32_t k = 0; k < m->graph.ops.n; k++) {
        struct ir_node_op *o = &m->graph.ops.at[k];
        o->attrs.capacity = 0;
        if (o->op == IR_OP_ROUTER) {
            o->attrs.aux_coef = o->attrs.z_coef = 0;
            o->attrs.flags &= ~(uint32_t)IR_SEQUENCE_LOSS;
        }
        if (o->op == IR_OP_LINEAR && m->params[o->param[0]].turned)
            o->attrs.flags &= ~(uint32_t)IR_TRANSPOSED;
    }
}

static void choose_evaluate(struct speak_model *m)
{
    for (uint32_t k = 0; k < m->graph.params.n; k++)
        m->params[k].half = m->compute == IR_BF16 && m->graph.params.at[k].shape.dtype == IR_COMPUTE;
}

enum status speak_model_begin(struct speak_model *m, const struct speak_want *want, const char *from, struct err *e)
{
    m->params = mem_alloc(m->graph.params.n * sizeof *m->params);
    if (want->use == SPEAK_GENERATE)
        choose_generate(m);
    else
        choose_evaluate(m);
    for (uint32_t k = 0; k < m->graph.params.n; k++)
        m->bytes += ir_shape_elements(&m->graph.params.at[k].shape) * (m->params[k].half ? 2 : 4);
    TRY(memory_room_for((double)m->bytes, from, "the parameters", "use a machine with more", e));
    for (uint32_t k = 0; k < m->graph.params.n; k++)
        m->params[k].at = mem_alloc(ir_shape_elements(&m->graph.params.at[k].shape) * (m->params[k].half ? 2 : 4));
    return ST_OK;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static void keep(const struct speak_param *p, uint64_t i, float x)
{
    if (p->half)
        ((uint16_t *)p->at)[i] = number_to_bf16(x);
    else
        ((float *)p->at)[i] = x;
}

/* Column by column, so that what is written lies together. */
static void keep_turned(const struct speak_param *p, const struct ir_shape *s, const struct checkpoint_piece *x)
{
    const uint64_t in = s->dim[0], out = s->dim[1], end = x->first + x->count;
    for (uint64_t c = 0; c < out; c++)
        for (uint64_t r = x->first > c ? (x->first - c + out - 1) / out : 0; r * out + c < end; r++)
            keep(p, c * in + r, x->data[r * out + c - x->first]);
}

enum status speak_model_put(void *self, const struct checkpoint_piece *x, struct err *e)
{
    const struct speak_model *m = self;
    const struct speak_param *p = &m->params[x->param];
    (void)e;
    if (p->turned)
        keep_turned(p, &m->graph.params.at[x->param].shape, x);
    else if (!p->half)
        memcpy((float *)p->at + x->first, x->data, x->count * sizeof(float));
    else
        for (uint64_t i = 0; i < x->count; i++)
            keep(p, x->first + i, x->data[i]);
    return ST_OK;
}

void speak_model_free(struct speak_model *m)
{
    for (uint32_t k = 0; m->params && k < m->graph.params.n; k++)
        mem_free(m->params[k].at);
    mem_free(m->params);
    ir_graph_release(&m->graph);
    *m = (struct speak_model){ 0 };
}

enum status speak_model_end(struct speak_model *m, const struct speak_want *want, enum status st)
{
    if (st != ST_OK)
        speak_model_free(m);
    else if (want->use == SPEAK_GENERATE)
        change_operators(m);
    return st;
}

/* ---- from where -------------------------------------------------------------------------------------------------- */

static enum status read_params(const struct checkpoint_params *from, struct speak_model *m, struct err *e)
{
    const struct checkpoint_sink to = { speak_model_put, m };
    for (uint32_t k = 0; k < m->graph.params.n; k++)
        TRY(checkpoint_params_read(from, k, &to, e));
    return ST_OK;
}

enum status speak_load_checkpoint(const struct dir *in, const char *path, const struct speak_want *want,
                                  struct speak_model *m, struct err *e)
{
    struct checkpoint_params *from;
    *m = (struct speak_model){ 0 };
    TRY(checkpoint_params_open(in, path, &m->graph, &from, e));
    m->compute = want->compute == IR_COMPUTE ? checkpoint_params_compute(from) : want->compute;
    m->step = checkpoint_params_info(from)->step;
    enum status st = speak_model_begin(m, want, path, e);
    if (st == ST_OK)
        st = read_params(from, m, e);
    checkpoint_params_close(from);
    return speak_model_end(m, want, st);
}

uint32_t speak_positions(const struct ir_graph *g)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t k = 0; k < g->ops.n; k++) {
        const struct ir_attrs *a = &g->ops.at[k].attrs;
        if (g->ops.at[k].op == IR_OP_POS_EMBED && a->positions - a->first_position < least)
            least = a->positions - a->first_position;
    }
    return least;
}

/* A table of positions shows in the model for one token. */
static enum status build(const char *folder, uint32_t tokens, struct ir_graph *g, struct err *e)
{
    char path[DIR_PATH];
    json_t *config;
    snprintf(path, sizeof path, "%s/config.json", folder);
    TRY(js_load_file(path, &config, e));
    enum status st = ir_family_build(config, path, 1, g, NULL, e);
    const uint32_t table = st == ST_OK ? speak_positions(g) : 1;
    if (st == ST_OK) {
        ir_graph_release(g);
        ir_graph_init(g);
        st = ir_family_build(config, path, tokens < table ? tokens : table, g, NULL, e);
    }
    json_decref(config);
    return st;
}

enum status speak_load_folder(const char *folder, uint32_t tokens, const struct speak_want *want, struct speak_model *m,
                              struct err *e)
{
    uint32_t extra;
    bool bf16 = false;
    *m = (struct speak_model){ 0 };
    ir_graph_init(&m->graph);
    enum status st = build(folder, tokens, &m->graph, e);
    if (st == ST_OK)
        st = safetensors_look(folder, &bf16, e);
    m->compute = want->compute != IR_COMPUTE ? want->compute : bf16 ? IR_BF16 : IR_F32;
    if (st == ST_OK)
        st = speak_model_begin(m, want, folder, e);
    if (st == ST_OK)
        st = safetensors_load(folder, &m->graph, &(struct checkpoint_sink){ speak_model_put, m }, &extra, e);
    return speak_model_end(m, want, st);
}
