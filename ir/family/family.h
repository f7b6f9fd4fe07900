/* Model families: from model.json to a model graph.
 *
 * A model.json is a Hugging Face config.json of a family, or an explicit list of operators ("graph"). A family is a file
 * with a table of its configuration class's keys and a reader (ir/family/hf.h, decoder.h), and a row in family.c. */
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
 * left as it is. More stages than layers are an error that begins with `where`. Of the n stages the first is what precedes the layers
 * with ends.encoder, and the last what follows them with ends.head. */
struct ir_ends {
    bool encoder, head;
};
enum status ir_graph_cut_stages(struct ir_graph *g, uint32_t n, struct ir_ends ends, const char *where, struct err *e);
/* The stage of an operator in that cut; the layers that there are to cut between. */
uint32_t ir_graph_stage(const struct ir_graph *g, uint32_t op, uint32_t n);
uint32_t ir_graph_layers(const struct ir_graph *g);

/* `"annotate": [{"tag":"PP","index":0,"match":["embed","layers.0-5"]}]`: see annotate.c. */
enum status ir_annotate(const struct js *list, struct ir_graph *g, struct err *e);

/* ---- inside the folder ---------------------------------------------------------------------------------------- */

struct hf_model;
struct hf_key;
struct ir_packing;
struct decoder;

struct family {
    const char *model_type;
    const struct hf_key *keys; /* of its configuration class; ends with HF_END; beside the lists of keys.c */
    /* From a configuration that is read (hf_read) to the graph. Most families have a reader alone, which fills in what
     * differs from llama (ir/family/decoder.h); those that are built in another way have a builder of their own. */
    enum status (*read)(const struct hf_model *m, struct decoder *d);
    enum status (*build)(const struct hf_model *m);
    const struct ir_packing *packings; /* of the files, or NULL (ir/family/files.h) */
    /* Fills in what a config.json needs so that transformers computes what is computed here, or NULL (ir/family/export.h). */
    void (*complete)(json_t *config);
    bool mtp; /* the files may hold layers of multi-token prediction behind the last one */
};
extern const struct family *const ir_families[]; /* NULL ends the list */

enum status ir_build_explicit(const struct js *model, struct ir_graph *g, struct err *e);

/* A tag that a model may give: not EP, PASS or MB, letters, digits, _ and -. */
enum status ir_check_tag_name(const struct js *v, const char *name, struct err *e);

/* Rows per expert and sequence: 0 for factor 0 (dropless), else ceil(factor*t*k/experts) of the decimal number that was
 * written, at most t. */
uint32_t ir_capacity(double factor, uint32_t t, uint32_t top_k, uint32_t experts);

#endif
