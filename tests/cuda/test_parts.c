/* Parts of operators that src/cuda/cuda.h offers to the files that call libraries: cross-entropy, sums of columns, bias,
 * conversion; attention's own kernels (parts_attention.c); and what stands around kernels: progress. Against float64, on odd shapes, in poisoned buffers. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cuda/cuda.h"
#include "cuda/parts_attention.h"
#include "ir/target_cuda_own.h"
#include "num/machine.h"

/* Brings the buffer back and compares it; guards must stand. */
static void expect(const char *what, const struct guarded *g, enum ir_dtype type, const double *want, size_t n)
{
    float *x = mem_alloc(n * sizeof *x);
    machine_get(machine, g);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)element(g, type, i);
    const double error = worst_error(x, want, n, 1e-3);
    ck_assert_msg(error <= (type == IR_BF16 ? 0.005 : 1e-5), "%s: %s n=%zu: error %.3g", machine->name, what, n, error);
    ck_assert(guarded_intact(g));
    mem_free(x);
}

/* ---- cross-entropy ------------------------------------------------------------------------------------------------ */

/* Gradient of a row in place; returns its loss. */
static double row_loss(double *x, size_t n, int32_t target, double scale)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - most);
    const double loss = target < 0 ? 0 : log(sum) + most - x[target];
    for (size_t i = 0; i < n; i++)
        x[i] = target < 0 ? 0 : scale * (exp(x[i] - most) / sum - (i == (size_t)target));
    return loss;
}

/* row_loss() of cap tanh(scale x/cap), scale x where cap is 0; the gradient is that of x. */
static double shaped_loss(double *x, uint32_t n, int32_t target, double loss_scale, double scale, double cap)
{
    double *slope = mem_alloc(n * sizeof *slope);
    for (uint32_t i = 0; i < n; i++) {
        const double z = scale * x[i];
        x[i] = cap > 0 ? cap * tanh(z / cap) : z;
        slope[i] = scale * (cap > 0 ? 1 - pow(tanh(z / cap), 2) : 1);
    }
    const double loss = row_loss(x, n, target, loss_scale);
    for (uint32_t i = 0; i < n; i++)
        x[i] *= slope[i];
    mem_free(slope);
    return loss;
}

static void entropy(uint32_t rows, uint32_t vocab, uint32_t ld, bool gradient, float scale, float cap)
{
    struct rng r = { rows * 1000 + vocab };
    const size_t n = (size_t)rows * ld;
    const enum ir_dtype type = machine->compute;
    double *x = mem_alloc(n * sizeof *x), want = 7;
    struct guarded logits = machine_random(n, type, &r, x), target = machine_elements(rows, IR_I32),
                   loss = machine_elements(1, IR_F64);
    struct guarded work = machine_elements(rows, IR_F64);
    int32_t *t = target.at;
    for (uint32_t i = 0; i < rows; i++) {
        t[i] = i % 3 == 1 ? -1 : (int32_t)rng_below(&r, vocab);
        double *row = x + (size_t)i * ld, *copy = mem_alloc(ld * sizeof *copy);
        memcpy(copy, row, ld * sizeof *copy);
        want += shaped_loss(copy, vocab, t[i], 0.25, scale > 0 ? (double)scale : 1, (double)cap);
        for (uint32_t j = vocab; j < ld; j++) { /* padding */
            copy[j] = 0;
            set_element(&logits, type, (size_t)i * ld + j, NAN);
        }
        if (gradient)
            memcpy(row, copy, ld * sizeof *row);
        mem_free(copy);
    }
    *(double *)loss.at = 7;
    machine_put(machine, &logits);
    machine_put(machine, &target);
    machine_put(machine, &loss);
    cuda_cross_entropy(&(struct cuda_cross_entropy){ .logits = logits.device,
                                                     .target = target.device,
                                                     .rows = rows,
                                                     .vocab = vocab,
                                                     .ld = ld,
                                                     .compute = type,
                                                     .gradient = gradient,
                                                     .loss_scale = 0.25,
                                                     .scale = scale,
                                                     .cap = cap,
                                                     .loss = loss.device,
                                                     .work = work.device,
                                                     .stream = machine->stream });
    machine_get(machine, &loss);
    machine_get(machine, &work);
    ck_assert_msg(fabs(*(double *)loss.at - want) < 1e-6 * want, "%s: vocab=%u ld=%u: loss %.9g, not %.9g",
                  machine->name, vocab, ld, *(double *)loss.at, want);
    ck_assert(guarded_intact(&work) && guarded_intact(&loss));
    if (gradient || ld == vocab)
        expect("logits", &logits, type, x, n);
    machine_free(machine, &logits);
    machine_free(machine, &target);
    machine_free(machine, &loss);
    machine_free(machine, &work);
    mem_free(x);
}

START_TEST(cross_entropy)
{
    static const uint32_t vocabs[] = { 1, 2, 7, 8, 129, 1025, 8200 };
    for (size_t i = 0; i < sizeof vocabs / sizeof *vocabs; i++)
        for (uint32_t gradient = 0; gradient < 2; gradient++) {
            entropy(4, vocabs[i], vocabs[i], gradient, 0, 0); /* rows begin anywhere */
            entropy(2, vocabs[i], (vocabs[i] + 127) / 128 * 128, gradient, 0, 0);
            entropy(2, vocabs[i], (vocabs[i] + 127) / 128 * 128, gradient, 0.5f, i % 2 ? 1.5f : 0);
        }
}
END_TEST

/* ---- columns ------------------------------------------------------------------------------------------------------ */

static void columns(uint64_t rows, uint32_t width, bool add)
{
    struct rng r = { rows + width };
    const enum ir_dtype type = machine->compute;
    double *dy = mem_alloc(rows * width * sizeof *dy), *db = mem_alloc(width * sizeof *db);
    struct guarded g = machine_random(rows * width, type, &r, dy), to = machine_random(width, IR_F32, &r, db);
    struct guarded work = machine_buffer(machine, cuda_columns_workspace(rows, width));
    for (uint32_t j = 0; j < width && !add; j++)
        db[j] = 0;
    for (uint64_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < width; j++)
            db[j] += dy[i * width + j];
    cuda_column_sums(&(struct cuda_columns){ .dy = g.device,
                                             .db = to.device,
                                             .add_db = add,
                                             .rows = rows,
                                             .width = width,
                                             .compute = type,
                                             .work = work.device,
                                             .stream = machine->stream });
    machine_get(machine, &work);
    ck_assert(guarded_intact(&work));
    expect("sums of columns", &to, IR_F32, db, width);
    machine_free(machine, &g);
    machine_free(machine, &to);
    machine_free(machine, &work);
    mem_free(dy);
    mem_free(db);
}

static void bias(uint64_t rows, uint32_t width)
{
    struct rng r = { rows + width };
    const enum ir_dtype type = machine->compute;
    double *y = mem_alloc(rows * width * sizeof *y), *b = mem_alloc(width * sizeof *b);
    struct guarded to = machine_random(rows * width, type, &r, y), from = machine_random(width, type, &r, b);
    const struct ir_run biased = { (uint32_t)rows / 3, (uint32_t)(rows + 1) / 2 };
    for (uint64_t i = 0; i < rows * width; i++)
        y[i] = i / width >= biased.first && i / width < biased.first + biased.count ? b[i % width] : 0;
    cuda_bias_rows(&(struct cuda_bias_rows){ .y = to.device,
                                             .bias = from.device,
                                             .rows = rows,
                                             .biased = biased,
                                             .width = width,
                                             .compute = type,
                                             .stream = machine->stream });
    expect("bias", &to, type, y, rows * width);
    machine_free(machine, &to);
    machine_free(machine, &from);
    mem_free(y);
    mem_free(b);
}

START_TEST(column_sums)
{
    static const uint32_t shapes[][2] = { { 1, 1 }, { 3, 8 }, { 65, 7 }, { 300, 264 }, { 129, 520 }, { 40000, 3 } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        columns(shapes[i][0], shapes[i][1], false);
        columns(shapes[i][0], shapes[i][1], true);
        bias(shapes[i][0], shapes[i][1]);
    }
}
END_TEST

/* ---- conversion, progress ----------------------------------------------------------------------------------------- */

START_TEST(conversion)
{
    static const size_t sizes[] = { 1, 7, 8, 1000, 2049 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int pair = 0; pair < 4; pair++) {
            const enum ir_dtype from = pair & 1 ? IR_BF16 : IR_F32, to = pair & 2 ? IR_BF16 : IR_F32;
            struct rng r = { i };
            double *x = mem_alloc(sizes[i] * sizeof *x);
            struct guarded a = machine_random(sizes[i], from, &r, x), b = machine_elements(sizes[i], to);
            cuda_convert(b.device, to, a.device, from, sizes[i], machine->stream);
            machine_get(machine, &b);
            for (size_t k = 0; k < sizes[i]; k++)
                ck_assert(element(&b, to, k) == rounded(to, x[k]));
            ck_assert(guarded_intact(&b));
            machine_free(machine, &a);
            machine_free(machine, &b);
            mem_free(x);
        }
}
END_TEST

START_TEST(progress)
{
    struct guarded inputs = machine_buffer(machine, sizeof(struct step_inputs)), word = machine_elements(1, IR_I32);
    ((struct step_inputs *)inputs.at)->epoch = 4321;
    machine_put(machine, &inputs);
    machine_put(machine, &word);
    cuda_progress(word.device, inputs.device, machine->stream);
    machine_get(machine, &word);
    ck_assert(*(uint32_t *)word.at == 4321 && guarded_intact(&word));
    machine_free(machine, &inputs);
    machine_free(machine, &word);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("parts");
    TCase *t = tcase_create(machine->name);
    tcase_set_timeout(t, 100);
    tcase_add_test(t, cross_entropy);
    tcase_add_test(t, column_sums);
    tcase_add_test(t, conversion);
    tcase_add_test(t, progress);
    add_attention_parts(t);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return run_machines(suite);
}
