/* peak [SIZE [SECONDS]]: what the device can do, measured: the best rate of square bfloat16 products of SIZE (default 16384), half and
 * a quarter of it, by the library and the algorithm that training uses, and of copies from its memory to its memory. Each is
 * repeated without a pause until it took SECONDS (2), so that clocks are those of long work; operands are random, since zeros
 * draw less power. Prints
 *
 *     product SIZE FLOP/S
 *     copy BYTES BYTES/S      (read and written)
 *     peak FLOP/S
 *     bandwidth BYTES/S */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "base/mem.h"
#include "cuda/matmul.h"
#include "num/machine.h"
#include "base/number.h"

enum { WORK = 32 << 20 };

static const struct machine *narrow(void)
{
    for (size_t i = 0; machines[i]; i++)
        if (machines[i]->compute == IR_BF16)
            return machines[i];
    abort();
}

struct bench {
    const struct machine *m;
    struct cuda_matmul product;
    void *from, *to;
    size_t bytes; /* of a copy */
};

/* From and to the device; where there is none that has memory of its own (tests), on the host. */
static void put(const struct machine *m, void *to, const void *from, size_t bytes)
{
    if (m->put)
        m->put(to, from, bytes);
    else
        memcpy(to, from, bytes);
}

static void *take(const struct machine *m, size_t bytes)
{
    void *p = m->alloc ? m->alloc(bytes) : aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!p)
        process_fail(ST_DEVICE, "there is no memory for the operands: give a smaller size");
    return p;
}

static void multiply(const struct bench *b)
{
    cuda_matmul(&b->product);
}

static void copy(const struct bench *b)
{
    put(b->m, b->to, b->from, b->bytes);
}

static void wait(const struct bench *b)
{
    uint16_t one;
    if (b->m->get)
        b->m->get(&one, b->product.c, sizeof one);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void give(const struct machine *m, void *p)
{
    if (m->free)
        m->free(p);
    else
        free(p);
}

/* Of one call, where many of them follow each other for `least` seconds. */
static double seconds_of(void (*call)(const struct bench *), const struct bench *b, double least)
{
    call(b);
    wait(b);
    for (uint64_t n = 1;; n *= 2) {
        const double from = now();
        for (uint64_t i = 0; i < n; i++)
            call(b);
        wait(b);
        const double took = now() - from;
        if (took >= least)
            return took / (double)n;
    }
}

static double product_rate(struct bench *b, uint64_t size, double least)
{
    struct err e = { 0 };
    b->product.m = b->product.n = b->product.k = b->product.a.ld = b->product.b.ld = b->product.ldc = size;
    if (cuda_matmul_prepare(&b->product, true, &e) != ST_OK)
        process_fail(e.status, e.text);
    const double rate = 2 * (double)size * (double)size * (double)size / seconds_of(multiply, b, least);
    printf("product %llu %.4e\n", (unsigned long long)size, rate);
    return rate;
}

int main(int argc, char **argv)
{
    const uint64_t size = argc > 1 ? strtoull(argv[1], NULL, 10) : 16384;
    const double least = argc > 2 ? strtod(argv[2], NULL) : 2;
    if (size < 32 || size > 65536 || !(least > 0)) {
        fprintf(stderr, "usage: peak [SIZE [SECONDS]], SIZE from 32 to 65536\n");
        return 64;
    }
    const size_t bytes = size * size * sizeof(uint16_t);
    /* put() waits for each copy, so one is long */
    struct bench b = { .m = narrow(), .bytes = 8 * bytes };
    struct err e = { 0 };
    struct rng r = { 1 };
    b.m->setup();
    cuda__matmul_close();
    if (cuda__matmul_open(NULL, "", b.m->stream, &e) != ST_OK)
        process_fail(e.status, e.text);
    cuda__matmul_choose(true);
    uint16_t *host = mem_alloc(bytes);
    for (uint64_t i = 0; i < size * size; i++)
        host[i] = number_to_bf16((float)rng_next(&r) * 0x1p-63f - 1);
    void *a = take(b.m, bytes), *c = take(b.m, bytes), *second = take(b.m, bytes);
    b.product = (struct cuda_matmul){ .batch = 1,
                                      .a.at = a,
                                      .b.at = second,
                                      .c = c,
                                      .alpha = 1,
                                      .type = IR_BF16,
                                      .out = IR_BF16,
                                      .work = take(b.m, WORK),
                                      .work_bytes = WORK,
                                      .stream = b.m->stream };
    b.from = take(b.m, b.bytes);
    b.to = take(b.m, b.bytes);
    put(b.m, a, host, bytes);
    put(b.m, second, host, bytes);
    double best = 0;
    for (uint64_t s = size / 4; s <= size; s *= 2) {
        const double rate = product_rate(&b, s, least);
        best = rate > best ? rate : best;
    }
    const double bandwidth = 2 * (double)b.bytes / seconds_of(copy, &b, least);
    printf("copy %zu %.4e\npeak %.4e\nbandwidth %.4e\n", b.bytes, bandwidth, best, bandwidth);
    void *const taken[] = { a, c, second, b.from, b.to, b.product.work };
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        give(b.m, taken[i]);
    mem_free(host);
    cuda__matmul_close();
    return EXIT_SUCCESS;
}
