/* The option parser: what it takes, and the sentences for what it does not. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/duration.h"
#include "cmd/options.h"
#include "tests/unit/suite.h"

static struct got {
    struct option_common common;
    bool flag;
    const char *text, *word, *maybe;
    uint64_t number;
    struct option_list list;
} got;

static const char *const words[] = { "red", "green", NULL };
#define AT(member) offsetof(struct got, member)
static const struct option table[] = {
    FLAG("flag", 'f', AT(flag), "a flag"),
    TEXT("text", 't', AT(text), "T", "a text"),
    NUMBER("number", 'n', AT(number), "N", 2, ""),
    CHOICE("colour", 0, AT(word), "C", words, ""),
    LIST("set", 0, AT(list), "K=V", ""),
    MAYBE("how", 'h', AT(maybe), "red", words, ""),
    { .name = NULL },
};
static const struct option_usage usage = { "test", "A B [options]", "A test.", table, 1, 2 };
static struct err e;

static enum status parse(const char *const *argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    got.flag = false;
    got.text = got.word = got.maybe = NULL;
    got.number = 0;
    got.list.n = got.common.operands.n = 0;
    err_clear(&e);
    return options_parse(&usage, argc, (char **)argv, &got, &e);
}
#define PARSE(...) parse((const char *const[]){ "test", __VA_ARGS__, NULL })

static void teardown(void)
{
    vec_free(&got.list);
    vec_free(&got.common.operands);
}

/* An option whose value may be left out takes it behind "=" alone. */
START_TEST(maybe)
{
    ck_assert_int_eq(PARSE("a", "--how"), ST_OK);
    ck_assert_str_eq(got.maybe, "");
    ck_assert_int_eq(PARSE("--how", "red"), ST_OK);
    ck_assert_str_eq(got.maybe, "");
    ck_assert_str_eq(got.common.operands.at[0], "red");
    ck_assert_int_eq(PARSE("a", "--how=red"), ST_OK);
    ck_assert_str_eq(got.maybe, "red");
    ck_assert_int_eq(PARSE("a"), ST_OK);
    ck_assert_ptr_null(got.maybe);
    ck_assert_int_eq(PARSE("a", "--how=blue"), ST_USAGE);
}
END_TEST

START_TEST(long_and_short)
{
    ck_assert_int_eq(PARSE("a", "--flag", "--text=x=y", "-n", "7", "--colour", "green", "--set", "a=1", "--set=b=2"),
                     ST_OK);
    ck_assert(got.flag);
    ck_assert_str_eq(got.text, "x=y");
    ck_assert_uint_eq(got.number, 7);
    ck_assert_str_eq(got.word, "green");
    ck_assert_uint_eq(got.list.n, 2);
    ck_assert_str_eq(got.list.at[1], "b=2");
    ck_assert_uint_eq(got.common.operands.n, 1);
    ck_assert_int_eq(PARSE("-f", "-tvalue", "-", "-n3"), ST_OK);
    ck_assert_str_eq(got.text, "value");
    ck_assert_str_eq(got.common.operands.at[0], "-");
    ck_assert_uint_eq(got.number, 3);
}
END_TEST

/* From the least on, in each way of writing it; nothing below, and nothing that is no number. */
START_TEST(numbers)
{
    static const char *const good[] = { "2", "3", "18446744073709551615" }, *const bad[] = {
        "1", "0", "-2", "+2", "2.0", "0x2", " 2", "", "18446744073709551616"
    };
    char with[64];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_int_eq(PARSE("a", "--number", good[i]), ST_OK);
        ck_assert_uint_eq(got.number, strtoull(good[i], NULL, 10));
        snprintf(with, sizeof with, "-n%s", good[i]);
        ck_assert_int_eq(PARSE("a", with), ST_OK);
        ck_assert_uint_eq(got.number, strtoull(good[i], NULL, 10));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(PARSE("a", "--number", bad[i]) == ST_USAGE, "\"%s\" is taken", bad[i]);
}
END_TEST

START_TEST(two_dashes_end_options)
{
    ck_assert_int_eq(PARSE("--", "--flag"), ST_OK);
    ck_assert(!got.flag);
    ck_assert_str_eq(got.common.operands.at[0], "--flag");
}
END_TEST

static void refused(enum status st, const char *text)
{
    ck_assert_int_eq(st, ST_USAGE);
    ck_assert_msg(strstr(e.text, text), "\"%s\" has no \"%s\"", e.text, text);
}

START_TEST(mistakes_have_sentences)
{
    refused(PARSE("a", "--flagg"), "did you mean --flag?");
    refused(PARSE("a", "--flagg"), "piper test --help");
    refused(PARSE("a", "--zzzzzzzz"), "unknown option --zzzzzzzz");
    refused(PARSE("a", "-z"), "unknown option -z");
    refused(PARSE("a", "--flag=1"), "takes no value");
    refused(PARSE("a", "-f1"), "takes no value");
    refused(PARSE("a", "--text"), "--text requires a value (T)");
    refused(PARSE("a", "--number", "1"), "found \"1\", expected an integer >= 2");
    refused(PARSE("a", "--number", "2x"), "found \"2x\"");
    refused(PARSE("a", "--number", "18446744073709551616"), "expected an integer");
    refused(PARSE("a", "--colour", "blue"), "expected \"red\" or \"green\"");
    refused(PARSE("-f"), "found 0 operands");
    refused(PARSE("a", "b", "c"), "found 3 operands");
}
END_TEST

START_TEST(durations)
{
    static const struct {
        const char *text;
        uint64_t seconds;
    } good[] = {
        { "0", 0 },
        { "30", 30 },
        { "4000", 4000 },
        { "1:30", 90 },
        { "90:00", 5400 },
        { "1:30:00", 5400 },
        { "36:00:01", 129601 },
        { "0-0:04", 240 },
        { "1-12:30", 131400 },
        { "1-0", 86400 },
        { "2-3", 183600 },
        { "1-00:00:10", 86410 },
        { "0-23:59:59", 86399 },
        { "1h", 3600 },
        { "1h30m", 5400 },
        { "2d5s", 172805 },
        { "90m", 5400 },
    };
    static const char *const bad[] = { "",       "-",        "1-",        "-1",      "1-1-1",
                                       "1:",     ":1",       "1:60",      "1:2:3:4", "1-24",
                                       "1-1:60", "1-1:1:60", "1-1:1:1:1", "h",       "1.5",
                                       " 1",     "1 ",       "1m1h",      "1h1h",    "1h5",
                                       "-1h",    "+1",       "UNLIMITED", "10001-0", "99999999999999999999" };
    uint64_t x;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(duration_read(good[i].text, &x) && x == good[i].seconds, "\"%s\"", good[i].text);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!duration_read(bad[i], &x), "\"%s\"", bad[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("options");
    TCase *t = tcase_create("parse");
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, long_and_short);
    tcase_add_test(t, maybe);
    tcase_add_test(t, numbers);
    tcase_add_test(t, two_dashes_end_options);
    tcase_add_test(t, mistakes_have_sentences);
    tcase_add_test(t, durations);
    suite_add_tcase(s, t);
    return suite_run(s);
}
