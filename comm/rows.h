/* Rows of experts that go in rounds: who sends which of them to whom in which round. All members of a group compute the same from the
 * counts of all of them. */
#ifndef PIPER_COMM_ROWS_H
#define PIPER_COMM_ROWS_H

#include "base/mem.h"

/* Member `from` sends the sum of counts[(from*members + to) * each] and the next each-1 to member `to`, ordered by `to`. A
 * member receives in the order of `from`, `most` rows a round. */
struct comm_rounds {
    const int32_t *counts;
    uint32_t members, each;
    uint64_t most;
};

static inline uint64_t comm_rows_between(const struct comm_rounds *r, uint32_t from, uint32_t to)
{
    const int32_t *c = r->counts + ((uint64_t)from * r->members + to) * r->each;
    uint64_t n = 0;
    for (uint32_t i = 0; i < r->each; i++) {
        CHECK(c[i] >= 0);
        n += (uint64_t)c[i];
    }
    return n;
}

/* Rounds that the group needs: 1 at least. */
static inline uint32_t comm_rounds_needed(const struct comm_rounds *r)
{
    uint64_t most = 1;
    for (uint32_t to = 0; to < r->members; to++) {
        uint64_t n = 0;
        for (uint32_t from = 0; from < r->members; from++)
            n += comm_rows_between(r, from, to);
        const uint64_t rounds = (n + r->most - 1) / r->most;
        most = rounds > most ? rounds : most;
    }
    return (uint32_t)most;
}

/* Those from one member to another in a round: n, first of them at row `sent` of all that the one sends, and at row `received` of what the other
 * receives in the round. */
struct comm_rows {
    uint64_t n, sent, received;
};
static inline struct comm_rows comm_rows_of_round(const struct comm_rounds *r, uint32_t round, uint32_t from,
                                                  uint32_t to)
{
    const uint64_t low = round * r->most, high = low + r->most;
    uint64_t before = 0, sent = 0;
    for (uint32_t k = 0; k < from; k++)
        before += comm_rows_between(r, k, to);
    for (uint32_t k = 0; k < to; k++)
        sent += comm_rows_between(r, from, k);
    const uint64_t end = before + comm_rows_between(r, from, to);
    const uint64_t a = before > low ? before : low, b = end < high ? end : high;
    return a < b ? (struct comm_rows){ b - a, sent + a - before, a - low } : (struct comm_rows){ 0, 0, 0 };
}

/* The counts, [members][each], of what member `me` receives in a round. */
static inline void comm_round_counts(const struct comm_rounds *r, uint32_t round, uint32_t me, int32_t *to)
{
    const uint64_t low = round * r->most, high = low + r->most;
    uint64_t at = 0;
    for (uint32_t from = 0; from < r->members; from++)
        for (uint32_t i = 0; i < r->each; i++) {
            const int32_t n = r->counts[((uint64_t)from * r->members + me) * r->each + i];
            CHECK(n >= 0);
            const uint64_t a = at > low ? at : low, end = at + (uint64_t)n, b = end < high ? end : high;
            *to++ = a < b ? (int32_t)(b - a) : 0;
            at = end;
        }
}

#endif
