/* Optimizer steps and the norm of gradients: one pass over memory each. AdamW: Loshchilov, Hutter 2019. */
#include <math.h>

#include "cpu/cpu.h"

enum { PIECE = 1 << 14, PARTS = 256 };

static struct vec_update constants(const struct optimizer_args *o, const struct step_inputs *s)
{
    const double correct1 = 1 - pow(o->beta1, (double)s->update), correct2 = 1 - pow(o->beta2, (double)s->update);
    return (struct vec_update){
        .grad_scale = (float)s->grad_scale,
        .beta1 = o->beta1,
        .beta2 = o->beta2,
        .rest1 = (float)(1 - (double)o->beta1),
        .rest2 = (float)(1 - (double)o->beta2),
        .step = (float)(o->kind == OPT_ADAMW ? s->lr / correct1 : s->lr),
        .root = (float)(1 / sqrt(correct2)),
        .eps = o->eps,
        .keep = (float)(1 - s->lr * o->weight_decay),
        .decay = o->weight_decay,
    };
}

void cpu_clip(struct step_inputs *s, const double *scalars, double clip_norm, void *stream)
{
    (void)stream;
    const double norm = sqrt(scalars[SCALAR_NORM2]);
    s->skip = s->skip || !isfinite(norm) || !isfinite(scalars[SCALAR_LOSS]) || !isfinite(scalars[SCALAR_AUX]) ||
              scalars[SCALAR_NONFINITE] != 0;
    s->grad_scale = norm > clip_norm ? clip_norm / norm : 1;
}

/* The loads are whole numbers below 2^53, so their mean is compared without rounding: n load and their sum. */
void cpu_balance(const struct balance_args *b, const struct step_inputs *s)
{
    if (s->skip)
        return;
    double sum = 0;
    for (uint32_t e = 0; e < b->experts; e++)
        sum += b->load[e];
    for (uint32_t e = 0; e < b->experts; e++) {
        const double load = b->load[e] * b->experts;
        b->bias[e] += load < sum ? b->rate : load > sum ? -b->rate : 0;
    }
}

void cpu_update(const struct update_args *u, const struct step_inputs *s)
{
    if (s->skip)
        return;
    const struct vec *v = cpu_vec();
    const struct vec_update decaying = constants(u->opt, s);
    struct vec_update plain = decaying;
    plain.keep = 1;
    plain.decay = 0;
    for (int half = 0; half < 2; half++) {
        const uint64_t from = half ? u->n_decay : 0, to = half ? u->n : u->n_decay;
        const struct vec_update *c = half ? &plain : &decaying;
#pragma omp parallel for schedule(static) num_threads(cpu_team(to - from, 1))
        for (uint64_t i = from; i < to; i += PIECE) {
            const size_t n = to - i < PIECE ? to - i : PIECE;
            if (u->opt->kind == OPT_ADAMW)
                v->adamw(c, u->master + i, u->m + i, u->v + i, u->grad + i, n);
            else
                v->sgd(c, u->master + i, u->grad + i, n);
            if (u->compute == IR_BF16)
                v->round((uint16_t *)u->param + i, u->master + i, n);
        }
    }
    if (u->compute != IR_BF16)
        cpu_copy(u->param, u->master, u->n * sizeof *u->master);
}

/* Always PARTS parts, whatever the number of threads. */
void cpu_sumsq(const float *x, uint64_t n, double *sum, double *nonfinite, void *stream)
{
    const struct vec *v = cpu_vec();
    const uint64_t each = round_up((n + PARTS - 1) / PARTS, 1024);
    double part[PARTS] = { 0 }, bad[PARTS] = { 0 };
    (void)stream;
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (size_t i = 0; i < PARTS; i++)
        if (i * each < n)
            part[i] = v->sumsq(x + i * each, n - i * each < each ? n - i * each : each, &bad[i]);
    for (size_t i = 0; i < PARTS; i++) {
        *sum += part[i];
        *nonfinite += bad[i];
    }
}
