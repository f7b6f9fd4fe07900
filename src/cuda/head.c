/* Output head and cross-entropy in one: the logits turn into their gradient in place. Rows of logits stand
 * ir_op_logit_columns() apart, a multiple of 128 elements for real vocabularies; no weight is padded.
 *
 * Where the words are split, phase 0 makes logits and tells their numbers, phase 1 hears those of all parts.
 *
 * work: of BW the sums of the bias; of F a product's, the loss of each row (rows) float64, then in evaluation CUDA_HEAD_ROWS rows of logits at a time. */
#include "base/mem.h"
#include "cuda/cuda.h"
#include "cuda/libs_private.h"
#include "ir/target_cuda.h"

static struct cuda_cross_entropy losses(const struct op_args *a, uint64_t first, uint64_t rows, void *logits)
{
    double *loss = (double *)(void *)(cuda__work_after(a, IR_OP_HEAD_LOSS, IR_PASS_F));
    return (struct cuda_cross_entropy){ .logits = logits,
                                        .target = (const int32_t *)a->in[1] + first,
                                        .rows = rows,
                                        .vocab = op_words(a).count,
                                        .ld = ir_op_logit_columns(a->attrs),
                                        .compute = a->compute,
                                        .gradient = a->train,
                                        .loss_scale = a->loss_scale,
                                        .weight = a->weight,
                                        .scale = a->attrs->scale,
                                        .cap = a->attrs->score_cap,
                                        .loss = &a->scalars[SCALAR_LOSS],
                                        .work = loss + first,
                                        .stream = a->stream };
}

static bool split(const struct op_args *a)
{
    return a->positions && a->positions->split == IR_WORDS;
}

static struct cuda_words words(const struct op_args *a, uint64_t first, uint64_t rows, void *logits)
{
    return (struct cuda_words){ .c = losses(a, first, rows, logits),
                                .told = a->save[1],
                                .all = cuda__rows(a),
                                .first = first,
                                .part = a->positions->part,
                                .parts = a->positions->parts,
                                .first_word = op_words(a).first,
                                .own = op_own_rows(a, (uint32_t)cuda__rows(a)) };
}

/* Rows [first, first+rows): logits, then losses and, in training, gradients; of split words their numbers. */
static void slice(const struct op_args *a, uint64_t first, uint64_t rows, void *logits, struct cuda__products *to)
{
    const uint32_t size = ir_dtype_size(IR_COMPUTE, (enum ir_dtype)a->compute);
    const uint64_t c = a->attrs->features;
    struct cuda_matmul p = cuda__product_of(a, IR_OP_HEAD_LOSS, IR_PASS_F);
    p.m = rows;
    p.n = a->attrs->vocab;
    p.k = c;
    p.a = (struct cuda_matrix){ .at = (const char *)a->in[0] + first * c * size, .ld = c };
    p.b = (struct cuda_matrix){ .at = a->param[0], .ld = c, .turned = true };
    p.c = logits;
    p.ldc = ir_op_logit_columns(a->attrs);
    p.bias = a->attrs->flags & IR_BIAS ? a->param[1] : NULL;
    cuda__product(to, &p);
    if (to->prepare)
        return;
    if (split(a)) {
        const struct cuda_words w = words(a, first, rows, logits);
        cuda_words_tell(&w);
    } else {
        const struct cuda_cross_entropy l = losses(a, first, rows, logits);
        cuda_cross_entropy(&l);
    }
}

static void forward(const struct op_args *a, struct cuda__products *to)
{
    const uint64_t rows = cuda__rows(a);
    if (split(a) && a->phase > 0 && !to->prepare) {
        const struct cuda_words w = words(a, 0, rows, a->save[0]);
        cuda_words_hear(&w);
        return;
    }
    char *slice_at = cuda__work_after(a, IR_OP_HEAD_LOSS, IR_PASS_F) + round_up(rows * sizeof(double), CUDA_ALIGNMENT);
    if (a->train) {
        slice(a, 0, rows, a->save[0], to);
        return;
    }
    for (uint64_t first = 0; first < rows; first += CUDA_HEAD_ROWS)
        slice(a, first, rows - first < CUDA_HEAD_ROWS ? rows - first : CUDA_HEAD_ROWS, slice_at, to);
}

static void inputs(const struct op_args *a, struct cuda__products *to)
{
    struct cuda_matmul p = cuda__product_of(a, IR_OP_HEAD_LOSS, IR_PASS_BI);
    p.m = cuda__rows(a);
    p.n = p.ldc = a->attrs->features;
    p.k = a->attrs->vocab;
    p.a = (struct cuda_matrix){ .at = a->save[0], .ld = ir_op_logit_columns(a->attrs) };
    p.b = (struct cuda_matrix){ .at = a->param[0], .ld = p.n };
    p.c = a->din[0];
    p.start = a->acc[0];
    cuda__product(to, &p);
}

static void weights(const struct op_args *a, struct cuda__products *to)
{
    struct cuda_matmul p = cuda__product_of(a, IR_OP_HEAD_LOSS, IR_PASS_BW);
    p.m = a->attrs->vocab;
    p.n = p.ldc = a->attrs->features;
    p.k = cuda__rows(a);
    p.a = (struct cuda_matrix){ .at = a->save[0], .ld = ir_op_logit_columns(a->attrs), .turned = true };
    p.b = (struct cuda_matrix){ .at = a->in[0], .ld = p.n };
    p.c = a->dparam[0];
    p.start = a->dparam_add & 1 ? p.c : NULL;
    p.out = IR_F32;
    cuda__product(to, &p);
    if (a->attrs->flags & IR_BIAS && !to->prepare)
        cuda_column_sums(&(struct cuda_columns){ .dy = a->save[0],
                                                 .db = a->dparam[1],
                                                 .add_db = a->dparam_add >> 1 & 1,
                                                 .rows = cuda__rows(a),
                                                 .width = a->attrs->vocab,
                                                 .ld = ir_op_logit_columns(a->attrs),
                                                 .compute = a->compute,
                                                 .work = cuda__work_after(a, IR_OP_HEAD_LOSS, IR_PASS_BW),
                                                 .stream = a->stream });
}

void cuda__head_loss(const struct op_args *a, enum ir_pass pass, struct cuda__products *to)
{
    (pass == IR_PASS_F ? forward : pass == IR_PASS_BI ? inputs : weights)(a, to);
}

void cuda_head_loss_f(const struct op_args *a)
{
    cuda__head_loss(a, IR_PASS_F, &(struct cuda__products){ 0 });
}

void cuda_head_loss_bi(const struct op_args *a)
{
    cuda__head_loss(a, IR_PASS_BI, &(struct cuda__products){ 0 });
}

void cuda_head_loss_bw(const struct op_args *a)
{
    cuda__head_loss(a, IR_PASS_BW, &(struct cuda__products){ 0 });
}
