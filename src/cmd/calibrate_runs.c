/* Measurements that are repeated until their runs agree. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/calibrate.h"

enum { ATTEMPTS = 3, PPM = 1000000 };

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double calibrate_median(double *x, uint32_t n)
{
    qsort(x, n, sizeof *x, by_number);
    return x[n / 2];
}

/* The middle half of sorted runs, in parts of their median. */
static double spread_of(const double *x, uint32_t n)
{
    return x[n / 2] > 0 ? (x[3 * n / 4] - x[n / 4]) / x[n / 2] : 0;
}

/* One attempt: the mean over the ranks that take part, and the largest spread of one. */
static double attempt(calibrate_take take, void *self, double *spread)
{
    double run[CALIBRATE_RUNS], sums[2] = { 0 };
    uint64_t ppm = 0;
    const uint32_t n = take(self, run);
    if (n) {
        sums[0] = calibrate_median(run, n);
        sums[1] = 1;
        ppm = (uint64_t)fmin(1e15, PPM * spread_of(run, n));
    }
    world_sum_f64(sums, 2);
    world_max_u64(&ppm, 1);
    *spread = (double)ppm / PPM;
    return sums[0] / fmax(1, sums[1]);
}

double calibrate_settle(struct calibrate_runs *all, const char *what, calibrate_take take, void *self)
{
    double best = 0, least = INFINITY;
    for (int i = 0; i < ATTEMPTS && least > MACHINE_NOISY; i++) {
        double spread, seconds = attempt(take, self, &spread);
        if (spread < least) {
            least = spread;
            best = seconds;
        }
    }
    all->measured++;
    all->noisy += least > MACHINE_NOISY;
    if (least > all->spread) {
        all->spread = least;
        snprintf(all->what, sizeof all->what, "%s", what);
    }
    return best;
}
