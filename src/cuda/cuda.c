/* The CUDA back end's table: what the program finds in the module. */
#include "cuda/cuda.h"

#include "base/commit.h"
#include "build-config.h"
#include "cuda/libs.h"
#include "exec/device_ops.h"
#include "exec/module.h"

/* Plans for the fake device of the tests are made for the kernels that it runs. */
#ifndef CUDA_TARGET
#define CUDA_TARGET "cuda"
#endif

/* The fake device has no NCCL. */
#ifndef CUDA_COMM
#define CUDA_COMM &comm_nccl
#endif

static const op_kernel table[IR_OP_COUNT][3] = {
    [IR_OP_EMBED] = { cuda_embed_f, NULL, cuda_embed_bw },
    [IR_OP_POS_EMBED] = { cuda_pos_embed_f, NULL, cuda_pos_embed_bw },
    [IR_OP_LAYERNORM] = { cuda_layernorm_f, cuda_layernorm_bi, cuda_layernorm_bw },
    [IR_OP_RMSNORM] = { cuda_rmsnorm_f, cuda_rmsnorm_bi, cuda_rmsnorm_bw },
    [IR_OP_LINEAR] = { cuda_linear_f, cuda_linear_bi, cuda_linear_bw },
    [IR_OP_ROPE] = { cuda_rope_f, cuda_rope_bi, NULL },
    [IR_OP_ATTENTION] = { cuda_attention_f, cuda_attention_bi, cuda_attention_bw },
    [IR_OP_GELU] = { cuda_act_f, cuda_act_bi, NULL },
    [IR_OP_ACT] = { cuda_act_f, cuda_act_bi, NULL },
    [IR_OP_SWIGLU] = { cuda_swiglu_f, cuda_swiglu_bi, NULL },
    [IR_OP_ADD] = { cuda_add_f, NULL, NULL },
    [IR_OP_SCALE] = { cuda_scale_f, cuda_scale_bi, NULL },
    [IR_OP_CLAMP] = { cuda_clamp_f, cuda_clamp_bi, NULL },
    [IR_OP_ROW_GATE] = { cuda_row_gate_f, cuda_row_gate_bi, NULL },
    [IR_OP_JOIN_HEADS] = { cuda_join_heads_f, cuda_join_heads_bi, NULL },
    [IR_OP_ROUTER] = { cuda_router_f, cuda_router_bi, cuda_router_bw },
    [IR_OP_DISPATCH] = { cuda_dispatch_f, cuda_dispatch_bi, NULL },
    [IR_OP_EXPERTS] = { cuda_experts_f, cuda_experts_bi, cuda_experts_bw },
    [IR_OP_COMBINE] = { cuda_combine_f, cuda_combine_bi, NULL },
    [IR_OP_HEAD_LOSS] = { cuda_head_loss_f, cuda_head_loss_bi, cuda_head_loss_bw },
    [IR_OP_SUM] = { cuda_sum_f, NULL, NULL },
    [IR_OP_COPY] = { cuda_copy_f, NULL, NULL },
    [IR_OP_TO_BLOCKS] = { cuda_to_blocks_f, NULL, NULL },
    [IR_OP_FROM_BLOCKS] = { cuda_from_blocks_f, NULL, NULL },
};

static op_kernel cuda_kernel(enum ir_op op, enum ir_pass pass)
{
    return (unsigned)op < IR_OP_COUNT ? op_kernel_of(table[op], pass) : NULL;
}

static op_pair cuda_pair(enum ir_pass pass, const struct op_args *first, const struct op_args *second)
{
    const bool f = pass == IR_PASS_F;
    if (first->op == IR_OP_LINEAR && cuda_linear_fits_gelu(first, second, pass))
        return f ? cuda_linear_gelu_f : cuda_linear_gelu_bi;
    if (f && first->op == IR_OP_ADD && second->op == IR_OP_LAYERNORM)
        return cuda_add_layernorm_f;
    if (f && first->op == IR_OP_ADD && second->op == IR_OP_RMSNORM && !cuda_norm_is_part(second))
        return cuda_add_rmsnorm_f;
    return NULL;
}

static const struct compute_libraries libraries = {
    .open = cuda_libs_open,
    .choose = cuda_libs_choose,
    .unchosen = cuda_libs_unchosen,
    .tell = cuda_libs_tell,
    .hear = cuda_libs_hear,
    .prepare = cuda_libs_prepare,
    .prepare_pair = cuda_libs_prepare_pair,
    .leave = cuda_libs_leave,
    .store = cuda_libs_store,
    .close = cuda_libs_close,
    .notes = cuda_libs_notes,
    .versions = cuda_libs_versions,
    .host_reads = cuda_host_reads,
};

static const struct compute_backend compute_cuda = {
    .name = "cuda",
    .target = CUDA_TARGET,
    .kernel = cuda_kernel,
    .pair = cuda_pair,
    .update = cuda_update,
    .checksum = cuda_checksum,
    .balance = cuda_balance,
    .clip = cuda_clip,
    .sumsq = cuda_sumsq,
    .libraries = &libraries,
    .device = &cuda_device,
};

const struct module piper_module = {
    .commit = PIPER_COMMIT,
    .sizes = MODULE_SIZES,
    .compute = &compute_cuda,
    .comm = CUDA_COMM,
};
