/* What people type: JSON, words that are nearly right, numbers in text. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "base/parse.h"
#include "base/words.h"
#include "tests/unit/suite.h"

/* ---- JSON ----------------------------------------------------------------------------------------------------- */

static const char sample[] =
    "{\"lr\": {\"peak\": 3e-4, \"kind\": \"cosine\"}, \"steps\": 100, \"shuffle\": false,"
    " \"none\": null, \"odd key\": 1, \"betas\": [0.9, 1, \"x\"], \"big\": 9223372036854775807,"
    " \"thousand\": 1e3, \"half\": 2.5, \"name\": \"a\\tb\"}";
static json_t *doc;
static struct js root;
static struct err err;

static void load_sample(void)
{
    err = (struct err){ 0 };
    ck_assert_int_eq(js_load_text(sample, "train.json", &doc, &err), ST_OK);
    root = js_root(doc, "train.json");
}

static void drop_sample(void)
{
    json_decref(doc);
}

/* The call fails with ST_INPUT and this text; the error is cleared. */
#define FAILS(call, expected)                   \
    do {                                        \
        ck_assert_int_eq((call), ST_INPUT);     \
        ck_assert_int_eq(err.status, ST_INPUT); \
        ck_assert_str_eq(err.text, expected);   \
        err_clear(&err);                        \
    } while (0)

START_TEST(json_scalars)
{
    int64_t i;
    double x;
    bool b;
    const char *s;
    struct js v;
    ck_assert_int_eq(js_need(&root, "steps", &v, &err), ST_OK);
    ck_assert_int_eq(js_int(&v, 1, 100, &i, &err), ST_OK);
    ck_assert_int_eq(i, 100);
    ck_assert_int_eq(js_num(&v, 0, 1e9, &x, &err), ST_OK);
    ck_assert_double_eq(x, 100);
    ck_assert_int_eq(js_int_or(&root, "thousand", 0, 2000, 1, &i, &err), ST_OK);
    ck_assert_int_eq(i, 1000);
    ck_assert_int_eq(js_int_or(&root, "big", 0, INT64_MAX, 1, &i, &err), ST_OK);
    ck_assert_int_eq(i, INT64_MAX);
    ck_assert_int_eq(js_int_or(&root, "nokey", 0, 9, -7, &i, &err), ST_OK);
    ck_assert_int_eq(i, -7);
    ck_assert_int_eq(js_int_or(&root, "none", 0, 9, 8, &i, &err), ST_OK);
    ck_assert_int_eq(i, 8);
    ck_assert_int_eq(js_num_or(&root, "half", 0, 9, 1, &x, &err), ST_OK);
    ck_assert_double_eq(x, 2.5);
    ck_assert_int_eq(js_num_or(&root, "nokey", 0, 9, 0.25, &x, &err), ST_OK);
    ck_assert_double_eq(x, 0.25);
    ck_assert_int_eq(js_bool_or(&root, "shuffle", true, &b, &err), ST_OK);
    ck_assert(!b);
    ck_assert_int_eq(js_bool_or(&root, "nokey", true, &b, &err), ST_OK);
    ck_assert(b);
    ck_assert_int_eq(js_str_or(&root, "name", "z", &s, &err), ST_OK);
    ck_assert_str_eq(s, "a\tb");
    ck_assert_int_eq(js_str_or(&root, "nokey", "z", &s, &err), ST_OK);
    ck_assert_str_eq(s, "z");
    ck_assert(js_has(&root, "lr") && !js_has(&root, "none") && !js_has(&root, "nokey"));
    ck_assert_int_eq(err.status, ST_OK);
}
END_TEST

START_TEST(json_wrong_scalars)
{
    int64_t i = 5;
    double x;
    bool b;
    const char *s;
    struct js lr, v;
    FAILS(js_int_or(&root, "steps", 1, 99, 1, &i, &err),
          "train.json: $.steps: found 100, expected an integer from 1 to 99");
    FAILS(js_int_or(&root, "steps", 101, INT64_MAX, 1, &i, &err),
          "train.json: $.steps: found 100, expected an integer >= 101");
    FAILS(js_int_or(&root, "steps", INT64_MIN, -1, 1, &i, &err),
          "train.json: $.steps: found 100, expected an integer <= -1");
    FAILS(js_int_or(&root, "half", INT64_MIN, INT64_MAX, 1, &i, &err),
          "train.json: $.half: found 2.5, expected an integer");
    ck_assert_int_eq(i, 5);
    FAILS(js_bool_or(&root, "steps", 1, &b, &err), "train.json: $.steps: found 100, expected true or false");
    FAILS(js_str_or(&root, "shuffle", "", &s, &err), "train.json: $.shuffle: found false, expected a string");
    ck_assert_int_eq(js_need(&root, "lr", &lr, &err), ST_OK);
    FAILS(js_num_or(&lr, "kind", 0, 1, 0, &x, &err),
          "train.json: $.lr.kind: found \"cosine\", expected a number from 0 to 1");
    FAILS(js_num_or(&lr, "peak", 1, INFINITY, 0, &x, &err),
          "train.json: $.lr.peak: found 0.0003, expected a number >= 1");
    FAILS(js_num(&lr, -INFINITY, INFINITY, &x, &err), "train.json: $.lr: found an object of 2 keys, expected a number");
    ck_assert_int_eq(js_need(&root, "odd key", &v, &err), ST_OK);
    FAILS(js_wrong(&v, &err, "%s", "no"), "train.json: $[\"odd key\"]: no");
    ck_assert_int_eq(js_need(&root, "name", &v, &err), ST_OK);
    FAILS(js_expected(&v, &err, "a %s", "tag"), "train.json: $.name: found \"a\\tb\", expected a tag");
}
END_TEST

START_TEST(json_members)
{
    struct js v, steps;
    uint32_t n;
    double x;
    ck_assert_int_eq(js_need(&root, "betas", &v, &err), ST_OK);
    ck_assert_int_eq(js_count(&v, &n, &err), ST_OK);
    ck_assert_uint_eq(n, 3);
    struct js b = js_at(&v, 1);
    ck_assert_int_eq(js_num(&b, 0, 1, &x, &err), ST_OK);
    b = js_at(&v, 2);
    FAILS(js_num(&b, 0, 1, &x, &err), "train.json: $.betas[2]: found \"x\", expected a number from 0 to 1");
    b = js_at(&v, 3);
    FAILS(js_num(&b, 0, 1, &x, &err), "train.json: $.betas[3]: found nothing, expected a number from 0 to 1");
    FAILS(js_count(&root, &n, &err), "train.json: $: found an object of 10 keys, expected a list");
    FAILS(js_need(&v, "x", &v, &err), "train.json: $.betas: found a list of 3, expected an object");
    FAILS(js_need(&root, "none", &v, &err), "train.json: $.none: found null, expected a value");
    ck_assert_int_eq(js_need(&root, "lr", &v, &err), ST_OK);
    FAILS(js_need(&v, "min", &steps, &err), "train.json: $.lr: missing key \"min\"; found \"peak\", \"kind\"");
    ck_assert_int_eq(js_opt(&root, "none", &steps, &err), ST_OK);
    ck_assert_ptr_null(steps.v);
    ck_assert_int_eq(js_opt(&root, "steps", &steps, &err), ST_OK);
    FAILS(js_opt(&steps, "x", &v, &err), "train.json: $.steps: found 100, expected an object");
}
END_TEST

START_TEST(json_unknown_keys)
{
    struct js lr;
    ck_assert_int_eq(js_need(&root, "lr", &lr, &err), ST_OK);
    ck_assert_int_eq(js_only(&lr, (const char *[]){ "kind", "min", "peak", NULL }, &err), ST_OK);
    FAILS(js_only(&lr, (const char *[]){ "kind", "peek", NULL }, &err),
          "train.json: $.lr: unknown key \"peak\"; did you mean \"peek\"?");
    FAILS(js_only(&lr, (const char *[]){ "kind", "warmup_steps", NULL }, &err),
          "train.json: $.lr: unknown key \"peak\", expected \"kind\" or \"warmup_steps\"");
    FAILS(js_only(&lr, (const char *[]){ NULL }, &err), "train.json: $.lr: unknown key \"peak\", expected no key");
    struct js kind;
    ck_assert_int_eq(js_need(&lr, "kind", &kind, &err), ST_OK);
    FAILS(js_only(&kind, (const char *[]){ NULL }, &err),
          "train.json: $.lr.kind: found \"cosine\", expected an object");
}
END_TEST

START_TEST(words_that_are_near)
{
    const char *const words[] = { "place", "replicate", "shard", "split", "order", "dp", NULL };
    ck_assert_str_eq(words_meant("plcae", words), "place");
    ck_assert_str_eq(words_meant("replicat", words), "replicate");
    ck_assert_str_eq(words_meant("Sharded", words), "shard");
    ck_assert_str_eq(words_meant("ordre", words), "order");
    ck_assert_str_eq(words_meant("DP", words), "dp");
    ck_assert_str_eq(words_meant("pd", words), "dp");
    ck_assert_ptr_null(words_meant("gather", words));
    ck_assert_ptr_null(words_meant("", words));
    ck_assert_ptr_null(words_meant("x", words));
    static char longer[200];
    memset(longer, 'a', sizeof longer - 1);
    ck_assert_ptr_null(words_meant(longer, words));
}
END_TEST

START_TEST(words_of_other_programs)
{
    static const char *const train[] = { "steps", "batch_size", "optimizer", "lr", "dtype", "trace_steps", NULL };
    static const char *const lr[] = { "kind", "peak", "warmup_steps", NULL };
    static const char *const types[] = { "float32", "bfloat16", NULL };
    static const char *const says[] = { "prompt", "max-tokens", "temperature", NULL };
    static const char *const replicate[] = { "zero", "zero_group", "zero_optimizer", "bucket_size", NULL };
    static const struct {
        const char *typed;
        const char *const *words;
        const char *hint;
    } rows[] = {
        { "max_steps", train, "; did you mean \"steps\"?" }, /* not the nearer trace_steps */
        { "--MAX-STEPS", train, "" },
        { "Max-Steps", train, "; did you mean \"steps\"?" },
        { "weight_decay", train, "; did you mean \"optimizer.weight_decay\"?" },
        { "learning_rate", train, "; did you mean \"lr\"?" },
        { "learning_rate", lr, "; did you mean \"peak\"?" },
        { "warmup", lr, "; did you mean \"warmup_steps\"?" },
        { "bf16", types, "; did you mean \"bfloat16\"?" },
        { "bf16", train, "; did you mean \"dtype\"?" },
        { "zero_stage", train, "; the strategy has it: \"zero\" of layout or of replicate" },
        { "max_new_tokens", says, "; did you mean \"max-tokens\"?" },
        { "zero_hpz_partition_size", replicate, "; did you mean \"zero_group\"?" },
        { "hybrid_shard", replicate, "; did you mean \"zero_group\"?" },
        { "data_parallel_shard_degree", replicate, "; did you mean \"zero\"?" },
        { "ddp_bucket_size", replicate, "; did you mean \"bucket_size\"?" }, /* which is the nearest, too */
        { "ddp_bucket_size", train, "; the strategy has it: \"bucket_size\" of layout or of replicate, in MiB" },
        { "mics_shard_size", train, "; the strategy has it: \"zero_group\" of layout or of replicate" },
        { "batchsize", train, "; did you mean \"batch_size\"?" },
        { "xyzzy", train, "" },
    };
    static const char *const here[][2] = {
        { "--tensor-model-parallel-size", "the strategy has it: {\"op\":\"layout\",\"tp\":...}" },
        { "optimizer.lr", "\"lr.peak\"" }, /* not "peak", too */
        { "training.LEARNING_RATE", "\"lr\" or \"peak\"" },
        { "bf16", "\"bfloat16\" or \"dtype\"" },
        { "micro-batch-size", "batch_size counts all ranks; the directive schedule cuts it into \"microbatches\"" },
        { "xyzzy", "" },
        { "--", "" },
        { "a.", "" },
    };
    char text[WORDS_HINT];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_str_eq(words_hint(rows[i].typed, rows[i].words, text), rows[i].hint);
    for (size_t i = 0; i < sizeof here / sizeof *here; i++) {
        ck_assert(words_here(here[i][0], text) == (*here[i][1] != '\0'));
        ck_assert_str_eq(text, here[i][1]);
    }
    ck_assert_str_eq(words_list(lr, text, sizeof text), "\"kind\", \"peak\" or \"warmup_steps\"");
    ck_assert_str_eq(words_list(lr, text, 12), "\"kind\", ...");
}
END_TEST

START_TEST(json_long_paths)
{
    char text[800] = "";
    for (int i = 0; i < 12; i++)
        strcat(text, "{\"a_key_of_twenty_chars\":");
    strcat(text, "7");
    for (int i = 0; i < 12; i++)
        strcat(text, "}");
    json_t *d;
    ck_assert_int_eq(js_load_text(text, "f", &d, &err), ST_OK);
    struct js v = js_root(d, "f");
    for (int i = 0; i < 12; i++)
        ck_assert_int_eq(js_need(&v, "a_key_of_twenty_chars", &v, &err), ST_OK);
    ck_assert_uint_eq(strlen(v.path), sizeof v.path - 1);
    ck_assert_str_eq(v.path + strlen(v.path) - 3, "...");
    int64_t i;
    ck_assert_int_eq(js_int(&v, 7, 7, &i, &err), ST_OK);
    json_decref(d);

    char quoted[300] = "[\"";
    memset(quoted + 2, 'q', 200);
    strcat(quoted, "\"]");
    ck_assert_int_eq(js_load_text(quoted, "f", &d, &err), ST_OK);
    v = js_root(d, "f");
    v = js_at(&v, 0);
    ck_assert_int_eq(js_int(&v, 7, 7, &i, &err), ST_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "qqq...\", expected"));
    ck_assert_uint_lt(strlen(err.text), 160);
    json_decref(d);
}
END_TEST

START_TEST(json_bad_text)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        { "", "f.json: line 1, column 0: invalid JSON: " },
        { "{\"a\": 1,\n \"b\" 2}", "f.json: line 2, column 6: invalid JSON: " },
        { "{\"a\": 1, \"a\": 2}", "duplicate" },
        { "{} x", "f.json: line 1, column 4: " },
        { "{\"a\": 123456789012345678901234567890}", "too big" },
        { "[1, \xff]", "f.json: line 1" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *d = NULL;
        ck_assert_int_eq(js_load_text(bad[i].text, "f.json", &d, &err), ST_INPUT);
        ck_assert_msg(strstr(err.text, bad[i].message), "%s", err.text);
        ck_assert_ptr_null(d);
        err_clear(&err);
    }
}
END_TEST

START_TEST(json_files)
{
    json_t *d;
    ck_assert_int_eq(js_load_file("/nonexistent/a.json", &d, &err), ST_MISSING);
    ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/a.json: cannot be opened: "));
    err_clear(&err);
    ck_assert_int_eq(js_load_file("/", &d, &err), ST_MISSING);
    ck_assert_ptr_nonnull(strstr(err.text, "/: cannot be read: "));
    err_clear(&err);

    char name[] = "/tmp/piper-test-XXXXXX";
    int fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    FILE *f = fdopen(fd, "w");
    fputs("[", f);
    for (int i = 0; i < 50000; i++)
        fprintf(f, "%d,", i);
    fputs("-1]\n", f);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(js_load_file(name, &d, &err), ST_OK);
    struct js a = js_root(d, name);
    uint32_t n;
    ck_assert_int_eq(js_count(&a, &n, &err), ST_OK);
    ck_assert_uint_eq(n, 50001);
    json_decref(d);

    ck_assert_ptr_nonnull(freopen(name, "r", stdin));
    ck_assert_int_eq(js_load_file("-", &d, &err), ST_OK);
    a = js_root(d, "-");
    FAILS(js_expected(&a, &err, "an object"), "standard input: $: found a list of 50001, expected an object");
    json_decref(d);
    unlink(name);
}
END_TEST

/* ---- numbers in text ------------------------------------------------------------------------------------------ */

START_TEST(parse_numbers)
{
    static const char *const none[] = { "",
                                        " ",
                                        "-1",
                                        "+1",
                                        "0x1",
                                        "1e3",
                                        "1.5",
                                        " 1",
                                        "1 ",
                                        "1\n",
                                        "12a",
                                        "x",
                                        "١",
                                        "1,2",
                                        "1_0",
                                        "18446744073709551616",
                                        "99999999999999999999999999" };
    uint64_t x = 7;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        ck_assert_msg(!parse_number(none[i], &x) && x == 7, "\"%s\"", none[i]);
    ck_assert(parse_number("0", &x) && x == 0);
    ck_assert(parse_number("007", &x) && x == 7);
    ck_assert(parse_number("18446744073709551615", &x) && x == UINT64_MAX);
}
END_TEST

START_TEST(parse_environments)
{
    static const char *const wrong[] = { "0",  "1025", "1000000", "99999999999999999999999999999", "-4", "four",
                                         " 4", "4x",   ",4" };
    struct err e = { 0 };
    uint64_t x = 9;
    unsetenv("PIPER_TEST_N");
    ck_assert(parse_environment("PIPER_TEST_N", 1, 1024, &x, &e) == ST_OK && x == 9);
    setenv("PIPER_TEST_N", "", 1);
    ck_assert(parse_environment("PIPER_TEST_N", 1, 1024, &x, &e) == ST_OK && x == 9);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        setenv("PIPER_TEST_N", wrong[i], 1);
        err_clear(&e);
        ck_assert_int_eq(parse_environment("PIPER_TEST_N", 1, 1024, &x, &e), ST_USAGE);
        ck_assert(x == 9 && strstr(e.text, "PIPER_TEST_N: found \"") && strstr(e.text, wrong[i]) &&
                  strstr(e.text, "from 1 to 1024"));
    }
    setenv("PIPER_TEST_N", "1024", 1);
    ck_assert(parse_environment("PIPER_TEST_N", 1, 1024, &x, &e) == ST_OK && x == 1024);
    setenv("PIPER_TEST_N", "4,2", 1);
    ck_assert(parse_environment("PIPER_TEST_N", 1, 1024, &x, NULL) == ST_OK && x == 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("json");
    TCase *json = tcase_create("json"), *words = tcase_create("words"), *parse = tcase_create("parse");
    tcase_add_checked_fixture(json, load_sample, drop_sample);
    tcase_add_test(json, json_scalars);
    tcase_add_test(json, json_wrong_scalars);
    tcase_add_test(json, json_members);
    tcase_add_test(json, json_unknown_keys);
    tcase_add_test(json, json_long_paths);
    tcase_add_test(json, json_bad_text);
    tcase_add_test(json, json_files);
    tcase_add_test(words, words_that_are_near);
    tcase_add_test(words, words_of_other_programs);
    tcase_add_test(parse, parse_numbers);
    tcase_add_test(parse, parse_environments);
    suite_add_tcase(s, json);
    suite_add_tcase(s, words);
    suite_add_tcase(s, parse);
    return suite_run(s);
}
