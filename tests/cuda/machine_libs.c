/* The operators of libraries, on stand-ins of cuBLASLt and cuDNN that compute on the host (tests/cuda/libs): in float32 and in
 * bfloat16. Own kernels that they call run on the host too (tests/cuda/host). */
#include "cuda/cuda.h"
#include "cuda/fail.h"
#include "cuda/libs.h"
#include "fake.h"
#include "ir/target.h"
#include "num/machine.h"

void cuda__check(cudaError_t error, const char *call)
{
    (void)call;
    CHECK(error == cudaSuccess);
}

void cuda__failed(const char *call, const char *words)
{
    (void)call;
    process_fail(ST_DEVICE, words);
}

/* ---- machines ---- */

/* As the executor: prepared, then run. Whatever the real library would have refused ends the test. */
static void run(const struct op_args *a, enum ir_op op, enum ir_pass pass, op_kernel kernel)
{
    struct err e = { 0 };
    const enum status st = cuda_libs_prepare(a, op, pass, &e);
    const int searches = fake_searches, waits = fake_waits;
    if (st != ST_OK)
        process_fail(st, e.text);
    kernel(a);
    if (fake_complaint)
        process_fail(ST_BUG, fake_complaint);
    if (!cuda_host_reads(op, a->attrs)) /* else a graph could not hold it */
        CHECK(fake_waits == waits && fake_searches == searches);
}

#define RUN(name, op, pass)                              \
    static void run_##name(const struct op_args *a)      \
    {                                                    \
        run(a, IR_OP_##op, IR_PASS_##pass, cuda_##name); \
    }
RUN(linear_f, LINEAR, F)
RUN(linear_bi, LINEAR, BI)
RUN(linear_bw, LINEAR, BW)
RUN(attention_f, ATTENTION, F)
RUN(attention_bi, ATTENTION, BI)
RUN(experts_f, EXPERTS, F)
RUN(experts_bi, EXPERTS, BI)
RUN(experts_bw, EXPERTS, BW)
RUN(head_loss_f, HEAD_LOSS, F)
RUN(head_loss_bi, HEAD_LOSS, BI)
RUN(head_loss_bw, HEAD_LOSS, BW)

static op_kernel kernel(enum ir_op op, enum ir_pass pass)
{
    static const op_kernel table[IR_OP_COUNT][3] = {
        [IR_OP_LINEAR] = { run_linear_f, run_linear_bi, run_linear_bw },
        [IR_OP_ATTENTION] = { run_attention_f, run_attention_bi, NULL },
        [IR_OP_EXPERTS] = { run_experts_f, run_experts_bi, run_experts_bw },
        [IR_OP_HEAD_LOSS] = { run_head_loss_f, run_head_loss_bi, run_head_loss_bw },
    };
    return pass == IR_PASS_F    ? table[op][0]
           : pass == IR_PASS_BI ? table[op][1]
           : pass == IR_PASS_BW ? table[op][2]
                                : NULL;
}

static uint64_t workspace(enum ir_op op, const struct ir_attrs *a, enum ir_pass pass, uint32_t b, uint32_t t,
                          uint32_t ep, enum ir_dtype compute)
{
    return ir_target_cuda.workspace(op, a, pass, b, t, ep, compute);
}

static void open_libs(void)
{
    struct err e = { 0 };
    cuda_libs_close();
    if (cuda_libs_open(NULL, NULL, false, &e) != ST_OK)
        process_fail(e.status, e.text);
}

static const struct compute_backend libs = { .name = "cuda", .kernel = kernel };
static const struct machine wide = { .name = "CUDA libraries",
                                     .backend = &libs,
                                     .compute = IR_F32,
                                     .partial = true,
                                     .workspace = workspace,
                                     .setup = open_libs };
static const struct machine narrow = { .name = "CUDA libraries, bfloat16",
                                       .backend = &libs,
                                       .compute = IR_BF16,
                                       .partial = true,
                                       .workspace = workspace,
                                       .setup = open_libs };
const struct machine *const machines[] = { &wide, &narrow, NULL };
