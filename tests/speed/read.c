/* read MEGABYTES THREADS: GB/s at which so many threads read so many megabytes of memory, the best of passes of two seconds. Compiled by
 * generate.sh. */
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    const size_t n = (argc > 1 ? strtoul(argv[1], NULL, 10) : 512) * 1000000 / 64 * 8; /* words */
    const int threads = argc > 2 ? atoi(argv[2]) : omp_get_num_procs();
    uint64_t *x = aligned_alloc(64, n * sizeof *x), sum = 0;
    double best = 1e9;
    for (size_t i = 0; i < n; i++)
        x[i] = i;
    for (double end = omp_get_wtime() + 2; omp_get_wtime() < end;) {
        const double begin = omp_get_wtime();
#pragma omp parallel for simd schedule(static) num_threads(threads) reduction(+ : sum)
        for (size_t i = 0; i < n; i++)
            sum += x[i];
        const double seconds = omp_get_wtime() - begin;
        best = seconds < best ? seconds : best;
    }
    printf("%.3f GB/s\n", (double)(n * sizeof *x) / best / 1e9);
    return sum == 1;
}
