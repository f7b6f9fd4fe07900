/* The parameters of a checkpoint for those that compute with them and do not train. */
#include "io/checkpoint_private.h"
#include "io/file.h"
#include "io/model.h"

struct checkpoint_params {
    struct ckpt__file f;
    enum ir_dtype compute;
    char *path;
    float *block;
};

/* The digest is of the model and the type together. */
static enum ir_dtype compute_of(const struct ckpt__file *f)
{
    uint8_t digest[SHA256_BYTES];
    model_digest(&f->graph, IR_BF16, digest);
    return memcmp(digest, f->info.model_digest, sizeof digest) == 0 ? IR_BF16 : IR_F32;
}

enum status checkpoint_params_open(const struct dir *in, const char *path, struct ir_graph *g,
                                   struct checkpoint_params **out, struct err *e)
{
    struct checkpoint_params *p = mem_alloc(sizeof *p);
    p->path = mem_strdup(path);
    enum status st = ckpt__open_here(in, p->path, &p->f, e);
    if (st != ST_OK) {
        checkpoint_params_close(p);
        return st;
    }
    p->compute = compute_of(&p->f);
    p->block = mem_alloc(block_bytes());
    *g = p->f.graph;
    p->f.has_graph = false;
    *out = p;
    return ST_OK;
}

const struct checkpoint_info *checkpoint_params_info(const struct checkpoint_params *p)
{
    return &p->f.info;
}

enum ir_dtype checkpoint_params_compute(const struct checkpoint_params *p)
{
    return p->compute;
}

enum status checkpoint_params_read(const struct checkpoint_params *p, uint32_t param, const struct checkpoint_sink *to,
                                   struct err *e)
{
    const uint64_t elements = p->f.place[param].elements;
    for (uint64_t first = 0; first < elements; first += block_words) {
        const uint64_t n = elements - first < block_words ? elements - first : block_words;
        TRY(ckpt__read_block(&p->f, param, CKPT_PARAM, first, p->block, e));
        TRY(to->put(to->self,
                    &(struct checkpoint_piece){ .param = param, .first = first, .count = n, .data = p->block }, e));
    }
    return ST_OK;
}

void checkpoint_params_close(struct checkpoint_params *p)
{
    ckpt__close(&p->f);
    mem_free(p->path);
    mem_free(p->block);
    mem_free(p);
}
