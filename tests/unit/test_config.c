/* train.json: every key, every mistake; --set; learning rates against their formulas. */
#include <check.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "job/config.h"
#include "ir/op.h"
#include "tests/unit/suite.h"

static struct err err;
static struct train_config c;

static json_t *load(const char *text)
{
    json_t *doc;
    err_clear(&err);
    ck_assert_msg(js_load_text(text, "train.json", &doc, &err) == ST_OK, "%s", err.text);
    return doc;
}

static enum status parse(const char *text)
{
    json_t *doc = load(text);
    enum status st = config_parse(doc, "train.json", &c, &err);
    json_decref(doc);
    return st;
}

#define SIZES "\"batch_size\":16,\"seq_len\":128,\"steps\":100"

START_TEST(all_keys)
{
    ck_assert_msg(
        parse(
            "{\"optimizer\":{\"kind\":\"adamw\",\"betas\":[0.8,0.99],\"eps\":1e-7,\"weight_decay\":0.2},"
            "\"lr\":{\"kind\":\"cosine\",\"peak\":3e-4,\"min\":3e-5,\"warmup_steps\":10},\"clip_norm\":1.0," SIZES
            ",\"seed\":9,\"dtype\":\"bfloat16\",\"data\":\"tokens.h5\",\"shuffle\":false,"
            "\"eval_data\":\"val.h5\",\"eval_every\":50,\"checkpoint_every\":25,\"checkpoint_keep\":2,"
            "\"checkpoint_keep_every\":75,\"checkpoint_minutes\":0.5,\"trace_steps\":[1,2,7],"
            "\"sample_every\":20,\"sample_prompts\":[\"a\",\"b c\"],\"sample_tokens\":9,\"freeze\":[\"*a*\",\"b\"]}") ==
            ST_OK,
        "%s", err.text);
    ck_assert_uint_eq(c.optimizer, OPT_ADAMW);
    ck_assert_double_eq(c.beta1, 0.8);
    ck_assert_double_eq(c.beta2, 0.99);
    ck_assert_double_eq(c.eps, 1e-7);
    ck_assert_double_eq(c.weight_decay, 0.2);
    ck_assert_uint_eq(c.lr_kind, LR_COSINE);
    ck_assert_double_eq(c.lr_peak, 3e-4);
    ck_assert_double_eq(c.lr_min, 3e-5);
    ck_assert_uint_eq(c.warmup_steps, 10);
    ck_assert_double_eq(c.clip_norm, 1);
    ck_assert_uint_eq(c.batch_size, 16);
    ck_assert_uint_eq(c.seq_len, 128);
    ck_assert_uint_eq(c.steps, 100);
    ck_assert_uint_eq(c.seed, 9);
    ck_assert_uint_eq(c.dtype, IR_BF16);
    ck_assert(c.data.n == 1 && strcmp(c.data.at[0].path, "tokens.h5") == 0);
    ck_assert(!c.shuffle);
    ck_assert(c.eval_data.n == 1 && strcmp(c.eval_data.at[0].path, "val.h5") == 0);
    ck_assert_uint_eq(c.eval_every, 50);
    ck_assert_uint_eq(c.checkpoint_every, 25);
    ck_assert_uint_eq(c.checkpoint_keep, 2);
    ck_assert_uint_eq(c.checkpoint_keep_every, 75);
    ck_assert_double_eq(c.checkpoint_minutes, 0.5);
    ck_assert_uint_eq(c.n_trace_steps, 3);
    ck_assert_uint_eq(c.trace_steps[2], 7);
    ck_assert_uint_eq(c.sample_every, 20);
    ck_assert(c.n_sample_prompts == 2 && strcmp(c.sample_prompts[1], "b c") == 0);
    ck_assert_uint_eq(c.sample_tokens, 9);
    ck_assert(c.n_freeze == 2 && strcmp(c.freeze[0], "*a*") == 0 && strcmp(c.freeze[1], "b") == 0);
}
END_TEST

START_TEST(defaults)
{
    ck_assert_int_eq(parse("{" SIZES "}"), ST_OK);
    struct train_config d;
    train_config_default(&d);
    ck_assert_double_eq(c.beta1, 0.9);
    ck_assert_double_eq(c.beta2, 0.95);
    ck_assert_double_eq(c.weight_decay, 0.1);
    ck_assert_uint_eq(c.seed, 1);
    ck_assert_uint_eq(c.dtype, IR_F32);
    ck_assert(c.shuffle);
    ck_assert_uint_eq(c.checkpoint_keep, 3);
    ck_assert_double_eq(c.checkpoint_minutes, 30);
    ck_assert_double_eq(c.clip_norm, 0);
    ck_assert_double_eq(c.bias_update_rate, 0);
    ck_assert_uint_eq(c.data.n, 0);
    ck_assert_double_eq(config_lr(&c, 1), d.lr_peak);
    ck_assert_int_eq(parse("{" SIZES ",\"optimizer\":{\"kind\":\"sgd\"},\"lr\":0.5,\"clip_norm\":null}"), ST_OK);
    ck_assert_uint_eq(c.optimizer, OPT_SGD);
    ck_assert_double_eq(c.weight_decay, 0);
    ck_assert_double_eq(config_lr(&c, 77), 0.5);
    ck_assert_str_eq(optimizer_name(c.optimizer), "sgd");
    ck_assert_ptr_null(train_lr_name(LR_WSD + 1));
}
END_TEST

static const struct {
    const char *text, *says;
} mistakes[] = {
    { "[]", "train.json: $: found a list of 0" },
    { "{\"seq_len\":1,\"steps\":1}", "missing key \"batch_size\"" },
    { "{\"batch_size\":1,\"steps\":1}", "missing key \"seq_len\"" },
    { "{\"batch_size\":1,\"seq_len\":1}", "missing key \"steps\"" },
    { "{\"batch_size\":0,\"seq_len\":1,\"steps\":1}", "$.batch_size: found 0" },
    { "{\"batch_size\":1,\"seq_len\":1,\"steps\":1.5}", "$.steps: found 1.5" },
    { "{" SIZES ",\"batchsize\":1}", "unknown key \"batchsize\"; did you mean \"batch_size\"" },
    { "{" SIZES ",\"optimizer\":{\"kind\":\"lion\"}}", "$.optimizer.kind: found \"lion\"" },
    { "{" SIZES ",\"optimizer\":{\"momentum\":0.9}}", "unknown key \"momentum\"" },
    { "{" SIZES ",\"optimizer\":{\"betas\":[0.9]}}", "$.optimizer.betas: found a list of 1" },
    { "{" SIZES ",\"optimizer\":{\"betas\":[0.9,1]}}", "$.optimizer.betas[1]: found 1, expected a number below 1" },
    { "{" SIZES ",\"optimizer\":{\"eps\":0}}", "$.optimizer.eps: found 0" },
    { "{" SIZES ",\"lr\":{\"kind\":\"step\"}}", "$.lr.kind: found \"step\"" },
    { "{" SIZES ",\"lr\":{\"peak\":1e-4,\"min\":1e-3}}", "$.lr.min: found 0.001" },
    { "{" SIZES ",\"lr\":{\"kind\":\"cosine\",\"decay_steps\":5}}", "$.lr.decay_steps: applies to the kind wsd only" },
    { "{" SIZES ",\"lr\":\"high\"}", "$.lr: found \"high\"" },
    { "{" SIZES ",\"lr\":-1}", "$.lr: found -1" },
    { "{" SIZES ",\"clip_norm\":-1}", "$.clip_norm: found -1" },
    { "{" SIZES ",\"moe_router_bias_update_rate\":-1}", "$.moe_router_bias_update_rate: found -1" },
    { "{" SIZES ",\"dtype\":\"float16\"}", "$.dtype: found \"float16\"" },
    { "{" SIZES ",\"data\":\"\"}", "$.data: found \"\"" },
    { "{" SIZES ",\"data\":[]}", "$.data: found a list of 0, expected 1 to 32 token files" },
    { "{" SIZES ",\"data\":{}}", "expected a file name, a list of them, or a list of [weight, file]" },
    { "{" SIZES ",\"data\":[[0,\"a\"]]}", "$.data[0][0]: found 0" },
    { "{" SIZES ",\"data\":[[1,\"a\",\"b\",2]]}", "$.data[0]: found a list of 4, expected [weight, file]" },
    { "{" SIZES ",\"data\":[[1,\"a\"],\"b\"]}", "$.data[1]: found \"b\", expected [weight, file] for all files" },
    { "{" SIZES ",\"data\":[\"x/a.h5\",\"y/a.h5\"]}", "$.data[1]: the name a appears twice" },
    { "{" SIZES ",\"data\":[[1,\"a\",\"b c\"]]}", "$.data[0]: the name \"b c\" is not possible" },
    { "{" SIZES ",\"data\":[[1,\"a\",\"b\\u001bc\"]]}", "$.data[0]: the name \"b?c\" is not possible" },
    { "{" SIZES ",\"data\":[[1,\"a\",\"b\\u009bc\"]]}", "$.data[0]: the name \"b??c\" is not possible" },
    { "{" SIZES ",\"eval_data\":{\"a,b\":\"c\"}}", "the name \"a,b\" is not possible" },
    { "{" SIZES ",\"eval_data\":[\"c\"]}", "$.eval_data: found a list of 1, expected a file name, or an object" },
    { "{" SIZES ",\"documents\":\"apart\"}", "$.documents: found \"apart\", expected \"join\" or \"separate\"" },
    { "{" SIZES ",\"tokens\":5}", "$.tokens: conflicts with steps: one of steps, tokens and epochs" },
    { "{\"batch_size\":1,\"seq_len\":1,\"tokens\":1,\"epochs\":1}", "$.epochs: conflicts with tokens" },
    { "{\"batch_size\":1,\"seq_len\":1,\"epochs\":0}", "$.epochs: found 0" },
    { "{" SIZES ",\"shuffle\":1}", "$.shuffle: found 1" },
    { "{" SIZES ",\"eval_every\":5}", "$.eval_every: requires eval_data" },
    { "{" SIZES ",\"checkpoint_minutes\":-1}", "$.checkpoint_minutes: found -1" },
    { "{" SIZES ",\"checkpoint_keep\":0}", "$.checkpoint_keep: found 0" },
    { "{" SIZES ",\"trace_steps\":[2,2]}", "$.trace_steps[1]: found 2" },
    { "{" SIZES ",\"trace_steps\":[0]}", "$.trace_steps[0]: found 0" },
    { "{" SIZES ",\"sample_every\":5}", "$.sample_every: requires sample_prompts" },
    { "{" SIZES ",\"sample_prompts\":\"a\"}", "$.sample_prompts: found \"a\"" },
    { "{" SIZES ",\"sample_prompts\":[\"\"]}", "$.sample_prompts[0]: found \"\", expected a text of 1 to 1023 bytes" },
    { "{" SIZES ",\"freeze\":[1]}", "$.freeze[0]: found 1, expected a string" },
    { "{" SIZES ",\"sample_tokens\":0}", "$.sample_tokens: found 0" },
    { "{" SIZES ",\"seed\":-1}", "$.seed: found -1" },
};

START_TEST(each_mistake_is_named)
{
    ck_assert_int_eq(parse(mistakes[_i].text), ST_INPUT);
    ck_assert_msg(strstr(err.text, mistakes[_i].says) != NULL, "%s", err.text);
}
END_TEST

START_TEST(set)
{
    const struct config_documents d = { load("{\"num_hidden_layers\":2}"),
                                        load("[{\"op\":\"layout\",\"pp\":2},{\"devices\":[[0,1],[2,3]]}]"),
                                        load("{" SIZES ",\"lr\":{\"peak\":1}}") };
    json_t *model = d.model, *train = d.train;
    static const char *const good[] = { "train.steps=7",
                                        "train.lr.peak=1e-4",
                                        "model.num_hidden_layers=4",
                                        "train.data=a.h5",
                                        "train.optimizer.kind=sgd",
                                        "train.trace_steps=[3]",
                                        "train.clip_norm=null",
                                        "model.rope_parameters.rope_theta=5e5",
                                        "train.eval_data=x=y.h5",
                                        "strategy[0].pp=4",
                                        "strategy[1].devices[1][0]=7" };
    static const char *const bad[] = { "train.steps",
                                       "=3",
                                       "train.=3",
                                       "steps=3",
                                       "strategy.0.op=place",
                                       "train..x=1",
                                       "train.steps.x=1",
                                       "train.lr.=1",
                                       "",
                                       "strategy[2].op=place",
                                       "strategy[0]pp=1",
                                       "strategy[-1].pp=1",
                                       "strategy[0].pp[1]=1",
                                       "strategy[0.pp=1",
                                       "train[0]=1",
                                       "strategy=[]",
                                       "strategy[0].=1" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(config_set(&d, good[i], &err) == ST_OK, "%s", err.text);
    ck_assert_int_eq(config_parse(train, "train.json", &c, &err), ST_OK);
    ck_assert_uint_eq(c.steps, 7);
    ck_assert_double_eq(c.lr_peak, 1e-4);
    ck_assert_str_eq(c.data.at[0].path, "a.h5");
    ck_assert_str_eq(c.eval_data.at[0].path, "x=y.h5");
    ck_assert_uint_eq(c.optimizer, OPT_SGD);
    ck_assert_uint_eq(c.trace_steps[0], 3);
    ck_assert_int_eq(json_integer_value(json_object_get(model, "num_hidden_layers")), 4);
    ck_assert_double_eq(json_number_value(json_object_get(json_object_get(model, "rope_parameters"), "rope_theta")),
                        5e5);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err_clear(&err);
        ck_assert_int_eq(config_set(&d, bad[i], &err), ST_USAGE);
        ck_assert_msg(strstr(err.text, "--set: found ") == err.text, "%s", err.text);
    }
    char *strategy = json_dumps(d.strategy, JSON_COMPACT);
    ck_assert_str_eq(strategy, "[{\"op\":\"layout\",\"pp\":4},{\"devices\":[[0,1],[7,3]]}]");
    free(strategy);
    json_decref(model);
    json_decref(d.strategy);
    json_decref(train);
}
END_TEST

static void near(double x, double want)
{
    ck_assert_msg(fabs(x - want) <= 1e-15 + 1e-12 * fabs(want), "%.17g is not %.17g", x, want);
}

START_TEST(learning_rates)
{
    train_config_default(&c);
    c.lr_peak = 1;
    c.lr_min = 0.1;
    c.steps = 110;
    c.warmup_steps = 10;
    for (c.lr_kind = LR_CONSTANT; c.lr_kind <= LR_WSD; c.lr_kind++) {
        near(config_lr(&c, 1), 0.1); /* 1/n, not 0 */
        near(config_lr(&c, 5), 0.5);
        near(config_lr(&c, 10), 1);
    }
    c.lr_kind = LR_CONSTANT;
    near(config_lr(&c, 110), 1);
    c.lr_kind = LR_LINEAR;
    near(config_lr(&c, 60), 0.55);
    near(config_lr(&c, 110), 0.1);
    near(config_lr(&c, 500), 0.1);
    c.lr_kind = LR_COSINE;
    near(config_lr(&c, 60), 0.55);
    near(config_lr(&c, 35), 0.1 + 0.9 * (1 + sqrt(0.5)) / 2);
    near(config_lr(&c, 110), 0.1);
    c.lr_kind = LR_WSD; /* 11 steps of decay */
    near(config_lr(&c, 99), 1);
    near(config_lr(&c, 100), 0.1 + 0.9 * 10 / 11);
    near(config_lr(&c, 110), 0.1);
    c.decay_steps = 20;
    near(config_lr(&c, 90), 1);
    near(config_lr(&c, 100), 0.55);
    c.decay_steps = 1000; /* no longer than what the warm-up leaves */
    near(config_lr(&c, 60), 0.55);
    c.steps = 5; /* shorter than the warm-up */
    for (c.lr_kind = LR_CONSTANT; c.lr_kind <= LR_WSD; c.lr_kind++) {
        near(config_lr(&c, 5), 0.5);
        near(config_lr(&c, 6), 0.5);
    }
    c.warmup_steps = 0;
    for (c.lr_kind = LR_CONSTANT; c.lr_kind <= LR_WSD; c.lr_kind++)
        near(config_lr(&c, 5), c.lr_kind == LR_CONSTANT ? 1 : 0.1);
}
END_TEST

START_TEST(validate)
{
    ck_assert_int_eq(parse("{" SIZES ",\"trace_steps\":[1,2]}"), ST_OK);
    const struct train_config good = c;
    err_clear(&err);
    ck_assert_int_eq(train_config_validate(&c, "job.h5", &err), ST_OK);
    c.eps = NAN;
    ck_assert_int_eq(train_config_validate(&c, "job.h5", &err), ST_INPUT);
    ck_assert_str_eq(err.text, "job.h5: eps must be above 0 and at most 1");
    c = good;
    c.data.n = 1;
    memset(c.data.at[0].path, 'x', sizeof c.data.at[0].path); /* no end */
    ck_assert_int_eq(train_config_validate(&c, "job.h5", &err), ST_INPUT);
    c = good;
    c.n_trace_steps = UINT32_MAX;
    err_clear(&err);
    ck_assert_int_eq(train_config_validate(&c, "job.h5", &err), ST_INPUT);
    ck_assert_str_eq(err.text, "job.h5: at most 64 trace_steps are possible");
    c = good;
    c.lr_kind = 99;
    ck_assert_int_eq(train_config_validate(&c, "job.h5", &err), ST_INPUT);
    c = good;
    c.trace_steps[1] = 1;
    ck_assert_int_eq(train_config_validate(&c, "job.h5", &err), ST_INPUT);
}
END_TEST

/* Each setting of a job file at the ends of its range, and just beyond: written by another program, it was never parsed. */
START_TEST(ranges)
{
    static const struct {
        size_t at;
        double least, below, most, above; /* NAN: there is no such end */
    } numbers[] = {
#define RANGE(field, ...) { offsetof(struct train_config, field), __VA_ARGS__ }
        RANGE(beta1, 0, -1e-9, 0.999, 1),
        RANGE(beta2, 0, -1e-9, 0.999, 1),
        RANGE(eps, 1e-30, 0, 1, 1.01),
        RANGE(weight_decay, 0, -1, 1e6, 1.01e6),
        RANGE(lr_peak, 0, -1, 1e6, 1.01e6),
        RANGE(clip_norm, 0, -1, 1e30, INFINITY),
        RANGE(bias_update_rate, 0, -1, 1e6, 1.01e6),
        RANGE(epochs, 0, -1, 1e9, 1.01e9),
        RANGE(checkpoint_minutes, 0, -1, 1e6, 1.01e6),
    };
    struct train_config good;
    ck_assert_int_eq(parse("{" SIZES "}"), ST_OK);
    good = c;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const double tried[] = { numbers[i].least, numbers[i].most, numbers[i].below, numbers[i].above, (double)NAN };
        for (int k = 0; k < 5; k++) {
            c = good;
            c.lr_min = 0;
            memcpy((char *)&c + numbers[i].at, &tried[k], sizeof tried[k]);
            err_clear(&err);
            ck_assert_msg((train_config_validate(&c, "job.h5", &err) == ST_OK) == (k < 2), "number %zu: %g", i,
                          tried[k]);
        }
    }
}
END_TEST

/* A name is a column of metrics.csv: no byte that ends a cell or a word. */
START_TEST(names)
{
    ck_assert_int_eq(parse("{" SIZES ",\"data\":[[1,\"a\",\"name\"],[2,\"b\"]]}"), ST_OK);
    for (int byte = 1; byte < 256; byte++) {
        const bool good = byte > ' ' && byte != 0x7f && byte != ',' && byte != '"';
        c.data.at[0].name[2] = (char)byte;
        err_clear(&err);
        ck_assert_msg((train_config_validate(&c, "job.h5", &err) == ST_OK) == good, "byte %d", byte);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config");
    TCase *t = tcase_create("config");
    tcase_add_test(t, all_keys);
    tcase_add_test(t, defaults);
    tcase_add_loop_test(t, each_mistake_is_named, 0, (int)(sizeof mistakes / sizeof *mistakes));
    tcase_add_test(t, set);
    tcase_add_test(t, learning_rates);
    tcase_add_test(t, validate);
    tcase_add_test(t, ranges);
    tcase_add_test(t, names);
    suite_add_tcase(s, t);
    return suite_run(s);
}
