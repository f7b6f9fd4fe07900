/* The communication back ends and ctl, on as many ranks as it is started with: `test_comm null|mpi`; `mismatch`: two
 * that disagree about the size of what they exchange. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "comm/mpi_private.h"
#include "test_comm.h"

int failures;

uint32_t mix(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    uint64_t x = ((uint64_t)a << 32 | b) ^ ((uint64_t)d << 40 | c) * UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i < 2; i++) {
        x = (x ^ x >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
        x ^= x >> 29;
    }
    return (uint32_t)(x >> 32);
}

void bench_open(struct bench *t, const struct comm_backend *b, const struct comm_channel *channels, uint32_t n_channels,
                uint32_t n_channels_world, uint32_t n_streams, uint32_t max_calls, uint32_t n_events)
{
    struct err e = { 0 };
    *t = (struct bench){ .b = b,
                         .setup = { .channels = channels,
                                    .n_channels = n_channels,
                                    .n_channels_world = n_channels_world,
                                    .n_streams = n_streams,
                                    .max_calls = max_calls,
                                    .events = { .at = mem_alloc(n_events * sizeof(uint32_t)),
                                                .n = n_events,
                                                .times = mem_alloc(2 * n_events * sizeof(double)) } } };
    EXPECT(b->open(&t->setup, &t->c, &e) == ST_OK);
    if (!t->c) {
        fprintf(stderr, "%s\n", e.text);
        world_abort(1);
    }
}

void bench_close(struct bench *t)
{
    t->b->close(t->c);
    mem_free(t->setup.events.at);
    mem_free(t->setup.events.times);
}

void bench_begin(struct bench *t)
{
    t->b->begin(t->c, ++t->epoch);
}

void bench_mark(struct bench *t, uint32_t event, bool notify)
{
    atomic_store_explicit(&t->setup.events.at[event], t->epoch, memory_order_release);
    if (notify)
        t->b->notify(t->c);
}

bool bench_happened(const struct bench *t, uint32_t event)
{
    return atomic_load_explicit(&t->setup.events.at[event], memory_order_acquire) == t->epoch;
}

/* ---- sums -------------------------------------------------------------------------------------------------------- */

/* Terms of mixed sign and size, so that another order of summing gives other bits. */
static float term(uint32_t rank, uint64_t i)
{
    uint32_t x = mix(rank, (uint32_t)i, 3, 4);
    return ((float)(x >> 8) - 8388608.0f) * (x & 1 ? 1.0f : 1e-4f);
}

static void expect_member_order(const float *got, uint64_t first, uint64_t n, bool backwards)
{
    uint32_t p = world_size();
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < n; i++) {
        float sum = term(backwards ? p - 1 : 0, first + i);
        for (uint32_t m = 1; m < p; m++)
            sum += term(backwards ? p - 1 - m : m, first + i);
        wrong += memcmp(&sum, &got[i], sizeof sum) != 0;
    }
    EXPECT(wrong == 0);
}

static void expect_same_everywhere(const void *data, uint64_t bytes)
{
    uint64_t hash = 1469598103934665603u, all[64];
    for (uint64_t i = 0; i < bytes; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    world_all_gather(&hash, sizeof hash, all);
    for (uint32_t r = 0; r < world_size(); r++)
        EXPECT(all[r] == hash);
}

/* All-reduce and reduce-scatter give the bits of the sum in the order of the members, whatever the size, the place of
 * the element, or the buffers. */
static void test_bits(const struct comm_backend *b)
{
    static const uint64_t sizes[] = { 0, 1, 2, 7, 1000, 4096, 100003, (1 << 20) + 5 };
    uint32_t p = world_size(), backwards[8];
    for (uint32_t i = 0; i < p; i++)
        backwards[i] = p - 1 - i;
    struct comm_channel channels[] = { { 0, { 0, 1, p, NULL }, 0 }, { 1, { 0, 0, p, backwards }, 1 } };
    struct bench t;
    bench_open(&t, b, channels, 2, 2, 2, 4, 4);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        uint64_t n = sizes[k], block = n / p;
        float *x = mem_alloc(n * sizeof *x), *y = mem_alloc(n * sizeof *y), *z = mem_alloc(n * sizeof *z);
        for (uint64_t i = 0; i < n; i++)
            x[i] = y[i] = term(world_rank(), i);
        struct comm_call call = { .op = COMM_ALL_REDUCE, .src = y, .dst = y, .count = n };
        bench_begin(&t);
        t.b->launch(t.c, &call);
        call = (struct comm_call){
            .op = COMM_ALL_REDUCE, .src = x, .dst = z, .count = n, .stream = 1, .channel = 1, .event = 1
        };
        t.b->launch(t.c, &call);
        t.b->drain(t.c);
        expect_member_order(y, 0, n, false);
        expect_member_order(z, 0, n, true);
        expect_same_everywhere(y, n * sizeof *y);
        call = (struct comm_call){ .op = COMM_REDUCE_SCATTER, .src = x, .dst = z, .count = block, .event = 2 };
        t.b->launch(t.c, &call);
        t.b->wait(t.c, 2);
        expect_member_order(z, world_rank() * block, block, false);
        mem_free(x);
        mem_free(y);
        mem_free(z);
    }
    bench_close(&t);
}

/* A rank alone in its group has no terms of others: it needs no scratch, and the compiler plans none. */
static void test_alone(const struct comm_backend *b)
{
    void *const scratch[] = { NULL };
    const uint64_t scratch_bytes[] = { 0 };
    const float x[3] = { 1, 2, 3 };
    float y[3] = { 0 }, z[3] = { 0 };
    struct comm_channel own = { world_rank(), { world_rank(), 1, 1, NULL }, 0 };
    struct comm_call all = { .op = COMM_ALL_REDUCE, .src = x, .dst = y, .count = 3 };
    struct comm_call part = { .op = COMM_REDUCE_SCATTER, .src = x, .dst = z, .count = 3, .event = 1 };
    struct bench t;
    struct err e = { 0 };
    bench_open(&t, b, &own, 1, world_size(), 1, 2, 2);
    b->close(t.c);
    t.setup.scratch = scratch;
    t.setup.scratch_bytes = scratch_bytes;
    EXPECT(b->open(&t.setup, &t.c, &e) == ST_OK);
    bench_begin(&t);
    b->launch(t.c, &all);
    b->launch(t.c, &part);
    b->drain(t.c);
    EXPECT(!memcmp(x, y, sizeof x) && !memcmp(x, z, sizeof x));
    bench_close(&t);
}

/* Every rank sends to the next and receives from the one before at once, then adds what came on the same stream. */
static void test_exchange(const struct comm_backend *b)
{
    static const uint64_t sizes[] = { 0, 1, 1000, (1 << 20) + 5 };
    uint32_t p = world_size(), me = world_rank(), before = (me + p - 1) % p;
    if (p == 1)
        return;
    struct comm_channel channel = { 0, { 0, 1, p, NULL }, 0 };
    struct bench t;
    bench_open(&t, b, &channel, 1, 1, 1, 4, 4);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        uint64_t n = sizes[k], wrong = 0;
        float *x = mem_alloc(n * sizeof *x), *y = mem_alloc(n * sizeof *y), *sum = mem_alloc(n * sizeof *sum);
        for (uint64_t i = 0; i < n; i++)
            x[i] = term(me, i);
        struct comm_call call = { .op = COMM_EXCHANGE,
                                  .src = x,
                                  .dst = y,
                                  .count = n,
                                  .channel = UINT32_MAX,
                                  .peer = (me + 1) % p,
                                  .from = before,
                                  .tag = 7 };
        bench_begin(&t);
        t.b->launch(t.c, &call);
        call = (struct comm_call){
            .op = COMM_ADD, .src = y, .dst = sum, .count = n, .channel = UINT32_MAX, .replace = 1, .event = 1
        };
        t.b->launch(t.c, &call);
        call =
            (struct comm_call){ .op = COMM_ADD, .src = x, .dst = sum, .count = n, .channel = UINT32_MAX, .event = 2 };
        t.b->launch(t.c, &call);
        t.b->drain(t.c);
        for (uint64_t i = 0; i < n; i++)
            wrong += y[i] != term(before, i) || sum[i] != term(before, i) + term(me, i);
        EXPECT(wrong == 0);
        mem_free(x);
        mem_free(y);
        mem_free(sum);
    }
    bench_close(&t);
}

/* ---- order and progress ------------------------------------------------------------------------------------------ */

static void test_order(const struct comm_backend *b)
{
    struct comm_channel channels[] = { { 0, { 0, 1, world_size(), NULL }, 0 }, { 1, { 0, 1, world_size(), NULL }, 1 } };
    struct bench t;
    bench_open(&t, b, channels, 2, 2, 2, 8, 8);
    for (int step = 0; step < 50; step++) {
        float x[3] = { 1, 1, 1 };
        uint32_t own = 7, first = 0;
        struct comm_call held = {
            .op = COMM_ALL_REDUCE, .src = &x[0], .dst = &x[0], .count = 1, .waits = &own, .n_waits = 1
        };
        struct comm_call behind = { .op = COMM_ALL_REDUCE, .src = &x[1], .dst = &x[1], .count = 1, .event = 1 };
        struct comm_call beside = {
            .op = COMM_ALL_REDUCE, .src = &x[2], .dst = &x[2], .count = 1, .event = 2, .stream = 1, .channel = 1
        };
        struct comm_call across = beside;
        across.event = 3;
        across.waits = &first;
        across.n_waits = 1;
        bench_begin(&t);
        t.b->launch(t.c, &held);
        t.b->launch(t.c, &behind);
        t.b->launch(t.c, &beside);
        t.b->launch(t.c, &across);
        t.b->wait(t.c, 2);
        if (step % 10 == 0)
            usleep(2000);
        EXPECT(!bench_happened(&t, 0) && !bench_happened(&t, 1) && !bench_happened(&t, 3));
        bench_mark(&t, own, step % 2);
        if (step % 4 == 1) /* no waiting: notify alone gets it going */
            for (int i = 0; i < 20000 && !bench_happened(&t, 3); i++)
                usleep(100);
        else
            t.b->wait(t.c, 3);
        EXPECT(bench_happened(&t, 0) && bench_happened(&t, 3));
        t.b->wait(t.c, 1);
        t.b->drain(t.c);
        const double *times = t.setup.events.times;
        EXPECT(times[0] > 0 && times[0] <= times[1] && times[1] <= times[2] && times[2] <= times[3]); /* one stream */
        EXPECT(times[6] >= times[1] && times[6] >= times[5] && times[7] >= times[6]); /* waits, stream */
        float p = (float)world_size();
        EXPECT(x[0] == p && x[1] == p && x[2] == p * p);
    }
    bench_close(&t);
}

/* An all-reduce of 16 MiB gets done while the main thread only computes. */
static void test_overlap(const struct comm_backend *b)
{
    enum { N = 4 << 20 };
    struct comm_channel channel = { 0, { 0, 1, world_size(), NULL }, 0 };
    struct bench t;
    bench_open(&t, b, &channel, 1, 1, 1, 1, 1);
    float *x = mem_alloc(N * sizeof *x);
    for (uint32_t i = 0; i < N; i++)
        x[i] = 1;
    struct comm_call call = { .op = COMM_ALL_REDUCE, .src = x, .dst = x, .count = N };
    world_barrier();
    bench_begin(&t);
    t.b->launch(t.c, &call);
    volatile double sink = 0;
    for (double end = clock_now() + 20; !bench_happened(&t, 0) && clock_now() < end;)
        for (int i = 0; i < 10000; i++)
            sink = sink * 0.5 + i;
    EXPECT(bench_happened(&t, 0));
    t.b->drain(t.c);
    for (uint32_t i = 0; i < N; i += 4097)
        EXPECT(x[i] == (float)world_size());
    mem_free(x);
    bench_close(&t);
}

/* A small message on an emulated link: sent when it is received, done `least` after that at both ends; a stream beside it goes
 * on. */
static void test_least(const struct comm_backend *b)
{
    static const double late = 0.1, least = 0.05;
    uint32_t rank = world_rank(), peer = rank ^ 1;
    float x[2] = { 0 }, y[2] = { 1, 2 };
    struct bench t;
    if (!b->queues)
        return;
    bench_open(&t, b, NULL, 0, 0, 2, 2, 2);
    struct comm_call add = {
        .op = COMM_ADD, .stream = 1, .channel = UINT32_MAX, .src = y, .dst = x, .count = 1, .event = 1
    };
    struct comm_call call = { .op = rank % 2 ? COMM_RECV : COMM_SEND,
                              .channel = UINT32_MAX,
                              .peer = peer,
                              .src = y,
                              .dst = x + 1,
                              .count = 1,
                              .least = least };
    if (peer >= world_size()) { /* the last of an odd number: a local call takes its time too */
        call = add;
        call.stream = call.event = 0;
        call.least = least;
    }
    for (double until = clock_now() + late; rank % 2 && clock_now() < until;) {
    }
    double mine = clock_now(), *launched = mem_alloc(world_size() * sizeof *launched);
    bench_begin(&t);
    t.b->launch(t.c, &call);
    t.b->launch(t.c, &add);
    t.b->wait(t.c, 1);
    bool alone = !bench_happened(&t, 0) || clock_now() > mine + least;
    t.b->wait(t.c, 0);
    double done = clock_now();
    t.b->drain(t.c);
    world_all_gather(&mine, sizeof mine, launched); /* one clock: the ranks are on one machine */
    EXPECT(alone);
    EXPECT(done >= mine + least && (peer >= world_size() || done >= launched[peer] + least));
    mem_free(launched);
    EXPECT(!(rank % 2) || x[1] == 1);
    bench_close(&t);
}

/* ---- opening and control ----------------------------------------------------------------------------------------- */

static void test_bad_setup(const struct comm_backend *b)
{
    struct comm_channel channel = { 0, { 0, 1, world_size(), NULL }, 0 };
    struct comm_setup setup = { .channels = &channel, .n_channels = 1, .n_channels_world = 1, .n_streams = 1 };
    struct comm *c = NULL;
    struct err e = { 0 };
    if (world_rank() == world_size() - 1)
        channel.stream = 5;
    EXPECT(b->open(&setup, &c, &e) == ST_BUG);
    EXPECT(!c && strstr(e.text, "stream 5"));
}

static void test_agree(void)
{
    uint32_t last = world_size() - 1, rank = world_rank();
    struct err e = { 0 };
    EXPECT(world_agree(ST_OK, &e) == ST_OK && e.status == ST_OK);
    enum status mine = rank == last ? err_set(&e, ST_MISSING, "f", "rank %u", rank) : ST_OK;
    char expected[32];
    snprintf(expected, sizeof expected, "f: rank %u", last);
    EXPECT(world_agree(mine, &e) == ST_MISSING && e.status == ST_MISSING && !strcmp(e.text, expected));
    err_clear(&e);
    mine = err_set(&e, rank == 0 ? ST_INPUT : ST_IO, NULL, "I am %u", rank);
    EXPECT(world_agree(mine, &e) == ST_INPUT && !strcmp(e.text, "I am 0"));
    err_clear(&e);
    EXPECT(world_agree(ST_IO, &e) == ST_IO && strstr(e.text, "rank 0"));
    EXPECT(world_agree(rank == last ? ST_DEVICE : ST_OK, NULL) == ST_DEVICE);
}

static void expect_bytes(const unsigned char *p, uint64_t n, uint32_t salt)
{
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < n; i++)
        wrong += p[i] != (unsigned char)(i * 7 + salt);
    EXPECT(wrong == 0);
}

static unsigned char *make_bytes(uint64_t n, uint32_t salt)
{
    unsigned char *p = mem_alloc(n);
    for (uint64_t i = 0; i < n; i++)
        p[i] = (unsigned char)(i * 7 + salt);
    return p;
}

static void test_broadcast(void)
{
    static const uint64_t sizes[] = { 0, 1, 40, 41, 100003 };
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        void *data = world_rank() == 0 ? make_bytes(sizes[k], 3) : NULL;
        uint64_t size = world_rank() == 0 ? sizes[k] : 0;
        world_share_from(0, &data, &size);
        EXPECT(size == sizes[k]);
        expect_bytes(data, size, 3);
        mem_free(data);
    }
}

/* Classes by rank modulo 1, 2, 3 and in blocks; one class may be empty, and rank 0's need not be the first. */
static void test_scatter(void)
{
    for (uint32_t way = 0; way < 5; way++) {
        uint32_t class_of[64], n_classes = 5;
        uint64_t sizes[5];
        void *blobs[5], *mine = NULL;
        for (uint32_t r = 0; r < world_size(); r++)
            class_of[r] = way == 0   ? 4
                          : way == 1 ? (r + 1) % 2
                          : way == 2 ? r % 3
                          : way == 3 ? r / 2
                                     : (world_size() - 1 - r) / 2;
        for (uint32_t k = 0; k < n_classes; k++) {
            sizes[k] = k == 1 ? 0 : 1000 * k + 17;
            blobs[k] = world_rank() == 0 ? make_bytes(sizes[k], k) : NULL;
        }
        uint64_t size = 99;
        bool root = world_rank() == 0;
        world_scatter(&(struct world_classes){ class_of, n_classes, root ? blobs : NULL, root ? sizes : NULL }, &mine,
                      &size);
        EXPECT(size == sizes[class_of[world_rank()]]);
        expect_bytes(mine, size, class_of[world_rank()]);
        mem_free(mine);
        for (uint32_t k = 0; k < n_classes; k++)
            mem_free(blobs[k]);
    }
}

static void test_numbers(void)
{
    uint32_t p = world_size(), r = world_rank(), all[64];
    uint64_t most[2] = { r, 100 - r };
    double sum[2] = { r + 0.5, -1 };
    world_max_u64(most, 2);
    EXPECT(most[0] == p - 1 && most[1] == 100);
    uint64_t many[11];
    for (uint64_t i = 0; i < 11; i++)
        many[i] = i + r;
    world_sum_u64(many, 11);
    for (uint64_t i = 0; i < 11; i++)
        EXPECT(many[i] == p * i + p * (p - 1) / 2);
    world_sum_f64(sum, 2);
    EXPECT(sum[0] == p * (p - 1) / 2.0 + 0.5 * p && sum[1] == -(double)p);
    uint32_t mine = r * r;
    world_all_gather(&mine, sizeof mine, all);
    for (uint32_t i = 0; i < p; i++)
        EXPECT(all[i] == i * i);
    uint64_t bytes[64];
    void *out[64];
    for (uint32_t i = 0; i < p; i++)
        bytes[i] = i % 3 * 50;
    void *own = make_bytes(bytes[r], r);
    world_collect(own, bytes, out);
    mem_free(own);
    for (uint32_t i = 0; r == 0 && i < p; i++) {
        expect_bytes(out[i], bytes[i], i);
        mem_free(out[i]);
    }
    for (uint32_t i = 1; i < p; i++) {
        void *passed = r == i ? make_bytes(100, i) : r == 0 ? mem_alloc(100) : NULL;
        if (r == i || r == 0)
            world_pass(passed, 100, i, 0);
        if (r == 0)
            expect_bytes(passed, 100, i);
        mem_free(passed);
    }
    double before = clock_now();
    world_barrier();
    EXPECT(clock_now() >= before);
}

/* Two ranks whose plans disagree about a size: ends with exit status 76 and a sentence. */
static void mismatch(bool pair, uint64_t bytes)
{
    char from[256] = { 0 }, to[256] = { 0 };
    struct comm_channel channel = { 0, { 0, 1, 2, NULL }, 0 };
    struct bench t;
    bench_open(&t, &comm_mpi, &channel, 1, 1, 1, 1, 1);
    bench_begin(&t);
    struct comm_call call = { .op = !pair          ? COMM_ALL_TO_ALL
                                    : world_rank() ? COMM_RECV
                                                   : COMM_SEND,
                              .type = COMM_BYTE,
                              .channel = pair ? UINT32_MAX : 0,
                              .peer = world_rank() ^ 1,
                              .src = from,
                              .dst = to,
                              .count = bytes };
    t.b->launch(t.c, &call);
    t.b->drain(t.c);
    sleep(30);
}

static void all_tests(const struct comm_backend *b)
{
    const struct comm__limits normal = comm__limits;
    const uint64_t message = comm__message;
    test_agree();
    test_numbers();
    test_broadcast();
    test_scatter();
    test_random(b, "normal");
    test_order(b);
    test_bits(b);
    test_alone(b);
    test_exchange(b);
    test_overlap(b);
    test_least(b);
    test_bad_setup(b);
    comm__limits = (struct comm__limits){ .scratch = 200, .small = 64, .direct = 64 };
    comm__message = 40;
    test_numbers();
    test_broadcast();
    test_scatter();
    test_random(b, "lowered");
    comm__limits = normal;
    comm__message = message;
    comm__limits.direct = 2;
    test_random(b, "wide");
    comm__message = 40;
    test_random(b, "Wide, lowered");
    comm__limits = normal;
    comm__message = message;
    comm__limits.scratch = 4096;
    test_bits(b);
    test_exchange(b);
    comm__limits = normal;
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    if (world_init(&argc, &argv, &e) != ST_OK || argc < 2) {
        fprintf(stderr, "test_comm null|mpi|mismatch pair|all BYTES BYTES: %s\n", e.text);
        return 64;
    }
    EXPECT(!comm_backend_by_name("carrier pigeon"));
    EXPECT(comm_backend_by_name("mpi") == &comm_mpi && comm_backend_by_name("null") == &comm_null);
    if (argc == 5 && world_rank() < 2)
        mismatch(!strcmp(argv[2], "pair"), strtoull(argv[3 + world_rank()], NULL, 10));
    else if (!strcmp(argv[1], "null"))
        test_random(&comm_null, "null");
    else
        all_tests(&comm_mpi);
    uint64_t failed = (uint64_t)failures;
    world_max_u64(&failed, 1);
    world_finalize();
    EXPECT(mem_stats().live_bytes == 0);
    return failed || failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
