/* bench_checkpoint [FOLDER [TURNS]]: how fast checkpoints are written, against a plain parallel write of as many bytes. The
 * model is GPT-2 124M with its moments, shared out evenly; each turn writes a checkpoint and then the same bytes of every
 * rank with pwrite into one new file, with fsync. Prints every turn and the medians. Not part of make check:
 *     make tests/mpi/bench_checkpoint && mpirun -n 4 tests/mpi/bench_checkpoint FOLDER */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "io/checkpoint.h"
#include "io/model.h"
#include "comm/world.h"
#include "ir/family/family.h"

enum { MOST_TURNS = 99, PART = 1 << 20 };

static const char model[] = "{\"model_type\":\"gpt2\",\"vocab_size\":50257,\"n_embd\":768,\"n_layer\":12,\"n_head\":12,"
                            "\"n_positions\":1024}";

static _Noreturn void fail(const char *text)
{
    fprintf(stderr, "bench_checkpoint: %s\n", text);
    world_abort(1);
}

static void build(struct ir_graph *g)
{
    struct err e = { 0 };
    struct notices notices;
    json_t *json;
    notices_init(&notices);
    ir_graph_init(g);
    if (js_load_text(model, "gpt2", &json, &e) != ST_OK || ir_family_build(json, "gpt2", 64, g, &notices, &e) != ST_OK)
        fail(e.text);
    notices_release(&notices);
    json_decref(json);
}

/* Equal stretches of every tensor. Returns the bytes of this rank. */
static uint64_t share(const struct ir_graph *g, struct checkpoint_piece *pieces)
{
    uint64_t rank = world_rank(), size = world_size(), bytes = 0;
    for (uint32_t i = 0; i < g->params.n; i++) {
        uint64_t n = ir_shape_elements(&g->params.at[i].shape), first = n * rank / size;
        pieces[i] = (struct checkpoint_piece){ .param = i, .first = first, .count = n * (rank + 1) / size - first };
        float **to[3] = { &pieces[i].data, &pieces[i].m, &pieces[i].v };
        for (int k = 0; k < 3; k++) {
            *to[k] = mem_alloc(pieces[i].count * 4);
            for (uint64_t j = 0; j < pieces[i].count; j++)
                (*to[k])[j] = (float)(i + j + (uint64_t)k);
            bytes += pieces[i].count * 4;
        }
    }
    return bytes;
}

/* The pieces of a rank one behind the other, those of a higher rank after those of a lower one. */
static void plain_write(const char *path, const struct checkpoint_piece *p, uint32_t n, uint64_t at)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    if (fd < 0)
        fail(strerror(errno));
    for (uint32_t i = 0; i < n; i++) {
        const float *data[3] = { p[i].data, p[i].m, p[i].v };
        for (int k = 0; k < 3; k++)
            for (uint64_t done = 0, part; done < p[i].count * 4; done += part, at += part) {
                part = p[i].count * 4 - done < PART ? p[i].count * 4 - done : PART;
                if (pwrite(fd, (const char *)data[k] + done, part, (off_t)at) != (ssize_t)part)
                    fail(strerror(errno));
            }
    }
    if (fsync(fd) != 0 || close(fd) != 0)
        fail(strerror(errno));
}

static void save(struct checkpoint_saver *s, uint64_t step)
{
    struct err e = { 0 };
    checkpoint_save_begin(s, step, step, step);
    for (bool done = false; !done;)
        if (checkpoint_save_advance(s, &done, &e) != ST_OK)
            fail(e.text);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_size);
    return x[n / 2];
}

static void run(const char *folder, int turns, struct checkpoint_saver *s, const struct checkpoint_piece *pieces,
                uint32_t n, uint64_t mine)
{
    uint64_t *all = mem_alloc(world_size() * sizeof *all), first = 0, bytes = 0;
    double took[2][MOST_TURNS];
    char path[4096];
    snprintf(path, sizeof path, "%s/plain", folder);
    world_all_gather(&mine, sizeof mine, all);
    for (uint32_t r = 0; r < world_size(); r++) {
        first += r < world_rank() ? all[r] : 0;
        bytes += all[r];
    }
    for (int turn = 0; turn < turns; turn++) {
        for (int plain = 0; plain < 2; plain++) {
            sync(); /* what earlier turns have left */
            world_barrier();
            double begin = clock_now();
            if (plain)
                plain_write(path, pieces, n, first);
            else
                save(s, (uint64_t)turn + 1);
            world_barrier();
            took[plain][turn] = clock_now() - begin;
            if (plain && world_rank() == 0)
                unlink(path);
        }
        if (world_rank() == 0)
            printf("turn %d: checkpoint %.3f s, plain write and fsync %.3f s\n", turn + 1, took[0][turn],
                   took[1][turn]);
    }
    double mb = (double)bytes / 1e6, a = median(took[0], turns), b = median(took[1], turns);
    if (world_rank() == 0)
        printf("%u ranks, %.0f MB: checkpoint %.0f MB/s, plain write and fsync %.0f MB/s: %.0f%%\n", world_size(), mb,
               mb / a, mb / b, 100 * b / a);
    mem_free(all);
}

int main(int argc, char **argv)
{
    struct ir_graph g;
    struct err e = { 0 };
    struct checkpoint_saver *s;
    if (world_init(&argc, &argv, &e) != ST_OK)
        fail(e.text);
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *folder = argc > 1 ? argv[1] : ".";
    int turns = argc > 2 ? atoi(argv[2]) : 7;
    turns = turns < 1 ? 1 : turns > MOST_TURNS ? MOST_TURNS : turns;
    if (world_rank() == 0)
        mkdir(folder, 0777);
    world_barrier();
    struct dir run_folder;
    if (dir_open(folder, &run_folder, &e) != ST_OK)
        fail(e.text);
    build(&g);
    struct checkpoint_piece *pieces = mem_alloc(g.params.n * sizeof *pieces);
    uint64_t mine = share(&g, pieces);
    struct checkpoint_setup setup = { .dir = &run_folder,
                                      .graph = &g,
                                      .info = { .optimizer = "adamw", .build = "bench" },
                                      .keep = { .last = 1 },
                                      .loaded = UINT64_MAX,
                                      .pieces = pieces,
                                      .n_pieces = g.params.n };
    model_digest(&g, IR_F32, setup.info.model_digest);
    if (checkpoint_saver_open(&setup, &s, &e) != ST_OK)
        fail(e.text);
    run(folder, turns, s, pieces, g.params.n, mine);
    checkpoint_saver_close(s);
    dir_close(&run_folder);
    for (uint32_t i = 0; i < g.params.n; i++) {
        mem_free(pieces[i].data);
        mem_free(pieces[i].m);
        mem_free(pieces[i].v);
    }
    mem_free(pieces);
    ir_graph_release(&g);
    world_finalize();
    return 0;
}
