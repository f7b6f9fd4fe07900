/* A rank that misbehaves, for tests of the watchdog: loaded before the BLAS library, it stands in for one of its functions.
 * In rank SPIN_RANK, from call number SPIN_CALL on, SPIN_HOW says what happens in a call: "spin" computes without end, "sleep"
 * sleeps without end, "vain" asks the system for memory that it does not give, without end, a number is that many milliseconds of computing before the product. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void misbehave(void)
{
    static long call;
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *which = getenv("SPIN_RANK"), *from = getenv("SPIN_CALL");
    const char *how = getenv("SPIN_HOW");
    if (!rank || !which || !from || !how || strcmp(rank, which) != 0 || ++call < atol(from))
        return;
    while (strcmp(how, "sleep") == 0)
        sleep(1000);
    while (strcmp(how, "vain") == 0)
        mmap(NULL, (size_t)1 << 62, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (double begin = seconds(); strcmp(how, "spin") == 0 || seconds() - begin < atof(how) * 1e-3;)
        ;
}

void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc)
{
    static void (*product)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *,
                           int);
    if (!product)
        *(void **)&product = dlsym(RTLD_NEXT, "cblas_sgemm");
    misbehave();
    product(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
