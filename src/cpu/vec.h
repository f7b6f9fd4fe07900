/* Loops over contiguous float32, compiled for several instruction sets from one source (vec_body.h).
 *
 * The table that fits the processor is chosen once, by cpu_vec(). The functions are leaves: one thread, no allocation,
 * no dependence of the result on alignment. Where `acc` appears it is the addend of a gradient: out = acc + gradient,
 * NULL for none; it may equal out. Sums of many terms are taken in blocks, the blocks in float64.
 * They take their operands one by one, some more than six: they are called for every row. */
#ifndef PIPER_CPU_VEC_H
#define PIPER_CPU_VEC_H

#include <stddef.h>
#include <stdint.h>

/* Constants of one AdamW or SGD step, from struct update_args and step_inputs. */
struct vec_update {
    float grad_scale;
    float beta1, beta2, rest1, rest2; /* rest = 1 - beta */
    float step;                       /* lr / (1 - beta1^t); SGD: lr */
    float root;                       /* 1 / sqrt(1 - beta2^t) */
    float eps;
    float keep;  /* AdamW: 1 - lr*weight_decay */
    float decay; /* SGD: weight_decay */
};

enum { VEC_STRIP = 64 /* columns */ };
/* A norm's parameter gradients over a strip of `width` <= VEC_STRIP columns: x, dy (rows, ld) point at the strip. */
struct vec_strip {
    const float *x, *dy;
    const float *mean,
        *rstd;      /* one every `every` numbers; mean NULL: rmsnorm; both NULL: only db, the sum of the rows of dy */
    float *dw, *db; /* (width), NULL: not asked for */
    size_t rows, ld, width, every;
    int add_dw, add_db; /* add to dw, db, else write them */
};

/* A norm's parameters: y = (plus + w) h + b. w NULL: y = h; b NULL: 0. */
struct vec_norm {
    const float *w, *b;
    float plus, eps;
    int round; /* rmsnorm: h is rounded to bfloat16 */
};

/* f(min(gate, limit)) * (plus + up between -limit and limit); f: enum ir_act, silu's x sigmoid(alpha x). */
struct vec_gate {
    unsigned act;
    float limit, alpha, plus;
};

struct vec {
    const char *name; /* "avx512", "avx2", "neon", "base" */
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*axpy)(float *y, float a, const float *x, size_t n);  /* y += a x */
    void (*scale)(float *y, float a, const float *x, size_t n); /* y = a x, y may be x */
    float (*dot)(const float *a, const float *b, size_t n);
    float (*dot_half)(const float *a, const uint16_t *b, size_t n); /* b of bfloat16 */
    void (*copy_far)(float *y, const float *x, size_t n);           /* y = x, past the caches where it is aligned */

    void (*widen)(float *y, const uint16_t *x, size_t n); /* from bfloat16 */
    void (*round)(uint16_t *y, const float *x, size_t n); /* to bfloat16, as number_to_bf16() */

    float (*max)(const float *x, size_t n);
    /* y = exp(x - shift), y may be x; returns the sum of y. sum_exp: the sum alone. */
    double (*exp_sum)(float *y, const float *x, float shift, size_t n);
    double (*sum_exp)(const float *x, float shift, size_t n);
    void (*softmax_grad)(float *ds, const float *p, const float *dp, float delta, float scale, size_t n);

    /* y = min(max(x, -limit), limit); _grad: of dy, where x is not beyond. */
    void (*clamp)(float *y, const float *x, float limit, size_t n);
    void (*clamp_grad)(float *dx, const float *acc, const float *x, const float *dy, float limit, size_t n);
    /* x = cap tanh(x/cap), in place; slope, if not NULL: the derivative there. */
    void (*cap)(float *x, float *slope, float cap, size_t n);
    void (*gelu)(float *y, const float *x, size_t n);     /* tanh form */
    void (*gelu_erf)(float *y, const float *x, size_t n); /* exact form */
    void (*gelu_grad)(float *dx, const float *acc, const float *x, const float *dy, size_t n);
    void (*gelu_erf_grad)(float *dx, const float *acc, const float *x, const float *dy, size_t n);
    /* act: enum ir_act. */
    void (*act)(unsigned act, float *y, const float *x, size_t n);
    void (*act_grad)(unsigned act, float *dx, const float *acc, const float *x, const float *dy, size_t n);
    void (*swiglu)(float *y, const float *gate, const float *up, size_t n);
    void (*gated)(const struct vec_gate *p, float *y, const float *gate, const float *up, size_t n);
    void (*gated_grad)(const struct vec_gate *p, float *const d[2], const float *const acc[2], const float *gate,
                       const float *up, const float *dy, size_t n);
    /* d[0], acc[0]: gate; d[1], acc[1]: up. */
    void (*swiglu_grad)(float *const d[2], const float *const acc[2], const float *gate, const float *up,
                        const float *dy, size_t n);

    void (*layernorm)(float *y, const float *x, const struct vec_norm *p, size_t n, float stat[2]); /* plus is 0 */
    void (*rmsnorm)(float *y, const float *x, const struct vec_norm *p, size_t n, float *rstd);     /* w is not NULL */
    void (*layernorm_grad)(float *dx, const float *acc, const float *x, const struct vec_norm *p, const float *dy,
                           size_t n, const float stat[2]); /* stat: mean, rstd */
    void (*rmsnorm_grad)(float *dx, const float *acc, const float *x, const struct vec_norm *p, const float *dy,
                         size_t n, float rstd);
    /* The two halves of rmsnorm, and of its gradient, where a row is on several devices: given rstd, and k = the row's mean of w x dy
     * times rstd^2. rmsnorm_dot: the sum of w x dy. */
    void (*rmsnorm_apply)(float *y, const float *x, const struct vec_norm *p, size_t n, float rstd);
    float (*rmsnorm_dot)(const float *x, const struct vec_norm *p, const float *dy, size_t n);
    void (*rmsnorm_grad_apply)(float *const dx[2], const float *x, const struct vec_norm *p, const float *dy, size_t n,
                               const float rstd_k[2]); /* dx: where it goes, its addend or NULL */
    void (*norm_params)(const struct vec_strip *s);

    /* One head: x (2*half) turned by the angles of cos, sin (half); sign -1 turns back. Element i with i + half; rope_pairs: 2i
     * with 2i + 1. */
    void (*rope)(float *y, const float *acc, const float *x, const float *cos, const float *sin, float sign,
                 size_t half);
    void (*rope_pairs)(float *y, const float *acc, const float *x, const float *cos, const float *sin, float sign,
                       size_t half);

    void (*adamw)(const struct vec_update *u, float *p, float *m, float *v, const float *g, size_t n);
    void (*sgd)(const struct vec_update *u, float *p, const float *g, size_t n);
    /* Sums of the bits of elements, of 32 and of 16 bits, as whole numbers. */
    uint64_t (*bits)(const float *x, size_t n);
    uint64_t (*bits_half)(const uint16_t *x, size_t n);
    /* Sum of squares; *nonfinite += number of NaN and Inf. */
    double (*sumsq)(const float *x, size_t n, double *nonfinite);
};

/* The best table that this processor and PIPER_ISA allow (cpu/isa.h). Borrowed, lives with the process. */
const struct vec *cpu_vec(void);
/* Every table that they allow, best first, then NULL: for tests. */
const struct vec *const *cpu_vec_all(void);

#endif
