/* The parts that tests/cuda/test_parts.c calls by name, those of the module. */
#include "cuda/cuda.h"
#include "gpu/machine_device.h"

FORWARD(void, cuda_cross_entropy, (const struct cuda_cross_entropy *c), (c))
FORWARD(void, cuda_column_sums, (const struct cuda_columns *c), (c))
FORWARD(void, cuda_bias_rows, (const struct cuda_bias_rows *c), (c))
FORWARD(void, cuda_words_tell, (const struct cuda_words *w), (w))
FORWARD(void, cuda_words_hear, (const struct cuda_words *w), (w))
FORWARD(void, cuda_convert,
        (void *to, enum ir_dtype to_type, const void *from, enum ir_dtype from_type, uint64_t n, void *stream),
        (to, to_type, from, from_type, n, stream))
FORWARD(void, cuda_attention_f32_f, (const struct op_args *a), (a))
FORWARD(void, cuda_attention_f32_bi, (const struct op_args *a), (a))
FORWARD(void, cuda_attention_tiles_f, (const struct op_args *a), (a))
FORWARD(void, cuda_attention_tiles_bi, (const struct op_args *a), (a))
FORWARD(void, cuda_progress, (uint32_t * word, const struct step_inputs *s, void *stream), (word, s, stream))
