#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
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

/* Where the tensors of each parameter go: into which of the files, and where they begin among its data. */
struct exporting {
    const struct ckpt__file *f;
    const struct dir_new *to; /* the file that is being written */
    struct arena names;
    struct ir_place *place; /* [params] */
    uint64_t *offset;       /* [params], bytes */
    uint32_t *file;         /* [params] */
    uint32_t files, now;    /* now: the number of `to` */
    uint64_t begin;         /* of the data of `to` */
    uint64_t bytes;         /* of all data */
    struct err *e;
};

static uint64_t tensor_elements(const struct ir_place *p)
{
    uint64_t n = 1;
    for (uint32_t k = 0; k < p->ndim; k++)
        n *= p->dim[k];
    return n;
}

static void describe(struct header *h, const struct ir_place *p, uint32_t n, struct arena *names, uint64_t offset)
{
    const uint64_t bytes = 4 * tensor_elements(p);
    for (uint32_t i = 0; i < n; i++, offset += bytes) {
        add(h, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", ir_place_name(p, i, names));
        for (uint32_t k = 0; k < p->ndim; k++)
            add(h, "%s%" PRIu32, k ? "," : "", p->dim[k]);
        add(h, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", offset, offset + bytes);
    }
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

/* A file begins with a parameter whose tensors would make the last one larger than `most`. */
static void place_all(struct exporting *x, uint64_t most)
{
    const struct ir_graph *g = &x->f->graph;
    uint64_t end = 0;
    x->files = 1;
    for (uint32_t i = 0; i < x->f->n; i++) {
        x->place[i] = ir_file_place(g, i, &x->names);
        if (x->place[i].part > 0) {
            const uint32_t first = first_part(x, i);
            x->offset[i] = x->offset[first];
            x->file[i] = x->file[first];
            continue;
        }
        const uint64_t bytes = 4 * tensor_elements(&x->place[i]) * ir_place_tensors(&x->place[i], g, i);
        if (end > 0 && (bytes > most || end > most - bytes)) {
            x->files++;
            end = 0;
        }
        x->offset[i] = end;
        x->file[i] = x->files - 1;
        end += bytes;
        x->bytes += bytes;
    }
}

static void describe_file(struct exporting *x, struct header *h)
{
    for (uint32_t i = 0; i < x->f->n; i++)
        if (x->file[i] == x->now && x->place[i].part == 0)
            describe(h, &x->place[i], ir_place_tensors(&x->place[i], &x->f->graph, i), &x->names, x->offset[i]);
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
        if (x->file[i] != x->now)
            continue;
        st = p->contiguous ? copy_bytes(x, x->f->place[i].data[CKPT_PARAM], x->begin + x->offset[i] + 4 * p->first,
                                        4 * x->f->place[i].elements, block)
                           : copy_slices(x, i, p);
    }
    mem_free(block);
    return st;
}

static enum status write_contents(struct exporting *x)
{
    struct header h = { 0 };
    add(&h, "{\"__metadata__\":{\"format\":\"pt\"}");
    describe_file(x, &h);
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

/* File `now`; folder NULL: the name is a path of the user's own. */
static enum status write_file(struct exporting *x, const struct dir *folder, const char *name)
{
    struct dir_new file;
    enum status st = dir_new_begin(folder, name, &file, x->e);
    x->to = &file;
    if (st == ST_OK)
        st = write_contents(x);
    if (st == ST_OK)
        st = dir_new_publish(&file, x->e);
    dir_new_drop(&file);
    return st;
}

/* ---- folders ---- */

static void file_name(const struct exporting *x, uint32_t file, char name[DIR_NAME])
{
    if (x->files == 1)
        snprintf(name, DIR_NAME, "model.safetensors");
    else
        snprintf(name, DIR_NAME, "model-%05" PRIu32 "-of-%05" PRIu32 ".safetensors", file + 1, x->files);
}

static json_t *make_index(struct exporting *x)
{
    char name[DIR_NAME];
    json_t *map = json_object();
    for (uint32_t i = 0; i < x->f->n; i++) {
        file_name(x, x->file[i], name);
        for (uint32_t k = 0; x->place[i].part == 0 && k < ir_place_tensors(&x->place[i], &x->f->graph, i); k++)
            json_object_set_new(map, ir_place_name(&x->place[i], k, &x->names), json_string(name));
    }
    return json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)x->bytes, "weight_map", map);
}

enum status safetensors_write_json(const struct dir *folder, const char *name, const json_t *doc, struct err *e)
{
    struct dir_new file;
    char *text = js_text(doc, JSON_INDENT(2) | JSON_SORT_KEYS);
    enum status st = dir_new_begin(folder, name, &file, e);
    if (st == ST_OK)
        st = file_pwrite(file.fd, file.path, text, strlen(text), 0, e);
    if (st == ST_OK)
        st = file_pwrite(file.fd, file.path, "\n", 1, strlen(text), e);
    if (st == ST_OK)
        st = dir_new_publish(&file, e);
    dir_new_drop(&file);
    free(text);
    return st;
}

/* What an export of another number of files has left would be read in the place of this one. */
static void remove_others(const struct exporting *x, const struct dir *to)
{
    static const char index[] = "model.safetensors.index.json", one[] = "model.safetensors";
    const char *other = x->files == 1 ? index : one;
    if (dir_has(to, other))
        dir_remove(to, other);
}

static enum status write_folder(struct exporting *x, const struct dir *to)
{
    enum status st = ST_OK;
    char name[DIR_NAME];
    for (x->now = 0; st == ST_OK && x->now < x->files; x->now++) {
        file_name(x, x->now, name);
        st = write_file(x, to, name);
    }
    if (st == ST_OK && x->files > 1) {
        json_t *index = make_index(x);
        st = safetensors_write_json(to, "model.safetensors.index.json", index, x->e);
        json_decref(index);
    }
    if (st == ST_OK)
        remove_others(x, to);
    return st;
}

/* ---- both ---- */

/* Into a file `name`, or a folder. */
static enum status export_file(const struct ckpt__file *f, const char *name, const struct dir *folder, uint64_t most,
                               struct err *e)
{
    struct exporting x = { .f = f, .e = e };
    arena_init(&x.names);
    x.place = mem_alloc(sizeof *x.place * f->n);
    x.offset = mem_alloc(sizeof *x.offset * f->n);
    x.file = mem_alloc(sizeof *x.file * f->n);
    place_all(&x, most);
    enum status st = folder ? write_folder(&x, folder) : write_file(&x, NULL, name);
    mem_free(x.place);
    mem_free(x.offset);
    mem_free(x.file);
    arena_release(&x.names);
    return st;
}

enum status safetensors_export(const struct dir *in, const char *checkpoint, const char *to, struct err *e)
{
    struct ckpt__file f;
    enum status st = ckpt__open_here(in, checkpoint, &f, e);
    if (st == ST_OK)
        st = ckpt__verify(&f, e);
    if (st == ST_OK)
        st = export_file(&f, to, NULL, UINT64_MAX, e);
    ckpt__close(&f);
    return st;
}

enum status safetensors_export_folder(const struct dir *in, const char *checkpoint, const struct safetensors_folder *to,
                                      struct err *e)
{
    struct ckpt__file f;
    char text[512];
    enum status st = ckpt__open_here(in, checkpoint, &f, e);
    if (st == ST_OK && !ir_graph_same(&f.graph, to->graph, text, sizeof text))
        st = err_set(e, ST_INPUT, checkpoint, "is a checkpoint of another model than the job: %s", text);
    if (st == ST_OK)
        st = ckpt__verify(&f, e);
    if (st == ST_OK)
        st = export_file(&f, NULL, to->folder, to->file_bytes, e);
    ckpt__close(&f);
    return st;
}
