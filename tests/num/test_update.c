/* Optimizer steps and the sum of squares against float64, on sizes around the pieces that threads take. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "num/machine.h"

static const size_t sizes[] = { 0, 1, 15, 1000, 16384, 50001 };
enum { SIZES = sizeof sizes / sizeof *sizes, STEPS = 5 };

struct state {
    struct guarded master, m, v, grad, param;
    double *p, *dm, *dv; /* the oracle's */
    size_t n;
};

static struct state state_new(size_t n, uint64_t seed)
{
    struct rng r = { seed };
    struct state s = { machine_buffer(machine, n * 4),
                       machine_buffer(machine, n * 4),
                       machine_buffer(machine, n * 4),
                       machine_buffer(machine, n * 4),
                       machine_buffer(machine, n * ir_dtype_size(machine->compute, machine->compute)),
                       mem_alloc(n * 8),
                       mem_alloc(n * 8),
                       mem_alloc(n * 8),
                       n };
    for (size_t i = 0; i < n; i++) {
        s.p[i] = ((float *)s.master.at)[i] = (float)rng_normal(&r);
        ((float *)s.m.at)[i] = ((float *)s.v.at)[i] = 0;
    }
    return s;
}

static void state_free(struct state *s)
{
    struct guarded *all[] = { &s->master, &s->m, &s->v, &s->grad, &s->param };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        ck_assert(guarded_intact(all[i]));
        machine_free(machine, all[i]);
    }
    mem_free(s->p);
    mem_free(s->dm);
    mem_free(s->dv);
}

/* Runs an update on elements [first, first + n) of the state. */
static void update(struct state *s, struct update_args *u, const struct step_inputs *in, size_t first, bool separate)
{
    struct guarded *all[] = { &s->master, &s->m, &s->v, &s->grad, &s->param };
    struct guarded inputs = machine_buffer(machine, sizeof *in);
    const bool adam = u->opt->kind == OPT_ADAMW;
    memcpy(inputs.at, in, sizeof *in);
    machine_put(machine, &inputs);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        machine_put(machine, all[i]);
    u->master = (float *)s->master.device + first;
    u->m = adam ? (float *)s->m.device + first : NULL;
    u->v = adam ? (float *)s->v.device + first : NULL;
    u->grad = (float *)s->grad.device + first;
    u->param = separate ? (unsigned char *)s->param.device + first * ir_dtype_size(machine->compute, machine->compute)
                        : (void *)u->master;
    u->compute = machine->compute;
    u->stream = machine->stream;
    machine->backend->update(u, inputs.device);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        machine_get(machine, all[i]);
    machine_free(machine, &inputs);
}

static void oracle_step(struct state *s, const struct optimizer_args *o, const struct step_inputs *in, size_t n_decay)
{
    for (size_t i = 0; i < s->n; i++) {
        const double g = ((float *)s->grad.at)[i] * in->grad_scale, wd = i < n_decay ? o->weight_decay : 0;
        if (o->kind == OPT_SGD) {
            s->p[i] -= in->lr * (g + wd * s->p[i]);
            continue;
        }
        s->dm[i] = o->beta1 * s->dm[i] + (1 - (double)o->beta1) * g;
        s->dv[i] = o->beta2 * s->dv[i] + (1 - (double)o->beta2) * g * g;
        const double m = s->dm[i] / (1 - pow(o->beta1, (double)in->update));
        const double v = s->dv[i] / (1 - pow(o->beta2, (double)in->update));
        s->p[i] -= in->lr * (m / (sqrt(v) + o->eps) + wd * s->p[i]);
    }
}

/* separate: the compute copy is not the master. */
static void train(const struct optimizer_args *o, size_t n, size_t n_decay, bool separate, struct guarded *result)
{
    struct state s = state_new(n, n + 1);
    struct rng r = { n };
    struct update_args u = { .opt = o, .n = n, .n_decay = n_decay };
    separate = separate || machine->compute != IR_F32;
    for (uint64_t step = 1; step <= STEPS; step++) {
        const struct step_inputs in = { .lr = 0.01 * (double)step, .grad_scale = 0.5, .update = step };
        for (size_t i = 0; i < n; i++)
            ((float *)s.grad.at)[i] = i % 7 == 3 ? 0 : (float)rng_normal(&r);
        oracle_step(&s, o, &in, n_decay);
        if (machine->order)
            machine->order(step % 2 == 0);
        update(&s, &u, &in, 0, separate);
    }
    ck_assert_msg(worst_error(s.master.at, s.p, n, 0.01) < 2e-6, "%s: n=%zu decay=%zu", machine->name, n, n_decay);
    for (size_t i = 0; i < n && separate; i++)
        ck_assert(element(&s.param, machine->compute, i) == rounded(machine->compute, ((float *)s.master.at)[i]));
    if (result)
        memcpy(result->at, s.master.at, n * 4);
    state_free(&s);
}

START_TEST(optimizers)
{
    static const struct optimizer_args kinds[] = {
        { OPT_ADAMW, 0.9f, 0.95f, 1e-8f, 0.1f },
        { OPT_ADAMW, 0.9f, 0.999f, 1e-3f, 0 },
        { OPT_SGD, 0, 0, 0, 0.1f },
        { OPT_SGD, 0, 0, 0, 0 },
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; i < SIZES; i++) {
            train(&kinds[k], sizes[i], sizes[i], false, NULL);
            train(&kinds[k], sizes[i], sizes[i] / 3, true, NULL);
            train(&kinds[k], sizes[i], 0, false, NULL);
        }
}
END_TEST

/* The bits of a step do not depend on threads, nor on where a shard begins. */
START_TEST(same_bits)
{
    static const struct optimizer_args adam = { OPT_ADAMW, 0.9f, 0.95f, 1e-8f, 0.1f };
    enum { N = 50001, SHORT = 100 };
    struct guarded one = guarded_new(N * 4), many = guarded_new(N * 4);
    if (machine->backend->set_threads)
        machine->backend->set_threads(1);
    train(&adam, N, N / 2, false, &one);
    if (machine->backend->set_threads)
        machine->backend->set_threads(3);
    train(&adam, N, N / 2, false, &many);
    ck_assert(memcmp(one.at, many.at, N * 4) == 0);
    guarded_free(&one);
    guarded_free(&many);

    struct state whole = state_new(SHORT, 5), parts = state_new(SHORT, 5);
    const struct step_inputs in = { .lr = 0.01, .grad_scale = 0.7, .update = 3 };
    struct update_args u = { .opt = &adam, .n = SHORT, .n_decay = SHORT };
    for (size_t i = 0; i < SHORT; i++)
        ((float *)whole.grad.at)[i] = ((float *)parts.grad.at)[i] = (float)i * 0.37f - 9;
    update(&whole, &u, &in, 0, true);
    for (size_t i = 0; i < SHORT; i += 7) {
        u.n = u.n_decay = SHORT - i < 7 ? SHORT - i : 7;
        update(&parts, &u, &in, i, true);
    }
    ck_assert(memcmp(whole.master.at, parts.master.at, SHORT * 4) == 0);
    ck_assert(memcmp(whole.v.at, parts.v.at, SHORT * 4) == 0);
    ck_assert(memcmp(whole.param.at, parts.param.at, parts.param.bytes) == 0);
    state_free(&whole);
    state_free(&parts);
}
END_TEST

/* A step whose norm is no number changes nothing. */
START_TEST(skipped)
{
    static const struct optimizer_args adam = { OPT_ADAMW, 0.9f, 0.95f, 1e-8f, 0.1f };
    enum { N = 1000 };
    struct state s = state_new(N, 3), before = state_new(N, 3);
    const struct step_inputs in = { .lr = 0.01, .grad_scale = NAN, .update = 2, .skip = 1 };
    struct update_args u = { .opt = &adam, .n = N, .n_decay = N };
    update(&s, &u, &in, 0, true);
    ck_assert(memcmp(s.master.at, before.master.at, N * 4) == 0 && memcmp(s.m.at, before.m.at, N * 4) == 0);
    state_free(&s);
    state_free(&before);
}
END_TEST

/* ---- checksums ------------------------------------------------------------------------------------------------ */

struct checked {
    struct state s;
    struct guarded at, sums, faults; /* faults: then any */
    struct update_args u;
    uint32_t n;
};

/* Stretches that begin anywhere: at n_decay, and after 1, 700, 1400, ... elements. */
static struct checked checked_new(const struct optimizer_args *o, size_t n, size_t n_decay)
{
    struct update_stretch at[64];
    uint32_t count = 0;
    for (size_t i = 0, end; i < n; i = end) {
        end = i == 0 ? 1 : i - i % 700 + 700;
        end = end > n ? n : end;
        end = i < n_decay && end > n_decay ? n_decay : end;
        ck_assert_uint_lt(count, 64);
        at[count++] = (struct update_stretch){ i, (uint32_t)(end - i), IR_NONE };
    }
    struct checked c = { state_new(n, n),
                         machine_buffer(machine, count * sizeof *at),
                         machine_buffer(machine, count * sizeof(uint64_t[UPDATE_ARRAYS])),
                         machine_buffer(machine, (count + 1) * sizeof(uint32_t)),
                         { .opt = o, .n = n, .n_decay = n_decay },
                         count };
    memcpy(c.at.at, at, c.at.bytes);
    memset(c.faults.at, 0, c.faults.bytes);
    machine_put(machine, &c.at);
    machine_put(machine, &c.sums);
    machine_put(machine, &c.faults);
    for (size_t i = 0; i < n; i++) {
        ((float *)c.s.grad.at)[i] = (float)i * 0.37f - 9;
        set_element(&c.s.param, machine->compute, i, (double)((float *)c.s.master.at)[i]);
    }
    c.u.sums = (struct update_sums){ .n = count,
                                     .at = c.at.device,
                                     .sums = c.sums.device,
                                     .faults = c.faults.device,
                                     .any = (uint32_t *)c.faults.device + count };
    return c;
}

static void checked_free(struct checked *c)
{
    struct guarded *all[] = { &c->at, &c->sums, &c->faults };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        ck_assert(guarded_intact(all[i]));
        machine_free(machine, all[i]);
    }
    state_free(&c->s);
}

/* One pass over the state: an update, or a skipped one; or the sums alone are taken or compared. */
enum pass { STEP, SKIP, TAKE, CHECK };
static void run_pass(struct checked *c, enum pass pass, bool separate)
{
    const struct step_inputs in = { .lr = 0.01, .grad_scale = 0.7, .update = 3, .skip = pass == SKIP };
    struct guarded *all[] = { &c->s.master, &c->s.m, &c->s.v, &c->s.param };
    if (pass == STEP || pass == SKIP) {
        update(&c->s, &c->u, &in, 0, separate);
    } else {
        struct update_args nothing = c->u; /* sets the pointers */
        nothing.n = nothing.n_decay = nothing.sums.n = 0;
        update(&c->s, &nothing, &in, 0, separate);
        nothing.n = c->u.n;
        nothing.sums.n = c->u.sums.n;
        machine->backend->checksum(&nothing, UPDATE_ALL, pass == CHECK);
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            machine_get(machine, all[i]);
    }
    machine_get(machine, &c->sums);
    machine_get(machine, &c->faults);
}

static uint64_t sum_of(const struct checked *c, uint32_t stretch, uint32_t array, bool separate)
{
    const struct guarded *const at[] = { &c->s.master, &c->s.m, &c->s.v, &c->s.param };
    const bool adam = c->u.opt->kind == OPT_ADAMW, half = array == UPDATE_PARAM && machine->compute == IR_BF16;
    const struct update_stretch *s = (const struct update_stretch *)c->at.at + stretch;
    uint64_t sum = 0;
    if (array == UPDATE_PARAM ? !separate : array != UPDATE_MASTER && !adam)
        return 0;
    for (uint64_t i = s->first; i < s->first + s->count; i++)
        sum += half ? ((const uint16_t *)at[array]->at)[i] : ((const uint32_t *)at[array]->at)[i];
    return sum;
}

static void sums_are_right(const struct checked *c, bool separate)
{
    for (uint32_t i = 0; i < c->n; i++)
        for (uint32_t k = 0; k < UPDATE_ARRAYS; k++)
            ck_assert_uint_eq(((uint64_t(*)[UPDATE_ARRAYS])c->sums.at)[i][k], sum_of(c, i, k, separate));
}

/* The stretches with faults, of one array: 1 where element i lies, if it is one of n. */
static void faults_are(const struct checked *c, uint64_t i, uint32_t array)
{
    const uint32_t *faults = c->faults.at;
    for (uint32_t k = 0; k < c->n; k++) {
        const struct update_stretch *s = (const struct update_stretch *)c->at.at + k;
        ck_assert_uint_eq(faults[k], i >= s->first && i - s->first < s->count ? 1u << array : 0);
    }
    ck_assert_uint_eq(faults[c->n], i < c->u.n);
}

static void flip_bit(const struct guarded *g, uint32_t bytes, uint64_t element, uint32_t bit)
{
    ((unsigned char *)g->at)[element * bytes + bit / 8] ^= (unsigned char)(1u << bit % 8);
}

/* One bit of one element changes between two passes: the second one finds it, whichever it is. */
static void flipped(const struct optimizer_args *o, size_t n, bool separate, struct rng *r)
{
    static const enum pass passes[] = { STEP, SKIP, CHECK };
    const uint32_t arrays = o->kind == OPT_ADAMW ? 4 : 1;
    for (uint32_t array = 0; array < arrays; array++)
        for (int p = 0; p < 3; p++) {
            struct checked c = checked_new(o, n, n / 3);
            const struct guarded *const at[] = { &c.s.master, &c.s.m, &c.s.v, &c.s.param };
            const uint32_t bytes = array == UPDATE_PARAM ? ir_dtype_size(machine->compute, machine->compute) : 4;
            const uint64_t element = rng_next(r) % n;
            run_pass(&c, TAKE, separate);
            run_pass(&c, STEP, separate);
            if (array == UPDATE_PARAM && !separate) {
                checked_free(&c);
                continue;
            }
            flip_bit(at[array], bytes, element, (uint32_t)(rng_next(r) % (8 * bytes)));
            run_pass(&c, passes[p], separate);
            faults_are(&c, element, array);
            checked_free(&c);
        }
}

/* Parameters alone, which no update has: frozen ones beside what the rank has state of. */
static void alone(size_t n, struct rng *r)
{
    static const struct optimizer_args none = { .kind = OPT_SGD };
    const uint32_t bytes = ir_dtype_size(machine->compute, machine->compute), array = 1u << UPDATE_PARAM;
    const uint64_t element = rng_next(r) % n;
    struct checked c = checked_new(&none, n, n / 3);
    machine_put(machine, &c.s.param);
    c.u.param = c.s.param.device;
    c.u.compute = machine->compute;
    c.u.stream = machine->stream;
    machine->backend->checksum(&c.u, array, false);
    machine->backend->checksum(&c.u, array, true);
    machine_get(machine, &c.faults);
    faults_are(&c, n, UPDATE_PARAM);
    flip_bit(&c.s.param, bytes, element, (uint32_t)(rng_next(r) % (8 * bytes)));
    machine_put(machine, &c.s.param);
    machine->backend->checksum(&c.u, array, true);
    machine_get(machine, &c.faults);
    faults_are(&c, element, UPDATE_PARAM);
    checked_free(&c);
}

/* The bits of an update are those of one without checksums; the sums are of what it leaves. */
static void summed(const struct optimizer_args *o, size_t n, bool separate)
{
    struct checked c = checked_new(o, n, n / 3), plain = checked_new(o, n, n / 3);
    plain.u.sums.n = 0;
    run_pass(&c, TAKE, separate);
    sums_are_right(&c, separate);
    for (int i = 0; i < 3; i++) {
        run_pass(&c, i == 1 ? SKIP : STEP, separate);
        run_pass(&plain, i == 1 ? SKIP : STEP, separate);
        sums_are_right(&c, separate);
    }
    run_pass(&c, CHECK, separate);
    faults_are(&c, n, 0);
    ck_assert(memcmp(c.s.master.at, plain.s.master.at, n * 4) == 0 && memcmp(c.s.m.at, plain.s.m.at, n * 4) == 0);
    ck_assert(memcmp(c.s.v.at, plain.s.v.at, n * 4) == 0 &&
              memcmp(c.s.param.at, plain.s.param.at, c.s.param.bytes) == 0);
    checked_free(&c);
    checked_free(&plain);
}

START_TEST(checksums)
{
    static const struct optimizer_args kinds[] = { { OPT_ADAMW, 0.9f, 0.95f, 1e-8f, 0.1f },
                                                   { OPT_SGD, 0, 0, 0, 0.1f } };
    static const size_t lengths[] = { 1, 1000, 20001 };
    struct rng r = { 20 };
    if (!machine->backend->checksum)
        return;
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < 3; i++)
            for (int separate = machine->compute != IR_F32; separate < 2; separate++) {
                summed(&kinds[k], lengths[i], separate);
                flipped(&kinds[k], lengths[i], separate, &r);
            }
    for (size_t i = 0; i < 3; i++)
        alone(lengths[i], &r);
}
END_TEST

/* sums[0] += squares, sums[1] += count of what is not finite. */
static void sumsq(const struct guarded *x, size_t n, double sums[2])
{
    struct guarded g = machine_buffer(machine, 2 * sizeof *sums);
    double *device = g.device;
    memcpy(g.at, sums, g.bytes);
    machine_put(machine, x);
    machine_put(machine, &g);
    machine->backend->sumsq(x->device, n, device, device + 1, machine->stream);
    machine_get(machine, x);
    machine_get(machine, &g);
    memcpy(sums, g.at, g.bytes);
    ck_assert(guarded_intact(&g));
    machine_free(machine, &g);
}

START_TEST(squares)
{
    for (size_t i = 0; i < SIZES; i++) {
        const size_t n = sizes[i];
        struct guarded x = machine_buffer(machine, n * 4);
        struct rng r = { i };
        double want = 0, bits = 0;
        for (size_t k = 0; k < n; k++) {
            const float value = ((float *)x.at)[k] = (float)rng_normal(&r) * 1e20f; /* squares beyond float32 */
            want += (double)value * value;
        }
        for (int threads = 1; threads <= 4; threads++) {
            double sums[2] = { 1e30, 2 };
            if (machine->backend->set_threads)
                machine->backend->set_threads(threads);
            if (machine->order)
                machine->order(threads % 2);
            sumsq(&x, n, sums);
            ck_assert(fabs(sums[0] - 1e30 - want) <= 1e-12 * (want + 1e30) && sums[1] == 2);
            ck_assert(threads == 1 || sums[0] == bits);
            bits = sums[0];
        }
        if (n > 2) {
            double sums[2] = { 0, 0 };
            ((float *)x.at)[n - 1] = INFINITY;
            ((float *)x.at)[n / 2] = NAN;
            sumsq(&x, n, sums);
            ck_assert(sums[1] == 2 && !isfinite(sums[0]));
        }
        ck_assert(guarded_intact(&x));
        machine_free(machine, &x);
    }
}
END_TEST

/* Clipping to 3 where the squares sum to `norm2` and another of the step's sums is `value`. */
static struct step_inputs clip_with(double norm2, enum scalar which, double value)
{
    struct guarded inputs = machine_buffer(machine, sizeof(struct step_inputs));
    struct guarded scalars = machine_buffer(machine, SCALAR_COUNT * sizeof(double));
    memset(inputs.at, 0, inputs.bytes); /* not skipped already */
    memset(scalars.at, 0, scalars.bytes);
    ((double *)scalars.at)[which] = value;
    ((double *)scalars.at)[SCALAR_NORM2] = norm2;
    machine_put(machine, &inputs);
    machine_put(machine, &scalars);
    machine->backend->clip(inputs.device, scalars.device, 3, machine->stream);
    machine_get(machine, &inputs);
    struct step_inputs s;
    memcpy(&s, inputs.at, sizeof s);
    machine_free(machine, &inputs);
    machine_free(machine, &scalars);
    return s;
}

static struct step_inputs clip(double norm2)
{
    return clip_with(norm2, SCALAR_LOSS, 1);
}

START_TEST(clipping)
{
    ck_assert(clip(36).grad_scale == 0.5 && !clip(36).skip);
    ck_assert(clip(4).grad_scale == 1 && clip(0).grad_scale == 1);
    ck_assert(clip(NAN).skip && clip(INFINITY).skip && !clip(1e300).skip);
    ck_assert(clip_with(4, SCALAR_LOSS, NAN).skip && clip_with(4, SCALAR_LOSS, INFINITY).skip);
    ck_assert(clip_with(4, SCALAR_AUX, NAN).skip && clip_with(4, SCALAR_NONFINITE, 1).skip);
    ck_assert(!clip_with(4, SCALAR_AUX, 1).skip && !clip_with(4, SCALAR_DROPPED, 7).skip);
}
END_TEST

/* Below the mean up, above it down, at it as it was; a skipped step moves nothing. The mean of 1, 2 and 5 is no float32. */
START_TEST(balance)
{
    const double loads[2][3] = { { 1, 2, 5 }, { 4, 6, 5 } };
    const float want[2][3] = { { 0.26f, 0.26f, 0.24f }, { 0.26f, 0.24f, 0.25f } };
    if (!machine->backend->balance)
        return;
    for (uint32_t skip = 0; skip < 2; skip++)
        for (int k = 0; k < 2; k++) {
            struct guarded bias = machine_buffer(machine, 3 * sizeof(float));
            struct guarded load = machine_buffer(machine, sizeof loads[k]);
            struct guarded inputs = machine_buffer(machine, sizeof(struct step_inputs));
            for (int i = 0; i < 3; i++)
                ((float *)bias.at)[i] = 0.25f;
            memcpy(load.at, loads[k], sizeof loads[k]);
            memcpy(inputs.at, &(struct step_inputs){ .skip = skip }, sizeof(struct step_inputs));
            machine_put(machine, &bias);
            machine_put(machine, &load);
            machine_put(machine, &inputs);
            machine->backend->balance(
                &(struct balance_args){
                    .bias = bias.device, .load = load.device, .experts = 3, .rate = 0.01f, .stream = machine->stream },
                inputs.device);
            machine_get(machine, &bias);
            for (int i = 0; i < 3; i++)
                ck_assert_float_eq_tol(((float *)bias.at)[i], skip ? 0.25f : want[k][i], 1e-7f);
            ck_assert(guarded_intact(&bias) && guarded_intact(&load));
            machine_free(machine, &bias);
            machine_free(machine, &load);
            machine_free(machine, &inputs);
        }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("update");
    TCase *t = tcase_create(machine->name);
    tcase_set_timeout(t, 100);
    tcase_add_test(t, optimizers);
    tcase_add_test(t, same_bits);
    tcase_add_test(t, skipped);
    tcase_add_test(t, checksums);
    tcase_add_test(t, squares);
    tcase_add_test(t, clipping);
    tcase_add_test(t, balance);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return run_machines(suite);
}
