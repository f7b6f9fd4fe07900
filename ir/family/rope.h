/* Rotary positions of a configuration: rope_theta, rope_scaling (transformers 4), rope_parameters (5, by kind of layer too),
 * partial_rotary_factor. The equations are in ir/rope.h. */
#ifndef PIPER_IR_FAMILY_ROPE_H
#define PIPER_IR_FAMILY_ROPE_H

#include "ir/family/hf.h"

struct rope_class { /* what a family's class says; theta 0: 10000; partial 0: a head turns as a whole */
    double theta, partial;
    uint32_t rotary;         /* how many elements of a head turn, instead of a part of them; 0: none says so */
    bool longrope;           /* phi3: "su" and "yarn" mean it, original_max_position_embeddings stands at the top */
    const char *local_theta; /* key of the base of sliding layers, or NULL */
    double theta_local;      /* its default */
    bool by_kind; /* rope_parameters may differ by kind of layer; a flat object is that of full layers alone */
    const char *unless_given; /* rope_parameters as JSON where the configuration has none, or NULL */
};

struct rope {
    uint32_t rotary; /* elements of a head that turn, even */
    float theta;
    const struct ir_freqs *inv_freq; /* the graph's; NULL: theta alone */
    float scale;                     /* of cos and sin; 1 where there is nothing to scale */
    double mscale; /* what mscale_all_dim makes of the factor (deepseek scales its scores by the square), or 1 */
};

/* kind: "full_attention" or "sliding_attention". width: elements of a head, of which the rotary part is the first. */
enum status rope_read(const struct hf_model *m, const struct rope_class *c, const char *kind, uint32_t width,
                      struct rope *out);

#endif
