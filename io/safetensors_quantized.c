/* Weights of fewer bits than 16, as published: F8_E4M3 with factors of blocks (DeepSeek-V3), MXFP4 (gpt-oss). The products are those
 * of transformers' Fp8Dequantize and convert_moe_packed_tensors in float32; rounded to bfloat16 they are what these give there. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors_private.h"

enum { FP4_BLOCK = 32 }; /* elements with one factor; two a byte, the lower half first */

/* OCP 8-bit floating point: sign, 4 bits of exponent (bias 7), 3 of mantissa; all ones is NaN, there is no infinity. */
float safetensors_from_f8_e4m3(uint8_t x)
{
    const int exponent = x >> 3 & 15, mantissa = x & 7;
    float f;
    if (exponent == 15 && mantissa == 7)
        f = NAN;
    else if (exponent)
        f = ldexpf((float)(8 + mantissa), exponent - 10);
    else
        f = ldexpf((float)mantissa, -9);
    return x & 0x80 ? -f : f;
}

/* OCP 4-bit floating point, E2M1. */
static float from_fp4(unsigned x)
{
    static const float values[16] = { 0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                      -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f };
    return values[x & 15];
}

/* ---- which tensors belong together ------------------------------------------------------------------------------ */

/* "x_blocks" with the ending "_blocks": "x", the arena's; NULL: another ending. */
static const char *stem_of(struct safetensors *s, const char *name, const char *end)
{
    const size_t n = strlen(name), k = strlen(end);
    return n > k && strcmp(name + n - k, end) == 0 ? arena_printf(&s->arena, "%.*s", (int)(n - k), name) : NULL;
}

static uint32_t find(struct safetensors *s, const char *stem, const char *end)
{
    const struct safetensors_entry *t = safetensors_find(s, arena_printf(&s->arena, "%s%s", stem, end));
    return t ? (uint32_t)(t - s->entries.at) : SAFETENSORS_NONE;
}

static uint64_t blocks(uint64_t n, uint32_t block)
{
    return block ? (n + block - 1) / block : 1;
}

static enum status pair_f8(struct safetensors *s, const char *path, uint32_t i, struct err *e)
{
    struct safetensors_entry *t = &s->entries.at[i];
    t->scale = find(s, t->name, "_scale_inv");
    if (t->scale == SAFETENSORS_NONE)
        return ST_OK; /* whoever reads it says so */
    struct safetensors_entry *scale = &s->entries.at[t->scale];
    scale->is_scale = true;
    const uint64_t rows = t->ndim == 2 ? blocks(t->dim[0], s->stored.rows) : 0,
                   columns = t->ndim == 2 ? blocks(t->dim[1], s->stored.columns) : 0;
    if (scale->type != SAFETENSORS_F32 && scale->type != SAFETENSORS_BF16 && scale->type != SAFETENSORS_F8_E8M0)
        return err_set(e, ST_INPUT, path, "tensor \"%.200s\" has the type %s, expected F32, BF16 or F8_E8M0",
                       scale->name, scale->type_name);
    if (scale->elements == 1)
        t->block = (struct quantization){ 0 };
    else if (t->ndim == 2 && scale->ndim == 2 && scale->dim[0] == rows && scale->dim[1] == columns)
        t->block = s->stored;
    else
        return err_set(e, ST_INPUT, path,
                       "tensor \"%.200s\" has %" PRIu64 " factors, expected %" PRIu64 " x %" PRIu64
                       ": one for each %u x %u elements of %.200s (quantization_config.weight_block_size)",
                       scale->name, scale->elements, rows, columns, s->stored.rows, s->stored.columns, t->name);
    return ST_OK;
}

/* blocks (E, rows, G, 16) of bytes, scales (E, rows, G): a tensor (E, rows, 32 G). */
static enum status join_mxfp4(struct safetensors *s, const char *path, uint32_t i, const char *stem, struct err *e)
{
    struct safetensors_entry *t = &s->entries.at[i];
    const uint32_t k = find(s, stem, "_scales");
    const struct safetensors_entry *scale = k != SAFETENSORS_NONE ? &s->entries.at[k] : NULL;
    if (!scale || scale->type != SAFETENSORS_U8 || t->ndim != 4 || scale->ndim != 3 || t->dim[3] != FP4_BLOCK / 2 ||
        memcmp(t->dim, scale->dim, 3 * sizeof *t->dim) != 0)
        return err_set(e, ST_INPUT, path,
                       "tensor \"%.200s\" is expected to have 4 dimensions, the last of %d bytes, and %.200s_scales of "
                       "type U8 the first three of them",
                       t->name, FP4_BLOCK / 2, stem);
    t->name = stem;
    t->type = SAFETENSORS_MXFP4;
    t->type_name = "MXFP4";
    t->ndim = 3;
    t->dim[2] *= FP4_BLOCK;
    t->elements *= 2;
    return ST_OK;
}

enum status safetensors__pair(struct safetensors *s, const char *path, bool *changed, struct err *e)
{
    *changed = false;
    for (uint32_t i = 0; i < s->entries.n; i++) {
        struct safetensors_entry *t = &s->entries.at[i];
        if (t->type == SAFETENSORS_F8_E4M3) {
            TRY(pair_f8(s, path, i, e));
        } else if (t->type == SAFETENSORS_MXFP4) {
            t->scale = find(s, t->name, "_scales");
            s->entries.at[t->scale].is_scale = true;
        }
    }
    for (uint32_t i = 0; i < s->entries.n; i++) {
        const char *stem = s->entries.at[i].type == SAFETENSORS_U8 ? stem_of(s, s->entries.at[i].name, "_blocks")
                                                                   : NULL;
        if (!stem)
            continue;
        TRY(join_mxfp4(s, path, i, stem, e));
        *changed = true;
    }
    return ST_OK;
}

/* ---- contents --------------------------------------------------------------------------------------------------- */

enum status safetensors__read_f8(const struct safetensors *s, const struct safetensors_entry *t, uint64_t first,
                                 uint64_t n, float *out, struct err *e)
{
    const struct safetensors_file *f = &s->files.at[t->file];
    const struct safetensors_entry *scale = &s->entries.at[t->scale];
    if (n == 0)
        return ST_OK;
    const uint64_t all = t->ndim == 2 ? t->dim[1] : t->elements, columns = blocks(all, t->block.columns);
    const uint64_t rows = t->block.rows ? t->block.rows : UINT64_MAX, wide = t->block.columns ? t->block.columns : all;
    const uint64_t top = first / all / rows, bottom = (first + n - 1) / all / rows;
    uint8_t *byte = (uint8_t *)out + 3 * n; /* read ahead of what is written */
    TRY(file_pread(f->fd, f->path, byte, n, t->offset + first, e));
    float *factor = mem_alloc(sizeof *factor * (bottom - top + 1) * columns);
    enum status st = safetensors_read(s, scale, top * columns, (bottom - top + 1) * columns, factor, e);
    for (uint64_t i = 0; st == ST_OK && i < n; i++) {
        const uint64_t at = first + i;
        const float x = safetensors_from_f8_e4m3(byte[i]) * factor[(at / all / rows - top) * columns + at % all / wide];
        memcpy(out + i, &x, sizeof x);
    }
    mem_free(factor);
    return st;
}

enum status safetensors__read_mxfp4(const struct safetensors *s, const struct safetensors_entry *t, uint64_t first,
                                    uint64_t n, float *out, struct err *e)
{
    const struct safetensors_file *f = &s->files.at[t->file];
    const struct safetensors_entry *scale = &s->entries.at[t->scale];
    const struct safetensors_file *of_scale = &s->files.at[scale->file];
    if (n == 0)
        return ST_OK;
    const uint64_t begin = first / 2, bytes = (first + n - 1) / 2 - begin + 1;
    const uint64_t block = first / FP4_BLOCK, many = (first + n - 1) / FP4_BLOCK - block + 1;
    uint8_t *two = mem_alloc(bytes), *exponent = mem_alloc(many);
    enum status st = file_pread(f->fd, f->path, two, bytes, t->offset + begin, e);
    if (st == ST_OK)
        st = file_pread(of_scale->fd, of_scale->path, exponent, many, scale->offset + block, e);
    for (uint64_t i = 0; st == ST_OK && i < n; i++) {
        const uint64_t at = first + i;
        const float x = from_fp4((unsigned)two[at / 2 - begin] >> (at % 2 ? 4 : 0));
        out[i] = ldexpf(x, exponent[at / FP4_BLOCK - block] - 127);
    }
    mem_free(two);
    mem_free(exponent);
    return st;
}
