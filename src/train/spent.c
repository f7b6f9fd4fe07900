/* Where the time of a run went: a table at its end, from counters that cost nothing. */
#include <math.h>
#include <stdio.h>

#include "train/private.h"

/* Seconds of this rank; then those of all: their sum, the least and the most with their ranks. */
struct row {
    const char *name;
    double seconds;
    double least, most;
    unsigned least_rank, most_rank;
};
enum { ROWS = 20 };

void train__spend(struct train *t, enum train_spent on, double since)
{
    t->spent[on] += clock_now() - since;
}

/* ---- of all ranks ----------------------------------------------------------------------------------------------- */

/* Microseconds << RANK_BITS | rank, of which the largest is found; least: of what is left to MOST. */
enum { RANK_BITS = 20 };
static const uint64_t MOST = UINT64_MAX >> RANK_BITS;

static void of_all_ranks(struct row *rows, uint32_t n)
{
    double sums[ROWS];
    uint64_t ends[2 * ROWS];
    const unsigned ranks = (1u << RANK_BITS) - 1, rank = world_rank() & ranks;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t own = (uint64_t)fmin(1e6 * fmax(rows[i].seconds, 0), (double)(MOST >> 1));
        sums[i] = rows[i].seconds;
        ends[2 * i] = (MOST - own) << RANK_BITS | rank;
        ends[2 * i + 1] = own << RANK_BITS | rank;
    }
    world_sum_f64(sums, n);
    world_max_u64(ends, 2 * (uint64_t)n);
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (struct row){ .name = rows[i].name,
                                .seconds = sums[i] / world_size(),
                                .least = 1e-6 * (double)(MOST - (ends[2 * i] >> RANK_BITS)),
                                .most = 1e-6 * (double)(ends[2 * i + 1] >> RANK_BITS),
                                .least_rank = (unsigned)ends[2 * i] & ranks,
                                .most_rank = (unsigned)ends[2 * i + 1] & ranks };
}

/* ---- of this rank ----------------------------------------------------------------------------------------------- */

static uint32_t steps_on_host(const struct train *t, const double *spent, struct row *rows)
{
    static const char *const names[EXEC_SPENT] = {
        [EXEC_FORWARD] = "forward",
        [EXEC_BACKWARD] = "backward",
        [EXEC_UPDATE] = "norm and update",
        [EXEC_MESSAGES] = "exposed: messages",
        [EXEC_GATHERS] = "exposed: gathers",
        [EXEC_REDUCTIONS] = "exposed: reductions",
        [EXEC_ALL_TO_ALL] = "exposed: all-to-all",
        [EXEC_SCALARS] = "exposed: sums of a step",
    };
    uint32_t n = 0;
    for (uint32_t i = 0; i < EXEC_SPENT; i++)
        if (names[i])
            rows[n++] = (struct row){ names[i], .seconds = spent[i] };
    rows[EXEC_UPDATE - EXEC_FORWARD].seconds -= exec_copy_waited(t->exec);
    return n;
}

/* The first of them is what this rank computed, the last one all of its time. */
static uint32_t of_this_rank(const struct train *t, struct row *rows)
{
    const double *spent = exec_spent(t->exec, t->train_list), all = clock_now() - t->began;
    uint32_t n = 1;
    double sum = 0;
    rows[n++] = (struct row){ "start-up", .seconds = t->spent[TRAIN_START] };
    rows[n++] = (struct row){ "data", .seconds = t->spent[TRAIN_DATA] + (spent ? spent[EXEC_LOADS] : 0) };
    if (spent)
        n += steps_on_host(t, spent, &rows[n]);
    else
        rows[n++] = (struct row){ "steps, on the device", .seconds = t->spent[TRAIN_LISTS] };
    rows[n++] = (struct row){ "checkpoints", .seconds = t->spent[TRAIN_CHECKPOINTS] + exec_copy_waited(t->exec) };
    rows[n++] = (struct row){ "evaluations", .seconds = t->spent[TRAIN_EVALUATIONS] };
    rows[n++] = (struct row){ "samples", .seconds = t->spent[TRAIN_SAMPLES] };
    rows[n++] = (struct row){ "comparison of replicas", .seconds = t->spent[TRAIN_COMPARISONS] };
    for (uint32_t i = 1; i < n; i++)
        sum += rows[i].seconds;
    rows[n++] = (struct row){ "other", .seconds = all - sum };
    rows[n++] = (struct row){ "all", .seconds = all };
    rows[0] = (struct row){ "computing",
                            .seconds = spent ? spent[EXEC_FORWARD] + spent[EXEC_BACKWARD] + spent[EXEC_UPDATE] : 0 };
    return n;
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

static void report_steps(struct train *t)
{
    if (t->step == t->first_step)
        return;
    const double mean = t->spent[TRAIN_STEPS] / (double)(t->step - t->first_step);
    log_line(&t->log, "mean step: %.4g s, %.0f tokens/s, %.4g model Gflop/s per rank", mean,
             (double)train__batch(t) * t->job.graph.seq_len / mean, 1e-9 * t->flops / mean / world_size());
}

void train__report_spent(struct train *t)
{
    struct row rows[ROWS];
    const uint32_t n = of_this_rank(t, rows);
    const double all = rows[n - 1].seconds;
    of_all_ranks(rows, n);
    log_line(&t->log, "%-26s %11s %6s %11s %6s %11s %6s", "time per rank, seconds", "mean", "%", "least", "rank",
             "most", "rank");
    for (uint32_t i = 1; i < n; i++)
        if (rows[i].most >= 1e-3)
            log_line(&t->log, "  %-24s %11.3f %6.1f %11.3f %6u %11.3f %6u", rows[i].name, rows[i].seconds,
                     100 * rows[i].seconds / all, rows[i].least, rows[i].least_rank, rows[i].most, rows[i].most_rank);
    if (world_size() > 1 && rows[0].most > 0)
        log_line(&t->log, "slowest rank: %u, computing for %.3f s; fastest rank: %u, for %.3f s", rows[0].most_rank,
                 rows[0].most, rows[0].least_rank, rows[0].least);
    report_steps(t);
}
