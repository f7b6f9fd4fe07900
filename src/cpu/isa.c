/* See isa.h. */
#include "cpu/isa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/mem.h"

#ifdef CPU_NEON
static const char *const names[ISA_COUNT] = { "base", "neon" };
#else
static const char *const names[ISA_COUNT] = { "base", "avx2", "avx512", "avx512_bf16", "amx_bf16" };
#endif

#ifdef CPU_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Tiles are state of 8 KiB a thread that Linux (5.16 on) saves for a process that asked (arch/x86/xstate in its manual). */
static bool ask_for_tiles(void)
{
    enum { TILE = 1 << 24, BF16 = 1 << 22, REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & TILE) && (d & BF16) &&
           syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
}
#endif

static enum isa of_processor(void)
{
    enum isa best = ISA_BASE;
#ifdef CPU_AVX
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        best = ISA_AVX2;
    if (best == ISA_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        best = ISA_AVX512;
#ifdef CPU_AVX512_BF16
    if (best == ISA_AVX512 && __builtin_cpu_supports("avx512bf16"))
        best = ISA_AVX512_BF16;
#endif
#ifdef CPU_AMX
    if (best == ISA_AVX512_BF16 && ask_for_tiles())
        best = ISA_AMX_BF16;
#endif
#endif
#ifdef CPU_NEON
    best = ISA_NEON;
#endif
    return best;
}

bool cpu_isa_asked(void)
{
    const char *asked = getenv("PIPER_ISA");
    return asked && *asked;
}

static enum isa choose(void)
{
    const enum isa best = of_processor();
    const char *asked = getenv("PIPER_ISA");
    if (!cpu_isa_asked())
        return best;
    for (int i = 0; i < ISA_COUNT; i++)
        if (strcmp(asked, names[i]) == 0)
            return i < (int)best ? (enum isa)i : best;
    char text[128];
    int n = snprintf(text, sizeof text, "PIPER_ISA is \"%.40s\", expected %s", asked, names[0]);
    for (int i = 1; i < ISA_COUNT; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%s", i + 1 < ISA_COUNT ? ", " : " or ", names[i]);
    process_fail(ST_USAGE, text);
}

enum isa cpu_isa(void)
{
    static int chosen = -1; /* every thread finds the same */
    int isa = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
    if (isa < 0) {
        isa = (int)choose();
        __atomic_store_n(&chosen, isa, __ATOMIC_RELAXED);
    }
    return (enum isa)isa;
}
