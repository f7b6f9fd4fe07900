/* Optimizer steps, with the checksums of what they write, and the norm of gradients: one pass over memory each. AdamW: Loshchilov, Hutter 2019. */
#include <math.h>
#include <string.h>

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

/* One step of elements [i, i + n), which all decay or none do. */
static void step_of(const struct update_args *u, const struct vec_update *c, uint64_t i, size_t n)
{
    const struct vec *v = cpu_vec();
    if (u->opt->kind == OPT_ADAMW)
        v->adamw(c, u->master + i, u->m + i, u->v + i, u->grad + i, n);
    else
        v->sgd(c, u->master + i, u->grad + i, n);
    if (u->compute == IR_BF16)
        v->round((uint16_t *)u->param + i, u->master + i, n);
    else if (u->param != u->master)
        memcpy((float *)u->param + i, u->master + i, n * sizeof *u->master);
}

/* ---- checksums ------------------------------------------------------------------------------------------------ */

struct sums {
    uint64_t of[UPDATE_ARRAYS];
};

static void add_sums(const struct update_args *u, uint32_t arrays, uint64_t i, size_t n, struct sums *s)
{
    const struct vec *v = cpu_vec();
    const bool half = u->compute == IR_BF16;
    const float *const at[UPDATE_ARRAYS] = { u->master, u->m, u->v, half || u->param == u->master ? NULL : u->param };
    for (uint32_t k = 0; k < UPDATE_ARRAYS; k++)
        if (arrays >> k & 1 && at[k])
            s->of[k] += v->bits(at[k] + i, n);
    if (arrays >> UPDATE_PARAM & 1 && half)
        s->of[UPDATE_PARAM] += v->bits_half((const uint16_t *)u->param + i, n);
}

static void judge(const struct update_sums *s, uint32_t stretch, uint32_t arrays, const struct sums *found)
{
    uint32_t bad = 0;
    for (uint32_t k = 0; k < UPDATE_ARRAYS; k++)
        bad |= (uint32_t)(arrays >> k & 1 && found->of[k] != s->sums[stretch][k]) << k;
    if (!bad)
        return;
    s->faults[stretch] |= bad;
#pragma omp atomic write
    *s->any = 1;
}

/* So few elements at a time that they are still in the first cache when their new bits are added up. */
static void update_stretch(const struct update_args *u, const struct vec_update *c, uint32_t stretch)
{
    enum { EACH = 1 << 10 };
    const struct update_stretch *at = &u->sums.at[stretch];
    struct sums was = { { 0 } }, is = { { 0 } };
    for (uint64_t i = at->first; i < at->first + at->count; i += EACH) {
        const uint64_t left = at->first + at->count - i;
        const size_t n = left < EACH ? left : EACH;
        add_sums(u, UPDATE_ALL, i, n, &was);
        step_of(u, c, i, n);
        add_sums(u, UPDATE_ALL, i, n, &is);
    }
    judge(&u->sums, stretch, UPDATE_ALL, &was);
    memcpy(u->sums.sums[stretch], is.of, sizeof is.of);
}

void cpu_checksum(const struct update_args *u, uint32_t arrays, bool check)
{
#pragma omp parallel for schedule(static) num_threads(cpu_team(u->n, 1))
    for (uint32_t i = 0; i < u->sums.n; i++) {
        const struct update_stretch *at = &u->sums.at[i];
        struct sums found = { { 0 } };
        add_sums(u, arrays, at->first, at->count, &found);
        if (check)
            judge(&u->sums, i, arrays, &found);
        for (uint32_t k = 0; !check && k < UPDATE_ARRAYS; k++)
            if (arrays >> k & 1)
                u->sums.sums[i][k] = found.of[k];
    }
}

/* ---- the update ----------------------------------------------------------------------------------------------- */

static void update_plainly(const struct update_args *u, const struct vec_update c[2])
{
    for (int half = 0; half < 2; half++) {
        const uint64_t from = half ? u->n_decay : 0, to = half ? u->n : u->n_decay;
#pragma omp parallel for schedule(static) num_threads(cpu_team(to - from, 1))
        for (uint64_t i = from; i < to; i += PIECE)
            step_of(u, &c[half], i, to - i < PIECE ? to - i : PIECE);
    }
}

void cpu_update(const struct update_args *u, const struct step_inputs *s)
{
    if (s->skip) {
        cpu_checksum(u, UPDATE_ALL, true);
        return;
    }
    struct vec_update c[2] = { constants(u->opt, s) }; /* of what decays, and does not */
    c[1] = c[0];
    c[1].keep = 1;
    c[1].decay = 0;
    if (!u->sums.n) {
        update_plainly(u, c);
        return;
    }
#pragma omp parallel for schedule(static) num_threads(cpu_team(u->n, 1))
    for (uint32_t i = 0; i < u->sums.n; i++)
        update_stretch(u, &c[u->sums.at[i].first >= u->n_decay], i);
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
