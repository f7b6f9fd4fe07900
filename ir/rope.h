/* Frequencies of rotary position embedding, and how models stretch them to sequences longer than they were trained on.
 *
 * Su et al. 2021 (RoPE), Chen et al. 2023 (linear), Peng et al. 2023 (dynamic NTK and YaRN, arXiv 2309.00071), Ding et al. 2024
 * (LongRoPE), Llama 3.1; the formulas and defaults are those of transformers' modeling_rope_utils.py. */
#ifndef PIPER_IR_ROPE_H
#define PIPER_IR_ROPE_H

#include <stdbool.h>
#include <stdint.h>

enum ir_rope_kind { IR_ROPE_DEFAULT, IR_ROPE_LINEAR, IR_ROPE_DYNAMIC, IR_ROPE_LLAMA3, IR_ROPE_YARN, IR_ROPE_LONGROPE };
/* IR_ROPE_LONGROPE + 1 when there is no such kind. The names are those of rope_type: "default", "linear", "dynamic", "llama3",
 * "yarn", "longrope". */
uint32_t ir_rope_kind_by_name(const char *name);

/* A number that is 0 is one that the model does not say, unless its line tells otherwise. */
struct ir_rope {
    enum ir_rope_kind kind;
    double theta;                             /* needed; above 1 */
    uint32_t dim;                             /* rotary width: even, above 2 for dynamic */
    double factor;                            /* all but default; yarn, longrope: max_positions/original when 0 */
    double max_positions;                     /* max_position_embeddings; dynamic, and for the factor */
    double original;                          /* original_max_position_embeddings; llama3, yarn, longrope */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn: 32 and 1 when 0 */
    bool no_truncate;                         /* yarn: the ends of the ramp are not rounded to whole pairs */
    double attention_factor;                  /* yarn, longrope: of cos and sin, when not 0 */
    double mscale, mscale_all_dim;            /* yarn */
    const double *short_factor, *long_factor; /* longrope: (dim/2) each */
};

/* Radians per position of each pair, (dim/2), and what cos and sin are multiplied with (1: nothing), for sequences of t tokens.
 * NULL; or a sentence, static, when a number that the kind needs is missing or out of range, and nothing is written. */
const char *ir_rope_frequencies(const struct ir_rope *r, uint32_t t, float *inv_freq, double *scale);
/* yarn's 0.1 mscale ln(factor) + 1, and 1 for a factor up to 1. DeepSeek multiplies the scale of its scores with the square of
 * that of mscale_all_dim. */
double ir_rope_mscale(double factor, double mscale);

#endif
