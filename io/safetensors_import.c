#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "ir/family/files.h"

enum { LIST_MOST = 8 };
uint32_t safetensors_block = 1 << 20;

struct weights_importer {
    const struct safetensors *s;
    const char *path;
    const struct ir_graph *g;
    bool *used; /* by entry */
    struct arena names;
    char wrong[1400]; /* the list of what does not fit */
    uint32_t n_wrong, extra;
    struct err *e;
};

static void complain(struct weights_importer *im, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void complain(struct weights_importer *im, const char *fmt, ...)
{
    size_t n = strlen(im->wrong);
    va_list ap;
    va_start(ap, fmt);
    if (im->n_wrong++ < LIST_MOST && n + 2 < sizeof im->wrong) {
        memcpy(im->wrong + n, n ? "; " : "", n ? 3 : 1);
        n = strlen(im->wrong);
        vsnprintf(im->wrong + n, sizeof im->wrong - n, fmt, ap);
    }
    va_end(ap);
}

/* The entry of that name, with a prefix more or less. */
static const struct safetensors_entry *find(struct weights_importer *im, const char *name)
{
    static const char *const prefixes[] = { "transformer.", "model." };
    const struct safetensors_entry *t = safetensors_find(im->s, name);
    for (int i = 0; !t && i < 2; i++) {
        size_t n = strlen(prefixes[i]);
        if (strncmp(name, prefixes[i], n) == 0)
            t = safetensors_find(im->s, name + n);
        else
            t = safetensors_find(im->s, arena_printf(&im->names, "%s%s", prefixes[i], name));
    }
    return t;
}

static void print_shape(char *text, size_t size, const uint64_t *dim, uint32_t n)
{
    size_t at = (size_t)snprintf(text, size, "(");
    for (uint32_t i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%" PRIu64, i ? "," : "", dim[i]);
    if (at < size)
        snprintf(text + at, size - at, ")");
}

/* Where the parameter lies in this entry. */
static struct ir_place place_in(const struct ir_place *p, const struct safetensors_entry *t)
{
    return t->type == SAFETENSORS_MXFP4 ? ir_place_exchanged(p) : *p;
}

static void check_tensor(struct weights_importer *im, const struct ir_place *place, const char *name)
{
    const struct safetensors_entry *t = find(im, name);
    if (!t) {
        complain(im, "%.120s is missing", name);
        return;
    }
    const struct ir_place in_file = place_in(place, t), *p = &in_file;
    im->used[t - im->s->entries.at] = true;
    bool same = t->ndim == p->ndim;
    uint64_t want[3];
    for (uint32_t k = 0; k < p->ndim; k++) {
        want[k] = p->dim[k];
        same = same && t->dim[k] == want[k];
    }
    char a[128], b[128];
    print_shape(a, sizeof a, t->dim, t->ndim);
    print_shape(b, sizeof b, want, p->ndim);
    if (!same)
        complain(im, "%.120s has the shape %s, expected %s", t->name, a, b);
    else if (!safetensors_readable(t))
        complain(im, "%.120s has the type %s, expected %s", t->name, t->type_name, safetensors_types);
}

/* A tensor of several parameters is looked at with the first of them. */
static void check_param(struct weights_importer *im, uint32_t param)
{
    const struct ir_place p = ir_file_place(im->g, param, &im->names);
    if (p.part > 0)
        return;
    for (uint32_t i = 0; i < ir_place_tensors(&p, im->g, param); i++)
        check_tensor(im, &p, ir_place_name(&p, i, &im->names));
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Buffers that older files carry: masks and tables that the model computes. */
static bool is_buffer(const char *name)
{
    static const char *const ends[] = { ".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq" };
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends_with(name, ends[i]))
            return true;
    return false;
}

/* The parameter of the head, for a file that carries a tied head twice; NULL when the model has an own lm_head. */
static const struct ir_param *tied_head(const struct ir_graph *g)
{
    const struct ir_param *p = NULL;
    for (uint32_t i = 0; i < g->ops.n; i++)
        if (g->ops.at[i].op == IR_OP_HEAD_LOSS)
            p = &g->params.at[g->ops.at[i].param[0]];
    return p && !ends_with(p->name, "lm_head.weight") ? p : NULL;
}

/* Whether two entries hold the same values. */
static enum status same_values(struct weights_importer *im, const struct safetensors_entry *a,
                               const struct safetensors_entry *b, bool *same)
{
    float *x = mem_alloc(sizeof *x * safetensors_block), *y = mem_alloc(sizeof *y * safetensors_block);
    enum status st = ST_OK;
    *same = a->elements == b->elements;
    for (uint64_t at = 0; st == ST_OK && *same && at < a->elements; at += safetensors_block) {
        uint64_t n = a->elements - at < safetensors_block ? a->elements - at : safetensors_block;
        st = safetensors_read(im->s, a, at, n, x, im->e);
        if (st == ST_OK)
            st = safetensors_read(im->s, b, at, n, y, im->e);
        *same = st == ST_OK && memcmp(x, y, n * sizeof *x) == 0;
    }
    mem_free(x);
    mem_free(y);
    return st;
}

static enum status check_rest(struct weights_importer *im)
{
    const struct ir_param *head = tied_head(im->g);
    for (uint32_t i = 0; i < im->s->entries.n; i++) {
        const struct safetensors_entry *t = &im->s->entries.at[i], *embedding = NULL;
        bool same = false;
        if (im->used[i] || t->is_scale || is_buffer(t->name))
            continue;
        if (ir_file_extra(im->g, t->name)) {
            im->extra++;
            continue;
        }
        if (head && ends_with(t->name, "lm_head.weight"))
            embedding = find(im, head->name);
        if (embedding) {
            TRY(same_values(im, t, embedding, &same));
            if (!same)
                complain(im, "%.120s differs from %.120s, but the model ties them", t->name, embedding->name);
        } else {
            complain(im, "%.120s is not of this model", t->name);
        }
    }
    return ST_OK;
}

/* The names of tensors that other ways of storing weights have. */
static enum status check_quantized(struct weights_importer *im)
{
    static const struct {
        const char *end, *method;
    } known[] = { { ".qweight", "GPTQ or AWQ" },
                  { ".SCB", "bitsandbytes" },
                  { ".absmax", "bitsandbytes" },
                  { ".weight_packed", "compressed-tensors" },
                  { ".weight_scale", "compressed-tensors, fbgemm_fp8 or ModelOpt" } };
    for (uint32_t i = 0; i < im->s->entries.n; i++)
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (ends_with(im->s->entries.at[i].name, known[k].end))
                return err_set(
                    im->e, ST_INPUT, im->path,
                    "found the tensor %.200s, expected weights of %s: these are quantized by %s, use the files "
                    "of the unquantized model",
                    im->s->entries.at[i].name, safetensors_types, known[k].method);
    return ST_OK;
}

static enum status check_all(struct weights_importer *im)
{
    for (uint32_t i = 0; i < im->g->params.n; i++)
        check_param(im, i);
    TRY(check_rest(im));
    if (im->n_wrong)
        TRY(check_quantized(im));
    if (im->n_wrong)
        return err_set(im->e, ST_INPUT, im->path, "does not fit the model: %s%s", im->wrong,
                       im->n_wrong > LIST_MOST ? "; and more" : "");
    return ST_OK;
}

/* Elements of a parameter that stand side by side in a tensor too. */
struct run {
    uint32_t param;
    uint64_t first, n; /* of the parameter */
    const struct safetensors_entry *tensor;
    uint64_t from; /* the first one's place in the tensor */
};

static enum status copy_run(struct weights_importer *im, const struct run *r, const struct checkpoint_sink *to,
                            float *part)
{
    for (uint64_t at = 0; at < r->n; at += safetensors_block) {
        const uint64_t count = r->n - at < safetensors_block ? r->n - at : safetensors_block;
        struct checkpoint_piece piece = { .param = r->param, .first = r->first + at, .count = count, .data = part };
        TRY(safetensors_read(im->s, r->tensor, r->from + at, count, part, im->e));
        TRY(to->put(to->self, &piece, im->e));
    }
    return ST_OK;
}

static enum status read_whole(struct weights_importer *im, const struct safetensors_entry *t, uint64_t first,
                              uint64_t n, float *to)
{
    for (uint64_t at = 0; at < n; at += safetensors_block)
        TRY(safetensors_read(im->s, t, first + at, n - at < safetensors_block ? n - at : safetensors_block, to + at,
                             im->e));
    return ST_OK;
}

static enum status copy_slices(struct weights_importer *im, uint32_t param, const struct ir_place *p,
                               const struct safetensors_entry *t, const struct checkpoint_sink *to)
{
    const struct ir_slices s = ir_place_slices(p);
    float *tensor = mem_alloc(sizeof *tensor * s.tensor), *x = mem_alloc(sizeof *x * s.param);
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < s.n; i++) {
        struct checkpoint_piece piece = { .param = param, .first = i * s.param, .count = s.param, .data = x };
        st = read_whole(im, t, i * s.tensor, s.tensor, tensor);
        ir_place_take(p, tensor, x);
        if (st == ST_OK)
            st = to->put(to->self, &piece, im->e);
    }
    mem_free(tensor);
    mem_free(x);
    return st;
}

static enum status copy_param(struct weights_importer *im, uint32_t param, const struct checkpoint_sink *to,
                              float *part)
{
    const struct ir_place p = ir_file_place(im->g, param, &im->names);
    const uint32_t n = ir_place_tensors(&p, im->g, param);
    const uint64_t each = ir_shape_elements(&im->g->params.at[param].shape) / n;
    for (uint32_t i = 0; i < n; i++) {
        const struct safetensors_entry *t = find(im, ir_place_name(&p, i, &im->names));
        const struct ir_place here = place_in(&p, t);
        const struct run run = { param, i * each, each, t, here.first };
        TRY(here.contiguous ? copy_run(im, &run, to, part) : copy_slices(im, param, &here, t, to));
    }
    return ST_OK;
}

static enum status copy_all(struct weights_importer *im, const struct checkpoint_sink *to)
{
    float *part = mem_alloc(sizeof *part * safetensors_block);
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < im->g->params.n; i++)
        st = copy_param(im, i, to, part);
    mem_free(part);
    return st;
}

static enum status put(void *writer, const struct checkpoint_piece *piece, struct err *e)
{
    return checkpoint_put(writer, piece, e);
}

static enum status write_checkpoint(struct weights_importer *im, const struct checkpoint_info *info, const char *to)
{
    struct checkpoint_writer *w;
    TRY(checkpoint_begin(to, info, im->g, &w, im->e));
    const enum status st = copy_all(im, &(struct checkpoint_sink){ put, w });
    const enum status synced = checkpoint_sync(w, im->e);
    return checkpoint_end(w, st == ST_OK ? synced : st, im->e);
}

/* Into the sink, or, where that is NULL, the checkpoint `path`. */
static enum status import(const char *from, const struct ir_graph *g, const struct checkpoint_sink *to,
                          const struct checkpoint_info *info, const char *path, uint32_t *extra, struct err *e)
{
    struct safetensors s;
    TRY(safetensors_open(from, &s, e));
    struct weights_importer im = { .s = &s, .path = from, .g = g, .used = mem_alloc(s.entries.n), .e = e };
    arena_init(&im.names);
    enum status st = check_all(&im);
    if (st == ST_OK)
        st = to ? copy_all(&im, to) : write_checkpoint(&im, info, path);
    *extra = im.extra;
    arena_release(&im.names);
    mem_free(im.used);
    safetensors_close(&s);
    return st;
}

enum status safetensors_import(const char *from, const struct ir_graph *g, const struct checkpoint_info *info,
                               const char *to, uint32_t *extra, struct err *e)
{
    CHECK(!checkpoint_moments(info));
    return import(from, g, NULL, info, to, extra, e);
}

enum status safetensors_load(const char *from, const struct ir_graph *g, const struct checkpoint_sink *to,
                             uint32_t *extra, struct err *e)
{
    return import(from, g, to, NULL, NULL, extra, e);
}

enum status safetensors_look(const char *from, bool *bf16, struct err *e)
{
    struct safetensors s;
    TRY(safetensors_open(from, &s, e));
    uint32_t matrices = 0, half = 0;
    for (uint32_t i = 0; i < s.entries.n; i++) {
        matrices += s.entries.at[i].ndim >= 2;
        half += s.entries.at[i].ndim >= 2 && s.entries.at[i].type == SAFETENSORS_BF16;
    }
    *bf16 = matrices > 0 && half == matrices;
    safetensors_close(&s);
    return ST_OK;
}
