/* The instruction set that kernels use, chosen once: the best that processor, compiler and PIPER_ISA allow. */
#ifndef PIPER_CPU_ISA_H
#define PIPER_CPU_ISA_H

#include <stdbool.h>

/* Whether code for them can be compiled. */
#if defined(__x86_64__) && defined(__GNUC__)
#define CPU_AVX 1
#if defined(__clang__) ? __clang_major__ >= 9 : __GNUC__ >= 11
#define CPU_AVX512_BF16 1
#endif
#if defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define CPU_AMX 1
#endif
#elif defined(__aarch64__) && defined(__GNUC__)
#define CPU_NEON 1
#endif

/* Each has what those before it have. avx2: with FMA; avx512: F, DQ, BW and VL; amx_bf16: AMX-TILE and AMX-BF16. neon is in every
 * processor that runs this: base leaves the products to BLAS there too. */
#ifdef CPU_NEON
enum isa { ISA_BASE, ISA_NEON, ISA_COUNT };
#else
enum isa { ISA_BASE, ISA_AVX2, ISA_AVX512, ISA_AVX512_BF16, ISA_AMX_BF16, ISA_COUNT };
#endif

/* A PIPER_ISA that is no name of one ends the process with ST_USAGE. */
enum isa cpu_isa(void);
bool cpu_isa_asked(void); /* by PIPER_ISA */

#endif
