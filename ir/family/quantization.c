#include "ir/family/quantization.h"

#include <string.h>

static const char advice[] = "fp8 or mxfp4, which import reads: other quantized weights are not implemented, use the "
                             "config and the files of the unquantized model";

static enum status read_block(const struct js *q, struct quantization *out, struct err *e)
{
    struct js list, v;
    uint32_t n;
    if (!js_has(q, "weight_block_size"))
        return ST_OK;
    *out = (struct quantization){ 0 };
    TRY(js_opt(q, "weight_block_size", &list, e));
    if (!list.v) /* null: one factor a tensor */
        return ST_OK;
    TRY(js_count(&list, &n, e));
    if (n != 2)
        return js_expected(&list, e, "two sizes, of rows and columns");
    for (uint32_t i = 0; i < 2; i++) {
        int64_t x;
        v = js_at(&list, i);
        TRY(js_int(&v, 1, INT32_MAX, &x, e));
        *(i ? &out->columns : &out->rows) = (uint32_t)x;
    }
    return ST_OK;
}

/* bitsandbytes once wrote no method. */
static enum status read_method(const struct js *q, const char **method, struct err *e)
{
    TRY(js_str_or(q, "quant_method", "", method, e));
    if (!**method && (js_has(q, "load_in_8bit") || js_has(q, "load_in_4bit")))
        *method = "bitsandbytes";
    return **method ? ST_OK : js_wrong(q, e, "found no quant_method, expected %s", advice);
}

enum status quantization_read(const struct js *config, struct quantization *out, struct err *e)
{
    struct js q, v;
    const char *method, *fmt;
    *out = (struct quantization){ QUANTIZATION_BLOCK, QUANTIZATION_BLOCK };
    TRY(js_opt(config, "quantization_config", &q, e));
    if (!q.v || (json_is_object(q.v) && json_object_size(q.v) == 0))
        return ST_OK;
    if (!json_is_object(q.v))
        return js_expected(&q, e, "an object");
    TRY(read_method(&q, &method, e));
    if (strcmp(method, "mxfp4") == 0)
        return ST_OK;
    if (strcmp(method, "fp8") != 0)
        return js_wrong(&q, e, "the method is %.40s, expected %s", method, advice);
    TRY(js_str_or(&q, "fmt", "e4m3", &fmt, e));
    TRY(js_opt(&q, "fmt", &v, e));
    if (strcmp(fmt, "e4m3") != 0)
        return js_expected(&v, e, "e4m3: other formats of fp8 are not implemented");
    return read_block(&q, out, e);
}
