/* exp, logistic and normal distribution functions of one float32, in a form that vectorises: no branch, no call, no
 * table. Included by vec_body.h once per instruction set; V() and FMA() are its parameters. Coefficients: Chebyshev
 * fits. */

#define INLINE static inline __attribute__((always_inline))

union V(bits) {
    float f;
    uint32_t u;
};

/* e^x within 2 ulp; 0 below -87.3 (so no subnormals), x is clamped to 88. NaN stays NaN.
 * x = n ln2 + r with |r| <= ln2/2; adding 1.5*2^23 rounds to an integer and leaves it in the low bits of the sum. */
INLINE float V(exp1)(float x)
{
    float clamped = x > 88.0f ? 88.0f : x;
    clamped = clamped < -87.3f ? -87.3f : clamped;
    union V(bits) z = { FMA(clamped, 1.44269504f, 12582912.0f) };
    float n = z.f - 12582912.0f;
    float r = FMA(n, -0.693359375f, clamped);
    r = FMA(n, 2.12194440e-4f, r);
    float q = FMA(0.00139345f, r, 0.00836378f);
    q = FMA(q, r, 0.04166646f);
    q = FMA(q, r, 0.16666573f);
    q = FMA(q, r, 0.5f);
    float e = FMA(q * r, r, r) + 1.0f;
    union V(bits) power = { .u = (z.u + 127u) << 23 };
    return x < -87.3f ? 0.0f : e * power.f;
}

INLINE float V(logistic1)(float x)
{
    return 1.0f / (1.0f + V(exp1)(-x));
}

/* Phi(x), the normal distribution function, from erfc(z) = exp(-z^2) P(t) / (1 + 2z), t = (z - 2)/(z + 2), z =
 * |x|/sqrt 2, so small tails keep their relative precision. density = exp(-x^2/2), without 1/sqrt(2 pi). */
struct V(normal) {
    float phi, density;
};

INLINE struct V(normal) V(normal1)(float x)
{
    float z = (x < 0 ? -x : x) * 0.70710678f;
    float h = x * x;
    float low = FMA(x, x, -h); /* what rounding took from x^2: exp multiplies its absolute error */
    float e = V(exp1)(-0.5f * h) * (1.0f - 0.5f * low);
    float t = (z - 2.0f) / (z + 2.0f);
    float p = FMA(-0.00040108713f, t, -0.0012257547f);
    p = FMA(p, t, 0.0013210413f);
    p = FMA(p, t, 0.008630633f);
    p = FMA(p, t, -0.008065263f);
    p = FMA(p, t, -0.054204833f);
    p = FMA(p, t, 0.1640565f);
    p = FMA(p, t, -0.1660313f);
    p = FMA(p, t, -0.09276404f);
    p = FMA(p, t, 1.2769784f);
    float tail = 0.5f * e * p / (1.0f + 2.0f * z);
    return (struct V(normal)){ x < 0 ? tail : 1.0f - tail, e };
}
