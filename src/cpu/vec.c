/* One source, several instruction sets: vec_body.h is included once for each. target_clones would do it with gcc alone;
 * a target region and __builtin_cpu_supports() work with clang too, and with OpenMP loops. */
#include "cpu/vec.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define V(name)      name##_base
#define V_NAME       "base"
#define FMA(a, b, c) ((a) * (b) + (c))
#include "cpu/vec_body.h"
#undef V
#undef V_NAME
#undef FMA

#if defined(__x86_64__) && defined(__GNUC__)
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

const struct vec *const *cpu_vec_all(void)
{
    static const struct vec *const all[] = { &table_avx512, &table_avx2, &table_base, NULL };
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
        return all;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? all + 1 : all + 2;
}
#else
const struct vec *const *cpu_vec_all(void)
{
    static const struct vec *const all[] = { &table_base, NULL };
    return all;
}
#endif

const struct vec *cpu_vec(void)
{
    return cpu_vec_all()[0];
}
