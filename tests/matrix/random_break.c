/* Strategies with one mistake: the table of mistakes, a row a rule of piper-strategy(5), and what they are made with. */
#include "random_break.h"

#include <stdio.h>

void break_want(struct breaker *b, const char *fmt, ...)
{
    va_list args;
    CHECK(b->n_needles < 3);
    va_start(args, fmt);
    vsnprintf(b->out->needles[b->n_needles], sizeof b->out->needles[0], fmt, args);
    va_end(args);
    b->n_needles++;
}

/* ---- what the job has -------------------------------------------------------------------------------------------- */

const char *break_op_of(const json_t *d)
{
    const char *op = json_string_value(json_object_get(d, "op"));
    return op ? op : "";
}

/* A random directive whose name is a word of `ops` ("place replicate"); NULL: none. Its path is wanted in the answer. */
json_t *break_some(struct breaker *b, const char *ops, const char *below)
{
    json_t *d, *found = NULL;
    size_t i, at = 0;
    uint32_t n = 0;
    json_array_foreach(b->j->strategy, i, d) if (strstr(ops, break_op_of(d)) && !rng_below(&b->j->rng, ++n))
    {
        found = d;
        at = i;
    }
    if (found)
        break_want(b, "$[%zu]%s", at, below);
    return found;
}

/* Appends a directive; its path is wanted. */
void break_append(struct breaker *b, const char *below, json_t *d)
{
    break_want(b, "$[%zu]%s", json_array_size(b->j->strategy), below);
    json_array_append_new(b->j->strategy, d);
}

void break_drop(struct random_job *j, const char *ops)
{
    for (size_t i = json_array_size(j->strategy); i-- > 0;)
        if (strstr(ops, break_op_of(json_array_get(j->strategy, i))))
            json_array_remove(j->strategy, i);
}

bool break_has(const struct random_job *j, const char *op)
{
    json_t *d;
    size_t i;
    json_array_foreach(j->strategy, i, d) if (!strcmp(break_op_of(d), op)) return true;
    return false;
}

const char *break_devices_key(const json_t *d)
{
    return json_object_get(d, "device") ? "device" : "devices";
}

uint32_t break_tag_bit(const struct random_job *j, const char *name)
{
    uint32_t tag = ir_graph_find_tag(&j->g, name);
    return tag == IR_NONE ? 0 : 1u << tag;
}

uint32_t break_some_expert_chunk(struct random_job *j)
{
    uint32_t tag = ir_graph_find_tag(&j->g, "EP"), found = IR_NONE, n = 0;
    for (uint32_t c = 0; c < j->chunks.chunks.n && tag != IR_NONE; c++)
        if (j->chunks.chunks.at[c].tag[tag] >= 0 && !rng_below(&j->rng, ++n))
            found = c;
    return found;
}

/* A chunk on another class than this one, IR_NONE; microbatch 0. */
uint32_t break_elsewhere(struct random_job *j, uint32_t chunk)
{
    uint32_t found = IR_NONE, n = 0;
    for (uint32_t c = 0; c < j->chunks.chunks.n; c++)
        if (random_set_of(j, c, 0)->class_id != random_set_of(j, chunk, 0)->class_id && !rng_below(&j->rng, ++n))
            found = c;
    return found;
}

json_t *break_pass_filter(struct random_job *j, uint32_t chunk, uint32_t mb, const char *pass)
{
    json_t *f = random_filter(j, chunk, j->place.tags, mb, mb, pass);
    if (json_is_object(f) && json_is_string(json_object_get(f, j->mb_name)) && j->microbatches == 1)
        json_object_del(f, j->mb_name);
    return f;
}

/* {"op":"order","filters":[[..],[..],..]} of one chunk and microbatch. */
json_t *break_order_of(struct random_job *j, uint32_t chunk, uint32_t mb, const char *const *passes)
{
    json_t *groups = json_array();
    for (int i = 0; passes[i]; i++)
        json_array_append_new(groups, json_pack("[o]", break_pass_filter(j, chunk, mb, passes[i])));
    return json_pack("{s:s,s:o}", "op", "order", "filters", groups);
}

/* Do filters by the tags of placement match what an order may name? */
bool break_orderly(const struct random_job *j)
{
    struct random_part p;
    if (j->macros || !random_part(j, j->place.tags, true, &p))
        return false;
    random_part_release(&p);
    return true;
}

uint32_t break_some_chunk(struct random_job *j)
{
    return rng_below(&j->rng, j->chunks.chunks.n);
}

bool break_set_key(struct breaker *b, const char *ops, const char *key, json_t *value, const char *found)
{
    json_t *d = break_some(b, ops, "");
    if (d)
        json_object_set(d, key, value);
    json_decref(value);
    break_want(b, "%s", key);
    break_want(b, "%s", found);
    return d;
}

json_t *break_some_dim(struct breaker *b, const char *dim)
{
    json_t *d, *found = NULL;
    size_t i, at = 0;
    uint32_t n = 0;
    json_array_foreach(b->j->strategy, i, d)
    {
        const char *has = json_string_value(json_object_get(d, "dim"));
        const bool same = !has || !dim ? has == dim : !strcmp(has, dim);
        if (strcmp(break_op_of(d), "shard") != 0 || !same || rng_below(&b->j->rng, ++n))
            continue;
        found = d;
        at = i;
    }
    if (found)
        break_want(b, "$[%zu]", at);
    return found;
}

bool break_set_dim(struct breaker *b, const char *dim, const char *key, json_t *value)
{
    json_t *d = break_some_dim(b, dim);
    if (d)
        json_object_set(d, key, value);
    json_decref(value);
    return d;
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

#define ENTRY(name) { #name, breaks_##name },
static const struct {
    const char *name;
    bool (*apply)(struct breaker *b);
} kinds[] = { BREAK_ROWS(ENTRY) };

uint32_t random_break_kinds(void)
{
    return sizeof kinds / sizeof *kinds;
}

const char *random_break_name(uint32_t kind)
{
    return kinds[kind].name;
}

bool random_break(struct random_job *j, uint32_t kind, struct random_break *out)
{
    struct breaker b = { .j = j, .out = out };
    *out = (struct random_break){ .status = ST_INPUT };
    return kinds[kind].apply(&b);
}
