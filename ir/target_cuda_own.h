/* Scratch of the project's own CUDA kernels (src/cuda), and the sizes on which they and it agree. What the library
 * calls need stands in ir/target_cuda.c. */
#ifndef PIPER_IR_TARGET_CUDA_OWN_H
#define PIPER_IR_TARGET_CUDA_OWN_H

#include "ir/split.h"

enum {
    CUDA_BIN_TILE = 1024,    /* keys that a block puts into bins */
    CUDA_SORT_BINS = 256,    /* bins of one pass of the sort of tokens */
    CUDA_EMBED_ROWS = 32,    /* sorted rows whose gradients a block sums */
    CUDA_COLUMN_PARTS = 512, /* parts of the rows of a column sum, at most; of CUDA_COLUMN_ROWS rows at least */
    CUDA_COLUMN_ROWS = 64,   /* */
    CUDA_PRODUCT_PARTS = 16, /* parts of the rows of the router's weight gradient, at most */
    CUDA_PRODUCT_ROWS = 256, /* rows of a part, at least */
    CUDA_MAX_EXPERTS = 1024, /* a block has a count of every expert for each of its warps */
    CUDA_MAX_GROUPS = 512, /* of experts: what they are worth stands beside a row of scores in shared memory, 48 KiB */
    CUDA_MAX_ROPE_DIM = 512,       /* frequencies are a kernel's argument */
    CUDA_MAX_ATTENTION_T = 4096,   /* attention without tensor cores: a row of scores in shared memory, twice, */
    CUDA_MAX_ATTENTION_DIM = 1024, /* and four of a head: 48 KiB */
    CUDA_TILE_DIM = 256,           /* attention on tensor cores: elements of a head */
};
enum {
    CUDA_EXPERT_ROWS = 16384,   /* rows whose hidden layer is in memory at a time, unless one expert has more */
    CUDA_EXPERT_WIDE = 8192,    /* hidden layer of an expert whose products fill a GPU alone */
    CUDA_GROUP_ROWS = 128,      /* rows of an expert that a block of a grouped product has, */
    CUDA_GROUP_TILE_BYTES = 12, /* and what says which */
};

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of op_args.work of an operator that src/cuda has an own kernel for, with IR_OP_ATTENTION as cuda_attention_f32;
 * 0 for the others. */
uint64_t cuda_own_workspace(const struct ir_kernel *k);
/* NULL, or a sentence why an own kernel cannot run this operator. */
const char *cuda_own_unsupported(enum ir_op op, const struct ir_attrs *a, enum ir_dtype compute);
/* Of struct cuda_columns. */
uint64_t cuda_columns_workspace(uint64_t rows, uint32_t width);

/* Can attention run in tiles on tensor cores (src/cuda/attention_tiles.cu)? In bfloat16, rows 16-byte aligned. */
bool cuda_attention_tiles(const struct ir_attrs *a, enum ir_dtype compute);

/* Are the experts' products grouped, so that sizes are read on the device? Dropless experts, but wide ones, where a product each of
 * the library is faster, and odd sizes, whose rows are not 16-byte aligned. */
bool cuda_experts_grouped(const struct ir_attrs *a);
/* Their workspace. Offsets of the map of tiles and of the hidden layer, which BI does not have. */
struct cuda_group_work {
    uint64_t tiles, map, hidden; /* tiles: the most that there can be */
};
struct cuda_group_work cuda_group_work(const struct ir_attrs *a, uint32_t b, uint32_t t, uint32_t ep);

/* How many parts a long sum is cut into. Sizes alone decide, so the order of a sum is the same on every device. */
uint32_t cuda_parts(uint64_t rows, uint32_t least_rows, uint32_t most_parts);
/* Sort of tokens: passes over keys below `below`. */
uint32_t cuda_sort_passes(uint32_t below);

#ifdef __cplusplus
}
#endif
#endif
