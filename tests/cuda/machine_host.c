/* Our own CUDA kernels on the host (tests/cuda/host): in float32 and in bfloat16. What libraries compute is left out. */
#include <stdlib.h>

#include "base/status.h"
#include "cuda/cuda.h"
#include "cuda_on_host.h"
#include "ir/target_cuda_own.h"
#include "num/machine.h"

void cuda__check(cudaError_t error, const char *call)
{
    (void)call;
    CHECK(error == cudaSuccess);
}

static void attention_f(const struct op_args *a)
{
    if (cuda_attention_tiles(a->attrs, (enum ir_dtype)a->compute))
        cuda_attention_tiles_f(a);
    else
        cuda_attention_f32_f(a);
}

static void attention_bi(const struct op_args *a)
{
    if (cuda_attention_tiles(a->attrs, (enum ir_dtype)a->compute))
        cuda_attention_tiles_bi(a);
    else
        cuda_attention_f32_bi(a);
}

static const op_kernel table[IR_OP_COUNT][3] = {
    [IR_OP_EMBED] = { cuda_embed_f, NULL, cuda_embed_bw },
    [IR_OP_POS_EMBED] = { cuda_pos_embed_f, NULL, cuda_pos_embed_bw },
    [IR_OP_LAYERNORM] = { cuda_layernorm_f, cuda_layernorm_bi, cuda_layernorm_bw },
    [IR_OP_RMSNORM] = { cuda_rmsnorm_f, cuda_rmsnorm_bi, cuda_rmsnorm_bw },
    [IR_OP_ROPE] = { cuda_rope_f, cuda_rope_bi, NULL },
    [IR_OP_ATTENTION] = { attention_f, attention_bi, cuda_attention_bw },
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
    [IR_OP_EXPERTS] = { cuda_grouped_f, cuda_grouped_bi, cuda_grouped_bw },
    [IR_OP_COMBINE] = { cuda_combine_f, cuda_combine_bi, NULL },
    [IR_OP_SUM] = { cuda_sum_f, NULL, NULL },
    [IR_OP_COPY] = { cuda_copy_f, NULL, NULL },
    [IR_OP_TO_BLOCKS] = { cuda_to_blocks_f, NULL, NULL },
    [IR_OP_FROM_BLOCKS] = { cuda_from_blocks_f, NULL, NULL },
};

static op_kernel kernel(enum ir_op op, enum ir_pass pass)
{
    return op_kernel_of(table[op], pass);
}

static op_pair pair(enum ir_pass pass, const struct op_args *first, const struct op_args *second)
{
    if (pass != IR_PASS_F || first->op != IR_OP_ADD)
        return NULL;
    return second->op == IR_OP_LAYERNORM ? cuda_add_layernorm_f
           : second->op == IR_OP_RMSNORM ? cuda_add_rmsnorm_f
                                         : NULL;
}

static bool takes(enum ir_op op, const struct ir_attrs *a)
{
    return !cuda_own_unsupported(op, a, IR_BF16) && (op != IR_OP_EXPERTS || cuda_experts_grouped(a));
}

static const struct compute_backend own = { .name = "cuda",
                                            .kernel = kernel,
                                            .pair = pair,
                                            .update = cuda_update,
                                            .checksum = cuda_checksum,
                                            .balance = cuda_balance,
                                            .clip = cuda_clip,
                                            .sumsq = cuda_sumsq };
static const struct machine wide = { .name = "own CUDA kernels",
                                     .backend = &own,
                                     .compute = IR_F32,
                                     .positions = true,
                                     .partial = true,
                                     .takes = takes,
                                     .workspace = cuda_own_workspace,
                                     .order = host_cuda_order };
static const struct machine narrow = { .name = "own CUDA kernels, bfloat16",
                                       .backend = &own,
                                       .compute = IR_BF16,
                                       .positions = true,
                                       .partial = true,
                                       .takes = takes,
                                       .workspace = cuda_own_workspace,
                                       .order = host_cuda_order };
const struct machine *const machines[] = { &wide, &narrow, NULL };
