/* Shared by model_write.c and model_read.c: names of the tables' columns. */
#ifndef PIPER_IO_MODEL_PRIVATE_H
#define PIPER_IO_MODEL_PRIVATE_H

#include "io/model.h"

enum { MODEL_COLUMN_NAME = 220 }; /* "tag." and the longest name of a tag fit */

enum { MODEL_INPUTS = 3 };        /* columns in0 to in2: documents are no input of a file's model */
enum { MODEL_PARAMS_ALWAYS = 3 }; /* columns param0 to param2; those behind only where an operator has so many */

#define MODEL_FREQ_COUNT "inv_freq_count"
#define MODEL_FREQS      "inv_freq"

extern const char *const model__init_names[]; /* by enum ir_init; NULL ends */
extern const char *const model__in[MODEL_INPUTS], *const model__out[IR_MAX_OUT], *const model__param[IR_MAX_PARAM];

#endif
