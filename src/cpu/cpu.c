/* The CPU back end's table, and the kernels that only move or add. */
#include <stdio.h>
#include <string.h>

#include "cpu/blas.h"
#include "cpu/cpu.h"
#include "ir/target_cpu.h"

static void cpu_set_threads(int n)
{
    cpu_blas_init();
    cpu_team_set(n);
    cpu_gemm_threads(cpu_threads());
}

static void sum(float *out, const float *x, const float *y, uint64_t n)
{
    const struct vec *v = cpu_vec();
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (uint64_t i = 0; i < n; i += CPU_PIECE)
        v->add(out + i, x + i, y + i, n - i < CPU_PIECE ? n - i : CPU_PIECE);
}

void cpu_add_f(const struct op_args *a)
{
    sum(a->out[0], a->in[0], a->in[1], cpu_rows(a) * a->attrs->features);
}

static void sum_f(const struct op_args *a)
{
    if (a->compute == IR_BF16)
        cpu_bf16_sum(a);
    else
        sum(a->out[0], a->in[0], a->in[1], a->n);
}

static void copy_f(const struct op_args *a)
{
    if (a->compute == IR_BF16)
        memmove(a->out[0], a->in[0], a->n * sizeof(uint16_t));
    else
        cpu_start_from(a->out[0], a->in[0], a->n);
}

/* Block i of the columns of each row, behind block i-1 of all rows. */
static void turn(const struct op_args *a, void *rows, void *blocks, bool to_blocks)
{
    const size_t width = a->attrs->features, n = a->n / width, count = a->attrs->heads;
    const size_t part = width / count * ir_dtype_size(IR_COMPUTE, (enum ir_dtype)a->compute);
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, width))
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < count; i++) {
            unsigned char *x = (unsigned char *)rows + (r * count + i) * part;
            unsigned char *y = (unsigned char *)blocks + (i * n + r) * part;
            memcpy(to_blocks ? y : x, to_blocks ? x : y, part);
        }
}

static void to_blocks_f(const struct op_args *a)
{
    turn(a, a->in[0], a->out[0], true);
}

static void from_blocks_f(const struct op_args *a)
{
    turn(a, a->out[0], a->in[0], false);
}

/* Of the compiler's own operators, which know their type. */
static const op_kernel plain[IR_OP_COUNT - IR_OP_GRAPH_COUNT] = { sum_f, copy_f, to_blocks_f, from_blocks_f };

static const op_kernel table[IR_OP_COUNT][3] = {
    [IR_OP_EMBED] = { cpu_embed_f, NULL, cpu_embed_bw },
    [IR_OP_POS_EMBED] = { cpu_pos_embed_f, NULL, cpu_pos_embed_bw },
    [IR_OP_LAYERNORM] = { cpu_layernorm_f, cpu_layernorm_bi, cpu_layernorm_bw },
    [IR_OP_RMSNORM] = { cpu_rmsnorm_f, cpu_rmsnorm_bi, cpu_rmsnorm_bw },
    [IR_OP_LINEAR] = { cpu_linear_f, cpu_linear_bi, cpu_linear_bw },
    [IR_OP_ROPE] = { cpu_rope_f, cpu_rope_bi, NULL },
    [IR_OP_ATTENTION] = { cpu_attention_f, cpu_attention_bi, cpu_attention_bw },
    [IR_OP_GELU] = { cpu_act_f, cpu_act_bi, NULL },
    [IR_OP_ACT] = { cpu_act_f, cpu_act_bi, NULL },
    [IR_OP_SWIGLU] = { cpu_swiglu_f, cpu_swiglu_bi, NULL },
    [IR_OP_ADD] = { cpu_add_f, NULL, NULL },
    [IR_OP_SCALE] = { cpu_scale_f, cpu_scale_bi, NULL },
    [IR_OP_CLAMP] = { cpu_clamp_f, cpu_clamp_bi, NULL },
    [IR_OP_ROW_GATE] = { cpu_row_gate_f, cpu_row_gate_bi, NULL },
    [IR_OP_JOIN_HEADS] = { cpu_join_heads_f, cpu_join_heads_bi, NULL },
    [IR_OP_ROUTER] = { cpu_router_f, cpu_router_bi, cpu_router_bw },
    [IR_OP_DISPATCH] = { cpu_dispatch_f, cpu_dispatch_bi, NULL },
    [IR_OP_EXPERTS] = { cpu_experts_f, cpu_experts_bi, cpu_experts_bw },
    [IR_OP_COMBINE] = { cpu_combine_f, cpu_combine_bi, NULL },
    [IR_OP_HEAD_LOSS] = { cpu_head_loss_f, cpu_head_loss_bi, cpu_head_loss_bw },
};

static void run(const struct op_args *a, enum ir_pass pass, op_kernel kernel)
{
    if (cpu_half(a) && !cpu_takes_half((enum ir_op)a->op))
        cpu_bf16(a, pass, kernel);
    else
        kernel(a);
}

static void run_f(const struct op_args *a)
{
    run(a, IR_PASS_F, table[a->op][0]);
}

static void run_bi(const struct op_args *a)
{
    run(a, IR_PASS_BI, table[a->op][1]);
}

static void run_bw(const struct op_args *a)
{
    run(a, IR_PASS_BW, table[a->op][2]);
}

static op_kernel cpu_kernel(enum ir_op op, enum ir_pass pass)
{
    static const op_kernel runs[3] = { run_f, run_bi, run_bw };
    cpu_blas_init();
    cpu_gemm_threads(cpu_threads());
    const uint32_t i = pass == IR_PASS_F ? 0 : pass == IR_PASS_BI ? 1 : 2;
    if (op >= IR_OP_GRAPH_COUNT && op < IR_OP_COUNT)
        return i ? NULL : plain[op - IR_OP_GRAPH_COUNT];
    if ((unsigned)op >= IR_OP_COUNT || (i == 2 && pass != IR_PASS_BW) || !table[op][i])
        return NULL;
    return runs[i];
}

static const char *cpu_uses(void)
{
    static char text[160];
    snprintf(text, sizeof text, "%s; products: float32 %s, bfloat16 %s", cpu_vec()->name, cpu_products_name(false),
             cpu_products_name(true));
    return text;
}

const struct compute_backend compute_cpu = {
    .name = "cpu",
    .target = "cpu",
    .kernel = cpu_kernel,
    .update = cpu_update,
    .checksum = cpu_checksum,
    .balance = cpu_balance,
    .clip = cpu_clip,
    .sumsq = cpu_sumsq,
    .set_threads = cpu_set_threads,
    .uses = cpu_uses,
};
