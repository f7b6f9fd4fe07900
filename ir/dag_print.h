/* Text forms of the training DAG: a line a node (--dump, golden tests), and Graphviz (--dot). */
#ifndef PIPER_IR_DAG_PRINT_H
#define PIPER_IR_DAG_PRINT_H

#include <stdio.h>

#include "base/status.h"
#include "ir/dag.h"

/* "12 run pp0 F mb 3 set 0 stream 0 <- 4:x 7:after ..." Needs no adjacency. */
void ir_dag_print(const struct ir_dag *d, const struct ir_chunks *c, const struct ir_graph *g, FILE *to);
/* Reads what ir_dag_print wrote (columns, numbers and edges; names are checked against the graph). */
enum status ir_dag_parse(const char *text, const struct ir_chunks *c, const struct ir_graph *g, struct ir_dag *d,
                         struct err *e);
void ir_dag_dot(const struct ir_dag *d, const struct ir_chunks *c, const struct ir_graph *g, FILE *to);

#endif
