#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/checkpoint_private.h"
#include "io/file.h"
#include "io/model.h"
#include "io/world.h"

const char *const ckpt__group[CKPT_KINDS] = { "params", "optimizer/m", "optimizer/v" };
const char ckpt__schema[] = "piper-checkpoint";

bool checkpoint_has_moments(const struct checkpoint_info *info)
{
    return strcmp(info->optimizer, "adamw") == 0;
}

/* ---- every element exactly once ---- */

/* Sums of i^0, i^1 and i^2 over the elements of all pieces of a parameter, modulo 2^64, are those of 0..n-1. Not a
 * proof, but no mistake of a shard map gets through: a gap and an overlap would have to agree in number, sum and
 * squares. */
static uint64_t sum1(uint64_t n)
{
    return n % 2 ? n * ((n - 1) / 2) : n / 2 * (n - 1);
}

static uint64_t sum2(uint64_t n) /* of squares below n: (n-1)n(2n-1)/6 */
{
    unsigned __int128 x = n % 2 ? (unsigned __int128)((n - 1) / 2) * n : (unsigned __int128)(n / 2) * (n - 1);
    return x % 3 ? (uint64_t)(x * ((2 * (unsigned __int128)n - 1) / 3))
                 : (uint64_t)(x / 3 * (2 * (unsigned __int128)n - 1));
}

static enum status check_cover(const struct ir_graph *g, const struct checkpoint_piece *p, uint32_t n, struct err *e)
{
    uint64_t *sums = mem_alloc(sizeof *sums * 3 * g->params.n);
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < n; i++) {
        uint64_t end = p[i].first + p[i].count;
        if (p[i].param >= g->params.n || end < p[i].first || end > ir_shape_elements(&g->params.at[p[i].param].shape)) {
            st = err_set(e, ST_BUG, "checkpoint", "piece %" PRIu32 " lies outside its parameter", i);
            break;
        }
        uint64_t *s = sums + 3 * (uint64_t)p[i].param;
        s[0] += p[i].count;
        s[1] += sum1(end) - sum1(p[i].first);
        s[2] += sum2(end) - sum2(p[i].first);
    }
    st = io_agree(st, e);
    if (st == ST_OK)
        io_all_sum_u64(sums, 3 * (uint64_t)g->params.n);
    for (uint32_t i = 0; st == ST_OK && i < g->params.n; i++) {
        uint64_t all = ir_shape_elements(&g->params.at[i].shape), *s = sums + 3 * (uint64_t)i;
        if (s[0] != all || s[1] != sum1(all) || s[2] != sum2(all))
            st = err_set(e, ST_BUG, "checkpoint",
                         "the ranks' pieces of %s hold %" PRIu64 " elements, expected each of its %" PRIu64 " once",
                         g->params.at[i].name, s[0], all);
    }
    mem_free(sums);
    return st;
}

/* ---- structure, by rank 0 ---- */

static enum status put_info(const struct h5_at *root, const struct checkpoint_info *info, struct err *e)
{
    char hex[SHA256_HEX], now[32];
    time_t t = time(NULL);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &tm);
    TRY(h5_attr_u64(root, "step", info->step, e));
    TRY(h5_attr_u64(root, "sample", info->sample, e));
    TRY(h5_attr_u64(root, "seed", info->seed, e));
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

static enum status make_structure(struct h5_out *out, const struct checkpoint_info *info, const struct ir_graph *g,
                                  struct ckpt__place *place, struct err *e)
{
    TRY(put_info(&out->root, info, e));
    TRY(model_put(&out->root, g, e));
    int kinds = checkpoint_has_moments(info) ? CKPT_KINDS : 1;
    for (int k = 0; k < kinds; k++)
        TRY(reserve_kind(&out->root, g, k, place, e));
    return h5_finish(out, e);
}

/* ---- contents, by all ---- */

struct checkpoint_writer {
    char *temp;
    struct h5_out out; /* rank 0 */
    int fd;
    uint32_t kinds, n_params;
    struct ckpt__place *place;
    uint64_t *first_block;   /* [kinds * n_params]: of each tensor in `hash` */
    struct block_hash *hash; /* of all blocks of all tensors; this rank's share */
    uint64_t blocks;
};

static struct checkpoint_writer *new_writer(const char *path, const struct checkpoint_info *info,
                                            const struct ir_graph *g)
{
    struct checkpoint_writer *w = mem_alloc(sizeof *w);
    *w = (struct checkpoint_writer){ .temp = mem_alloc(strlen(path) + 5), .fd = -1, .n_params = g->params.n };
    sprintf(w->temp, "%s.tmp", path);
    w->kinds = checkpoint_has_moments(info) ? CKPT_KINDS : 1;
    w->place = mem_alloc(sizeof *w->place * w->n_params);
    for (uint32_t i = 0; i < w->n_params; i++)
        w->place[i].elements = ir_shape_elements(&g->params.at[i].shape);
    w->first_block = mem_alloc(sizeof *w->first_block * w->kinds * w->n_params);
    for (uint64_t i = 0; i < (uint64_t)w->kinds * w->n_params; i++) {
        w->first_block[i] = w->blocks;
        w->blocks += block_count(w->place[i % w->n_params].elements);
    }
    w->hash = mem_alloc(sizeof *w->hash * w->blocks);
    return w;
}

static void free_writer(struct checkpoint_writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    if (w->out.path)
        h5_abandon(&w->out);
    mem_free(w->hash);
    mem_free(w->first_block);
    mem_free(w->place);
    mem_free(w->temp);
    mem_free(w);
}

enum status checkpoint_begin(const char *path, const struct checkpoint_info *info, const struct ir_graph *g,
                             struct checkpoint_writer **out, struct err *e)
{
    struct checkpoint_writer *w = new_writer(path, info, g);
    enum status st = ST_OK;
    if (io_rank() == 0 && (st = h5_create(path, ckpt__schema, CKPT_VERSION, &w->out, e)) == ST_OK)
        st = make_structure(&w->out, info, g, w->place, e);
    st = io_agree_root(st, e);
    if (st == ST_OK) {
        io_broadcast(w->place, sizeof *w->place * w->n_params);
        st = io_agree(file_open_write(w->temp, &w->fd, e), e);
    }
    if (st != ST_OK)
        free_writer(w);
    else
        *out = w;
    return st;
}

static enum status put_kind(struct checkpoint_writer *w, const struct checkpoint_piece *p, uint32_t kind,
                            const float *data, struct err *e)
{
    struct block_hash *hash = w->hash + w->first_block[(uint64_t)kind * w->n_params + p->param];
    uint64_t end = p->first + p->count, to;
    for (uint64_t at = p->first; at < end; at = to) {
        uint64_t block = at / BLOCK_WORDS;
        to = (block + 1) * BLOCK_WORDS < end ? (block + 1) * BLOCK_WORDS : end;
        const float *from = data + (at - p->first);
        block_hash_add(&hash[block], from, (uint32_t)(to - at), (uint32_t)(at % BLOCK_WORDS));
        TRY(file_pwrite(w->fd, w->temp, from, (to - at) * 4, w->place[p->param].data[kind] + at * 4, e));
    }
    return ST_OK;
}

enum status checkpoint_put(struct checkpoint_writer *w, const struct checkpoint_piece *p, struct err *e)
{
    const float *data[CKPT_KINDS] = { p->data, p->m, p->v };
    for (uint32_t k = 0; k < w->kinds; k++) {
        if (p->count && !data[k])
            return err_set(e, ST_BUG, "checkpoint", "a piece of parameter %" PRIu32 " has no data", p->param);
        TRY(put_kind(w, p, k, data[k], e));
    }
    return ST_OK;
}

enum status checkpoint_sync(struct checkpoint_writer *w, struct err *e)
{
    int fd = w->fd;
    w->fd = -1;
    return file_sync_close(fd, w->temp, e);
}

/* Rank 0: the summed hashes to their datasets; they are synced when the file is published. */
static enum status write_hashes(struct checkpoint_writer *w, struct err *e)
{
    TRY(file_open_write(w->temp, &w->fd, e));
    for (uint32_t k = 0; k < w->kinds; k++)
        for (uint32_t i = 0; i < w->n_params; i++)
            TRY(file_pwrite(w->fd, w->temp, w->hash + w->first_block[(uint64_t)k * w->n_params + i],
                            block_count(w->place[i].elements) * BLOCK_HASH_BYTES, w->place[i].hash[k], e));
    return h5_commit(&w->out, e);
}

enum status checkpoint_end(struct checkpoint_writer *w, enum status mine, struct err *e)
{
    enum status st = io_agree(mine, e);
    if (st == ST_OK) {
        io_reduce_sum_u64(&w->hash[0].a, 2 * w->blocks);
        st = io_agree_root(io_rank() == 0 ? write_hashes(w, e) : ST_OK, e);
    }
    free_writer(w);
    return st;
}

enum status checkpoint_write(const char *path, const struct checkpoint_info *info, const struct ir_graph *g,
                             const struct checkpoint_piece *pieces, uint32_t n, struct err *e)
{
    struct checkpoint_writer *w;
    TRY(check_cover(g, pieces, n, e));
    TRY(checkpoint_begin(path, info, g, &w, e));
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < n; i++)
        st = checkpoint_put(w, &pieces[i], e);
    enum status synced = checkpoint_sync(w, e);
    return checkpoint_end(w, st == ST_OK ? synced : st, e);
}
