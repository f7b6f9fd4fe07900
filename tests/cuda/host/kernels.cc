/* All kernels of src/cuda, compiled for the host. */
#ifdef __clang__ /* which unrolls fewer loops than are marked */
#pragma clang diagnostic ignored "-Wpass-failed"
#endif
#include "cuda/attention_f32.cu"
#include "cuda/attention_tiles.cu"
#include "cuda/columns.cu"
#include "cuda/dispatch.cu"
#include "cuda/embed.cu"
#include "cuda/expert_bias.cu"
#include "cuda/grouped.cu"
#include "cuda/loss.cu"
#include "cuda/map.cu"
#include "cuda/norm.cu"
#include "cuda/rope.cu"
#include "cuda/router.cu"
#include "cuda/update.cu"
