/* Model families: from model.json to a model graph.
 *
 * A model.json is a Hugging Face config.json of a family below, or an explicit list of operators ("graph"). In a
 * Hugging Face object every key is one of: used; descriptive (ignored); dropout (trains as 0, a notice when it is not
 * 0); neutral (refused unless it has the value that changes nothing); unknown (a notice). The lists are in the tables
 * of keys, one per family, and the manual is made from them. */
#ifndef PIPER_IR_FAMILY_FAMILY_H
#define PIPER_IR_FAMILY_FAMILY_H

#include "base/json.h"
#include "ir/graph.h"
#include "ir/notices.h"

/* Builds the graph of `model` (a JSON object from `file`) for sequences of seq_len tokens, with its annotations and the
 * EP tags of its expert regions, and validates it. g is empty (ir_graph_init); on failure it is to be released too. */
enum status ir_family_build(json_t *model, const char *file, uint32_t seq_len, struct ir_graph *g, struct notices *n,
                            struct err *e);

/* The default pipeline cut: tags the graph PP=0..n-1, stage s with layers floor(s*L/n) .. floor((s+1)*L/n)-1, the
 * embedding (block 0) with the first, norm and head (the last block) with the last. A graph that has PP annotations is
 * left as it is. More stages than layers are an error that begins with `where`. */
enum status ir_graph_cut_stages(struct ir_graph *g, uint32_t n, const char *where, struct err *e);

/* `"annotate": [{"tag":"PP","index":0,"match":["embed","layers.0-5"]}]`: see annotate.c. */
enum status ir_annotate(const struct js *list, struct ir_graph *g, struct err *e);

/* ---- inside the folder ---------------------------------------------------------------------------------------- */

enum { LAYERS_MAX = 1 << 16 };

enum hf_kind {
    HF_END,
    HF_USED,    /* read by the builder */
    HF_ALIAS,   /* another name of the key `text` */
    HF_INFO,    /* descriptive or without effect on training here: ignored */
    HF_DROPOUT, /* trains as 0 */
    HF_NEUTRAL, /* refused unless null or the JSON value `text`; `why` is the sentence */
};
struct hf_key {
    const char *name;
    enum hf_kind kind;
    const char *text, *why;
};

struct hf_model { /* what a builder reads from and writes to */
    struct js js; /* the object */
    const struct hf_key *keys;
    struct notices *notices;
    struct ir_graph *g;
    struct err *e;
};

struct family {
    const char *model_type;
    const struct hf_key *keys; /* ends with HF_END; beside hf_common_keys */
    enum status (*build)(const struct hf_model *m);
};
extern const struct family ir_families[]; /* model_type NULL ends the list */
extern const struct hf_key hf_common_keys[];
extern const struct hf_key hf_gpt2_keys[], hf_llama_keys[], hf_qwen3_keys[], hf_qwen3_moe_keys[], hf_mixtral_keys[];

/* Every key has its kind; see above. */
enum status hf_check_keys(const struct hf_model *m);
/* A size, 1 to 2^31-1: the key, or an alias of it in the family's table, or dflt when both are absent or null. Two
 * spellings with different values are an error. */
enum status hf_size(const struct hf_model *m, const char *key, uint32_t dflt, uint32_t *out);
enum status hf_number(const struct hf_model *m, const char *key, double lo, double hi, double dflt, double *out);
enum status hf_float(const struct hf_model *m, const char *key, double lo, double hi, double dflt, float *out);
enum status hf_bool(const struct hf_model *m, const char *key, bool dflt, bool *out);
enum status hf_str(const struct hf_model *m, const char *key, const char *dflt, const char **out);
bool hf_is_null(const struct hf_model *m, const char *key);  /* there, and null */
struct js hf_get(const struct hf_model *m, const char *key); /* .v NULL when absent or null; .path names it */

enum status hf_build_gpt2(const struct hf_model *m);
enum status hf_build_llama(const struct hf_model *m);
enum status hf_build_qwen3(const struct hf_model *m);
enum status hf_build_qwen3_moe(const struct hf_model *m);
enum status hf_build_mixtral(const struct hf_model *m);
enum status ir_build_explicit(const struct js *model, struct ir_graph *g, struct err *e);

/* A tag that a model may give: not EP, PASS or MB, letters, digits, _ and -. */
enum status ir_check_tag_name(const struct js *v, const char *name, struct err *e);

/* Rows per expert and sequence: 0 for factor 0 (dropless), else ceil(factor*t*k/experts) of the decimal number that was
 * written, at most t. */
uint32_t ir_capacity(double factor, uint32_t t, uint32_t top_k, uint32_t experts);

#endif
