/* How the checkpoints of a run look: the HDF5 structure, and where each tensor lies in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/checkpoint_private.h"
#include "io/model.h"
#include "comm/world.h"
#include "ir/optimizer.h"

const char *const ckpt__group[CKPT_KINDS] = { "params", "optimizer/m", "optimizer/v" };
const char ckpt__schema[] = "piper-checkpoint";

uint32_t checkpoint_moments(const struct checkpoint_info *info)
{
    uint32_t kind = optimizer_by_name(info->optimizer);
    return kind < OPTIMIZERS ? optimizer_info[kind].moments : 0;
}

static enum status put_info(const struct h5_at *root, const struct checkpoint_info *info, struct err *e)
{
    char hex[SHA256_HEX], now[32];
    time_t t = time(NULL);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &tm);
    TRY(h5_attr_u64(root, "step", info->step, e));
    TRY(h5_attr_u64(root, "sample", info->sample, e));
    TRY(h5_attr_u64(root, "updates", info->updates, e));
    TRY(h5_attr_u64(root, "seed", info->seed, e));
    char *data = ckpt__data_text(&info->data);
    enum status st = h5_attr_text(root, "data", data, e);
    free(data);
    TRY(st);
    TRY(h5_attr_text(root, "optimizer", info->optimizer, e));
    TRY(h5_attr_text(root, "build", info->build, e));
    TRY(h5_attr_text(root, "time", now, e));
    sha256_hex(info->job_digest, hex);
    TRY(h5_attr_text(root, "job_digest", hex, e));
    sha256_hex(info->model_digest, hex);
    return h5_attr_text(root, "model_digest", hex, e);
}

static enum status reserve_kind(const struct h5_at *root, const struct ir_graph *g, int kind, struct ckpt__place *place,
                                struct err *e)
{
    struct h5_at data, hashes;
    char name[64];
    snprintf(name, sizeof name, "digests/%s", ckpt__group[kind]);
    enum status st = h5_make_group(root, ckpt__group[kind], &data, e);
    if (st == ST_OK) {
        st = h5_make_group(root, name, &hashes, e);
        for (uint32_t i = 0; st == ST_OK && i < g->params.n; i++) {
            const struct ir_param *p = &g->params.at[i];
            struct h5_data d = { .name = p->name, .rank = p->shape.ndim };
            for (int k = 0; k < d.rank; k++)
                d.dim[k] = p->shape.dim[k];
            struct h5_data h = { .name = p->name,
                                 .rank = 2,
                                 .dim = { block_count(place[i].elements), BLOCK_HASH_BYTES } };
            st = h5_reserve(&data, &d, H5_F32, &place[i].data[kind], e);
            if (st == ST_OK)
                st = h5_reserve(&hashes, &h, H5_U8, &place[i].hash[kind], e);
        }
        h5_close(&hashes);
    }
    h5_close(&data);
    return st;
}

static int by_first(const void *a, const void *b)
{
    uint64_t x = ((const struct h5_range *)a)->first, y = ((const struct h5_range *)b)->first;
    return (x > y) - (x < y);
}

/* What lies between the reserved datasets. */
static void find_structure(struct ckpt__layout *l)
{
    struct {
        VEC(struct h5_range);
    } reserved = { 0 };
    for (uint32_t k = 0; k < l->kinds; k++)
        for (uint32_t i = 0; i < l->n_params; i++) {
            const struct ckpt__place *p = &l->place[i];
            vec_add(&reserved, ((struct h5_range){ p->data[k], p->data[k] + p->elements * 4 }));
            vec_add(&reserved,
                    ((struct h5_range){ p->hash[k], p->hash[k] + block_count(p->elements) * BLOCK_HASH_BYTES }));
        }
    vec_add(&reserved, ((struct h5_range){ h5_image_bytes(&l->image), UINT64_MAX }));
    qsort(reserved.at, reserved.n, sizeof *reserved.at, by_first);
    uint64_t end = 0;
    for (uint32_t i = 0; i < reserved.n; end = reserved.at[i++].end)
        if (reserved.at[i].first > end)
            vec_add(&l->structure, ((struct h5_range){ end, reserved.at[i].first }));
    vec_free(&reserved);
}

static enum status make_structure(struct ckpt__layout *l, const struct checkpoint_info *info, const struct ir_graph *g,
                                  struct err *e)
{
    struct h5_at *root = &l->image.root;
    TRY(put_info(root, info, e));
    TRY(model_put(root, g, e));
    for (uint32_t k = 0; k < l->kinds; k++)
        TRY(reserve_kind(root, g, (int)k, l->place, e));
    TRY(h5_close_image(&l->image, e));
    find_structure(l);
    return ST_OK;
}

enum status ckpt__layout_new(const char *where, const struct checkpoint_info *info, const struct ir_graph *g,
                             struct ckpt__layout **out, struct err *e)
{
    struct ckpt__layout *l = mem_alloc(sizeof *l);
    *l = (struct ckpt__layout){ .kinds = 1 + checkpoint_moments(info), .n_params = g->params.n };
    l->place = mem_alloc(sizeof *l->place * l->n_params);
    for (uint32_t i = 0; i < l->n_params; i++) {
        l->place[i].elements = ir_shape_elements(&g->params.at[i].shape);
        l->place[i].state = g->params.at[i].state || g->params.at[i].frozen;
    }
    l->first_block = mem_alloc(sizeof *l->first_block * l->kinds * l->n_params);
    for (uint64_t i = 0; i < (uint64_t)l->kinds * l->n_params; i++) {
        l->first_block[i] = l->blocks;
        l->blocks += block_count(l->place[i % l->n_params].elements);
    }
    enum status st = ST_OK;
    if (world_rank() == 0 && (st = h5_create_image(where, ckpt__schema, CKPT_VERSION, &l->image, e)) == ST_OK)
        st = make_structure(l, info, g, e);
    st = world_agree(st, e);
    if (st != ST_OK) {
        ckpt__layout_free(l);
        return st;
    }
    world_broadcast(l->place, sizeof *l->place * l->n_params);
    *out = l;
    return ST_OK;
}

enum status ckpt__layout_stamp(struct ckpt__layout *l, const struct checkpoint_info *info, struct err *e)
{
    TRY(h5_open_image(&l->image, e));
    enum status st = put_info(&l->image.root, info, e);
    enum status closed = h5_close_image(&l->image, e);
    return st == ST_OK ? closed : st;
}

void ckpt__layout_free(struct ckpt__layout *l)
{
    if (l->image.path)
        h5_abandon(&l->image);
    vec_free(&l->structure);
    mem_free(l->first_block);
    mem_free(l->place);
    mem_free(l);
}
