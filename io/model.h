/* The model graph as tables in an HDF5 file: group /model of job files and checkpoints. Layout: piper-job(5).
 *
 * Rows stand in the order of the graph, so that reading gives the same ids; references are names, so that a person can
 * follow them and h5py users can write them. */
#ifndef PIPER_IO_MODEL_H
#define PIPER_IO_MODEL_H

#include "io/h5.h"
#include "io/sha256.h"
#include "ir/graph.h"

/* Writes the group `model` below at. */
enum status model_put(const struct h5_at *at, const struct ir_graph *g, struct err *e);
/* Reads it and validates it whole (ir_graph_validate). *g is initialised here and owned by the caller on success; on
 * failure it is released. ST_INPUT for anything that is not a model. `extra`: further members of the group that the
 * caller reads, NULL-terminated. */
enum status model_get(const struct h5_at *at, const char *const *extra, struct ir_graph *g, struct err *e);

/* SHA-256 over what the mathematics depends on: names, shapes, attributes and edges of the graph, and the element type
 * of the job. Tags, initialisation and block numbers do not count, as in ir_graph_same(). */
void model_digest(const struct ir_graph *g, enum ir_dtype compute, uint8_t digest[SHA256_BYTES]);
/* Adds everything of the graph, tags too. */
void model_hash_all(const struct ir_graph *g, struct sha256 *s);

#endif
