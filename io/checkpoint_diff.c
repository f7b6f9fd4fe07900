#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/checkpoint_private.h"
#include "io/file.h"

struct comparison {
    const struct ckpt__file *a, *b;
    float *x, *y; /* a block each */
    struct checkpoint_differences *out;
    struct err *e;
};

static void compare_block(struct checkpoint_difference *d, const float *x, const float *y, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (memcmp(&x[i], &y[i], 4) == 0)
            continue;
        double by = isnan(x[i]) && isnan(y[i]) ? 0 : fabs((double)x[i] - (double)y[i]);
        d->differ++;
        d->most = isnan(by) || by > d->most ? (isnan(by) ? INFINITY : by) : d->most;
    }
}

static enum status compare_tensor(struct comparison *c, uint32_t param, uint32_t kind)
{
    const struct ckpt__place *pa = &c->a->place[param], *pb = &c->b->place[param];
    struct checkpoint_difference d = { .elements = pa->elements };
    for (uint64_t at = 0; at < pa->elements; at += block_words) {
        uint64_t n = pa->elements - at < block_words ? pa->elements - at : block_words;
        TRY(file_pread(c->a->fd, c->a->path, c->x, n * 4, pa->data[kind] + at * 4, c->e));
        TRY(file_pread(c->b->fd, c->b->path, c->y, n * 4, pb->data[kind] + at * 4, c->e));
        compare_block(&d, c->x, c->y, n);
    }
    if (d.differ) {
        const char *name = c->a->graph.params.at[param].name;
        d.name = mem_alloc(strlen(ckpt__group[kind]) + strlen(name) + 2);
        sprintf(d.name, "%s/%s", ckpt__group[kind], name);
        vec_add(c->out, d);
    }
    return ST_OK;
}

/* The count belongs to the moments. */
static struct checkpoint_difference compare_updates(const struct comparison *c)
{
    const uint64_t a = c->a->info.updates, b = c->b->info.updates;
    return (struct checkpoint_difference){ mem_strdup("optimizer/updates"), (double)(a > b ? a - b : b - a), 1, 1 };
}

static enum status compare_beyond(struct comparison *c)
{
    const struct ckpt__file *f = *c->a->info.beyond ? c->a : c->b;
    return *f->info.beyond
               ? err_set(c->e, ST_INPUT, f->path, "contains %s, which this build cannot compare", f->info.beyond)
               : ST_OK;
}

static enum status compare(struct comparison *c)
{
    char text[512];
    if (!ir_graph_same(&c->a->graph, &c->b->graph, text, sizeof text))
        return err_set(c->e, ST_INPUT, c->b->path, "is not of the same model as %s: %s", c->a->path, text);
    TRY(compare_beyond(c));
    uint32_t kinds = c->a->kinds < c->b->kinds ? c->a->kinds : c->b->kinds;
    c->x = mem_alloc(block_bytes());
    c->y = mem_alloc(block_bytes());
    enum status st = ST_OK;
    if (kinds > 1 && c->a->info.updates != c->b->info.updates)
        vec_add(c->out, compare_updates(c));
    for (uint32_t k = 0; k < kinds; k++)
        for (uint32_t i = 0; st == ST_OK && i < c->a->n; i++)
            st = compare_tensor(c, i, k);
    mem_free(c->x);
    mem_free(c->y);
    return st;
}

enum status checkpoint_diff(const char *a, const char *b, struct checkpoint_differences *out, struct err *e)
{
    struct ckpt__file fa, fb = { .fd = -1 };
    *out = (struct checkpoint_differences){ 0 };
    enum status st = ckpt__open_here(NULL, a, &fa, e);
    if (st == ST_OK)
        st = ckpt__open_here(NULL, b, &fb, e);
    if (st == ST_OK)
        st = compare(&(struct comparison){ .a = &fa, .b = &fb, .out = out, .e = e });
    ckpt__close(&fa);
    ckpt__close(&fb);
    if (st != ST_OK)
        checkpoint_differences_release(out);
    return st;
}

void checkpoint_differences_release(struct checkpoint_differences *d)
{
    for (uint32_t i = 0; i < d->n; i++)
        mem_free(d->at[i].name);
    vec_free(d);
}
