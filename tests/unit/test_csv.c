/* Schedules through the compiler: every kind as directives, as a compiled order, as text and back; placements; and what is
 * wrong in a text or between a schedule and its layout, answered with the place. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "ir/family/family.h"
#include "sched/directives/csv.h"
#include "schedule_sim.h"
#include "tests/unit/suite.h"

struct job {
    struct ir_graph g;
    json_t *strategy;
    struct sched_text text;
    struct sched_input in;
};

/* A llama of as many layers as stages, so that each has one. */
static void open_job(struct job *j, uint32_t layers, const char *strategy)
{
    char model[512];
    json_t *doc;
    struct err e = { 0 };
    snprintf(model, sizeof model,
             "{\"model_type\":\"llama\",\"vocab_size\":16,\"hidden_size\":8,\"num_hidden_layers\":%u,\"num_attention_"
             "heads\":2,"
             "\"num_key_value_heads\":1,\"intermediate_size\":8,\"tie_word_embeddings\":false,\"max_position_"
             "embeddings\":16}",
             layers);
    *j = (struct job){ 0 };
    ck_assert_msg(js_load_text(model, "model.json", &doc, &e) == ST_OK, "%s", e.text);
    ir_graph_init(&j->g);
    struct notices notices = { 0 };
    ck_assert_msg(ir_family_build(doc, "model.json", 4, &j->g, &notices, &e) == ST_OK, "%s", e.text);
    notices_release(&notices);
    json_decref(doc);
    ck_assert_msg(js_load_text(strategy, "strategy.json", &j->strategy, &e) == ST_OK, "%s", e.text);
    j->in = (struct sched_input){ .graph = &j->g,
                                  .strategy = j->strategy,
                                  .strategy_name = "strategy.json",
                                  .batch_size = 5 * 4 * 3 * 64,
                                  .compute = IR_F32,
                                  .clip = true,
                                  .target = ir_target_by_name("cpu"),
                                  .texts = &j->text };
}

static void close_job(struct job *j)
{
    json_decref(j->strategy);
    ir_graph_release(&j->g);
}

/* The schedule of a strategy in the text form; owned by the caller. */
static char *csv_of(uint32_t layers, const char *strategy, const char *text)
{
    struct job j;
    struct err e = { 0 };
    char *out = NULL;
    size_t size;
    open_job(&j, layers, strategy);
    j.text = (struct sched_text){ "s.csv", text };
    j.in.n_texts = text ? 1 : 0;
    FILE *f = open_memstream(&out, &size);
    ck_assert_msg(sched_csv(&j.in, f, &e) == ST_OK, "%s: %s", strategy, e.text);
    fclose(f);
    close_job(&j);
    return out;
}

static const char *layout_of(const struct schedule_kind *k, uint32_t p, uint32_t v, uint32_t dp, char *text,
                             size_t size)
{
    snprintf(text, size, "{\"op\":\"layout\",\"pp\":%u,\"dp\":%u,\"placement\":\"%s\",\"chunks\":%u}", p, dp,
             placement_names[k->placement], v);
    return text;
}

/* ---- every kind ---- */

static char *table_text(const struct schedule_kind *k, uint32_t p, uint32_t m, uint32_t v)
{
    struct cells *rows = sim_rows(k, p, m, v);
    char *all = NULL;
    size_t size;
    FILE *f = open_memstream(&all, &size);
    for (uint32_t r = 0; r < p; r++) {
        char *line = sim_text(&rows[r]);
        fputs(line, f);
        mem_free(line);
    }
    fclose(f);
    sim_rows_free(rows, p);
    return all;
}

/* From the table through the compiler to text, and that text through the compiler again. */
static void check_round(const struct schedule_kind *k, uint32_t p, uint32_t m, uint32_t v, uint32_t dp)
{
    char layout[200], strategy[400];
    layout_of(k, p, v, dp, layout, sizeof layout);
    snprintf(strategy, sizeof strategy, "[%s,{\"op\":\"schedule\",\"kind\":\"%s\",\"microbatches\":%u}]", layout,
             k->name, m);
    char *table = table_text(k, p, m, v), *first = csv_of(p * v, strategy, NULL);
    ck_assert_str_eq(first, table);
    snprintf(strategy, sizeof strategy, "[{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"s.csv\"},%s]", layout);
    char *second = csv_of(p * v, strategy, first);
    ck_assert_str_eq(second, first);
    free(table);
    free(first);
    free(second);
}

START_TEST(round_trip)
{
    const struct schedule_kind *k = sched_schedule_kinds[_i];
    static const uint32_t sizes[][2] = { { 1, 2 }, { 2, 4 }, { 2, 6 }, { 3, 6 }, { 4, 8 }, { 4, 12 }, { 4, 10 } };
    int n = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint32_t v = k->chunks ? k->chunks : 2; v <= (k->chunks ? k->chunks : 3); v++)
            for (uint32_t dp = 1; dp <= 2; dp++) {
                if (k->refuse && k->refuse(sizes[i][0], sizes[i][1], v))
                    continue;
                check_round(k, sizes[i][0], sizes[i][1], v, dp);
                n++;
            }
    ck_assert_int_gt(n, 7);
}
END_TEST

/* Through the whole compiler and its checker. */
START_TEST(compiles)
{
    const struct schedule_kind *k = sched_schedule_kinds[_i];
    for (uint32_t p = 2; p <= 4; p += 2)
        for (uint32_t dp = 1; dp <= 2; dp++) {
            uint32_t v = k->chunks ? k->chunks : 2;
            char layout[200], strategy[400];
            struct sched_output out;
            struct err e = { 0 };
            struct job j;
            snprintf(strategy, sizeof strategy, "[%s,{\"op\":\"schedule\",\"kind\":\"%s\",\"microbatches\":%u}]",
                     layout_of(k, p, v, dp, layout, sizeof layout), k->name, 2 * p);
            open_job(&j, p * v, strategy);
            ck_assert_msg(sched_compile(&j.in, &out, &e) == ST_OK, "%s: %s", strategy, e.text);
            ck_assert_uint_eq(out.ranks, p * dp);
            sched_output_release(&out);
            close_job(&j);
        }
}
END_TEST

/* Sub-chunks and expert chunks make one cell; replicas and the place of the schedule in the list change nothing. */
START_TEST(one_cell)
{
    static const char moe[] = "{\"model_type\":\"qwen3_moe\",\"vocab_size\":16,\"hidden_size\":8,\"num_hidden_layers\":"
                              "4,\"num_attention_heads\":2,"
                              "\"num_key_value_heads\":1,\"head_dim\":4,\"moe_intermediate_size\":8,\"intermediate_"
                              "size\":8,\"num_experts\":4,"
                              "\"num_experts_per_tok\":2,\"norm_topk_prob\":true,\"tie_word_embeddings\":false,\"max_"
                              "position_embeddings\":16}";
    struct job j;
    struct err e = { 0 };
    json_t *doc;
    char *out = NULL;
    size_t size;
    open_job(&j, 4,
             "[{\"op\":\"schedule\",\"kind\":\"zb-h1\",\"microbatches\":3},"
             "{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"bucket_size\":\"layer\"}]");
    ir_graph_release(&j.g);
    ir_graph_init(&j.g);
    ck_assert_msg(js_load_text(moe, "model.json", &doc, &e) == ST_OK, "%s", e.text);
    struct notices notices = { 0 };
    ck_assert_msg(ir_family_build(doc, "model.json", 4, &j.g, &notices, &e) == ST_OK, "%s", e.text);
    notices_release(&notices);
    json_decref(doc);
    FILE *f = open_memstream(&out, &size);
    ck_assert_msg(sched_csv(&j.in, f, &e) == ST_OK, "%s", e.text);
    fclose(f);
    char *table = table_text(sched_schedule_kinds[4], 2, 3, 1);
    ck_assert_str_eq(sched_schedule_kinds[4]->name, "zb-h1");
    ck_assert_str_eq(out, table);
    free(out);
    free(table);
    close_job(&j);
}
END_TEST

/* ---- placements ---- */

static void check_devices(const char *layout, uint32_t stage, const char *devices)
{
    struct job j;
    struct err e = { 0 };
    json_t *list;
    uint32_t ranks;
    char strategy[300], *found = NULL;
    snprintf(strategy, sizeof strategy, "[%s]", layout);
    open_job(&j, 8, strategy);
    ck_assert_msg(sched_expand(&j.in, &list, &ranks, &e) == ST_OK, "%s: %s", layout, e.text);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *d = json_array_get(list, i);
        if (!strcmp(json_string_value(json_object_get(d, "op")), "place") &&
            json_integer_value(json_object_get(json_object_get(d, "filter"), "PP")) == stage)
            found = json_dumps(json_object_get(d, "devices"), JSON_COMPACT);
    }
    ck_assert_msg(found != NULL, "%s: no place of stage %u", layout, stage);
    ck_assert_str_eq(found, devices);
    free(found);
    json_decref(list);
    close_job(&j);
}

START_TEST(placements)
{
    check_devices("{\"op\":\"layout\",\"pp\":4,\"dp\":2}", 3, "[3,7]");
    check_devices("{\"op\":\"layout\",\"pp\":4,\"dp\":1,\"placement\":\"v\"}", 6, "[1]");
    check_devices("{\"op\":\"layout\",\"pp\":2,\"dp\":1,\"placement\":\"interleaved\",\"chunks\":3}", 5, "[1]");
    check_devices("{\"op\":\"layout\",\"pp\":4,\"dp\":1,\"placement\":\"two-way\"}", 0, "[0,3]");
    check_devices("{\"op\":\"layout\",\"pp\":4,\"dp\":1,\"placement\":\"two-way\"}", 2, "[2,1]");
    check_devices("{\"op\":\"layout\",\"pp\":4,\"dp\":2,\"placement\":\"two-way\"}", 1, "[1,2,5,6]");
    check_devices("{\"op\":\"layout\",\"pp\":4,\"dp\":2,\"placement\":\"two-way\",\"outer\":\"pp\"}", 1, "[2,4,3,5]");
}
END_TEST

/* The two directions of dualpipe are two replicas with half the microbatches each, and mirrored ranks have one order. */
START_TEST(two_way)
{
    struct job j;
    struct err e = { 0 };
    json_t *list;
    uint32_t ranks, orders = 0;
    open_job(&j, 4,
             "[{\"op\":\"layout\",\"pp\":4,\"dp\":1,\"placement\":\"two-way\"},"
             "{\"op\":\"schedule\",\"kind\":\"dualpipe\",\"microbatches\":10}]");
    ck_assert_msg(sched_expand(&j.in, &list, &ranks, &e) == ST_OK, "%s", e.text);
    ck_assert_uint_eq(ranks, 4);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *d = json_array_get(list, i);
        const char *op = json_string_value(json_object_get(d, "op"));
        if (!strcmp(op, "split"))
            ck_assert_int_eq(json_integer_value(json_object_get(d, "num_microbatches")), 5);
        orders += !strcmp(op, "order");
    }
    ck_assert_uint_eq(orders, 2);
    json_decref(list);
    close_job(&j);
}
END_TEST

/* ---- mistakes ---- */

static void check_refused(uint32_t layers, const char *strategy, const char *text, enum status status, const char *part)
{
    struct job j;
    struct err e = { 0 };
    json_t *list = NULL;
    uint32_t ranks;
    open_job(&j, layers, strategy);
    j.text = (struct sched_text){ "s.csv", text };
    j.in.n_texts = text ? 1 : 0;
    enum status st = sched_expand(&j.in, &list, &ranks, &e);
    ck_assert_msg(st == status, "%s, %s: status %d (%s), expected %d", strategy, text ? text : "-", st, e.text, status);
    ck_assert_msg(strstr(e.text, part) != NULL, "%s, %s: the message is\n%s\nexpected in it\n%s", strategy,
                  text ? text : "-", e.text, part);
    json_decref(list);
    close_job(&j);
}

static const struct wrong_pair {
    const char *layout, *schedule, *part;
} wrong_pairs[] = {
    { "\"pp\":2", "\"kind\":\"zb-v\",\"microbatches\":4",
      "requires the placement \"v\", but the layout in this list has "
      "\"placement\":\"standard\"" },
    { "\"pp\":4,\"placement\":\"v\"", "\"kind\":\"1f1b\",\"microbatches\":4", "requires the placement \"standard\"" },
    { "\"pp\":4", "\"kind\":\"dualpipe\",\"microbatches\":8", "requires the placement \"two-way\"" },
    { "\"pp\":4", "\"kind\":\"interleaved\",\"microbatches\":8", "requires the placement \"interleaved\"" },
    { "\"pp\":3,\"placement\":\"two-way\"", "\"kind\":\"dualpipe\",\"microbatches\":8", "pp=3 is odd" },
    { "\"pp\":2,\"placement\":\"v\"", "\"kind\":\"dualpipev\",\"microbatches\":3",
      "2 pipeline ranks, 2 stages per rank and 3" },
    { "\"pp\":2,\"placement\":\"interleaved\",\"chunks\":3", "\"kind\":\"interleaved\",\"microbatches\":4,\"chunks\":2",
      "expected 3, as in the layout" },
    { "\"pp\":2,\"placement\":\"v\"", "\"kind\":\"zb-v\",\"microbatches\":4,\"chunks\":3", "expected 2" },
    { "\"pp\":2,\"placement\":\"w\"", "\"kind\":\"zb-v\",\"microbatches\":4", "\"two-way\"" },
    { "\"pp\":2,\"placement\":\"v\",\"chunks\":3", "\"kind\":\"zb-v\",\"microbatches\":4", "$[0].chunks" },
    { "\"pp\":2", "\"kind\":\"zb-h3\",\"microbatches\":4", "did you mean \"zb-h" },
    { "\"pp\":2", "\"kind\":\"1f1b\",\"microbatches\":4,\"file\":\"x\"", "\"file\" is for" },
    { "\"pp\":2", "\"kind\":\"csv\"", "file" },
};

START_TEST(wrong_pairs_refused)
{
    char strategy[400];
    const struct wrong_pair *x = &wrong_pairs[_i];
    snprintf(strategy, sizeof strategy, "[{\"op\":\"layout\",\"dp\":1,%s},{\"op\":\"schedule\",%s}]", x->layout,
             x->schedule);
    check_refused(8, strategy, NULL, ST_INPUT, x->part);
}
END_TEST

static const struct wrong_text {
    const char *text, *part;
} wrong_texts[] = {
    { "", "line 1" },
    { "0F0,0B0\n1F0,1X0\n", "line 2, cell 2: found \"1X0\"" },
    { "0F0,0SEND_F0\n1F0,1B0\n", "line 1, which ends with cell 1: there is no 0B0" },
    { "0F0,0SEND_X0,0B0\n1F0,1B0\n", "line 1, cell 2: found \"0SEND_X0\"" },
    { "0F0,0SEND_F0x,0B0\n1F0,1B0\n", "line 1, cell 2: found \"0SEND_F0x\"" },
    { "0F0,0B0\n1F0,1B\n", "line 2, cell 2" },
    { "0F0,0B0\n1F0,F0\n", "line 2, cell 2" },
    { "0F0,0B0\n1F0,1B0 1B0\n", "line 2, cell 2" },
    { "0F99999999999999999999,0B0\n", "line 1, cell 1" },
    { "0F60000,60000B0\n", "line 1, cell 2: 60000B0 implies 60001 stages and 60001 microbatches" },
    { "0F0,0B0\n1F0,1B0,1B0\n", "line 2, cell 3: 1B0 appears twice" },
    { "0F0,0B0\n1F0,,1RECV_B0,1B0,1B0\n", "line 2, cell 5: 1B0 appears twice" }, /* as they stand in the file */
    { "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1I1\n", "line 2, which ends with cell 4: there is no 1W1" },
    { "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1W0\n", "line 2, cell 4: 1W0 duplicates" },
    { "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1I0\n", "line 2, cell 4: 1I0 duplicates" },
    { "0F0,0B0\n1B0,1F0\n", "line 2, cell 1: 1B0 precedes its forward" },
    { "0F0,0I0,0W0\n1F0,1W0,1I0\n", "line 2, cell 2: 1W0 precedes its I" },
    { "0F0,0B0\n1F0,0B1,0F1,1B0\n", "line 2, cell 2: 0B1 is on another line" },
    { "0F0,0B0,1F0\n\n1B0\n", "line 2, cell 1: found nothing" },
    { "0F0,0B0,0I1,0W1\n1F0,1B0,1F1,1B1\n", "line 1, cell 3: 0I1 precedes its forward" },
    { "0F0,0B0,0F1,0I1,0W1\n2F0,2B0,2F1,2B1,2I1,2W1,2I0,2W0\n", "line 2, cell 5: 2I1 duplicates" },
    { "0F0,0B0,0F1,0I1,0W1\n2F0,2F1,2I1,2W1,2I0,2W0\n", "no line has stage 1; stages are numbered from 0 to 2" },
    { "0F0,0I0,0W0,0F1,0I1,0W1\n2F0,2F1,2I1,2W1,2I0,2W0\n", "no line has stage 1" },
    { "(0F0;0B0OVERLAP_F_B\n1F0,1B0\n", "line 1, cell 1: found \"(0F0;0B0OVERLAP_F_B\"" },
    { "0F0,(0F1;0I0)OVERLAP_F_B,0W0,0B1\n1F0,1B0,1F1,1B1\n", "line 1, cell 2" },
    { "0F0,0B0\n1F0,1B0\n2F0,2B0\n", "s.csv has 3 stages, the model has 2" },
    { "0F0,3F0,0B0,3B0\n1F0,2F0,1B0,2B0\n", "requires the placement \"two-way\"" },
};

START_TEST(wrong_texts_refused)
{
    const struct wrong_text *x = &wrong_texts[_i];
    check_refused(2,
                  "[{\"op\":\"layout\",\"pp\":2,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"s.csv\"}]",
                  x->text, ST_INPUT, x->part);
}
END_TEST

START_TEST(wrong_two_way_refused)
{
    static const char strategy[] = "[{\"op\":\"layout\",\"pp\":2,\"dp\":1,\"placement\":\"two-way\"},"
                                   "{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"s.csv\"}]";
    check_refused(2, strategy, "0F0,3F0,0B0,3B0\n1F0,2F0,1B0,2B0\n", ST_INPUT,
                  "line 1, cell 1: 0F0 differs from line 2, which has 2F0 there for the other direction");
    check_refused(2, strategy, "0F0,3F0,0B0,3B0\n2F0,1F0,2B0,1I0,1W0\n", ST_INPUT,
                  "line 1, cell 4: 3B0 differs from line 2");
    check_refused(2, strategy, "0F0,3F0,0F1,(3F1;0B0)OVERLAP_F_B,3B0,0B1,3B1\n2F0,1F0,2F1,1F1,2B0,1B0,2B1,1B1\n",
                  ST_INPUT, "line 1, cell 4: 3F1 differs from line 2");
    check_refused(2, strategy, "0F0,2F0,0B0,2B0\n1F0,3F0,1B0,3B0\n", ST_INPUT, "other direction");
    check_refused(2, strategy, "0F0,0B0\n1F0,1B0\n", ST_INPUT, "the second direction's, 2 to 3, are missing");
    check_refused(2,
                  "[{\"op\":\"layout\",\"pp\":2,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"s.csv\","
                  "\"microbatches\":3}]",
                  "0F0,0B0\n1F0,1B0\n", ST_INPUT, "has 1 microbatches, not 3");
    check_refused(2,
                  "[{\"op\":\"layout\",\"pp\":2,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"s.csv\"}]",
                  NULL, ST_MISSING, "s.csv");
}
END_TEST

/* What other tools write: carriage returns, idle cells, a pair with the backward first, spaces, no newline at the end. */
START_TEST(lenient)
{
    char *out = csv_of(
        2, "[{\"op\":\"layout\",\"pp\":2,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"s.csv\"}]",
        "0F0,0F1, ,,0B0,0B1\r\n,1F0,(1B0;1F1)OVERLAP_F_B,1B1,\r\n\r\n");
    ck_assert_str_eq(out, "0F0,0F1,0B0,0B1\n1F0,(1F1;1B0)OVERLAP_F_B,1B1\n");
    free(out);
}
END_TEST

/* PyTorch's lowered schedules: cells of communication are dropped, and a notice says so once. */
START_TEST(lowered)
{
    struct job j;
    struct err e = { 0 };
    json_t *list;
    uint32_t ranks;
    struct notices notices;
    static const char layout[] =
        "[{\"op\":\"layout\",\"pp\":2,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"s.csv\"}]";
    static const char text[] = "0UNSHARD,0F0,0SEND_F0,0F1,0SEND_F1,,0RECV_B0,0B0,0RECV_B1,0B1,0REDUCE_GRAD,0RESHARD\n"
                               "1UNSHARD,1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1,1REDUCE_GRAD\n";
    char *out = csv_of(2, layout, text);
    ck_assert_str_eq(out, "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n");
    free(out);
    open_job(&j, 2, layout);
    j.text = (struct sched_text){ "s.csv", text };
    j.in.n_texts = 1;
    notices_init(&notices);
    j.in.notices = &notices;
    ck_assert_msg(sched_expand(&j.in, &list, &ranks, &e) == ST_OK, "%s", e.text);
    ck_assert_uint_eq(notices.n, 1);
    ck_assert_str_eq(notices.at[0],
                     "s.csv: 13 cells of communication (the first is 0UNSHARD) are dropped: the compiler "
                     "makes it from the placement");
    json_decref(list);
    notices_release(&notices);
    close_job(&j);
}
END_TEST

/* Placed by microbatch, a stage is on a line for each of its device sets; lines are written in the order of ranks. */
START_TEST(by_microbatch)
{
    static const char csv[] = "{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"s.csv\"}]";
    static const char text[] = "1F0,0F1,1B0,0B1\n0F0,1F1,1B1,0B0\n";
    static const char *const places[] = {
        "[{\"op\":\"place\",\"filter\":{\"PP\":0},\"rotate\":[[1],[0]]},"
        "{\"op\":\"place\",\"filter\":{\"PP\":1},\"rotate\":[[0],[1]]},",
        "[{\"op\":\"place\",\"filter\":{\"PP\":0},\"devices\":[1]},{\"op\":\"place\",\"filter\":{\"PP\":1},\"devices\":"
        "[0]},"
        "{\"op\":\"place\",\"filter\":[[\"PP\",0],[\"MB\",1]],\"devices\":[0]},"
        "{\"op\":\"place\",\"filter\":{\"PP\":1,\"MB\":\"1-9:2\"},\"devices\":[1]},",
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char strategy[512];
        snprintf(strategy, sizeof strategy, "%s%s", places[i], csv);
        char *out = csv_of(2, strategy, "0F0,1F1,1B1,0B0\n1F0,0F1,1B0,0B1\n");
        ck_assert_str_eq(out, text);
        free(out);
    }
}
END_TEST

/* Ranges with a step, of stages and of microbatches; and the same sets in turn. */
START_TEST(steps)
{
    static const char split[] = "{\"op\":\"split\",\"filter\":{},\"num_microbatches\":5}]";
    static const char *const places[] = {
        "[{\"op\":\"place\",\"filter\":{\"PP\":\"0-3:2\"},\"rotate\":[[0],[1],[2]]},"
        "{\"op\":\"place\",\"filter\":{\"PP\":\"1-3:2\"},\"rotate\":[[1],[2],[0]]},",
        "[{\"op\":\"place\",\"filter\":{\"PP\":\"0-2:2\",\"MB\":\"0-9:3\"},\"devices\":[0]},"
        "{\"op\":\"place\",\"filter\":{\"PP\":\"0-2:2\",\"MB\":\"1-9:3\"},\"devices\":[1]},"
        "{\"op\":\"place\",\"filter\":{\"PP\":\"0-2:2\",\"MB\":2},\"devices\":[2]},"
        "{\"op\":\"place\",\"filter\":{\"PP\":\"1-3:2\"},\"devices\":[2]},"
        "{\"op\":\"place\",\"filter\":{\"PP\":\"1-3:2\",\"MB\":\"0-4:3\"},\"devices\":[1]},"
        "{\"op\":\"place\",\"filter\":{\"PP\":\"1-3:2\",\"MB\":2},\"devices\":[0]},",
    };
    char *found[2];
    for (int i = 0; i < 2; i++) {
        char strategy[1024];
        snprintf(strategy, sizeof strategy, "%s%s", places[i], split);
        found[i] = csv_of(4, strategy, NULL);
    }
    ck_assert_str_eq(found[0], found[1]);
    /* device 0 has microbatches 0 and 3 of stages 0 and 2, and 2 of the others */
    size_t cells = 0;
    for (const char *s = strtok(found[0], ",\n"); s; s = strtok(NULL, ",\n")) {
        uint32_t stage, mb;
        char pass;
        ck_assert_int_eq(sscanf(s, "%u%c%u", &stage, &pass, &mb), 3);
        if (cells++ < 12)
            ck_assert_msg(mb % 3 == (stage % 2 ? 2 : 0), "cell %zu of device 0 is %s", cells, s);
    }
    ck_assert_uint_eq(cells, 40);
    free(found[0]);
    free(found[1]);
}
END_TEST

/* What the compiler finds, and not the reader: an order that no rank can go on with; lines that are not those of the placement. */
static const struct wrong_order {
    const char *places, *text, *part;
} wrong_orders[] = {
    { "{\"op\":\"layout\",\"pp\":2,\"dp\":1}", "0F0,,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n",
      "line 1, cell 4: PP=0 MB=0 B is ordered before PP=0 MB=1 F, but data flow together with the order in" },
    { "{\"op\":\"place\",\"filter\":{\"PP\":0},\"rotate\":[[0],[1]]},{\"op\":\"place\",\"filter\":{\"PP\":1},"
      "\"devices\":[2]}",
      "0F0,,0B0,0F1,0B1\n1F0,1B0,1F1,1B1\n",
      "line 1, cell 4: PP=0 MB=1 F is on another device set than the first match of this line; a line has what one "
      "device set runs" },
    { "{\"op\":\"place\",\"filter\":{\"PP\":0},\"rotate\":[[0],[1]]},{\"op\":\"place\",\"filter\":{\"PP\":1},"
      "\"devices\":[2]}",
      "0F0,0B0\n0F1,0B1\n1F0,1B0\n1F1,1B1\n",
      "line 4, cell 1: PP=1 MB=1 F is on another line than earlier passes of its stage on the same devices, line 3" },
    { "{\"op\":\"place\",\"filter\":{\"PP\":0},\"rotate\":[[0],[1]]},{\"op\":\"place\",\"filter\":{\"PP\":1},"
      "\"devices\":[2]}",
      "0F0,0B0\n0F1\n1F0,1B0,1F1,1B1,0B1\n",
      "line 3, cell 5: 0B1 is on another line than earlier passes of its stage and microbatch, line 2" },
};

START_TEST(wrong_orders_refused)
{
    struct job j;
    struct err e = { 0 };
    char strategy[512];
    const struct wrong_order *x = &wrong_orders[_i];
    snprintf(strategy, sizeof strategy, "[%s,{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"s.csv\"}]", x->places);
    open_job(&j, 2, strategy);
    j.text = (struct sched_text){ "s.csv", x->text };
    j.in.n_texts = 1;
    FILE *f = tmpfile();
    ck_assert_int_eq(sched_csv(&j.in, f, &e), ST_INPUT);
    ck_assert_msg(strstr(e.text, x->part) != NULL, "%s", e.text);
    fclose(f);
    close_job(&j);
}
END_TEST

START_TEST(files)
{
    struct err e = { 0 };
    json_t *list;
    ck_assert_int_eq(
        js_load_text("[{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"a\"},{\"op\":\"place\"},3,"
                     "{\"op\":\"schedule\",\"kind\":\"csv\",\"file\":\"b\"},{\"op\":\"schedule\",\"file\":\"c\"}]",
                     "s", &list, &e),
        ST_OK);
    ck_assert_str_eq(sched_file(list, 0), "a");
    ck_assert_str_eq(sched_file(list, 1), "b");
    ck_assert_ptr_null(sched_file(list, 2));
    json_decref(list);
}
END_TEST

int main(void)
{
    int kinds = 0;
    while (sched_schedule_kinds[kinds])
        kinds++;
    Suite *s = suite_create("csv");
    TCase *t = tcase_create("csv");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, round_trip, 0, kinds);
    tcase_add_loop_test(t, compiles, 0, kinds);
    tcase_add_test(t, one_cell);
    tcase_add_test(t, placements);
    tcase_add_test(t, two_way);
    tcase_add_loop_test(t, wrong_pairs_refused, 0, (int)(sizeof wrong_pairs / sizeof *wrong_pairs));
    tcase_add_loop_test(t, wrong_texts_refused, 0, (int)(sizeof wrong_texts / sizeof *wrong_texts));
    tcase_add_test(t, wrong_two_way_refused);
    tcase_add_test(t, lenient);
    tcase_add_test(t, lowered);
    tcase_add_test(t, by_microbatch);
    tcase_add_test(t, steps);
    tcase_add_loop_test(t, wrong_orders_refused, 0, (int)(sizeof wrong_orders / sizeof *wrong_orders));
    tcase_add_test(t, files);
    suite_add_tcase(s, t);
    return suite_run(s);
}
