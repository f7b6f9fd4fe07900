/* One source, several instruction sets: vec_body.h is included once for each. target_clones would do it with gcc alone;
 * a target region and __builtin_cpu_supports() work with clang too, and with OpenMP loops. */
#include "cpu/vec.h"
#include "ir/op.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "cpu/isa.h"
#ifdef CPU_AVX
#include <immintrin.h>
#endif

#define V(name)      name##_base
#define V_NAME       "base"
#define FMA(a, b, c) ((a) * (b) + (c))
#include "cpu/vec_body.h"
#undef V
#undef V_NAME
#undef FMA

#ifdef CPU_AVX
#define FMA(a, b, c) __builtin_fmaf(a, b, c)

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define V(name) name##_avx2
#define V_NAME  "avx2"
#include "cpu/vec_body.h"
#undef V
#undef V_NAME
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")
#endif
#define V(name) name##_avx512
#define V_NAME  "avx512"
#include "cpu/vec_body.h"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

#ifdef CPU_NEON
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#define V(name)      name##_neon
#define V_NAME       "neon"
#include "cpu/vec_body.h"
#endif

/* By enum isa, downwards. */
const struct vec *const *cpu_vec_all(void)
{
#ifdef CPU_AVX
    static const struct vec *const all[] = { &table_avx512, &table_avx2, &table_base, NULL };
    const enum isa isa = cpu_isa();
    return isa >= ISA_AVX512 ? all : isa == ISA_AVX2 ? all + 1 : all + 2;
#elif defined(CPU_NEON)
    static const struct vec *const all[] = { &table_neon, &table_base, NULL };
    return cpu_isa() >= ISA_NEON ? all : all + 1;
#else
    static const struct vec *const all[] = { &table_base, NULL };
    return all;
#endif
}

const struct vec *cpu_vec(void)
{
    return cpu_vec_all()[0];
}
