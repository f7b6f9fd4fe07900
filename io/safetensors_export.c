#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/checkpoint_private.h"
#include "io/file.h"
#include "io/safetensors.h"

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

/* A parameter is one tensor, or one per expert, in the order of its elements: so data are copied as they lie. */
static uint64_t describe(struct header *h, const struct ir_param *p, uint64_t offset)
{
    const char *star = strchr(p->name, '*');
    uint32_t n = star ? p->shape.dim[0] : 1;
    uint64_t bytes = 4 * ir_shape_elements(&p->shape) / n;
    for (uint32_t i = 0; i < n; i++, offset += bytes) {
        if (star)
            add(h, ",\"%.*s%" PRIu32 "%s\":", (int)(star - p->name), p->name, i, star + 1);
        else
            add(h, ",\"%s\":", p->name);
        add(h, "{\"dtype\":\"F32\",\"shape\":[");
        for (uint32_t k = star ? 1 : 0; k < p->shape.ndim; k++)
            add(h, "%s%" PRIu32, k > (star ? 1u : 0u) ? "," : "", p->shape.dim[k]);
        add(h, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", offset, offset + bytes);
    }
    return offset;
}

static enum status copy_data(const struct ckpt__file *f, const struct dir_new *to, uint64_t offset, struct err *e)
{
    const uint64_t all = (uint64_t)4 * safetensors_block;
    void *block = mem_alloc(all);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < f->n; i++) {
        uint64_t bytes = f->place[i].elements * 4;
        for (uint64_t at = 0; st == ST_OK && at < bytes; at += all) {
            uint64_t n = bytes - at < all ? bytes - at : all;
            st = file_pread(f->fd, f->path, block, n, f->place[i].data[CKPT_PARAM] + at, e);
            if (st == ST_OK)
                st = file_pwrite(to->fd, to->path, block, n, offset + at, e);
        }
        offset += bytes;
    }
    mem_free(block);
    return st;
}

static enum status write_file(const struct ckpt__file *f, const struct dir_new *to, struct err *e)
{
    struct header h = { 0 };
    uint64_t end = 0;
    add(&h, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (uint32_t i = 0; i < f->n; i++)
        end = describe(&h, &f->graph.params.at[i], end);
    add(&h, "}");
    while (h.n % 8) /* the data begin at a multiple of 8 */
        add(&h, " ");
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)h.n >> 8 * i);
    enum status st = file_pwrite(to->fd, to->path, length, 8, 0, e);
    if (st == ST_OK)
        st = file_pwrite(to->fd, to->path, h.at, h.n, 8, e);
    if (st == ST_OK)
        st = copy_data(f, to, 8 + (uint64_t)h.n, e);
    vec_free(&h);
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
