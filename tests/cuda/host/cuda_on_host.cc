/* Fibers, barriers, warps and shared memory of cuda_runtime.h. */
#include "cuda_runtime.h"

#include <deque>
#include <stdio.h>
#include <stdlib.h>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace
{
constexpr unsigned MAX_THREADS = 1024, LANES = 32, STACK = 1 << 16, MAX_SHARED = 163 << 10, ZONE = 64;
constexpr int MARK = 0xa5, POISON = 0xff;
enum state { READY, AT_WARP, AT_BLOCK, DONE };

struct fiber {
    void *sp;
    unsigned char *stack;
    enum state state;
    unsigned phase; /* AT_WARP: the operation that it waits for */
};

struct copy {
    void *to;
    const void *from; /* NULL: zeros */
};

struct warp {
    unsigned phase, arrived;
    uint64_t slot[2][LANES]; /* by parity of phase: a lane may be one operation ahead of one that has not read yet */
};

fiber fibers[MAX_THREADS];
warp warps[MAX_THREADS / LANES];
std::deque<std::deque<copy>> copies[MAX_THREADS]; /* under way, by group; the last one is open */
void *scheduler_sp;
unsigned current, threads;
uint64_t block_number;
const host_launch *running;
size_t static_shared; /* bytes of this block's declarations so far */
unsigned char dynamic_shared[MAX_SHARED + ZONE] __attribute__((aligned(128)));
int backwards;
unsigned long launches;

/* Half of the time goes into passing from lane to lane: not looked at by sanitizers, as kernels are. */
#define UNSANITIZED __attribute__((no_sanitize("address", "undefined")))

[[noreturn]] void stop(const char *what)
{
    fprintf(stderr, "kernel %s, block %u, thread %u: %s\n", running ? running->name : "?", blockIdx.x, current, what);
    abort();
}

/* ---- switching: the callee-saved registers lie on the stack that is left ------------------------------------------- */

#if defined(__x86_64__)
extern "C" void host_cuda_switch(void **save, void *to);
asm(".text\n.globl host_cuda_switch\n.type host_cuda_switch,@function\nhost_cuda_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size host_cuda_switch,.-host_cuda_switch\n");

void *first_frame(unsigned char *stack, void (*entry)())
{
    void **top = reinterpret_cast<void **>(stack + STACK - 64); /* after ret the stack is 8 off 16, as after a call */
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    return top;
}
#else
#include <ucontext.h>
void host_cuda_switch(void **save, void *to)
{
    ucontext_t here;
    *save = &here;
    swapcontext(&here, static_cast<ucontext_t *>(to));
}

void *first_frame(unsigned char *stack, void (*entry)())
{
    ucontext_t *c = new ucontext_t;
    getcontext(c);
    c->uc_stack.ss_sp = stack;
    c->uc_stack.ss_size = STACK;
    c->uc_link = nullptr;
    makecontext(c, entry, 0);
    return c;
}
#endif

UNSANITIZED void leave(enum state state)
{
    fibers[current].state = state;
    host_cuda_switch(&fibers[current].sp, scheduler_sp);
}

UNSANITIZED void fiber_main()
{
    for (;;) {
        running->body();
        leave(DONE);
    }
}

UNSANITIZED void resume(unsigned thread)
{
    current = thread;
    threadIdx = { thread, 0, 0 };
    fibers[thread].state = READY;
    host_cuda_switch(&scheduler_sp, fibers[thread].sp);
}

/* ---- a block ------------------------------------------------------------------------------------------------------ */

UNSANITIZED unsigned turned(unsigned i, unsigned n)
{
    return backwards ? n - 1 - i : i;
}

/* Until every lane is at the block's barrier or done. */
UNSANITIZED void run_warp(unsigned w)
{
    const unsigned first = w * LANES, n = threads - first < LANES ? threads - first : LANES;
    for (bool moved = true; moved;) {
        moved = false;
        for (unsigned i = 0; i < n; i++) {
            fiber *f = &fibers[first + turned(i, n)];
            if (f->state == READY || (f->state == AT_WARP && f->phase != warps[w].phase)) {
                resume(first + turned(i, n));
                moved = true;
            }
        }
    }
    for (unsigned i = 0; i < n; i++)
        if (fibers[first + i].state == AT_WARP)
            stop("not all lanes of its warp come to a warp operation");
}

void run_block()
{
    const unsigned n = (threads + LANES - 1) / LANES;
    block_number++;
    static_shared = 0;
    memset(dynamic_shared, POISON, running->shared);
    memset(dynamic_shared + running->shared, MARK, ZONE);
    for (unsigned i = 0; i < threads; i++)
        fibers[i].state = READY;
    for (;;) {
        unsigned done = 0;
        for (unsigned w = 0; w < n; w++)
            run_warp(turned(w, n));
        for (unsigned i = 0; i < threads; i++)
            done += fibers[i].state == DONE;
        if (done == threads)
            break;
        if (done > 0)
            stop("some threads wait at a barrier, others have ended");
        for (unsigned i = 0; i < threads; i++)
            fibers[i].state = READY;
    }
    for (unsigned i = 0; i < threads; i++)
        if (!copies[i].empty() && !(copies[i].size() == 1 && copies[i][0].empty()))
            stop("ended with copies under way");
    for (unsigned i = 0; i < ZONE; i++)
        if (dynamic_shared[running->shared + i] != MARK)
            stop("wrote beyond its dynamic shared memory");
}

void check_limits(const host_launch *l)
{
    if (l->block == 0 || l->block > MAX_THREADS)
        stop("impossible number of threads");
    if (l->shared > MAX_SHARED)
        stop("more than 163 KiB of dynamic shared memory");
    if (l->grid[0] > 0x7fffffffu || l->grid[1] > 65535 || l->grid[2] > 65535)
        stop("grid beyond CUDA's limits");
}
} // namespace

/* ---- what kernels call -------------------------------------------------------------------------------------------- */

void __syncthreads()
{
    leave(AT_BLOCK);
}

unsigned host_lane()
{
    return current % LANES;
}

/* last: what the last lane to come does before any of them goes on. */
UNSANITIZED static const uint64_t *gather(unsigned mask, uint64_t mine, void (*last)(const uint64_t *))
{
    const unsigned w = current / LANES, phase = warps[w].phase;
    if (mask != 0xffffffffu)
        stop("only operations of whole warps are known here");
    warps[w].slot[phase & 1][current % LANES] = mine;
    if (++warps[w].arrived == LANES) {
        if (last)
            last(warps[w].slot[phase & 1]);
        warps[w].arrived = 0;
        warps[w].phase++;
    } else {
        fibers[current].phase = phase;
        leave(AT_WARP);
    }
    return warps[w].slot[phase & 1];
}

const uint64_t *host_gather(unsigned mask, uint64_t mine)
{
    return gather(mask, mine, nullptr);
}

void *host_site::enter()
{
    if (!at)
        at = static_cast<unsigned char *>(aligned_alloc(16, (bytes + 15) / 16 * 16));
    if (!at)
        stop("no memory");
    if (block != block_number) {
        memset(at, POISON, bytes);
        static_shared += (bytes + 15) / 16 * 16;
        if (static_shared + running->shared > MAX_SHARED)
            stop("more than 163 KiB of shared memory, static and dynamic");
    }
    block = block_number;
    return at;
}

void *host_dynamic_shared()
{
    return dynamic_shared;
}

/* ---- tensor cores -------------------------------------------------------------------------------------------------- */

void copy_async(void *shared, const void *global, bool inside)
{
    if (reinterpret_cast<uintptr_t>(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16)
        stop("a copy of 16 bytes that are not aligned");
    memset(shared, POISON, 16);
    if (copies[current].empty())
        copies[current].emplace_back();
    copies[current].back().push_back({ shared, inside ? global : nullptr });
}

void copy_commit()
{
    if (copies[current].empty())
        copies[current].emplace_back();
    copies[current].emplace_back();
}

void host_copy_wait(unsigned groups)
{
    for (; copies[current].size() > groups + 1; copies[current].pop_front())
        for (const copy &c : copies[current].front())
            if (c.from)
                memcpy(c.to, c.from, 16);
            else
                memset(c.to, 0, 16);
}

/* Element (row, column) of a matrix of 16-bit elements. */
static unsigned half_at(const uint64_t *rows, unsigned matrix, unsigned row, unsigned column)
{
    uint16_t bits;
    memcpy(&bits, reinterpret_cast<const char *>(rows[8 * matrix + row]) + 2 * column, sizeof bits);
    return bits;
}

void host_load_matrices(unsigned to[4], const void *row, bool turned)
{
    const uint64_t *rows = host_gather(0xffffffffu, reinterpret_cast<uint64_t>(row));
    const unsigned g = host_lane() / 4, t = host_lane() % 4;
    if (reinterpret_cast<uintptr_t>(row) % 16)
        stop("a row of a matrix that is not aligned to 16 bytes");
    for (unsigned i = 0; i < 4; i++)
        to[i] = turned ? half_at(rows, i, 2 * t, g) | half_at(rows, i, 2 * t + 1, g) << 16
                       : half_at(rows, i, g, 2 * t) | half_at(rows, i, g, 2 * t + 1) << 16;
}

struct fragments { /* of a lane */
    float *c;
    const unsigned *a;
    unsigned b[2];
};

static float half_of(unsigned word, unsigned i)
{
    const uint32_t bits = (i ? word >> 16 : word & 0xffff) << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* c += a b for the whole warp. */
static void multiply_warp(const uint64_t *lanes)
{
    float a[16][16], b[16][8]; /* (row, k), (k, column) */
    for (unsigned l = 0; l < LANES; l++) {
        const fragments *f = reinterpret_cast<const fragments *>(lanes[l]);
        const unsigned g = l / 4, k = l % 4 * 2;
        for (unsigned i = 0; i < 2; i++)
            for (unsigned high = 0; high < 2; high++) {
                a[g][k + 8 * high + i] = half_of(f->a[2 * high], i);
                a[g + 8][k + 8 * high + i] = half_of(f->a[2 * high + 1], i);
                b[k + 8 * high + i][g] = half_of(f->b[high], i);
            }
    }
    float c[16][8];
    const auto at = [&](unsigned l, unsigned e) -> float & { return c[l / 4 + e / 2 * 8][l % 4 * 2 + e % 2]; };
    for (unsigned l = 0; l < LANES; l++)
        for (unsigned e = 0; e < 4; e++)
            at(l, e) = reinterpret_cast<const fragments *>(lanes[l])->c[e];
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 16; k++)
            for (unsigned j = 0; j < 8; j++)
                c[i][j] += a[i][k] * b[k][j];
    for (unsigned l = 0; l < LANES; l++)
        for (unsigned e = 0; e < 4; e++)
            reinterpret_cast<const fragments *>(lanes[l])->c[e] = at(l, e);
}

void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    const fragments mine = { c, a, { b0, b1 } };
    gather(0xffffffffu, reinterpret_cast<uint64_t>(&mine), multiply_warp);
}

/* ---- launches ----------------------------------------------------------------------------------------------------- */

cudaError_t cudaGetLastError()
{
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t)
{
    memset(p, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind, cudaStream_t)
{
    memmove(to, from, bytes);
    return cudaSuccess;
}

extern "C" void host_cuda_run(const host_launch *l)
{
    running = l;
    check_limits(l);
    threads = l->block;
    launches++;
    for (unsigned i = 0; i < threads; i++)
        if (!fibers[i].stack) {
            fibers[i].stack = static_cast<unsigned char *>(malloc(STACK));
            if (!fibers[i].stack)
                stop("no memory");
            fibers[i].sp = first_frame(fibers[i].stack, fiber_main);
        }
    blockDim = dim3(l->block);
    gridDim = dim3(l->grid[0], l->grid[1], l->grid[2]);
    const uint64_t blocks = static_cast<uint64_t>(l->grid[0]) * l->grid[1] * l->grid[2];
    for (uint64_t i = 0; i < blocks; i++) {
        const uint64_t b = backwards ? blocks - 1 - i : i;
        blockIdx = { static_cast<unsigned>(b % l->grid[0]), static_cast<unsigned>(b / l->grid[0] % l->grid[1]),
                     static_cast<unsigned>(b / l->grid[0] / l->grid[1]) };
        run_block();
    }
    running = nullptr;
}

extern "C" void host_cuda_delete(host_launch *l)
{
    delete l;
}

extern "C" __attribute__((weak)) void host_cuda_enqueue(void *stream, host_launch *l)
{
    (void)stream;
    host_cuda_run(l);
    host_cuda_delete(l);
}

extern "C" void host_cuda_order(int other_way)
{
    backwards = other_way;
}

extern "C" unsigned long host_cuda_launches(void)
{
    return launches;
}
