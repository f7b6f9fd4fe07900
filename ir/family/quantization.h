/* How the files of a model store its weights in fewer bits: the key quantization_config of a config.json. */
#ifndef PIPER_IR_FAMILY_QUANTIZATION_H
#define PIPER_IR_FAMILY_QUANTIZATION_H

#include "base/json.h"

/* Of fp8 (F8_E4M3): weight_scale_inv has a factor for each so many rows and columns, fewer at the end; 0: one for the whole tensor. */
enum { QUANTIZATION_BLOCK = 128 }; /* where nothing is said */
struct quantization {
    uint32_t rows, columns;
};

/* Of a config.json. Methods that import does not read, all but fp8 with e4m3 and mxfp4, are refused by their names. */
enum status quantization_read(const struct js *config, struct quantization *out, struct err *e);

#endif
