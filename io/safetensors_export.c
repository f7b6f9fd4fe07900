#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/checkpoint_private.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "ir/family/files.h"

/* Header text; parameter names are letters, digits and "._-*" (ir_graph_validate), so nothing needs an escape. */
struct header {
    VEC(char);
};

static void add(struct header *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct header *h, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    CHECK(n >= 0 && (size_t)n < sizeof text);
    uint32_t at = vec_grow(h, (uint32_t)n);
    memcpy(h->at + at, text, (size_t)n);
}

/* Where the tensors of each parameter begin among the data of the file. */
struct exporting {
    const struct ckpt__file *f;
    const struct dir_new *to;
    struct arena names;
    struct ir_place *place; /* [params] */
    uint64_t *offset;       /* [params], bytes */
    uint64_t begin;         /* of the data */
    struct err *e;
};

static uint64_t tensor_elements(const struct ir_place *p)
{
    uint64_t n = 1;
    for (uint32_t k = 0; k < p->ndim; k++)
        n *= p->dim[k];
    return n;
}

/* The tensors of a place, and where they end. */
static uint64_t describe(struct header *h, const struct ir_place *p, uint32_t n, struct arena *names, uint64_t offset)
{
    const uint64_t bytes = 4 * tensor_elements(p);
    for (uint32_t i = 0; i < n; i++, offset += bytes) {
        add(h, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", ir_place_name(p, i, names));
        for (uint32_t k = 0; k < p->ndim; k++)
            add(h, "%s%" PRIu32, k ? "," : "", p->dim[k]);
        add(h, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", offset, offset + bytes);
    }
    return offset;
}

/* The parameter that begins the tensor of this one. */
static uint32_t first_part(const struct exporting *x, uint32_t param)
{
    for (uint32_t i = param + 1; i-- > 0;)
        if (x->place[i].part == 0 && strcmp(x->place[i].tensor, x->place[param].tensor) == 0)
            return i;
    CHECK(!"a part without the first one");
    return 0;
}

static void describe_all(struct exporting *x, struct header *h)
{
    const struct ir_graph *g = &x->f->graph;
    uint64_t end = 0;
    for (uint32_t i = 0; i < x->f->n; i++) {
        x->place[i] = ir_file_place(g, i, &x->names);
        if (x->place[i].part > 0) {
            x->offset[i] = x->offset[first_part(x, i)];
            continue;
        }
        x->offset[i] = end;
        end = describe(h, &x->place[i], ir_place_tensors(&x->place[i], g, i), &x->names, end);
    }
}

static enum status copy_bytes(const struct exporting *x, uint64_t from, uint64_t to, uint64_t bytes, void *block)
{
    const uint64_t all = (uint64_t)4 * safetensors_block;
    for (uint64_t at = 0; at < bytes; at += all) {
        const uint64_t n = bytes - at < all ? bytes - at : all;
        TRY(file_pread(x->f->fd, x->f->path, block, n, from + at, x->e));
        TRY(file_pwrite(x->to->fd, x->to->path, block, n, to + at, x->e));
    }
    return ST_OK;
}

/* A slice of the tensor is read back, gets this part's elements, and is written again. */
static enum status copy_slices(const struct exporting *x, uint32_t param, const struct ir_place *p)
{
    const struct ir_slices s = ir_place_slices(p);
    float *tensor = mem_alloc(sizeof *tensor * s.tensor), *part = mem_alloc(sizeof *part * s.param);
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < s.n; i++) {
        const uint64_t at = x->begin + x->offset[param] + 4 * i * s.tensor;
        st = file_pread(x->f->fd, x->f->path, part, 4 * s.param, x->f->place[param].data[CKPT_PARAM] + 4 * i * s.param,
                        x->e);
        if (st == ST_OK && p->part > 0)
            st = file_pread(x->to->fd, x->to->path, tensor, 4 * s.tensor, at, x->e);
        else
            memset(tensor, 0, 4 * s.tensor);
        ir_place_put(p, part, tensor);
        if (st == ST_OK)
            st = file_pwrite(x->to->fd, x->to->path, tensor, 4 * s.tensor, at, x->e);
    }
    mem_free(tensor);
    mem_free(part);
    return st;
}

static enum status copy_data(const struct exporting *x)
{
    void *block = mem_alloc((uint64_t)4 * safetensors_block);
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < x->f->n; i++) {
        const struct ir_place *p = &x->place[i];
        st = p->contiguous ? copy_bytes(x, x->f->place[i].data[CKPT_PARAM], x->begin + x->offset[i] + 4 * p->first,
                                        4 * x->f->place[i].elements, block)
                           : copy_slices(x, i, p);
    }
    mem_free(block);
    return st;
}

static enum status write_all(struct exporting *x)
{
    struct header h = { 0 };
    add(&h, "{\"__metadata__\":{\"format\":\"pt\"}");
    describe_all(x, &h);
    add(&h, "}");
    while (h.n % 8) /* the data begin at a multiple of 8 */
        add(&h, " ");
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)h.n >> 8 * i);
    x->begin = 8 + (uint64_t)h.n;
    enum status st = file_pwrite(x->to->fd, x->to->path, length, 8, 0, x->e);
    if (st == ST_OK)
        st = file_pwrite(x->to->fd, x->to->path, h.at, h.n, 8, x->e);
    if (st == ST_OK)
        st = copy_data(x);
    vec_free(&h);
    return st;
}

static enum status write_file(const struct ckpt__file *f, const struct dir_new *to, struct err *e)
{
    struct exporting x = { .f = f, .to = to, .e = e };
    arena_init(&x.names);
    x.place = mem_alloc(sizeof *x.place * f->n);
    x.offset = mem_alloc(sizeof *x.offset * f->n);
    enum status st = write_all(&x);
    mem_free(x.place);
    mem_free(x.offset);
    arena_release(&x.names);
    return st;
}

enum status safetensors_export(const struct dir *in, const char *checkpoint, const char *to, struct err *e)
{
    struct ckpt__file f;
    enum status st = ckpt__open_here(in, checkpoint, &f, e);
    if (st == ST_OK)
        st = ckpt__verify(&f, e);
    if (st == ST_OK) {
        struct dir_new file;
        st = dir_new_begin(NULL, to, &file, e);
        if (st == ST_OK)
            st = write_file(&f, &file, e);
        if (st == ST_OK)
            st = dir_new_publish(&file, e);
        dir_new_drop(&file);
    }
    ckpt__close(&f);
    return st;
}
