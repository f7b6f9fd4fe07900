/* The config.json that goes with exported files, so that other programs load them. */
#ifndef PIPER_IR_FAMILY_EXPORT_H
#define PIPER_IR_FAMILY_EXPORT_H

#include "base/json.h"
#include "ir/graph.h"

/* Of a model.json (`file`, for messages) that is a configuration: its own keys, but those that are ours (annotate, capacity_factor) and those
 * that say how other files store weights; torch_dtype is float32, architectures is filled in, layers of multi-token prediction are none. Of a
 * "graph" the configuration of the family whose graph it is, with the sizes that it has; ST_INPUT where it is none's. *out is the caller's:
 * json_decref(). */
enum status ir_family_config(json_t *model, const char *file, const struct ir_graph *g, json_t **out, struct err *e);
/* Whether transformers has a class of that model_type, or else it is loaded with code of the model's authors. */
bool ir_family_in_transformers(const char *model_type);

#endif
