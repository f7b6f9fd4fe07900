/* The contents of a checkpoint, by all ranks, and the steps from a temporary file to a durable one. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint_private.h"
#include "io/file.h"
#include "comm/world.h"

struct checkpoint_writer {
    struct ckpt__layout *layout;
    bool own_layout, root; /* root: of rank 0 */
    struct dir in;
    struct dir_new file; /* rank 0 */
    char temp[DIR_NAME];
    int fd; /* of the others; -1: not open */
    char *path;
    struct block_hash *hash; /* of all blocks of all tensors; this rank's share */
};

struct checkpoint_writer *ckpt__writer_new(struct ckpt__layout *l, struct dir *in, const char *path)
{
    struct checkpoint_writer *w = mem_alloc(sizeof *w);
    *w = (struct checkpoint_writer){ .layout = l,
                                     .root = world_rank() == 0,
                                     .in = *in,
                                     .file = { .fd = -1 },
                                     .path = mem_strdup(path),
                                     .fd = -1,
                                     .hash = mem_alloc(sizeof *w->hash * l->blocks) };
    *in = (struct dir){ .fd = -1 };
    return w;
}

void ckpt__writer_free(struct checkpoint_writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    dir_new_drop(&w->file);
    dir_close(&w->in);
    if (w->own_layout)
        ckpt__layout_free(w->layout);
    mem_free(w->hash);
    mem_free(w->path);
    mem_free(w);
}

enum status ckpt__writer_begin(struct checkpoint_writer *w, enum status mine, const char *name, struct err *e)
{
    if (w->root && mine == ST_OK)
        mine = dir_new_begin(&w->in, name, &w->file, e);
    memcpy(w->temp, w->file.temp, sizeof w->temp);
    TRY(world_agree(mine, e));
    world_broadcast(w->temp, sizeof w->temp);
    return ST_OK;
}

enum status ckpt__writer_open(struct checkpoint_writer *w, struct err *e)
{
    const struct ckpt__layout *l = w->layout;
    struct err why = { 0 };
    if (w->root)
        return h5_copy_image(&l->image, w->file.fd, w->path, l->structure.at, l->structure.n, e);
    if (dir_change(&w->in, w->temp, &w->fd, &why) == ST_OK)
        return ST_OK;
    return err_set(e, ST_IO, NULL, "%s", why.text); /* rank 0 has just made it */
}

enum status checkpoint_begin(const char *path, const struct checkpoint_info *info, const struct ir_graph *g,
                             struct checkpoint_writer **out, struct err *e)
{
    struct ckpt__layout *l;
    struct dir in;
    char name[DIR_NAME] = "";
    TRY(ckpt__layout_new(path, info, g, &l, e));
    enum status st = dir_of_path(path, &in, name, e);
    struct checkpoint_writer *w = ckpt__writer_new(l, &in, path);
    w->own_layout = true;
    st = ckpt__writer_begin(w, st, name, e);
    if (st == ST_OK)
        st = world_agree(ckpt__writer_open(w, e), e);
    if (st != ST_OK)
        ckpt__writer_free(w);
    else
        *out = w;
    return st;
}

static int fd_of(const struct checkpoint_writer *w)
{
    return w->root ? w->file.fd : w->fd;
}

/* data NULL: zeros. */
static enum status put_kind(struct checkpoint_writer *w, const struct checkpoint_piece *p, uint32_t kind,
                            const float *data, struct err *e)
{
    enum { ZEROS = 1024 };
    static const float zeros[ZEROS];
    const struct ckpt__layout *l = w->layout;
    struct block_hash *hash = w->hash + l->first_block[(uint64_t)kind * l->n_params + p->param];
    uint64_t end = p->first + p->count, to;
    for (uint64_t at = p->first; at < end; at = to) {
        uint64_t block = at / block_words;
        to = (block + 1) * block_words < end ? (block + 1) * block_words : end;
        if (!data && to - at > ZEROS)
            to = at + ZEROS;
        const float *from = data ? data + (at - p->first) : zeros;
        block_hash_add(&hash[block], from, (uint32_t)(to - at), (uint32_t)(at % block_words));
        uint64_t offset = l->place[p->param].data[kind] + at * 4;
        TRY(file_pwrite(fd_of(w), w->path, from, (to - at) * 4, offset, e));
        if (to - at == block_words) /* the disk begins now, not at the fsync; nothing is lost where it cannot */
            sync_file_range(fd_of(w), (off_t)offset, (off_t)block_bytes(), SYNC_FILE_RANGE_WRITE);
    }
    return ST_OK;
}

enum status checkpoint_put(struct checkpoint_writer *w, const struct checkpoint_piece *p, struct err *e)
{
    const float *data[CKPT_KINDS] = { p->data, p->m, p->v };
    for (uint32_t k = 0; k < w->layout->kinds; k++) {
        if (p->count && !data[k] && (k == CKPT_PARAM || !w->layout->place[p->param].state))
            return err_set(e, ST_BUG, "checkpoint", "a piece of parameter %" PRIu32 " has no data", p->param);
        TRY(put_kind(w, p, k, data[k], e));
    }
    return ST_OK;
}

enum status checkpoint_sync(struct checkpoint_writer *w, struct err *e)
{
    if (w->root) /* it stays open until it has its name */
        return fsync(w->file.fd) == 0 ? ST_OK
                                      : err_set(e, ST_IO, w->path, "cannot be synced to disk: %s", strerror(errno));
    int fd = w->fd;
    w->fd = -1;
    return file_sync_close(fd, w->path, e);
}

enum status ckpt__seal(struct checkpoint_writer *w, enum status mine, struct err *e)
{
    TRY(world_agree(mine, e));
    world_sum_u64(&w->hash[0].a, 2 * w->layout->blocks);
    return ST_OK;
}

/* The summed hashes go to their datasets; they are synced with the rest. */
enum status ckpt__publish(struct checkpoint_writer *w, struct err *e)
{
    const struct ckpt__layout *l = w->layout;
    if (!w->root)
        return ST_OK;
    for (uint32_t k = 0; k < l->kinds; k++)
        for (uint32_t i = 0; i < l->n_params; i++)
            TRY(file_pwrite(w->file.fd, w->path, w->hash + l->first_block[(uint64_t)k * l->n_params + i],
                            block_count(l->place[i].elements) * BLOCK_HASH_BYTES, l->place[i].hash[k], e));
    return dir_new_publish(&w->file, e);
}

enum status checkpoint_end(struct checkpoint_writer *w, enum status mine, struct err *e)
{
    enum status st = ckpt__seal(w, mine, e);
    if (st == ST_OK)
        st = world_agree(ckpt__publish(w, e), e);
    ckpt__writer_free(w);
    return st;
}
