/* Rows of experts in rounds (comm/rows.h): all rows go once, each round of a member is packed, and its counts say what stands there. */
#include "base/mem.h"
#include "base/number.h"
#include "comm/rows.h"
#include "tests/unit/suite.h"

enum { MEMBERS = 5, EACH = 3, MOST = 40 };

/* By the seed: even, uneven, or all rows of all members to one of them. */
static void draw(uint64_t seed, uint32_t members, int32_t *counts)
{
    for (uint32_t i = 0; i < members * members * EACH; i++) {
        const uint64_t x = number_mix(seed * 1000 + i);
        const uint32_t to = i / EACH % members;
        counts[i] = (int32_t)(seed % 3 == 0 ? 3 : seed % 3 == 1 ? x % 9 : to == seed % members ? x % 20 : 0);
    }
}

/* Of a pair of members: what was sent in the rounds so far is all before row *sent. */
static uint64_t check_pair(const struct comm_rounds *r, uint32_t round, uint32_t from, uint32_t to, uint64_t *sent,
                           uint64_t received)
{
    const struct comm_rows rows = comm_rows_of_round(r, round, from, to);
    if (!rows.n)
        return 0;
    ck_assert_uint_eq(rows.sent, *sent);
    ck_assert_uint_eq(rows.received, received);
    *sent += rows.n;
    return rows.n;
}

static void check_round(const struct comm_rounds *r, uint32_t round, uint64_t *sent, uint64_t *received)
{
    for (uint32_t to = 0; to < r->members; to++) {
        int32_t counts[MEMBERS * EACH];
        uint64_t n = 0, counted = 0;
        comm_round_counts(r, round, to, counts);
        for (uint32_t from = 0; from < r->members; from++) {
            const uint64_t before = n;
            n += check_pair(r, round, from, to, &sent[from * MEMBERS + to], n);
            for (uint32_t k = 0; k < EACH; k++)
                counted += (uint64_t)counts[from * EACH + k];
            ck_assert_uint_eq(counted, n);
            ck_assert_uint_ge(n, before);
        }
        ck_assert_uint_le(n, r->most);
        received[to] += n;
    }
}

START_TEST(rounds)
{
    const uint64_t seed = (uint64_t)_i;
    const uint32_t members = 1 + (uint32_t)seed % MEMBERS;
    int32_t counts[MEMBERS * MEMBERS * EACH];
    uint64_t sent[MEMBERS * MEMBERS] = { 0 }, received[MEMBERS] = { 0 }, largest = 0;
    draw(seed, members, counts);
    const struct comm_rounds r = { counts, members, EACH, 1 + number_mix(seed) % MOST };
    const uint32_t n = comm_rounds_needed(&r);
    for (uint32_t from = 0; from < members; from++)
        for (uint32_t to = 1; to < members; to++) /* where those for `to` begin */
            sent[from * MEMBERS + to] = sent[from * MEMBERS + to - 1] + comm_rows_between(&r, from, to - 1);
    uint64_t first[MEMBERS * MEMBERS];
    memcpy(first, sent, sizeof first);
    for (uint32_t round = 0; round < n; round++)
        check_round(&r, round, sent, received);
    for (uint32_t to = 0; to < members; to++) {
        for (uint32_t from = 0; from < members; from++)
            ck_assert_uint_eq(sent[from * MEMBERS + to] - first[from * MEMBERS + to], comm_rows_between(&r, from, to));
        largest = received[to] > largest ? received[to] : largest;
    }
    ck_assert_uint_eq(n, largest ? (largest + r.most - 1) / r.most : 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rows");
    TCase *t = tcase_create("rows");
    tcase_add_loop_test(t, rounds, 0, 600);
    suite_add_tcase(s, t);
    return suite_run(s);
}
