/* Spellings of the reference's branches: sentences for what has no counterpart here, or another meaning; and what its directives that are
 * taken have in common (shard_tensor.c, ring_exchange.c, fuse_collectives.c). */
#include "sched/directives/reference.h"

/* ---- what is answered with a sentence ------------------------------------------------------------------------------------- */

static const struct answer {
    const char *op, *key; /* key NULL: the directive itself */
    const char *sentence;
} answers[] = {
    { "mesh", NULL, "there are no meshes: write the groups as lists in \"devices\" of shard" },
    { "route", NULL, "omit it: tensors go to their readers anyway" },
    { "shard_tensor", "mesh", "omit \"mesh\": write the groups as lists in \"devices\"" },
    { "shard_tensor", "inputs", "omit \"inputs\": what a region gathers and sums follows from its operators" },
    { "ring_exchange", "mesh", "omit \"mesh\": write the groups as lists in \"devices\"" },
    { "ring_exchange", "derive", "omit \"derive\": k and v are found" },
    { "layout", "filter", "here layout is a grid: pp, dp, tp, cp; omit \"filter\"" },
    { "layout", "axis", "here layout is a grid: pp, dp, tp, cp; omit \"axis\"" },
};

/* Does the filter name the tag: as a key, or in pairs? */
static bool names_tag(const json_t *filter, const char *tag)
{
    for (size_t i = 0; i < json_array_size(filter); i++) {
        const char *name = json_string_value(json_array_get(json_array_get(filter, i), 0));
        if (name && !strcmp(name, tag))
            return true;
    }
    return json_object_get(filter, tag) != NULL;
}

enum status reference_answer(const struct sched *s, const struct js *js, const char *op, struct err *e)
{
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (!strcmp(answers[i].op, op) && (!answers[i].key || js_has(js, answers[i].key)))
            return js_wrong(js, e, "%s", answers[i].sentence);
    if (!strcmp(op, "shard") && ir_graph_find_tag(s->g, "SP") == IR_NONE &&
        names_tag(json_object_get(js->v, "filter"), "SP"))
        return js_wrong(
            js, e,
            "the model has no tag SP; for attention by heads write \"dim\":\"context\",\"exchange\":\"all-to-all\", "
            "with a \"dim\":\"sequence\"");
    return ST_OK;
}

/* ---- what is taken ------------------------------------------------------------------------------------------------- */

enum status reference_filter(const struct sched *s, const struct js *js, const char *tag, json_t **out, struct err *e)
{
    struct js v;
    TRY(js_need(js, "filter", &v, e));
    const char *any = json_string_value(json_object_get(v.v, tag));
    *out = json_is_object(v.v) ? json_copy(v.v) : json_incref(v.v);
    if (any && !strcmp(any, "*") && ir_graph_find_tag(s->g, tag) == IR_NONE)
        json_object_del(*out, tag);
    return ST_OK;
}

void reference_shard(const struct js *js, const char *dim, json_t *filter, json_t *out)
{
    json_t *d = json_pack("{s:s, s:s, s:O}", "op", "shard", "dim", dim, "filter", filter);
    if (strcmp(dim, "context"))
        json_object_set(d, "devices", json_object_get(js->v, "devices"));
    if (strcmp(dim, "sequence") && json_object_get(js->v, "stream"))
        json_object_set(d, "stream", json_object_get(js->v, "stream"));
    json_array_append_new(out, d);
}
