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

/* Weight gradients of a norm whose heads have weights of their own; rows stand apart. */
static void head_columns(uint64_t rows, uint32_t heads, uint32_t group, uint32_t ld)
{
    struct rng r = { rows + ld };
    const enum ir_dtype type = machine->compute;
    const uint32_t width = heads * group;
    double *dy = mem_alloc(rows * ld * sizeof *dy), *x = mem_alloc(rows * ld * sizeof *x);
    double *mean = mem_alloc(rows * heads * sizeof *mean), *rstd = mem_alloc(rows * heads * sizeof *rstd);
    double *dw = mem_alloc(width * sizeof *dw);
    struct guarded of_dy = machine_random(rows * ld, type, &r, dy), of_x = machine_random(rows * ld, type, &r, x),
                   of_mean = machine_random(rows * heads, IR_F32, &r, mean),
                   of_rstd = machine_random(rows * heads, IR_F32, &r, rstd), to = machine_random(width, IR_F32, &r, dw),
                   work = machine_buffer(machine, cuda_columns_workspace(rows, width));
    for (uint32_t j = 0; j < width; j++)
        dw[j] = 0;
    for (uint64_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < width; j++) {
            const uint64_t h = i * heads + j / group;
            dw[j] += dy[i * ld + j] * ((x[i * ld + j] - mean[h]) * rstd[h]);
        }
    cuda_column_sums(&(struct cuda_columns){ .dy = of_dy.device,
                                             .x = of_x.device,
                                             .mean = of_mean.device,
                                             .rstd = of_rstd.device,
                                             .dw = to.device,
                                             .rows = rows,
                                             .width = width,
                                             .ld = ld,
                                             .group = group,
                                             .compute = type,
                                             .work = work.device,
                                             .stream = machine->stream });
    machine_get(machine, &work);
    ck_assert(guarded_intact(&work));
    expect("sums of heads' columns", &to, IR_F32, dw, width);
    struct guarded *const all[] = { &of_dy, &of_x, &of_mean, &of_rstd, &to, &work };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        machine_free(machine, all[i]);
    double *const numbers[] = { dy, x, mean, rstd, dw };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        mem_free(numbers[i]);
}

/* Biases of experts: three of them on two devices' parts, with counts from 0 up to all. */
static void expert_bias(uint32_t capacity, uint32_t width)
{
    enum { B = 2, EP = 2, LOCAL = 3 };
    static const int32_t counts[EP * LOCAL * B] = { 3, 0, 0, 0, 2, 1, 1, 3, 0, 2, 3, 3 };
    struct rng r = { capacity + width };
    const enum ir_dtype type = machine->compute;
    const struct ir_attrs attrs = { .experts = EP * LOCAL, .features = width, .ffn = width, .capacity = capacity };
    uint64_t rows = 0, row = 0, at = 0;
    for (int i = 0; i < EP * LOCAL * B; i++)
        rows += capacity ? capacity : (uint64_t)counts[i];
    double *y = mem_alloc(rows * width * sizeof *y), *bias = mem_alloc(LOCAL * width * sizeof *bias),
           *db = mem_alloc(3 * LOCAL * width * sizeof *db);
    struct guarded of_y = machine_random(rows * width, type, &r, y),
                   of_bias = machine_random(LOCAL * width, type, &r, bias),
                   of_db = machine_elements(3 * LOCAL * width, IR_F32),
                   of_count = machine_elements(EP * LOCAL * B, IR_I32);
    memcpy(of_count.at, counts, sizeof counts);
    machine_put(machine, &of_count);
    float *const sums = of_db.device;
    struct op_args a = {
        .attrs = &attrs, .b = B, .t = 1, .ep = EP, .compute = (uint32_t)type, .stream = machine->stream
    };
    a.in[1] = of_count.device;
    a.stash[0] = a.stash[1] = a.dout[0] = of_y.device;
    for (int i = 0; i < 3; i++)
        a.dparam[3 + i] = sums + i * LOCAL * (int64_t)width;
    for (uint32_t j = 0; j < 3 * LOCAL * width; j++)
        db[j] = 0;
    cuda_expert_bias_sums(&a);
    for (int k = 0; k < EP * LOCAL * B; k++) {
        const int e = k / B % LOCAL;
        for (int32_t i = 0; i < counts[k]; i++)
            for (uint32_t j = 0; j < width; j++)
                for (int which = 0; which < 3; which++)
                    db[(which * LOCAL + e) * (int64_t)width + j] += y[(row + (uint64_t)i) * width + j];
        row += capacity ? capacity : (uint64_t)counts[k];
    }
    expect("gradients of experts' biases", &of_db, IR_F32, db, 3 * LOCAL * width);
    /* in runs: a part at once where rows are apart, an expert at a time else */
    for (uint32_t run = 0; run < (capacity ? EP : EP * LOCAL); run++) {
        uint64_t n = (uint64_t)B * capacity;
        const uint32_t first = capacity ? run * LOCAL : run, batch = capacity ? LOCAL : 1;
        for (int s = 0; s < B && !capacity; s++)
            n += (uint64_t)counts[first * B + (uint32_t)s];
        cuda_expert_bias_add(
            &(struct cuda_expert_bias){ .a = &a,
                                        .y = (char *)of_y.device + at * width * ir_dtype_size(IR_COMPUTE, type),
                                        .bias = of_bias.device,
                                        .width = width,
                                        .e = first % LOCAL,
                                        .batch = batch,
                                        .n = n,
                                        .row = at });
        at += n * batch;
    }
    row = 0;
    for (int k = 0; k < EP * LOCAL * B; k++) {
        for (int32_t i = 0; i < counts[k]; i++)
            for (uint32_t j = 0; j < width; j++)
                y[(row + (uint64_t)i) * width + j] += bias[k / B % LOCAL * (int64_t)width + j];
        row += capacity ? capacity : (uint64_t)counts[k];
    }
    expect("experts' biases", &of_y, type, y, rows * width);
    struct guarded *const all[] = { &of_y, &of_bias, &of_db, &of_count };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        machine_free(machine, all[i]);
    mem_free(y);
    mem_free(bias);
    mem_free(db);
}

START_TEST(expert_biases)
{
    for (uint32_t capacity = 0; capacity <= 5; capacity += 5) {
        expert_bias(capacity, 8);
        expert_bias(capacity, 35);
    }
}
END_TEST

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
    head_columns(70, 3, 8, 32);
    head_columns(70, 3, 8, 27);
    head_columns(33, 2, 5, 10);
    head_columns(129, 1, 16, 16);
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
    tcase_add_test(t, expert_biases);
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
