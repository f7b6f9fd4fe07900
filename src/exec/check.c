/* --check-numbers: where did the first number come from that is none? */
#include <math.h>
#include <stdio.h>

#include "base/number.h"
#include "exec/private.h"

struct found {
    uint64_t index;
    double value;
};

static bool bad(const void *data, uint64_t n, enum ir_dtype t, struct found *f)
{
    for (uint64_t i = 0; i < n; i++) {
        double x = t == IR_BF16 ? (double)number_from_bf16(((const uint16_t *)data)[i])
                                : (double)((const float *)data)[i];
        if (!isfinite(x)) {
            *f = (struct found){ i, x };
            return true;
        }
    }
    return false;
}

/* what: "operator ... wrote ... = nan at element 3" */
static void report(struct exec *x, const struct plan_instr *in, const char *what)
{
    char where[EXEC__WHERE], text[768];
    exec__where(x, in, where);
    snprintf(
        text, sizeof text,
        "%s: %s. All earlier values of this rank were finite; a lower learning rate, a longer warm-up or clip_norm "
        "may help",
        where, what);
    if (!x->tell_number)
        process_fail(ST_INPUT, text);
    if (x->told != x->epoch)
        x->tell_number(text);
    x->told = x->epoch;
}

struct written {
    const char *what; /* "an output" */
    const void *at;
    const struct ir_shape *shape;
    uint64_t times; /* so many of the shape */
};

static void check(struct exec *x, const struct plan_instr *in, const struct plan_kernel *k, struct written w)
{
    enum ir_dtype t = w.shape->dtype == IR_COMPUTE ? (enum ir_dtype)x->plan->h->compute : (enum ir_dtype)w.shape->dtype;
    uint64_t n = w.times * ir_shape_elements(w.shape);
    struct found f;
    if (!w.at || (t != IR_F32 && t != IR_BF16))
        return;
    if (!bad(x->machine->read(x, w.at, n * ir_dtype_size(t, t)), n, t, &f))
        return;
    char text[384];
    snprintf(text, sizeof text, "operator %s (%s, kernel %s) wrote %s = %g at element %llu",
             x->graph->ops.at[k->graph_op].name, ir_op_info[k->op].name, ir_pass_name((enum ir_pass)k->pass), w.what,
             f.value, (unsigned long long)f.index);
    report(x, in, text);
}

static bool bad_bucket(const struct exec *x, const struct plan_instr *in, struct found *f)
{
    const struct exec__bucket *b = &x->buckets[in->bucket];
    bool update = in->op == PLAN_UPDATE;
    const void *data = update ? b->update.master : b->norm_grad;
    uint64_t n = update ? b->update.n : b->norm_count;
    return bad(x->machine->read(x, data, n * sizeof(float)), n, IR_F32, f);
}

bool exec__is_finite(const struct exec *x, const struct plan_instr *in)
{
    struct found f;
    return !bad_bucket(x, in, &f);
}

void exec__check_bucket(struct exec *x, const struct plan_instr *in)
{
    struct found f;
    if (!bad_bucket(x, in, &f))
        return;
    char text[160];
    snprintf(text, sizeof text, "%s = %g at element %llu of this rank's part of the bucket",
             in->op == PLAN_UPDATE ? "wrote a parameter" : "the sum of a gradient", f.value,
             (unsigned long long)f.index);
    report(x, in, text);
}

void exec__check_kernel(struct exec *x, const struct plan_instr *in, const struct plan_kernel *k,
                        const struct op_args *a)
{
    const struct exec__kernel *bound = &x->kernels[k - x->plan->kernels];
    const bool later = bound->ring ? in->count < x->plan->programs[in->program].phases : bound->phases && !a->phase;
    if (k->graph_op == PLAN_NONE || later) /* it gives what it has in its last phase */
        return;
    struct ir_op_shapes s;
    ir_op_shapes((enum ir_op)k->op, a->attrs, a->t, &s);
    if (k->pass == IR_PASS_F)
        for (uint32_t i = 0; i < IR_MAX_OUT; i++)
            check(x, in, k, (struct written){ "an output", a->out[i], &s.out[i], a->b });
    if (k->pass == IR_PASS_BI)
        for (uint32_t i = 0; i < IR_MAX_IN; i++)
            check(x, in, k, (struct written){ "the gradient of an input", a->din[i], &s.in[i], a->b });
    if (k->pass == IR_PASS_BW)
        for (uint32_t i = 0; i < IR_MAX_PARAM; i++) {
            s.param[i].dtype = IR_F32;
            if (k->op == IR_OP_EXPERTS && a->ep > 1) /* the stacked experts of this device */
                s.param[i].dim[0] /= a->ep;
            check(x, in, k, (struct written){ "the gradient of a parameter", a->dparam[i], &s.param[i], 1 });
        }
}
