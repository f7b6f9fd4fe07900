/* The threads of the kernels: one team for all of them, and what it moves. */
#include <string.h>

#include "cpu/cpu.h"

static int threads = 1;

void cpu_team_set(int n)
{
    threads = n < 1 ? 1 : n;
}

int cpu_threads(void)
{
    return threads;
}

int cpu_team(uint64_t rows, uint64_t width)
{
    return rows * width < 1u << 14 ? 1 : threads;
}

void cpu_copy(void *to, const void *from, uint64_t bytes)
{
    enum { BYTES = CPU_PIECE * sizeof(float) };
    if (from == to)
        return;
#pragma omp parallel for schedule(static) num_threads(cpu_team(bytes, 1))
    for (uint64_t i = 0; i < bytes; i += BYTES)
        memcpy((char *)to + i, (const char *)from + i, bytes - i < BYTES ? bytes - i : BYTES);
}

void cpu_start_from(float *out, const float *acc, uint64_t n)
{
    if (acc)
        cpu_copy(out, acc, n * sizeof *out);
}

void cpu_zero(float *out, uint64_t n)
{
#pragma omp parallel for schedule(static) num_threads(cpu_team(n, 1))
    for (uint64_t i = 0; i < n; i += CPU_PIECE)
        memset(out + i, 0, (n - i < CPU_PIECE ? n - i : CPU_PIECE) * sizeof *out);
}
