#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "io/file.h"
#include "io/safetensors_private.h"

enum { HEADER_MOST = 100000000, FILES_MOST = 4096 }; /* the format's own bound of the header */

/* ---- header ---- */

static enum status read_type(const struct js *v, struct safetensors_entry *t, uint32_t *width, struct err *e)
{
    static const struct {
        const char *name;
        uint32_t type, width;
    } known[] = { { "F32", SAFETENSORS_F32, 4 },         { "BF16", SAFETENSORS_BF16, 2 },
                  { "F16", SAFETENSORS_F16, 2 },         { "BOOL", SAFETENSORS_OTHER, 1 },
                  { "U8", SAFETENSORS_U8, 1 },           { "I8", SAFETENSORS_OTHER, 1 },
                  { "F8_E5M2", SAFETENSORS_OTHER, 1 },   { "F8_E4M3", SAFETENSORS_F8_E4M3, 1 },
                  { "F8_E8M0", SAFETENSORS_F8_E8M0, 1 }, { "U16", SAFETENSORS_OTHER, 2 },
                  { "I16", SAFETENSORS_OTHER, 2 },       { "U32", SAFETENSORS_OTHER, 4 },
                  { "I32", SAFETENSORS_OTHER, 4 },       { "U64", SAFETENSORS_OTHER, 8 },
                  { "I64", SAFETENSORS_OTHER, 8 },       { "F64", SAFETENSORS_OTHER, 8 } };
    const char *name;
    TRY(js_str(v, &name, e));
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, known[i].name) == 0) {
            t->type = known[i].type;
            t->type_name = known[i].name;
            *width = known[i].width;
            return ST_OK;
        }
    return js_expected(v, e, "a type such as F32, BF16 or F16");
}

static enum status read_shape(const struct js *v, struct safetensors_entry *t, struct err *e)
{
    uint32_t n;
    TRY(js_count(v, &n, e));
    if (n > SAFETENSORS_MAX_DIMS)
        return js_expected(v, e, "at most %d dimensions", SAFETENSORS_MAX_DIMS);
    t->ndim = n;
    t->elements = 1;
    for (uint32_t i = 0; i < n; i++) {
        struct js d = js_at(v, i);
        int64_t x;
        TRY(js_int(&d, 0, INT64_MAX / 16, &x, e));
        t->dim[i] = (uint64_t)x;
        if (__builtin_mul_overflow(t->elements, t->dim[i], &t->elements) || t->elements > INT64_MAX / 16)
            return js_expected(v, e, "a tensor of fewer than 2^64 bytes");
    }
    return ST_OK;
}

/* One member of the header; *size is the size of the data behind it, *length the tensor's. */
static enum status read_entry(const struct js *v, struct safetensors_entry *t, uint64_t size, uint64_t *length,
                              struct err *e)
{
    static const char *const keys[] = { "dtype", "shape", "data_offsets", NULL };
    struct js part;
    uint32_t width = 0, n;
    int64_t begin, end;
    TRY(js_only(v, keys, e));
    TRY(js_need(v, "dtype", &part, e));
    TRY(read_type(&part, t, &width, e));
    TRY(js_need(v, "shape", &part, e));
    TRY(read_shape(&part, t, e));
    TRY(js_need(v, "data_offsets", &part, e));
    TRY(js_count(&part, &n, e));
    if (n != 2)
        return js_expected(&part, e, "two offsets");
    struct js b = js_at(&part, 0), f = js_at(&part, 1);
    TRY(js_int(&b, 0, (int64_t)size, &begin, e));
    TRY(js_int(&f, begin, (int64_t)size, &end, e));
    if ((uint64_t)(end - begin) != t->elements * width)
        return js_wrong(&part, e, "found %" PRId64 " bytes, the shape needs %" PRIu64, end - begin,
                        t->elements * width);
    t->offset = (uint64_t)begin;
    *length = (uint64_t)(end - begin);
    return ST_OK;
}

struct span {
    uint64_t begin, end;
    const char *name;
};

static int by_begin(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* The tensors fill the data exactly. */
static enum status check_spans(struct span *s, size_t n, uint64_t size, const char *path, struct err *e)
{
    uint64_t at = 0;
    if (n)
        qsort(s, n, sizeof *s, by_begin);
    for (size_t i = 0; i < n; i++) {
        if (s[i].begin != at)
            return err_set(e, ST_INPUT, path,
                           "tensor \"%.200s\" begins at byte %" PRIu64 " of the data, expected %" PRIu64
                           ": there is a%s",
                           s[i].name, s[i].begin, at, s[i].begin > at ? " gap" : "n overlap");
        at = s[i].end;
    }
    return at == size
               ? ST_OK
               : err_set(e, ST_INPUT, path, "has %" PRIu64 " bytes of data, its header describes %" PRIu64, size, at);
}

static enum status read_header(struct safetensors *s, uint32_t file, json_t *doc, uint64_t start, uint64_t size,
                               struct err *e)
{
    const char *path = s->files.at[file].path;
    struct js root = js_root(doc, path);
    if (!json_is_object(doc))
        return js_expected(&root, e, "an object");
    struct span *spans = mem_alloc(sizeof *spans * json_object_size(doc));
    size_t n = 0;
    enum status st = ST_OK;
    const char *name;
    json_t *value;
    json_object_foreach(doc, name, value)
    {
        struct js v;
        uint64_t length = 0;
        struct safetensors_entry t = { .file = file, .scale = SAFETENSORS_NONE };
        if (strcmp(name, "__metadata__") == 0)
            continue;
        st = js_need(&root, name, &v, e);
        if (st == ST_OK)
            st = read_entry(&v, &t, size, &length, e);
        if (st != ST_OK)
            break;
        t.name = arena_strdup(&s->arena, name);
        spans[n++] = (struct span){ t.offset, t.offset + length, t.name };
        t.offset += start;
        vec_add(&s->entries, t);
    }
    if (st == ST_OK)
        st = check_spans(spans, n, size, path, e);
    mem_free(spans);
    return st;
}

static enum status open_one(struct safetensors *s, char *path, struct err *e)
{
    uint64_t size, length;
    struct safetensors_file f = { path, -1 };
    uint32_t file = s->files.n;
    enum status st = file_open_read(path, &f.fd, &size, e);
    vec_add(&s->files, f);
    TRY(st);
    uint8_t head[8];
    TRY(file_pread(f.fd, path, head, 8, 0, e));
    length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | head[i];
    if (length > HEADER_MOST || length > size - 8 || length < 2) {
        const bool truncated = length >= 2 && length <= HEADER_MOST;
        return truncated
                   ? err_set(e, ST_INPUT, path,
                             "is not a whole safetensors file: its header has %" PRIu64 " bytes, the file %" PRIu64,
                             length, size)
                   : err_set(e, ST_INPUT, path, "is not a safetensors file");
    }
    char *text = mem_alloc(length + 1);
    json_t *doc = NULL;
    st = file_pread(f.fd, path, text, length, 8, e);
    if (st == ST_OK)
        st = js_load_text(text, path, &doc, e);
    mem_free(text);
    if (st == ST_OK)
        st = read_header(s, file, doc, 8 + length, size - 8 - length, e);
    json_decref(doc);
    return st;
}

/* ---- folders ---- */

static char *join(const char *folder, const char *name)
{
    char *s = mem_alloc(strlen(folder) + strlen(name) + 2);
    sprintf(s, "%s/%s", folder, name);
    return s;
}

/* Opens the shard when it is new; *file is its number. */
static enum status open_shard(struct safetensors *s, const char *folder, const struct js *v, uint32_t *file,
                              struct err *e)
{
    const char *name;
    TRY(js_str(v, &name, e));
    if (!*name || strchr(name, '/') || name[0] == '.')
        return js_expected(v, e, "the name of a file in the same directory");
    char *path = join(folder, name);
    for (*file = 0; *file < s->files.n; ++*file)
        if (strcmp(s->files.at[*file].path, path) == 0) {
            mem_free(path);
            return ST_OK;
        }
    if (s->files.n == FILES_MOST) {
        mem_free(path);
        return js_expected(v, e, "at most %d files", FILES_MOST);
    }
    return open_one(s, path, e);
}

static enum status read_index(struct safetensors *s, const char *folder, const char *index, json_t *doc, struct err *e)
{
    struct js root = js_root(doc, index), map, v;
    TRY(js_need(&root, "weight_map", &map, e));
    if (!json_is_object(map.v))
        return js_expected(&map, e, "an object of tensor and file names");
    const char *name;
    json_t *value;
    uint32_t file;
    json_object_foreach(map.v, name, value)
    {
        TRY(js_need(&map, name, &v, e));
        TRY(open_shard(s, folder, &v, &file, e));
    }
    return s->files.n ? ST_OK : js_expected(&map, e, "at least one tensor");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct safetensors_entry *)a)->name, ((const struct safetensors_entry *)b)->name);
}

/* The index must say what the shards hold. */
static enum status check_index(const struct safetensors *s, const char *index, json_t *doc, struct err *e)
{
    const char *name;
    json_t *value;
    size_t n = 0;
    json_object_foreach(json_object_get(doc, "weight_map"), name, value)
    {
        const struct safetensors_entry *t = safetensors_find(s, name);
        const char *path = t ? s->files.at[t->file].path : "";
        const char *slash = strrchr(path, '/');
        if (!t || strcmp(slash ? slash + 1 : path, json_string_value(value)) != 0)
            return err_set(e, ST_INPUT, index, "says that \"%.200s\" is in %.200s, where it is not", name,
                           json_string_value(value));
        n++;
    }
    return n == s->entries.n
               ? ST_OK
               : err_set(e, ST_INPUT, index, "names %zu tensors, its files have %" PRIu32, n, s->entries.n);
}

static enum status sort_entries(struct safetensors *s, const char *path, struct err *e)
{
    if (s->entries.n)
        qsort(s->entries.at, s->entries.n, sizeof *s->entries.at, by_name);
    for (uint32_t i = 1; i < s->entries.n; i++)
        if (strcmp(s->entries.at[i].name, s->entries.at[i - 1].name) == 0)
            return err_set(e, ST_INPUT, path, "tensor \"%.200s\" appears twice", s->entries.at[i].name);
    return ST_OK;
}

static enum status open_index(struct safetensors *s, const char *folder, const char *index, struct err *e)
{
    json_t *doc = NULL;
    TRY(js_load_file(index, &doc, e));
    enum status st = read_index(s, folder, index, doc, e);
    if (st == ST_OK)
        st = sort_entries(s, folder, e);
    if (st == ST_OK)
        st = check_index(s, index, doc, e);
    json_decref(doc);
    return st;
}

/* How the files store weights, if there is a config.json that says it. */
static enum status read_config(struct safetensors *s, const char *folder, struct err *e)
{
    json_t *doc = NULL;
    char *path = join(folder, "config.json");
    enum status st = ST_OK;
    if (access(path, F_OK) == 0) {
        st = js_load_file(path, &doc, e);
        struct js config = js_root(doc, path);
        if (st == ST_OK)
            st = quantization_read(&config, &s->stored, e);
    }
    json_decref(doc);
    mem_free(path);
    return st;
}

static enum status open_folder(struct safetensors *s, const char *path, struct err *e)
{
    TRY(read_config(s, path, e));
    char *index = join(path, "model.safetensors.index.json");
    enum status st = access(index, F_OK) == 0 ? open_index(s, path, index, e)
                                              : open_one(s, join(path, "model.safetensors"), e);
    mem_free(index);
    return st;
}

enum status safetensors_open(const char *path, struct safetensors *s, struct err *e)
{
    struct stat info;
    *s = (struct safetensors){ .stored = { QUANTIZATION_BLOCK, QUANTIZATION_BLOCK } };
    arena_init(&s->arena);
    enum status st;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        st = open_folder(s, path, e);
    else
        st = open_one(s, mem_strdup(path), e);
    for (bool again = true; st == ST_OK && again;) {
        st = sort_entries(s, path, e);
        if (st == ST_OK)
            st = safetensors__pair(s, path, &again, e);
    }
    if (st != ST_OK)
        safetensors_close(s);
    return st;
}

void safetensors_close(struct safetensors *s)
{
    for (uint32_t i = 0; i < s->files.n; i++) {
        if (s->files.at[i].fd >= 0)
            close(s->files.at[i].fd);
        mem_free(s->files.at[i].path);
    }
    vec_free(&s->files);
    vec_free(&s->entries);
    arena_release(&s->arena);
}

const struct safetensors_entry *safetensors_find(const struct safetensors *s, const char *name)
{
    struct safetensors_entry key = { .name = name };
    return s->entries.n ? bsearch(&key, s->entries.at, s->entries.n, sizeof key, by_name) : NULL;
}

/* ---- contents ---- */

float safetensors_from_bf16(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

float safetensors_from_f16(uint16_t x)
{
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, exponent = x >> 10 & 31, mantissa = x & 1023, bits;
    float f;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | mantissa << 13;
    } else if (exponent) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else { /* zero, or mantissa * 2^-24 */
        f = (float)mantissa * 0x1p-24f;
        return sign ? -f : f;
    }
    memcpy(&f, &bits, 4);
    return f;
}

const char safetensors_types[] = "F32, BF16, F16, F8_E4M3 with a tensor ..._scale_inv, or MXFP4";

bool safetensors_readable(const struct safetensors_entry *t)
{
    return t->type != SAFETENSORS_OTHER && t->type != SAFETENSORS_U8 &&
           (t->type != SAFETENSORS_F8_E4M3 || t->scale != SAFETENSORS_NONE);
}

/* 2^(x-127), 255 is NaN. */
static enum status read_powers(const struct safetensors_file *f, const struct safetensors_entry *t, uint64_t first,
                               uint64_t n, float *out, struct err *e)
{
    uint8_t *byte = (uint8_t *)out + 3 * n; /* read ahead of what is written */
    TRY(file_pread(f->fd, f->path, byte, n, t->offset + first, e));
    for (uint64_t i = 0; i < n; i++) {
        const float x = byte[i] == 255 ? NAN : ldexpf(1, byte[i] - 127);
        memcpy(out + i, &x, sizeof x);
    }
    return ST_OK;
}

enum status safetensors_read(const struct safetensors *s, const struct safetensors_entry *t, uint64_t first, uint64_t n,
                             float *out, struct err *e)
{
    const struct safetensors_file *f = &s->files.at[t->file];
    CHECK(first <= t->elements && n <= t->elements - first);
    if (t->type == SAFETENSORS_F32)
        return file_pread(f->fd, f->path, out, n * 4, t->offset + first * 4, e);
    if (!safetensors_readable(t))
        return err_set(e, ST_INPUT, f->path, "tensor \"%.200s\" has the type %s, expected %s", t->name, t->type_name,
                       safetensors_types);
    if (t->type == SAFETENSORS_F8_E4M3)
        return safetensors__read_f8(s, t, first, n, out, e);
    if (t->type == SAFETENSORS_MXFP4)
        return safetensors__read_mxfp4(s, t, first, n, out, e);
    if (t->type == SAFETENSORS_F8_E8M0)
        return read_powers(f, t, first, n, out, e);
    uint16_t *half = (uint16_t *)out + n; /* the upper half of the room: it is read ahead of what is written */
    TRY(file_pread(f->fd, f->path, half, n * 2, t->offset + first * 2, e));
    for (uint64_t i = 0; i < n; i++) {
        uint16_t x;
        memcpy(&x, half + i, 2);
        float y = t->type == SAFETENSORS_BF16 ? safetensors_from_bf16(x) : safetensors_from_f16(x);
        memcpy(out + i, &y, 4);
    }
    return ST_OK;
}
