#include "ir/rope.h"

#include <math.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

static const char *const names[] = {
    [IR_ROPE_DEFAULT] = "default", [IR_ROPE_LINEAR] = "linear", [IR_ROPE_DYNAMIC] = "dynamic",
    [IR_ROPE_LLAMA3] = "llama3",   [IR_ROPE_YARN] = "yarn",     [IR_ROPE_LONGROPE] = "longrope"
};
enum { KINDS = sizeof names / sizeof *names };

uint32_t ir_rope_kind_by_name(const char *name)
{
    uint32_t i = 0;
    while (i < KINDS && strcmp(names[i], name) != 0)
        i++;
    return i;
}

double ir_rope_mscale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

/* Of pair i with this base. */
static double plain(const struct ir_rope *r, double theta, uint32_t i)
{
    return pow(theta, -2.0 * i / r->dim);
}

static double factor_of(const struct ir_rope *r)
{
    return r->factor > 0 ? r->factor : r->original > 0 ? r->max_positions / r->original : 0;
}

/* ---- the kinds ------------------------------------------------------------------------------------------------------ */

static void dynamic(const struct ir_rope *r, uint32_t t, float *inv_freq)
{
    const double n = t > r->max_positions ? t : r->max_positions, d = r->dim;
    const double theta = r->theta * pow(r->factor * n / r->max_positions - (r->factor - 1), d / (d - 2));
    for (uint32_t i = 0; i < r->dim / 2; i++)
        inv_freq[i] = (float)plain(r, theta, i);
}

/* Long waves are stretched, short ones stay, those between by a part. */
static void llama3(const struct ir_rope *r, float *inv_freq)
{
    for (uint32_t i = 0; i < r->dim / 2; i++) {
        const double f = plain(r, r->theta, i), wave = 2 * pi / f;
        const double part = (r->original / wave - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
        inv_freq[i] = (float)(wave < r->original / r->high_freq_factor  ? f
                              : wave > r->original / r->low_freq_factor ? f / r->factor
                                                                        : (1 - part) * f / r->factor + part * f);
    }
}

/* The pair, not whole, that turns so often in the original length. */
static double pair_of(const struct ir_rope *r, double turns)
{
    return r->dim * log(r->original / (turns * 2 * pi)) / (2 * log(r->theta));
}

static void yarn(const struct ir_rope *r, float *inv_freq)
{
    double low = pair_of(r, r->beta_fast > 0 ? r->beta_fast : 32),
           high = pair_of(r, r->beta_slow > 0 ? r->beta_slow : 1);
    if (!r->no_truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, r->dim - 1.0);
    if (low == high)
        high += 0.001;
    for (uint32_t i = 0; i < r->dim / 2; i++) {
        const double f = plain(r, r->theta, i), ramp = fmin(fmax((i - low) / (high - low), 0), 1);
        inv_freq[i] = (float)(f / factor_of(r) * ramp + f * (1 - ramp));
    }
}

static double attention_factor(const struct ir_rope *r)
{
    const double factor = factor_of(r);
    if (r->attention_factor > 0)
        return r->attention_factor;
    if (r->kind == IR_ROPE_LONGROPE)
        return factor <= 1 ? 1 : sqrt(1 + log(factor) / log(r->original));
    if (r->mscale != 0 && r->mscale_all_dim != 0)
        return ir_rope_mscale(factor, r->mscale) / ir_rope_mscale(factor, r->mscale_all_dim);
    return ir_rope_mscale(factor, 1);
}

/* ---- the function --------------------------------------------------------------------------------------------------- */

static const char *wrong(const struct ir_rope *r)
{
    const bool reaches = r->kind == IR_ROPE_YARN || r->kind == IR_ROPE_LONGROPE;
    if (!(r->theta > 1) || !isfinite(r->theta))
        return "rope_theta must be a number above 1";
    if (r->dim < 2 || r->dim % 2 != 0)
        return "the rotary width must be even and 2 or more";
    if (r->kind != IR_ROPE_DEFAULT && !reaches && !(r->factor > 0))
        return "factor must be above 0";
    if (r->kind == IR_ROPE_DYNAMIC && (r->dim < 4 || !(r->factor >= 1) || !(r->max_positions > 0)))
        return "dynamic scaling needs a rotary width of 4 or more, a factor of 1 or more and max_position_embeddings";
    if ((reaches || r->kind == IR_ROPE_LLAMA3) && !(r->original > 1))
        return "original_max_position_embeddings is missing or not above 1";
    if (reaches && !(factor_of(r) > 0))
        return "factor is missing, and so is max_position_embeddings that would give it";
    if (r->kind == IR_ROPE_LLAMA3 && !(r->low_freq_factor > 0 && r->high_freq_factor > r->low_freq_factor))
        return "low_freq_factor must be above 0 and high_freq_factor above it";
    if (r->kind == IR_ROPE_LONGROPE)
        for (uint32_t i = 0; i < r->dim / 2; i++)
            if (!r->short_factor || !r->long_factor || !(r->short_factor[i] > 0) || !(r->long_factor[i] > 0))
                return "short_factor and long_factor must each have half the rotary width of numbers above 0";
    return NULL;
}

const char *ir_rope_frequencies(const struct ir_rope *r, uint32_t t, float *inv_freq, double *scale)
{
    const char *refused = wrong(r);
    if (refused)
        return refused;
    const double *stretch = t > r->original ? r->long_factor : r->short_factor;
    *scale = r->kind == IR_ROPE_YARN || r->kind == IR_ROPE_LONGROPE ? attention_factor(r) : 1;
    if (r->kind == IR_ROPE_DYNAMIC)
        dynamic(r, t, inv_freq);
    else if (r->kind == IR_ROPE_LLAMA3)
        llama3(r, inv_freq);
    else if (r->kind == IR_ROPE_YARN)
        yarn(r, inv_freq);
    else
        for (uint32_t i = 0; i < r->dim / 2; i++)
            inv_freq[i] = (float)(plain(r, r->theta, i) / (r->kind == IR_ROPE_LINEAR     ? r->factor
                                                           : r->kind == IR_ROPE_LONGROPE ? stretch[i]
                                                                                         : 1));
    return NULL;
}
