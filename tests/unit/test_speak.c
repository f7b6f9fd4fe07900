/* Draws from logits, text on its way to a terminal, the begin of an answer. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "speak/sample.h"
#include "speak/text.h"
#include "text/chat.h"
#include "tests/unit/suite.h"

/* ---- draws ---- */

static const struct sample_how greedy = { .top_p = 1 };

START_TEST(most_likely)
{
    const float z[] = { 1, 3, 2, 3 }, damaged[] = { 1, NAN, 2 }, endless[] = { 1, INFINITY };
    ck_assert_uint_eq(sample_token(&greedy, z, 4, 0), 1); /* of equals the first */
    ck_assert_uint_eq(sample_token(&greedy, damaged, 3, 0), SAMPLE_NONE);
    ck_assert_uint_eq(sample_token(&greedy, endless, 2, 0), SAMPLE_NONE);
    const float shut[] = { -INFINITY, -2 };
    ck_assert_uint_eq(sample_token(&greedy, shut, 2, 0), 1);
}
END_TEST

enum { DRAWS = 20000, MOST = 8 };

/* How often each comes, against probabilities that sum to 1; 0: never. Five standard deviations. */
static void draws(const struct sample_how *how, const float *z, uint32_t n, const double *expected)
{
    uint32_t count[MOST] = { 0 };
    for (uint64_t i = 0; i < DRAWS; i++) {
        const uint32_t id = sample_token(how, z, n, i);
        ck_assert_uint_lt(id, n);
        count[id]++;
    }
    for (uint32_t i = 0; i < n; i++) {
        const double off = fabs(count[i] - DRAWS * expected[i]), sigma = sqrt(DRAWS * expected[i] * (1 - expected[i]));
        ck_assert_msg(off <= 5 * sigma, "%u: %u of %d, expected %.4f", i, count[i], DRAWS, expected[i]);
    }
}

START_TEST(probabilities)
{
    const float z[] = { logf(1), logf(4), logf(2), logf(3) };
    draws(&(struct sample_how){ 1, 0, 1, 7 }, z, 4, (double[]){ 0.1, 0.4, 0.2, 0.3 });
    /* T = 1/2: squares */
    draws(&(struct sample_how){ 0.5, 0, 1, 7 }, z, 4, (double[]){ 1. / 30, 16. / 30, 4. / 30, 9. / 30 });
    draws(&(struct sample_how){ 1, 2, 1, 7 }, z, 4, (double[]){ 0, 4. / 7, 0, 3. / 7 });
    /* 0.4 and 0.3 are not 0.71, with 0.2 they are; of the two largest alone 4/7 is 0.5 */
    draws(&(struct sample_how){ 1, 0, 0.71, 7 }, z, 4, (double[]){ 0, 4. / 9, 2. / 9, 3. / 9 });
    draws(&(struct sample_how){ 1, 0, 0.69, 7 }, z, 4, (double[]){ 0, 4. / 7, 0, 3. / 7 });
    draws(&(struct sample_how){ 1, 2, 0.5, 7 }, z, 4, (double[]){ 0, 1, 0, 0 });
    draws(&(struct sample_how){ 1, 0, 0, 7 }, z, 4, (double[]){ 0, 1, 0, 0 });
}
END_TEST

static int downwards(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Hot enough, each of the k largest of many comes, and no other. */
START_TEST(largest)
{
    enum { N = 300 };
    float z[N], sorted[N];
    for (int i = 0; i < N; i++)
        sorted[i] = z[i] = (float)((i * 7919 + 13) % N % 150); /* pairs of equals */
    qsort(sorted, N, sizeof *sorted, downwards);
    for (uint32_t k = 1; k <= N; k = k * 3 / 2 + 1) {
        uint32_t some = 0;
        bool seen[N] = { false };
        const struct sample_how how = { 1000, k, 1, k };
        for (uint64_t i = 0; i < 40 * (uint64_t)k; i++) {
            const uint32_t id = sample_token(&how, z, N, i);
            ck_assert_float_ge(z[id], sorted[k - 1]);
            some += !seen[id];
            seen[id] = true;
        }
        ck_assert_uint_eq(some, k);
    }
}
END_TEST

START_TEST(seeds)
{
    float z[100] = { 0 };
    uint32_t same = 0;
    for (uint64_t i = 0; i < 100; i++) {
        const struct sample_how a = { 1, 0, 1, 1 }, b = { 1, 0, 1, 2 };
        ck_assert_uint_eq(sample_token(&a, z, 100, i), sample_token(&a, z, 100, i));
        same += sample_token(&a, z, 100, i) == sample_token(&b, z, 100, i);
    }
    ck_assert_uint_lt(same, 10);
}
END_TEST

/* ---- text ---- */

static void shows(const char *text, size_t n, const char *expected)
{
    struct text_bytes out = { 0 };
    speak_printable(text, n, &out);
    text_bytes_add(&out, "", 1);
    ck_assert_str_eq(out.at, expected);
    text_bytes_free(&out);
}

START_TEST(terminal)
{
#define SHOWS(text, expected) shows(text, sizeof text - 1, expected)
    SHOWS("a\tb\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "a\tb\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    SHOWS("\x1b]0;title\x07\r\x7f\0", "\\x1b]0;title\\x07\\x0d\\x7f\\x00");
    SHOWS("\xc2\x9b"
          "31m\xe2\x80\xae\xe2\x81\xa6",
          "\\x9b31m\\u202e\\u2066"); /* CSI as one character, right to left */
    SHOWS("\xff\x9b\xe2\x82.", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd.");
    SHOWS("", "");
}
END_TEST

/* What stands in the file after each byte. */
START_TEST(streaming)
{
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x1b\xe2\x82";
    static const size_t at[] = { 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11, 11 };
    char *written = NULL;
    size_t size = 0;
    struct speak_text s = { .to = open_memstream(&written, &size) };
    speak_text_begin(&s, (const uint32_t[]){ 'x', 0xe2 }, 2);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        speak_text_add(&s, (unsigned char)text[i]);
        fflush(s.to);
        ck_assert_msg(size == at[i], "byte %zu: %zu bytes", i, size);
    }
    speak_text_end(&s);
    fclose(s.to);
    ck_assert_str_eq(written, text); /* to a file all bytes as they are */
    free(written);
}
END_TEST

/* ---- the begin of an answer ---- */

/* It is what a conversation has before the first token that an assistant says. */
START_TEST(answers)
{
    static const char *const names[] = { "chatml", "llama3", "gemma", "mistral", "plain" };
    const char *top = getenv("top_srcdir"), *why;
    char path[512];
    struct tokenizer *t;
    struct err e = { 0 };
    snprintf(path, sizeof path, "%s/tests/text/small/chat.json", top ? top : ".");
    ck_assert_msg(tokenizer_open(path, NULL, &t, &e) == ST_OK, "%s", e.text);
    struct encoder *x = encoder_new(t);
    for (size_t i = 0; i < 10; i++) {
        const bool system = i >= 5;
        struct chat_template c = { 0 };
        struct token_ids ids = { 0 };
        struct chat_tokens all = { 0 };
        char line[256];
        ck_assert_msg(chat_template_find(names[i % 5], t, &c, &e) == ST_OK, "%s", e.text);
        ck_assert(chat_prompt(&c, x, t, system ? "be kind" : NULL, " hi ", &ids, &e) == ST_OK);
        snprintf(
            line, sizeof line,
            "{\"m\": [%s{\"role\": \"user\", \"content\": \" hi \"}, {\"role\": \"assistant\", \"content\": \"yo\"}]}",
            system ? "{\"role\": \"system\", \"content\": \"be kind\"}, " : "");
        ck_assert(chat_encode(&c, x, t, line, "m", &all, &why, &e) == ST_OK && !why);
        uint32_t n = 0, last = 0;
        while (n < all.mask.n && !all.mask.at[n])
            n++;
        for (uint32_t k = 0; k < all.mask.n; k++)
            last = all.mask.at[k] ? k : last;
        ck_assert_msg(ids.n == n && memcmp(ids.at, all.ids.at, n * sizeof *ids.at) == 0, "%s", names[i % 5]);
        ck_assert_uint_eq(all.ids.at[last], chat_template_end(&c, t));
        chat_template_free(&c);
        chat_tokens_free(&all);
        vec_free(&ids);
    }
    encoder_free(x);
    tokenizer_free(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("speak");
    TCase *t = tcase_create("speak");
    tcase_add_test(t, most_likely);
    tcase_add_test(t, probabilities);
    tcase_add_test(t, largest);
    tcase_add_test(t, seeds);
    tcase_add_test(t, terminal);
    tcase_add_test(t, streaming);
    tcase_add_test(t, answers);
    suite_add_tcase(s, t);
    return suite_run(s);
}
