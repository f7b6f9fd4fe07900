/* Pictures: which boxes are one pass, which passes overlap, and what comes out as text. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "view/chart.h"
#include "view/draw.h"
#include "tests/unit/suite.h"

static void begin(struct draw_picture *p)
{
    *p = (struct draw_picture){
        .title = "a < b", .subtitle = "", .note = "", .shades_note = "", .unit = "units", .n_shades = 1
    };
    arena_init(&p->text);
}

static void row(struct draw_picture *p, const char *label, bool stream)
{
    const uint32_t rank = p->rows.n == 0 ? 0 : p->rows.at[p->rows.n - 1].rank + !stream;
    vec_add(&p->rows, ((struct draw_row){ .label = label, .stream = stream, .rank = rank }));
}

/* A box of the row added last. */
static void box(struct draw_picture *p, enum draw_kind kind, uint32_t number, double start, double end)
{
    vec_add(&p->boxes,
            ((struct draw_box){
                .start = start, .end = end, .row = p->rows.n - 1, .number = number, .kind = (uint8_t)kind }));
    p->end = end > p->end ? end : p->end;
}

static void check_span(const struct draw_picture *p, uint32_t i, double start, double end, enum draw_place place)
{
    ck_assert_uint_lt(i, p->spans.n);
    ck_assert_double_eq(p->spans.at[i].start, start);
    ck_assert_double_eq(p->spans.at[i].end, end);
    ck_assert_uint_eq(p->spans.at[i].place, place);
}

START_TEST(exposed)
{
    struct draw_picture p;
    begin(&p);
    row(&p, "rank 0", false);
    box(&p, DRAW_F, 0, 1, 2);
    box(&p, DRAW_F, 1, 3, 5);
    row(&p, "a", true);
    box(&p, DRAW_MOVE, 0, 0, 1.5);
    box(&p, DRAW_MOVE, 1, 4, 6);
    row(&p, "b", true);
    box(&p, DRAW_REDUCE, DRAW_NO_NUMBER, 5.5, 7);
    row(&p, "rank 1", false);
    box(&p, DRAW_F, 0, 0, 9);
    draw_select(&p, &(struct draw_view){ .lanes = DRAW_LANES_NONE, .ranks = "0", .from = 0.5, .to = 6.5 });
    ck_assert_uint_eq(p.rows.n, 1);
    ck_assert_uint_eq(p.boxes.n, 4); /* 0.5-1 exposed, 1-2, 3-5, 5-6.5 exposed */
    const double ends[][2] = { { 0.5, 1 }, { 1, 2 }, { 3, 5 }, { 5, 6.5 } };
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert_double_eq(p.boxes.at[i].start, ends[i][0]);
        ck_assert_double_eq(p.boxes.at[i].end, ends[i][1]);
        ck_assert_uint_eq(p.boxes.at[i].kind, i == 0 || i == 3 ? DRAW_EXPOSED : DRAW_F);
    }
    draw_release(&p);
}
END_TEST

START_TEST(parts_are_joined)
{
    struct draw_picture p;
    begin(&p);
    row(&p, "rank 0", false);
    box(&p, DRAW_F, 0, 0, 1);
    box(&p, DRAW_F, 0, 1, 1); /* nothing */
    box(&p, DRAW_F, 0, 1, 3);
    box(&p, DRAW_F, 0, 4, 5); /* after a wait */
    box(&p, DRAW_F, 1, 5, 6);
    row(&p, "rank 1", false);
    box(&p, DRAW_F, 1, 6, 7); /* of another rank */
    draw_find_spans(&p);
    ck_assert_uint_eq(p.boxes.n, 4);
    ck_assert_uint_eq(p.spans.n, 3);
    check_span(&p, 0, 0, 5, DRAW_WHOLE);
    ck_assert_uint_eq(p.spans.at[0].longest, 0);
    ck_assert_uint_eq(p.spans.at[0].last, 1);
    check_span(&p, 1, 5, 6, DRAW_WHOLE);
    check_span(&p, 2, 6, 7, DRAW_WHOLE);
    draw_release(&p);
}
END_TEST

/* F and B turn by turn are two passes side by side; a third between two parts of one makes two of it. */
START_TEST(alternation)
{
    struct draw_picture p;
    begin(&p);
    row(&p, "rank 0", false);
    box(&p, DRAW_B, 0, 0, 2);
    box(&p, DRAW_F, 5, 2, 3);
    box(&p, DRAW_B, 0, 3, 4);
    box(&p, DRAW_F, 5, 4, 5);
    box(&p, DRAW_B, 1, 5, 6);
    box(&p, DRAW_BW, 0, 6, 7);
    box(&p, DRAW_F, 5, 7, 8);
    draw_find_spans(&p);
    ck_assert_uint_eq(p.spans.n, 5);
    check_span(&p, 0, 0, 4, DRAW_LOWER);
    check_span(&p, 1, 2, 5, DRAW_UPPER);
    check_span(&p, 2, 5, 6, DRAW_WHOLE);
    check_span(&p, 3, 6, 7, DRAW_WHOLE);
    check_span(&p, 4, 7, 8, DRAW_WHOLE);
    draw_release(&p);
}
END_TEST

/* A pass that lies inside a longer one, then a second one that does. */
START_TEST(long_and_short)
{
    struct draw_picture p;
    begin(&p);
    row(&p, "rank 0", false);
    box(&p, DRAW_F, 0, 0, 1);
    box(&p, DRAW_BW, 1, 1, 2);
    box(&p, DRAW_F, 0, 2, 3);
    box(&p, DRAW_BW, 2, 3, 4);
    box(&p, DRAW_F, 0, 4, 5);
    draw_find_spans(&p);
    ck_assert_uint_eq(p.spans.n, 3);
    check_span(&p, 0, 0, 5, DRAW_UPPER);
    check_span(&p, 1, 1, 2, DRAW_LOWER);
    check_span(&p, 2, 3, 4, DRAW_LOWER);
    draw_release(&p);
}
END_TEST

static void sample(struct draw_picture *p)
{
    begin(p);
    row(p, "rank 0", false);
    box(p, DRAW_F, 0, 0, 1);
    box(p, DRAW_F, 11, 1, 2);
    box(p, DRAW_BI, 0, 3, 4);
    box(p, DRAW_BW, 0, 4, 5);
    box(p, DRAW_B, 11, 5, 7);
    box(p, DRAW_UPDATE, DRAW_NO_NUMBER, 7, 7.8);
    row(p, "ep & dp", true);
    box(p, DRAW_ALL_TO_ALL, 0, 0.5, 1.5);
    row(p, "rank 10", false);
    draw_find_spans(p);
}

static char *text_of(const struct draw_picture *p, uint32_t columns, bool colour, bool *fits)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    *fits = draw_text(p, 1, columns, colour, f);
    fclose(f);
    return text;
}

START_TEST(as_text)
{
    struct draw_picture p;
    bool fits;
    sample(&p);
    char *text = text_of(&p, 17, false, &fits);
    ck_assert(fits);
    ck_assert_str_eq(text, "rank 0   01.aAbbu\nrank 10  ........\n");
    free(text);
    text = text_of(&p, 16, false, &fits);
    ck_assert(!fits);
    ck_assert_str_eq(text, "");
    free(text);
    text = text_of(&p, 17, true, &fits);
    ck_assert_str_eq(text, "rank 0   \033[48;5;26;38;5;231m01\033[0m.\033[48;5;72;38;5;231ma\033[48;5;148;38;5;16mA"
                           "\033[48;5;29;38;5;231mbb\033[48;5;97;38;5;231mu\033[0m\nrank 10  ........\n");
    free(text);
    draw_release(&p);
}
END_TEST

static uint32_t count(const char *text, const char *what)
{
    uint32_t n = 0;
    for (const char *at = text; (at = strstr(at, what)); at++)
        n++;
    return n;
}

/* What is written is balanced and escaped, and every box is there. */
START_TEST(as_svg)
{
    struct draw_picture p;
    char *text = NULL;
    size_t size;
    sample(&p);
    FILE *f = open_memstream(&text, &size);
    draw_svg(&p, f);
    fclose(f);
    ck_assert_ptr_nonnull(strstr(text, "a &lt; b"));
    ck_assert_ptr_nonnull(strstr(text, ">ep &amp; dp<"));
    ck_assert_ptr_nonnull(strstr(text, "forward of stage 0, microbatch 11, 1 to 2 units"));
    ck_assert_uint_eq(count(text, "<g "), 5);
    ck_assert_uint_eq(count(text, "<g "), count(text, "</g>"));
    ck_assert_uint_eq(count(text, "<text "), count(text, "</text>"));
    ck_assert_uint_eq(count(text, "<title>"), 7); /* 5 passes, update, all-to-all */
    ck_assert_uint_eq(count(text, "nan") + count(text, "inf"), 0);
    free(text);
    draw_release(&p);
}
END_TEST

/* Of many values at one place of the width a curve has the mean: of a level 5 it is where a dot at 5 is. */
START_TEST(chart_means)
{
    enum { N = 6000 };
    static double x[N], level[N];
    static const double at_x[] = { 0, 3000, 6000 }, at_y[] = { 0, 5, 10 };
    char *text = NULL;
    size_t size;
    for (int i = 0; i < N; i++) {
        x[i] = i;
        level[i] = 5;
    }
    const struct chart_series series[] = { { .x = x, .y = level, .n = N },
                                           { .x = at_x, .y = at_y, .n = 3, .points = 1 } };
    FILE *to = open_memstream(&text, &size);
    chart_svg(&(struct chart){ .title = "t", .x_label = "x", .series = series, .n = 2 }, to);
    fclose(to);
    double dot = NAN;
    const char *at = strstr(strstr(text, "class=\"dot\"") + 1, "class=\"dot\"");
    ck_assert_int_eq(sscanf(strstr(at, "cy="), "cy=\"%lf", &dot), 1);
    int points = 0;
    at = strstr(strstr(text, "class=\"curve\""), " d=\"") + 4;
    for (const char *end = strchr(at, '"'); at < end; points++) {
        double px, py;
        int n;
        ck_assert_int_eq(sscanf(at, "%*1[ML]%lf %lf%n", &px, &py, &n), 2);
        ck_assert_msg(fabs(py - dot) <= 0.1, "at %g: %g, expected %g", px, py, dot);
        at += n;
    }
    ck_assert_int_gt(points, 100);
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("draw");
    TCase *tc = tcase_create("draw");
    tcase_add_test(tc, exposed);
    tcase_add_test(tc, parts_are_joined);
    tcase_add_test(tc, alternation);
    tcase_add_test(tc, long_and_short);
    tcase_add_test(tc, as_text);
    tcase_add_test(tc, as_svg);
    tcase_add_test(tc, chart_means);
    suite_add_tcase(s, tc);
    return suite_run(s);
}
