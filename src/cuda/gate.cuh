/* Activations, and gates made of them: of one element, for the elementwise kernels and for what stands behind the products of
 * experts. */
#ifndef PIPER_CUDA_GATE_CUH
#define PIPER_CUDA_GATE_CUH

#include "cuda/kernel.cuh"

namespace
{
/* Of activations that the attributes name: struct vec_gate of the CPU's. */
struct map_how {
    unsigned act;
    float limit, alpha, plus, scale;
};

/* F::IN inputs to F::OUT outputs, of one element: F::at(how, x, y). */
struct gelu_tanh {
    static constexpr int IN = 1, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &, const float *x, float *y)
    {
        const float u = 1.5957691216f * (x[0] + 0.044715f * x[0] * x[0] * x[0]); /* 2 sqrt(2/pi) */
        y[0] = __fdividef(x[0], 1 + expf(-u));
    }
};

struct gelu_tanh_grad { /* x, dy */
    static constexpr int IN = 2, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &, const float *x, float *y)
    {
        const float u = 1.5957691216f * (x[0] + 0.044715f * x[0] * x[0] * x[0]);
        const float s = __fdividef(1, 1 + expf(-u)); /* (1 + tanh(u/2)) / 2 */
        const float slope = 1.5957691216f * (1 + 3 * 0.044715f * x[0] * x[0]);
        y[0] = x[1] * (s + x[0] * s * (1 - s) * slope);
    }
};

struct gelu_erf {
    static constexpr int IN = 1, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &, const float *x, float *y)
    {
        y[0] = 0.5f * x[0] * (1 + erff(0.70710678118f * x[0]));
    }
};

struct gelu_erf_grad {
    static constexpr int IN = 2, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &, const float *x, float *y)
    {
        const float phi = 0.5f * (1 + erff(0.70710678118f * x[0]));
        y[0] = x[1] * (phi + 0.39894228040f * x[0] * expf(-0.5f * x[0] * x[0]));
    }
};

/* Value and slope; one branch for all threads. */
__device__ __forceinline__ float activation(const map_how &how, float x, float &slope)
{
    const float in[2] = { x, 1 };
    float y;
    switch (how.act) {
    case IR_ACT_GELU:
        gelu_erf_grad::at(how, in, &slope);
        gelu_erf::at(how, in, &y);
        return y;
    case IR_ACT_GELU_TANH:
        gelu_tanh_grad::at(how, in, &slope);
        gelu_tanh::at(how, in, &y);
        return y;
    case IR_ACT_RELU:
        slope = x > 0;
        return fmaxf(x, 0);
    case IR_ACT_RELU2:
        slope = 2 * fmaxf(x, 0);
        return fmaxf(x, 0) * fmaxf(x, 0);
    case IR_ACT_SIGMOID:
        y = __fdividef(1, 1 + expf(-x));
        slope = y * (1 - y);
        return y;
    default:
        y = __fdividef(1, 1 + expf(-how.alpha * x));
        slope = y * (1 + how.alpha * x * (1 - y));
        return x * y;
    }
}

struct gated { /* gate, up */
    static constexpr int IN = 2, OUT = 1;
    static __device__ __forceinline__ void at(const map_how &how, const float *x, float *y)
    {
        float slope;
        y[0] = activation(how, fminf(x[0], how.limit), slope) * (how.plus + fmaxf(-how.limit, fminf(x[1], how.limit)));
    }
};

struct gated_grad { /* gate, up, dy -> dgate, dup */
    static constexpr int IN = 3, OUT = 2;
    static __device__ __forceinline__ void at(const map_how &how, const float *x, float *y)
    {
        float slope;
        const float f = activation(how, fminf(x[0], how.limit), slope);
        const float up = how.plus + fmaxf(-how.limit, fminf(x[1], how.limit));
        y[0] = x[0] > how.limit ? 0 : x[2] * up * slope;
        y[1] = fabsf(x[1]) > how.limit ? 0 : x[2] * f;
    }
};

inline map_how map_how_of(const struct ir_attrs *a, float scale)
{
    return { a->act, a->clamp > 0 ? a->clamp : INFINITY, a->alpha > 0 ? a->alpha : 1,
             a->flags & IR_ONE_PLUS ? 1.0f : 0.0f, scale };
}

/* silu(gate) up, which has kernels of its own. */
inline bool plain_gate(const struct ir_attrs *a)
{
    return a->act == IR_ACT_SILU && !(a->clamp > 0) && !(a->alpha > 0) && !(a->flags & IR_ONE_PLUS);
}
} // namespace

#endif
