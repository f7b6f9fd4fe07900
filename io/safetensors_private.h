/* What the files of the reader of safetensors share. */
#ifndef PIPER_IO_SAFETENSORS_PRIVATE_H
#define PIPER_IO_SAFETENSORS_PRIVATE_H

#include "io/safetensors.h"

/* Finds the factors of quantized tensors, which are sorted by name: X_scale_inv of an F8_E4M3 X, in the blocks of s->stored; X_blocks and
 * X_scales become one tensor X of type MXFP4, and `changed` says that the names are to be sorted again, and this called again. */
enum status safetensors__pair(struct safetensors *s, const char *path, bool *changed, struct err *e);

/* Elements [first, first + n), each times the factor of its block, in float32. */
enum status safetensors__read_f8(const struct safetensors *s, const struct safetensors_entry *t, uint64_t first,
                                 uint64_t n, float *out, struct err *e);
enum status safetensors__read_mxfp4(const struct safetensors *s, const struct safetensors_entry *t, uint64_t first,
                                    uint64_t n, float *out, struct err *e);

#endif
