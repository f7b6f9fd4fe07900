#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "ir/family/family.h"

/* A model that a test builds, and what was said of it: for the tests of families and of models given as operators. */
static struct ir_graph g;
static struct notices notices;
static struct err err;

static inline void setup(void)
{
    ir_graph_init(&g);
    notices_init(&notices);
    err_clear(&err);
}

static inline void teardown(void)
{
    ir_graph_release(&g);
    notices_release(&notices);
}

static inline void again(void)
{
    teardown();
    setup();
}

static inline json_t *load(const char *name)
{
    char path[512];
    const char *top = getenv("top_srcdir");
    json_t *doc;
    snprintf(path, sizeof path, "%s/tests/unit/data/%s.json", top ? top : ".", name);
    ck_assert_msg(js_load_file(path, &doc, &err) == ST_OK, "%s", err.text);
    return doc;
}

static inline json_t *parse(const char *text)
{
    json_t *doc;
    ck_assert_msg(js_load_text(text, "model.json", &doc, &err) == ST_OK, "%s", err.text);
    return doc;
}

/* Takes doc. */
static inline enum status build(json_t *doc, uint32_t seq_len)
{
    enum status st = ir_family_build(doc, "model.json", seq_len, &g, &notices, &err);
    json_decref(doc);
    return st;
}

static inline void must_build(json_t *doc, uint32_t seq_len)
{
    ck_assert_msg(build(doc, seq_len) == ST_OK, "%s", err.text);
}

/* The configuration with one key changed (value as JSON text). */
static inline json_t *with(json_t *doc, const char *key, const char *value)
{
    json_t *v = json_loads(value, JSON_DECODE_ANY, NULL);
    ck_assert_ptr_nonnull(v);
    json_object_set_new(doc, key, v);
    return doc;
}

static inline const struct ir_node_op *op(const char *name)
{
    for (uint32_t i = 0; i < g.ops.n; i++)
        if (strcmp(g.ops.at[i].name, name) == 0)
            return &g.ops.at[i];
    ck_abort_msg("no operator %s", name);
}

static inline const struct ir_param *param(const char *name)
{
    for (uint32_t i = 0; i < g.params.n; i++)
        if (strcmp(g.params.at[i].name, name) == 0)
            return &g.params.at[i];
    ck_abort_msg("no parameter %s", name);
}

static inline void reads(const char *consumer, uint32_t input, const char *tensor)
{
    ck_assert_str_eq(g.tensors.at[op(consumer)->in[input]].name, tensor);
}

static inline bool noticed(const char *part)
{
    for (uint32_t i = 0; i < notices.n; i++)
        if (strstr(notices.at[i], part))
            return true;
    return false;
}

static inline int32_t tag(const char *operator_name, const char *tag_name)
{
    uint32_t t = ir_graph_find_tag(&g, tag_name);
    return t == IR_NONE ? -1 : op(operator_name)->tag[t];
}

#endif
