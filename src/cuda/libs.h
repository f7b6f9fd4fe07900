/* What the CUDA back end takes from libraries: matrix products (cuBLASLt) and attention (cuDNN). Kernels have their names in
 * cuda/cuda.h; here is what the executor calls around them, before the first step and on rank 0:
 *
 *     cuda_libs_open()                  on rank 0 with the file of what was chosen before
 *     cuda_libs_prepare() per kernel    finds algorithms and builds plans
 *     cuda_libs_choose(), and again     on one rank that has products which nobody has chosen: they are timed on the kernel's own
 *                                       operands, so what they write is lost; then the others hear of it
 *     cuda_libs_store()                 on rank 0, when all is chosen
 *
 * A step then calls no function of a library that allocates device memory or waits, so it can be captured. One device, and one
 * thread at a time. cuDNN is loaded for the first attention that is its. */
#ifndef PIPER_CUDA_LIBS_H
#define PIPER_CUDA_LIBS_H

#include "exec/compute.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Handles on the current device; stream: where products are timed. cache_path: the file of chosen algorithms, in the run
 * folder; NULL: none. It is read if it exists: another library or device makes it count for nothing, a damaged one is ST_INPUT.
 * ST_DEVICE where a library does not start. */
enum status cuda_libs_open(void *stream, const char *cache_path, struct err *e);
/* As compute_libraries has them. What is not timed is what the library puts first, the same on every rank and in every run. */
void cuda_libs_choose(bool choose);
uint32_t cuda_libs_unchosen(void);
void cuda_libs_tell(void **text, uint64_t *bytes);
enum status cuda_libs_hear(const void *text, uint64_t bytes, const char *from, struct err *e);
/* The file of chosen algorithms, under a temporary name first; nothing when no product was timed. ST_IO. */
enum status cuda_libs_store(struct err *e);
void cuda_libs_close(void);

/* Everything that the kernel of (op, pass) will need for these sizes; ST_DEVICE with the sizes when no algorithm or engine
 * fits into the planned workspace. Operators without a library: nothing. */
enum status cuda_libs_prepare(const struct op_args *a, enum ir_op op, enum ir_pass pass, struct err *e);

/* compute_libraries.prepare_pair: the same for two neighbouring kernels in one. Pairs without a product need nothing: true. */
bool cuda_libs_prepare_pair(const struct op_args *first, const struct op_args *second, enum ir_pass pass, void *work);

/* Products are tuned for what is left of the multiprocessors when communication takes n; 0: for all. After open. */
void cuda_libs_leave(uint32_t n);

/* Kernels of this operator wait for the stream and read sizes on the host, so a captured graph ends before them: experts
 * without capacity whose products are not grouped (cuda_experts_grouped()). */
bool cuda_host_reads(enum ir_op op, const struct ir_attrs *a);

/* Lines for the log about what prepare() found, each with its newline; static, until close. */
const char *cuda_libs_notes(void);

/* "cuBLASLt 13.1.0, cuDNN 9.19.0", or "..., no cuDNN" where it cannot be loaded; static. */
const char *cuda_libs_versions(void);

#ifdef __cplusplus
}
#endif
#endif
