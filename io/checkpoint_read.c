#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint_private.h"
#include "io/file.h"
#include "io/model.h"
#include "comm/world.h"
#include "ir/optimizer.h"

/* ---- structure ---- */

static enum status get_digest(const struct h5_at *root, const char *name, struct arena *a, uint8_t out[SHA256_BYTES],
                              struct err *e)
{
    const char *hex;
    TRY(h5_get_attr_text(root, name, a, &hex, e));
    if (!sha256_unhex(hex, out))
        return err_set(e, ST_INPUT, root->where, "attribute %s: expected 64 hexadecimal digits", name);
    return ST_OK;
}

static enum status get_word(const struct h5_at *root, const char *name, struct arena *a, char *out, size_t size,
                            struct err *e)
{
    const char *text;
    TRY(h5_get_attr_text(root, name, a, &text, e));
    if (strlen(text) >= size)
        return err_set(e, ST_INPUT, root->where, "attribute %s is too long, expected fewer than %zu bytes", name, size);
    strcpy(out, text);
    return ST_OK;
}

static enum status get_info(const struct h5_at *root, struct arena *a, struct checkpoint_info *info, struct err *e)
{
    static const char *const attrs[] = { "schema",     "schema_version", "step",      "sample", "updates",
                                         "data",       "seed",           "optimizer", "build",  "time",
                                         "job_digest", "model_digest",   NULL };
    const char *data = "[]";
    char names[64];
    TRY(h5_only_attrs(root, attrs, e));
    TRY(h5_get_attr_u64(root, "step", UINT64_MAX, &info->step, e));
    TRY(h5_get_attr_u64(root, "sample", UINT64_MAX, &info->sample, e));
    info->updates = info->step;
    if (root->version > 1) {
        TRY(h5_get_attr_u64(root, "updates", info->step, &info->updates, e));
        TRY(h5_get_attr_text(root, "data", a, &data, e));
    }
    TRY(ckpt__data_parse(data, root->where, &info->data, e));
    TRY(h5_get_attr_u64(root, "seed", UINT64_MAX, &info->seed, e));
    TRY(get_word(root, "optimizer", a, info->optimizer, sizeof info->optimizer, e));
    TRY(get_word(root, "build", a, info->build, sizeof info->build, e));
    TRY(get_word(root, "time", a, info->time, sizeof info->time, e));
    TRY(get_digest(root, "job_digest", a, info->job_digest, e));
    TRY(get_digest(root, "model_digest", a, info->model_digest, e));
    if (optimizer_by_name(info->optimizer) == OPTIMIZERS && strcmp(info->optimizer, "none") != 0)
        return err_set(e, ST_INPUT, root->where, "attribute optimizer: found \"%s\", expected %s, or \"none\"",
                       info->optimizer, optimizer_names(names, sizeof names));
    return ST_OK;
}

/* As many members as the graph has parameters; opening each by name finds one that is missing. */
static enum status check_number(const struct h5_at *group, const struct ir_graph *g, struct err *e)
{
    uint64_t n;
    TRY(h5_count(group, &n, e));
    return n == g->params.n ? ST_OK
                            : err_set(e, ST_INPUT, group->where,
                                      "has %" PRIu64 " members, the model has %" PRIu32 " parameters", n, g->params.n);
}

static enum status locate_group(const struct h5_at *group, const struct ir_graph *g, bool hashes, int kind,
                                struct ckpt__place *place, struct err *e)
{
    for (uint32_t i = 0; i < g->params.n; i++) {
        const struct ir_param *p = &g->params.at[i];
        struct h5_data d = { .name = p->name, .rank = 2, .dim = { block_count(place[i].elements), BLOCK_HASH_BYTES } };
        if (!hashes) {
            d.rank = p->shape.ndim;
            for (int k = 0; k < d.rank; k++)
                d.dim[k] = p->shape.dim[k];
        }
        TRY(h5_locate(group, &d, hashes ? H5_U8 : H5_F32, hashes ? &place[i].hash[kind] : &place[i].data[kind], e));
    }
    return ST_OK;
}

/* Opens the group that `path` ("optimizer/m") names, component by component. */
static enum status walk(const struct h5_at *from, const char *path, struct h5_at *out, struct err *e)
{
    const char *slash = strchr(path, '/');
    if (!slash)
        return h5_group(from, path, out, e);
    char first[64];
    snprintf(first, sizeof first, "%.*s", (int)(slash - path), path);
    struct h5_at outer;
    TRY(h5_group(from, first, &outer, e));
    enum status st = walk(&outer, slash + 1, out, e);
    h5_close(&outer);
    return st;
}

static enum status locate_kind(const struct h5_at *root, struct ckpt__file *f, int kind, struct err *e)
{
    for (int hashes = 0; hashes < 2; hashes++) {
        struct h5_at group;
        char path[64];
        snprintf(path, sizeof path, "%s%s", hashes ? "digests/" : "", ckpt__group[kind]);
        TRY(walk(root, path, &group, e));
        enum status st = check_number(&group, &f->graph, e);
        if (st == ST_OK)
            st = locate_group(&group, &f->graph, hashes, kind, f->place, e);
        h5_close(&group);
        TRY(st);
    }
    return ST_OK;
}

/* Groups that the format has a name for and this build no use: the rest of such a file can be read. */
static enum status note_beyond(const struct h5_at *root, struct ckpt__file *f, struct err *e)
{
    static const char *const names[] = { "router", "outer" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (h5_has(root, names[i]))
            snprintf(f->info.beyond, sizeof f->info.beyond, "/%s", names[i]);
    struct h5_at optimizer;
    if (f->kinds == 1)
        return ST_OK;
    TRY(h5_group(root, "optimizer", &optimizer, e));
    if (h5_has(&optimizer, "updates"))
        strcpy(f->info.beyond, "/optimizer/updates");
    h5_close(&optimizer);
    return ST_OK;
}

static enum status read_structure(const struct h5_at *root, struct ckpt__file *f, struct arena *a, struct err *e)
{
    static const char *const with[] = { "model", "params", "digests", "optimizer", "router", "outer", NULL };
    static const char *const without[] = { "model", "params", "digests", "router", "outer", NULL };
    TRY(get_info(root, a, &f->info, e));
    f->kinds = 1 + checkpoint_moments(&f->info);
    TRY(h5_only(root, f->kinds == 1 ? without : with, e));
    TRY(note_beyond(root, f, e));
    TRY(model_get(root, NULL, &f->graph, e));
    f->has_graph = true;
    f->n = f->graph.params.n;
    f->place = mem_alloc(sizeof *f->place * f->n);
    for (uint32_t i = 0; i < f->n; i++)
        f->place[i].elements = ir_shape_elements(&f->graph.params.at[i].shape);
    for (uint32_t k = 0; k < f->kinds; k++)
        TRY(locate_kind(root, f, (int)k, e));
    for (uint32_t i = 0; i < f->n; i++)
        f->names_bytes += strlen(f->graph.params.at[i].name) + 1;
    char *to = f->names = mem_alloc(f->names_bytes);
    for (uint32_t i = 0; i < f->n; i++)
        to = stpcpy(to, f->graph.params.at[i].name) + 1;
    return ST_OK;
}

static const char *name_in(const struct dir *in, const char *path)
{
    const char *slash = strrchr(path, '/');
    return in && slash ? slash + 1 : path;
}

static enum status open_structure(const struct dir *in, const char *path, struct ckpt__file *f, struct err *e)
{
    struct h5_at root;
    struct arena a;
    uint64_t step;
    enum status st = h5_open_in(in, name_in(in, path), ckpt__schema, CKPT_VERSION, &root, e);
    f->newer = root.version > CKPT_VERSION;
    TRY(st);
    arena_init(&a);
    st = read_structure(&root, f, &a, e);
    arena_release(&a);
    h5_close(&root);
    f->misnamed = st == ST_OK && in && checkpoint_step_of(name_in(in, path), &step) && step != f->info.step;
    if (f->misnamed)
        st = err_set(e, ST_INPUT, path, "the file name says step %" PRIu64 ", but it contains step %" PRIu64, step,
                     f->info.step);
    return st;
}

enum status ckpt__open_here(const struct dir *in, const char *path, struct ckpt__file *f, struct err *e)
{
    uint64_t size;
    *f = (struct ckpt__file){ .path = path, .fd = -1 };
    TRY(open_structure(in, path, f, e));
    return dir_read(in, name_in(in, path), &f->fd, &size, e);
}

enum status ckpt__open(const struct dir *in, const char *path, struct ckpt__file *f, struct err *e)
{
    *f = (struct ckpt__file){ .path = path, .fd = -1 };
    enum status st = world_agree(world_rank() == 0 ? open_structure(in, path, f, e) : ST_OK, e);
    world_broadcast(&f->misnamed, sizeof f->misnamed);
    world_broadcast(&f->newer, sizeof f->newer);
    TRY(st);
    uint64_t head[3] = { f->n, f->kinds, f->names_bytes };
    world_broadcast(head, sizeof head);
    world_broadcast(&f->info, sizeof f->info);
    if (world_rank() != 0) {
        f->n = (uint32_t)head[0];
        f->kinds = (uint32_t)head[1];
        f->names_bytes = head[2];
        f->place = mem_alloc(sizeof *f->place * f->n);
        f->names = mem_alloc(f->names_bytes);
    }
    world_broadcast(f->place, sizeof *f->place * f->n);
    world_broadcast(f->names, f->names_bytes);
    uint64_t size;
    return world_agree(dir_read(in, name_in(in, path), &f->fd, &size, e), e);
}

void ckpt__close(struct ckpt__file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    if (f->has_graph)
        ir_graph_release(&f->graph);
    mem_free(f->place);
    mem_free(f->names);
    *f = (struct ckpt__file){ .fd = -1 };
}

const char *ckpt__name(const struct ckpt__file *f, uint32_t param)
{
    const char *name = f->names;
    while (param--)
        name += strlen(name) + 1;
    return name;
}

/* ---- contents ---- */

enum status ckpt__read_block(const struct ckpt__file *f, uint32_t param, uint32_t kind, uint64_t first, float *block,
                             struct err *e)
{
    const struct ckpt__place *p = &f->place[param];
    const uint64_t words = p->elements - first < block_words ? p->elements - first : block_words;
    struct block_hash want, found = { 0 };
    TRY(file_pread(f->fd, f->path, &want, sizeof want, p->hash[kind] + first / block_words * BLOCK_HASH_BYTES, e));
    TRY(file_pread(f->fd, f->path, block, words * 4, p->data[kind] + first * 4, e));
    block_hash_add(&found, block, (uint32_t)words, 0);
    if (found.a != want.a || found.b != want.b)
        return err_set(e, ST_INPUT, f->path,
                       "/%s/%s, elements %" PRIu64 " to %" PRIu64
                       ": the contents do not match their hash: the file is damaged",
                       ckpt__group[kind], ckpt__name(f, param), first, first + words - 1);
    return ST_OK;
}

struct verifier {
    const struct ckpt__file *f;
    float *block;
    uint64_t lo, hi, at; /* this rank checks blocks [lo, hi) of all; at: number of the next tensor's first one */
    struct err *e;
};

static enum status verify_tensor(struct verifier *v, uint32_t param, uint32_t kind)
{
    const struct ckpt__place *p = &v->f->place[param];
    uint64_t n = block_count(p->elements);
    uint64_t lo = v->lo > v->at ? v->lo - v->at : 0, hi = v->hi > v->at ? v->hi - v->at : 0;
    v->at += n;
    for (uint64_t b = lo; b < hi && b < n; b++)
        TRY(ckpt__read_block(v->f, param, kind, b * block_words, v->block, v->e));
    return ST_OK;
}

enum status ckpt__verify(const struct ckpt__file *f, struct err *e)
{
    uint64_t all = 0, rank = world_rank(), size = world_size();
    for (uint32_t i = 0; i < f->n; i++)
        all += f->kinds * block_count(f->place[i].elements);
    struct verifier v = {
        f, mem_alloc(block_bytes()), all / size * rank + (rank < all % size ? rank : all % size), 0, 0, e
    };
    v.hi = v.lo + all / size + (rank < all % size ? 1 : 0);
    enum status st = ST_OK;
    for (uint32_t k = 0; k < f->kinds; k++)
        for (uint32_t i = 0; st == ST_OK && i < f->n; i++)
            st = verify_tensor(&v, i, k);
    mem_free(v.block);
    return world_agree(st, e);
}

bool ckpt__verify_here(const struct ckpt__file *f, float *block, const _Atomic bool *stop)
{
    struct verifier v = { f, block, 0, UINT64_MAX, 0, NULL };
    for (uint32_t k = 0; k < f->kinds; k++)
        for (uint32_t i = 0; i < f->n; i++)
            if (atomic_load(stop) || verify_tensor(&v, i, k) != ST_OK)
                return false;
    return true;
}

enum status checkpoint_look(const struct dir *in, const char *path, struct checkpoint_info *info, struct err *e)
{
    struct ckpt__file f;
    enum status st = ckpt__open_here(in, path, &f, e);
    if (st == ST_OK)
        *info = f.info;
    ckpt__close(&f);
    return st;
}

enum status checkpoint_verify(const char *path, struct checkpoint_info *info, struct err *e)
{
    struct ckpt__file f;
    enum status st = ckpt__open(NULL, path, &f, e);
    if (st == ST_OK)
        st = ckpt__verify(&f, e);
    if (st == ST_OK)
        *info = f.info;
    ckpt__close(&f);
    return st;
}

/* Rank 0 knows the file's graph. */
static enum status check_model(const struct ckpt__file *f, const struct ir_graph *g, const uint8_t digest[SHA256_BYTES],
                               struct err *e)
{
    char text[512];
    if (!ir_graph_same(&f->graph, g, text, sizeof text))
        return err_set(e, ST_INPUT, f->path,
                       "is a checkpoint of another model: %s. Use another run directory, or piper train --fresh", text);
    if (memcmp(f->info.model_digest, digest, SHA256_BYTES) != 0)
        return err_set(
            e, ST_INPUT, f->path,
            "is a checkpoint of a job with another dtype. Use another run directory, or piper train --fresh; to start "
            "from its parameters: piper checkpoint export %s -o m.safetensors, then piper checkpoint import job.h5 "
            "m.safetensors -o NEWDIR",
            f->path);
    if (*f->info.beyond)
        return err_set(
            e, ST_INPUT, f->path,
            "contains %s, which this build cannot resume from; use the build that wrote it (%s) or a newer one",
            f->info.beyond, f->info.build);
    return ST_OK;
}

static enum status read_pieces(const struct ckpt__file *f, const struct checkpoint_piece *p, uint32_t n, struct err *e)
{
    for (uint32_t i = 0; i < n; i++) {
        float *data[CKPT_KINDS] = { p[i].data, p[i].m, p[i].v };
        if (p[i].param >= f->n || p[i].first > f->place[p[i].param].elements ||
            p[i].count > f->place[p[i].param].elements - p[i].first)
            return err_set(e, ST_BUG, "checkpoint", "piece %" PRIu32 " lies outside its parameter", i);
        const struct ckpt__place *place = &f->place[p[i].param];
        for (uint32_t k = 0; k < CKPT_KINDS; k++) {
            if (!data[k])
                continue;
            if (k < f->kinds)
                TRY(file_pread(f->fd, f->path, data[k], p[i].count * 4, place->data[k] + p[i].first * 4, e));
            else
                memset(data[k], 0, p[i].count * 4);
        }
    }
    return ST_OK;
}

enum status ckpt__load(const struct ckpt__source *s, const struct checkpoint_piece *pieces, uint32_t n,
                       struct checkpoint_info *info, enum ckpt__why *why, struct err *e)
{
    struct ckpt__file f;
    enum status st = ckpt__open(s->in, s->path, &f, e);
    *why = f.misnamed ? CKPT_MISNAMED : f.newer ? CKPT_OTHER_MODEL : CKPT_DAMAGED;
    if (st == ST_OK)
        st = ckpt__verify(&f, e);
    if (st == ST_OK) {
        st = world_agree(world_rank() == 0 ? check_model(&f, s->g, s->model_digest, e) : ST_OK, e);
        *why = st != ST_OK ? CKPT_OTHER_MODEL : CKPT_DAMAGED;
    }
    if (st == ST_OK)
        st = world_agree(read_pieces(&f, pieces, n, e), e);
    if (st == ST_OK)
        *info = f.info;
    ckpt__close(&f);
    return st;
}

enum status checkpoint_read(const char *path, const struct ir_graph *g, const uint8_t model_digest[SHA256_BYTES],
                            const struct checkpoint_piece *pieces, uint32_t n, struct checkpoint_info *info,
                            struct err *e)
{
    enum ckpt__why why;
    return ckpt__load(&(struct ckpt__source){ NULL, path, g, model_digest }, pieces, n, info, &why, e);
}
