#include "ir/family/files.h"

#include <stdio.h>

#include "ir/family/family.h"

/* Whether the name ends with it, behind a dot; then *stem is what stands before. */
static bool ends_with(const char *name, const char *end, size_t *stem)
{
    const size_t n = strlen(name), k = strlen(end);
    if (n <= k || name[n - k - 1] != '.' || strcmp(name + n - k, end) != 0)
        return false;
    *stem = n - k;
    return true;
}

static const struct family *family_of(const struct ir_graph *g)
{
    for (const struct family *const *f = ir_families; *f; f++)
        if (strcmp((*f)->model_type, g->family) == 0)
            return *f;
    return NULL;
}

bool ir_file_extra(const struct ir_graph *g, const char *name)
{
    const struct family *f = family_of(g);
    unsigned layer;
    return f && f->mtp && sscanf(name, "model.layers.%u.", &layer) == 1 && layer + 2 >= g->n_blocks;
}

/* The first dimension that parts share: of the part's parameter below the same stem. */
static uint32_t part_size(const struct ir_graph *g, const char *name, size_t stem, const char *part, uint32_t dim)
{
    for (uint32_t i = 0; i < g->params.n; i++) {
        const char *other = g->params.at[i].name;
        if (strncmp(other, name, stem) == 0 && strcmp(other + stem, part) == 0)
            return g->params.at[i].shape.dim[dim];
    }
    return 0;
}

/* The tensor is the parameter. */
static void place_alone(const struct ir_param *p, struct ir_place *out)
{
    const uint32_t skip = strchr(p->name, '*') ? 1 : 0;
    uint64_t stride = 1;
    out->n = out->ndim = p->shape.ndim - skip;
    out->parts = 1;
    out->contiguous = true;
    for (uint32_t i = 0; i < 3; i++)
        out->size[i] = i < out->ndim ? p->shape.dim[skip + i] : 1;
    for (uint32_t i = out->ndim; i-- > 0;) {
        out->dim[i] = out->size[i];
        out->stride[i] = stride;
        stride *= out->dim[i];
    }
}

/* sizes: of the parts along the dimension that they share. */
static void place_rows(const uint32_t *sizes, struct ir_place *out)
{
    const uint32_t along = out->ndim == 3 ? 1 : 0;
    uint64_t before = 0, all = 0, row = out->stride[along];
    for (uint32_t i = 0; i < out->parts; i++) {
        before += i < out->part ? sizes[i] : 0;
        all += sizes[i];
    }
    out->dim[along] = (uint32_t)all;
    out->first = before * row;
    if (along)
        out->stride[0] = all * row;
    out->contiguous = !along;
}

static void place_by_turn(struct ir_place *out)
{
    const uint32_t n = out->parts, f = out->dim[1], c = out->ndim == 3 ? out->dim[2] : 0;
    out->first = out->part;
    out->stride[1] = n;
    out->contiguous = false;
    if (out->ndim == 3) {
        out->dim[1] = c;
        out->dim[2] = n * f;
        out->stride[0] = (uint64_t)c * n * f;
        out->stride[2] = (uint64_t)n * f;
    } else {
        out->dim[1] = n * f;
        out->stride[0] = (uint64_t)n * f;
    }
}

static void place_one_row(struct ir_place *out)
{
    out->ndim = 2;
    out->dim[1] = out->dim[0];
    out->dim[0] = 1;
}

static void place_stacked(bool transposed, struct ir_place *out)
{
    const uint32_t e = out->dim[0], f = transposed ? out->dim[2] : out->dim[1],
                   c = transposed ? out->dim[1] : out->dim[2];
    out->ndim = 2;
    out->dim[0] = e * f;
    out->dim[1] = c;
    out->dim[2] = 0;
    out->contiguous = !transposed;
    if (transposed) {
        out->stride[1] = 1;
        out->stride[2] = c;
    }
}

/* Key/value heads of the model's attention. */
static uint32_t heads_of(const struct ir_graph *g)
{
    for (uint32_t i = 0; i < g->ops.n; i++)
        if (g->ops.at[i].op == IR_OP_ATTENTION)
            return g->ops.at[i].attrs.kv_heads;
    return 1;
}

/* sizes: rows of the parts, of all heads together. */
static void place_heads(uint32_t heads, const uint32_t *sizes, struct ir_place *out)
{
    const uint32_t rows = out->size[0], columns = out->ndim == 2 ? out->size[1] : 1;
    uint64_t before = 0, all = 0;
    for (uint32_t i = 0; i < out->parts; i++) {
        before += i < out->part ? sizes[i] / heads : 0;
        all += sizes[i] / heads;
    }
    out->dim[0] = (uint32_t)(heads * all);
    out->n = 3;
    out->size[0] = heads;
    out->size[1] = rows / heads;
    out->size[2] = columns;
    out->first = before * columns;
    out->stride[0] = all * columns;
    out->stride[1] = columns;
    out->stride[2] = 1;
    out->contiguous = false;
}

static bool place_packed(const struct ir_graph *g, const struct ir_param *p, const struct ir_packing *k,
                         struct arena *a, struct ir_place *out)
{
    size_t stem = 0;
    uint32_t sizes[PACK_PARTS] = { 0 };
    const uint32_t along = p->shape.ndim == 3 ? 1 : 0;
    for (out->parts = 0; out->parts < PACK_PARTS && k->part[out->parts];)
        out->parts++;
    out->part = 0;
    while (out->part < out->parts && !ends_with(p->name, k->part[out->part], &stem))
        out->part++;
    if (out->part == out->parts)
        return false;
    for (uint32_t i = 0; i < out->parts; i++)
        sizes[i] = part_size(g, p->name, stem, k->part[i], along);
    const struct ir_place packed = *out;
    place_alone(p, out);
    out->part = packed.part;
    out->parts = packed.parts;
    out->tensor = arena_printf(a, "%.*s%s", (int)stem, p->name, k->tensor);
    switch (k->kind) {
    case PACK_ROWS:
        place_rows(sizes, out);
        break;
    case PACK_HEADS:
        place_heads(heads_of(g), sizes, out);
        break;
    case PACK_ONE_ROW:
        place_one_row(out);
        break;
    case PACK_STACKED:
    case PACK_STACKED_TRANSPOSED:
        place_stacked(k->kind == PACK_STACKED_TRANSPOSED, out);
        break;
    case PACK_TRANSPOSED_BY_TURN:
        place_by_turn(out);
        break;
    }
    return true;
}

struct ir_place ir_file_place(const struct ir_graph *g, uint32_t param, struct arena *a)
{
    const struct ir_param *p = &g->params.at[param];
    struct ir_place out = { .tensor = p->name };
    const struct family *f = family_of(g);
    for (const struct ir_packing *k = f ? f->packings : NULL; k && k->tensor; k++)
        if (place_packed(g, p, k, a, &out))
            return out;
    out = (struct ir_place){ .tensor = p->name };
    place_alone(p, &out);
    return out;
}

/* Places a = r + c*columns, and distances, become c + r*rows. */
static uint64_t exchanged(uint64_t at, uint32_t rows, uint32_t columns)
{
    return at / columns + at % columns * rows;
}

struct ir_place ir_place_exchanged(const struct ir_place *p)
{
    struct ir_place q = *p;
    const uint32_t rows = p->dim[1], columns = p->dim[2];
    if (p->ndim != 3)
        return q;
    q.dim[1] = columns;
    q.dim[2] = rows;
    q.first = exchanged(p->first, rows, columns);
    for (uint32_t i = 1; i < 3; i++)
        q.stride[i] = exchanged(p->stride[i], rows, columns);
    q.contiguous = false;
    return q;
}

uint32_t ir_place_tensors(const struct ir_place *p, const struct ir_graph *g, uint32_t param)
{
    return strchr(p->tensor, '*') ? g->params.at[param].shape.dim[0] : 1;
}

const char *ir_place_name(const struct ir_place *p, uint32_t tensor, struct arena *a)
{
    const char *star = strchr(p->tensor, '*');
    return star ? arena_printf(a, "%.*s%u%s", (int)(star - p->tensor), p->tensor, tensor, star + 1) : p->tensor;
}

/* ---- slices ----------------------------------------------------------------------------------------------------- */

struct ir_slices ir_place_slices(const struct ir_place *p)
{
    uint64_t all = 1;
    for (uint32_t i = 0; i < p->ndim; i++)
        all *= p->dim[i];
    return p->n == 3 ? (struct ir_slices){ p->size[0], p->stride[0], (uint64_t)p->size[1] * p->size[2] }
                     : (struct ir_slices){ 1, all, (uint64_t)p->size[0] * p->size[1] };
}

/* Places in the tensor's slice of row r's first element, and from one element of a row to the next. */
struct rows {
    uint32_t n, columns;
    uint64_t first, row, column;
};

static struct rows rows_of(const struct ir_place *p)
{
    const uint32_t a = p->n == 3;
    return p->n == 1 ? (struct rows){ 1, p->size[0], p->first, 0, p->stride[0] }
                     : (struct rows){ p->size[a], p->size[a + 1], p->first, p->stride[a], p->stride[a + 1] };
}

void ir_place_take(const struct ir_place *p, const float *tensor, float *param)
{
    const struct rows r = rows_of(p);
    for (uint32_t i = 0; i < r.n; i++)
        for (uint32_t k = 0; k < r.columns; k++)
            *param++ = tensor[r.first + i * r.row + k * r.column];
}

void ir_place_put(const struct ir_place *p, const float *param, float *tensor)
{
    const struct rows r = rows_of(p);
    for (uint32_t i = 0; i < r.n; i++)
        for (uint32_t k = 0; k < r.columns; k++)
            tensor[r.first + i * r.row + k * r.column] = *param++;
}
