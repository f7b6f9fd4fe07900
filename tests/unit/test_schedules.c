/* Orders of the schedules against what the papers say of them. -v prints the table of bubbles and peaks.
 *
 * The formulas are checked with equal unit times, and with others where they hold there: those of zero bubble need tW at most
 * tB and at most tF; else a rank waits for more than BW can fill, and the simulator is the oracle. An overlapped pair is one
 * operation of a given length (F&B): with the length of both parts one after the other every rank is equally busy and meets
 * DualPipe's formula; with a shorter one ranks have different numbers of pairs, and the formula is that of the rank that waits
 * most (p/2-1). */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "schedule_sim.h"
#include "tests/unit/suite.h"

static bool verbose;

/* As ck_assert_msg, but silent where it holds: Check writes down every assertion, and there are millions. */
#define need(cond, ...)                \
    do {                               \
        if (!(cond))                   \
            ck_abort_msg(__VA_ARGS__); \
    } while (0)

static const struct schedule_kind *kind_named(const char *name)
{
    for (int i = 0; sched_schedule_kinds[i]; i++)
        if (!strcmp(sched_schedule_kinds[i]->name, name))
            return sched_schedule_kinds[i];
    ck_abort_msg("no schedule %s", name);
}

static bool works(const struct schedule_kind *k, uint32_t p, uint32_t m, uint32_t v)
{
    return !k->refuse || !k->refuse(p, m, v);
}

/* ---- golden orders ---- */

START_TEST(golden)
{
    char path[512], line[4096], name[32] = "";
    unsigned p = 0, m = 0, v = 0, rows = 0, r = 0;
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/tests/golden/schedules.txt", top ? top : ".");
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s cannot be read", path);
    while (fgets(line, sizeof line, f)) {
        if (*line == '#' || *line == '\n') {
            ck_assert_msg(r == p, "%s %u %u: %u rows in the file", name, p, m, r);
        } else if (r == p) {
            ck_assert_int_eq(sscanf(line, "%31s %u %u %u", name, &p, &m, &v), 4);
            r = 0;
        } else {
            struct cells row = { 0 };
            kind_named(name)->build(p, m, v, r, &row);
            char *text = sim_text(&row);
            ck_assert_msg(!strcmp(text, line), "%s p=%u m=%u v=%u, rank %u:\n%s, expected\n%s", name, p, m, v, r, text,
                          line);
            mem_free(text);
            vec_free(&row);
            r++;
            rows++;
        }
    }
    fclose(f);
    ck_assert_uint_eq(rows, 46);
}
END_TEST

/* interleaved-zb with one stage a rank is zb-h1. */
START_TEST(one_chunk)
{
    for (uint32_t p = 1; p <= 8; p++)
        for (uint32_t m = 1; m <= 3 * p; m++)
            for (uint32_t r = 0; r < p && works(kind_named("interleaved-zb"), p, m, 1); r++) {
                struct cells a = { 0 }, b = { 0 };
                kind_named("interleaved-zb")->build(p, m, 1, r, &a);
                kind_named("zb-h1")->build(p, m, 1, r, &b);
                char *ta = sim_text(&a), *tb = sim_text(&b);
                ck_assert_str_eq(ta, tb);
                mem_free(ta);
                mem_free(tb);
                vec_free(&a);
                vec_free(&b);
            }
}
END_TEST

/* ---- every order is whole and can run ---- */

static struct sim_input sim_input(const struct schedule_kind *k, const struct cells *rows, uint32_t p, uint32_t m,
                                  uint32_t v)
{
    bool two_way = k->placement == PLACE_TWO_WAY;
    return (struct sim_input){ .rows = rows,
                               .ranks = p,
                               .m = two_way ? m / 2 : m,
                               .stages = p * v,
                               .directions = two_way ? 2 : 1,
                               .f = 1,
                               .b = 1,
                               .w = 1,
                               .pair = 3 };
}

/* Rank of a stage number, from the placements' definition. */
static uint32_t rank_of(const struct schedule_kind *k, uint32_t p, uint32_t stage)
{
    switch (k->placement) {
    case PLACE_V:
        return stage < p ? stage : 2 * p - 1 - stage;
    case PLACE_TWO_WAY:
        return stage < p ? stage : 2 * p - 1 - stage; /* stage s of direction 2 is on rank p-1-s */
    default:
        return stage % p;
    }
}

static void check_whole(const struct schedule_kind *k, const struct sim_input *in, uint32_t p)
{
    enum { F = 1 << IR_PASS_F, B = 1 << IR_PASS_B, I = 1 << IR_PASS_BI, W = 1 << IR_PASS_BW };
    size_t n = (size_t)in->stages * in->directions * in->m;
    uint8_t *seen = mem_alloc(n);
    for (uint32_t r = 0; r < p; r++)
        for (uint32_t i = 0; i < in->rows[r].n; i++) {
            const struct cell *c = &in->rows[r].at[i];
            need(c->stage < in->stages * in->directions && c->mb < in->m && rank_of(k, p, c->stage) == r,
                 "%s p=%u m=%u: rank %u has stage %u mb %u", k->name, p, in->m, r, c->stage, c->mb);
            uint8_t *s = &seen[(size_t)c->stage * in->m + c->mb];
            need(!(*s & 1 << c->pass) && (c->pass == IR_PASS_F || *s & F) && (c->pass != IR_PASS_BW || *s & I),
                 "%s p=%u m=%u rank %u cell %u: twice, or before what it needs", k->name, p, in->m, r, i);
            *s |= (uint8_t)(1 << c->pass);
            need(!c->with_next || (c->pass == IR_PASS_F && i + 1 < in->rows[r].n && c[1].pass == IR_PASS_B),
                 "%s p=%u m=%u rank %u cell %u: a pair is a forward, then a backward", k->name, p, in->m, r, i);
        }
    for (size_t i = 0; i < n; i++)
        need(seen[i] == (F | B) || seen[i] == (F | I | W), "%s p=%u m=%u: stage %zu mb %zu has passes %x", k->name, p,
             in->m, i / in->m, i % in->m, seen[i]);
    mem_free(seen);
}

static uint32_t check_one(const struct schedule_kind *k, uint32_t p, uint32_t m, uint32_t v)
{
    if (!works(k, p, m, v))
        return 0;
    struct cells *rows = sim_rows(k, p, m, v);
    struct sim_input in = sim_input(k, rows, p, m, v);
    struct sim_output out;
    check_whole(k, &in, p);
    sim_run(&in, &out);
    need(!out.stuck, "%s p=%u m=%u v=%u: rank %u cannot go on at cell %u", k->name, p, m, v, out.stuck_rank,
         out.stuck_cell);
    sim_release(&out);
    sim_rows_free(rows, p);
    return 1;
}

START_TEST(valid)
{
    const struct schedule_kind *k = sched_schedule_kinds[_i];
    uint32_t n = 0;
    for (uint32_t p = 1; p <= 16; p++)
        for (uint32_t v = k->chunks ? k->chunks : 1; v <= (k->chunks ? k->chunks : 4); v++) {
            for (uint32_t m = 1; m <= 3 * p + 2; m++)
                n += check_one(k, p, m, v);
            n += check_one(k, p, 5 * p + 1, v) + check_one(k, p, 8 * p, v);
        }
    ck_assert_uint_gt(n, 50);
}
END_TEST

/* ---- bubbles and peaks ---- */

struct sizes {
    uint32_t p, m, v, r;
    double f, b, w, pair;
};

static double bubble_1f1b(const struct sizes *s)
{
    return (s->p - 1) * (s->f + s->b + s->w);
}
static double bubble_zb(const struct sizes *s)
{
    return (s->p - 1) * (s->f + s->b - s->w);
}
static double bubble_h2(const struct sizes *s)
{
    return (s->p - 1 - s->r) * (s->f + s->b - 2 * s->w); /* the table's is that of rank 0 */
}
static double bubble_fill(const struct sizes *s)
{
    return (s->p - 1) * s->f;
}
static double bubble_none(const struct sizes *s)
{
    return 0 * s->f;
}
static double bubble_dualpipe(const struct sizes *s)
{
    return (s->p / 2.0 - 1) * (s->pair + s->b + s->w - 3 * s->w);
}
static double bubble_dualpipev(const struct sizes *s)
{
    return (s->p - 1) * (s->pair + s->b + s->w - 3 * s->w);
}

static uint32_t peak_gpipe(const struct sizes *s)
{
    return s->m;
}
static uint32_t peak_1f1b(const struct sizes *s)
{
    return s->p - s->r;
}
static uint32_t peak_interleaved(const struct sizes *s)
{
    uint32_t g = s->m / (s->m / s->p), n = (s->v - 1) * g + 2 * (s->p - 1 - s->r) + 1;
    return n < s->m * s->v ? n : s->m * s->v;
}
static uint32_t peak_interleaved_zb(const struct sizes *s)
{
    return (s->v - 1) * (s->m / (s->m / s->p)) + s->p; /* v*p where p divides m */
}
static uint32_t peak_h1(const struct sizes *s)
{
    return s->p;
}
static uint32_t peak_h2(const struct sizes *s)
{
    return 2 * s->p - 1;
}
static uint32_t peak_v(const struct sizes *s)
{
    return 2 * s->p;
}
static uint32_t peak_dualpipe(const struct sizes *s)
{
    return s->p + 1;
}
static uint32_t peak_dualpipev(const struct sizes *s)
{
    return 2 * s->p + 1;
}

/* Where a formula holds besides equal times. */
enum times { EQUAL, W_LEAST, ANY };

static const struct formula {
    const char *kind;
    double (*step)(const struct sizes *);    /* end of the step - busy */
    double (*no_skew)(const struct sizes *); /* last end - first start - busy; NULL: the table does not say */
    uint32_t (*peak)(const struct sizes *);
    enum times step_times, no_skew_times;
} formulas[] = {
    { "gpipe", bubble_1f1b, NULL, peak_gpipe, ANY, EQUAL },
    { "1f1b", bubble_1f1b, NULL, peak_1f1b, ANY, EQUAL },
    { "interleaved", bubble_1f1b, NULL, peak_interleaved, ANY, EQUAL },
    { "interleaved-zb", bubble_zb, NULL, peak_interleaved_zb, EQUAL, EQUAL },
    { "zb-h1", bubble_zb, NULL, peak_h1, W_LEAST, EQUAL },
    { "zb-h2", bubble_fill, bubble_h2, peak_h2, EQUAL, W_LEAST },
    { "zb-v", bubble_fill, bubble_none, peak_v, EQUAL, EQUAL },
    { "dualpipe", bubble_dualpipe, NULL, peak_dualpipe, EQUAL, EQUAL },
    { "dualpipev", bubble_dualpipev, NULL, peak_dualpipev, EQUAL, EQUAL },
};

static bool holds(enum times t, const struct sizes *s)
{
    return t == ANY || (t == W_LEAST && s->w <= s->b && s->w <= s->f) || (s->f == s->b && s->b == s->w);
}

struct worst { /* over ranks */
    double step, no_skew;
    uint32_t peak;
};

/* Checks every rank; but of pairs that are shorter than their parts only the rank that waits most. */
static struct worst check_formula(const struct formula *x, struct sizes s)
{
    const struct schedule_kind *k = kind_named(x->kind);
    struct cells *rows = sim_rows(k, s.p, s.m, s.v);
    struct sim_input in = sim_input(k, rows, s.p, s.m, s.v);
    struct sim_output out;
    struct worst w = { 0 };
    in.f = s.f;
    in.b = s.b;
    in.w = s.w;
    in.pair = s.pair;
    sim_run(&in, &out);
    need(!out.stuck, "%s p=%u m=%u v=%u is stuck", x->kind, s.p, s.m, s.v);
    for (s.r = 0; s.r < s.p; s.r++) {
        const struct sim_rank *r = &out.rank[s.r];
        double step = out.end - r->busy, no_skew = r->end - r->start - r->busy;
        need(r->peak == x->peak(&s), "%s p=%u m=%u v=%u rank %u: peak %u, formula %u", x->kind, s.p, s.m, s.v, s.r,
             r->peak, x->peak(&s));
        if (holds(x->step_times, &s) && s.pair == s.f + s.b + s.w)
            need(step == x->step(&s), "%s p=%u m=%u v=%u times %g %g %g rank %u: bubble %g, formula %g", x->kind, s.p,
                 s.m, s.v, s.f, s.b, s.w, s.r, step, x->step(&s));
        if (x->no_skew && holds(x->no_skew_times, &s))
            need(no_skew == x->no_skew(&s), "%s p=%u m=%u v=%u times %g %g %g rank %u: waits %g, formula %g", x->kind,
                 s.p, s.m, s.v, s.f, s.b, s.w, s.r, no_skew, x->no_skew(&s));
        w.step = step > w.step ? step : w.step;
        w.no_skew = no_skew > w.no_skew ? no_skew : w.no_skew;
        w.peak = r->peak > w.peak ? r->peak : w.peak;
    }
    if (holds(x->step_times, &s))
        need(w.step == x->step(&s), "%s p=%u m=%u v=%u F&B %g: bubble %g, formula %g", x->kind, s.p, s.m, s.v, s.pair,
             w.step, x->step(&s));
    sim_release(&out);
    sim_rows_free(rows, s.p);
    return w;
}

static const double other_times[][3] = { { 2, 3, 1 }, { 1, 2, 2 }, { 3, 2, 1 }, { 1, 1, 2 }, { 4, 1, 3 }, { 3, 3, 2 } };

static void check_times(const struct formula *x, struct sizes s)
{
    s.f = s.b = s.w = 1;
    s.pair = 3;
    struct worst w = check_formula(x, s);
    if (verbose && s.m == 2 * s.p && (s.p & (s.p - 1)) == 0)
        printf("%-15s %2u ranks %3u microbatches %u stages a rank: bubble %3g, without fill skew %3g, peak %3u\n",
               x->kind, s.p, s.m, s.v, w.step, w.no_skew, w.peak);
    if (s.p > 8)
        return;
    for (s.pair = 2; s.pair < 3; s.pair += 0.5) /* a forward and a backward hidden behind each other */
        check_formula(x, s);
    for (size_t i = 0; i < sizeof other_times / sizeof *other_times; i++) {
        s.f = other_times[i][0];
        s.b = other_times[i][1];
        s.w = other_times[i][2];
        s.pair = s.f + s.b + s.w;
        check_formula(x, s);
    }
}

START_TEST(bubbles)
{
    const struct formula *x = &formulas[_i];
    const struct schedule_kind *k = kind_named(x->kind);
    uint32_t n = 0;
    for (uint32_t p = 2; p <= 16; p++)
        for (uint32_t v = k->chunks ? k->chunks : 1; v <= (k->chunks ? k->chunks : 4); v++)
            for (uint32_t m = 2 * p; m <= 5 * p; m += m < 3 * p + 1 ? 1 : p - 1)
                if (works(k, p, m, v)) {
                    check_times(x, (struct sizes){ .p = p, .m = m, .v = v });
                    n++;
                }
    ck_assert_uint_gt(n, 50);
}
END_TEST

START_TEST(refused)
{
    static const struct {
        const char *kind;
        uint32_t p, m;
        const char *why;
    } bad[] = {
        { "interleaved", 4, 9, "rounds" },
        { "interleaved-zb", 4, 9, "rounds" },
        { "dualpipev", 4, 7, "at least two" },
        { "dualpipe", 3, 8, "even number of pipeline ranks" },
        { "dualpipe", 4, 9, "even number of microbatches" },
        { "dualpipe", 4, 6, "at least two" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct schedule_kind *k = kind_named(bad[i].kind);
        const char *why = k->refuse(bad[i].p, bad[i].m, k->chunks ? k->chunks : 2);
        ck_assert_msg(why && strstr(why, bad[i].why), "%s p=%u m=%u: %s", bad[i].kind, bad[i].p, bad[i].m,
                      why ? why : "fits");
    }
}
END_TEST

int main(int argc, char **argv)
{
    verbose = argc > 1 && !strcmp(argv[1], "-v");
    int kinds = 0;
    while (sched_schedule_kinds[kinds])
        kinds++;
    Suite *s = suite_create("schedules");
    TCase *t = tcase_create("orders");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, golden);
    tcase_add_test(t, one_chunk);
    tcase_add_test(t, refused);
    tcase_add_loop_test(t, valid, 0, kinds);
    tcase_add_loop_test(t, bubbles, 0, (int)(sizeof formulas / sizeof *formulas));
    suite_add_tcase(s, t);
    return suite_run(s);
}
