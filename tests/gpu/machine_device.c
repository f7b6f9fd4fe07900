/* The device of the CUDA module (PIPER_CUDA_MODULE, else the one of this build), loaded as the program loads it. Without a device
 * the tests are skipped, and say why. Products take the algorithm that their library puts first: timing them would write into
 * operands that a test has filled. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/status.h"
#include "exec/device_ops.h"
#include "gpu/machine_device.h"
#include "ir/target.h"
#include "exec/module.h"
#include "num/machine.h"

static struct compute_backend backend; /* the module's, whose kernels are prepared before they run */
static const struct compute_backend *real;
static void *stream;
static struct machine wide, narrow;

void *device_function(const char *name)
{
    static void *so;
    if (!so)
        so = dlopen(getenv("PIPER_CUDA_MODULE"), RTLD_NOW); /* once more */
    void *f = so ? dlsym(so, name) : NULL;
    if (!f)
        process_fail(ST_DEVICE, dlerror());
    return f;
}

static _Noreturn void failed(void *self)
{
    (void)self;
    process_fail(ST_DEVICE, real->device->error());
}

static void check(void)
{
    if (real->device->error())
        failed(NULL);
}

static void run(const struct op_args *a, enum ir_pass pass)
{
    struct err e = { 0 };
    if (a->op < IR_OP_GRAPH_COUNT && real->libraries->prepare(a, (enum ir_op)a->op, pass, &e) != ST_OK)
        process_fail(e.status, e.text);
    real->kernel((enum ir_op)a->op, pass)(a);
    check();
}

static void run_f(const struct op_args *a)
{
    run(a, IR_PASS_F);
}

static void run_bi(const struct op_args *a)
{
    run(a, IR_PASS_BI);
}

static void run_bw(const struct op_args *a)
{
    run(a, IR_PASS_BW);
}

static op_kernel kernel(enum ir_op op, enum ir_pass pass)
{
    if (!real->kernel(op, pass))
        return NULL;
    return pass == IR_PASS_F ? run_f : pass == IR_PASS_BI ? run_bi : run_bw;
}

static op_pair found; /* of the last pair() */
static enum ir_pass found_in;

/* A pair for which the library has no algorithm runs as in the program: apart. */
static void run_found(const struct op_args *first, const struct op_args *second)
{
    struct err e = { 0 };
    if (real->libraries->prepare(first, (enum ir_op)first->op, found_in, &e) != ST_OK)
        process_fail(e.status, e.text);
    if (real->libraries->prepare_pair(first, second, found_in, first->work)) {
        found(first, second);
        check();
        return;
    }
    printf("%s and %s, %s: no algorithm for both in one\n", ir_op_info[first->op].name, ir_op_info[second->op].name,
           ir_dtype_name((enum ir_dtype)first->compute));
    run(first, found_in);
    run(second, found_in);
}

static op_pair pair(enum ir_pass pass, const struct op_args *first, const struct op_args *second)
{
    found = real->pair(pass, first, second);
    found_in = pass;
    return found ? run_found : NULL;
}

/* Check would fork for each test, and a device does not survive that. */
static void open_device(void)
{
    static const int32_t priority[1];
    const struct device_setup setup = { .n_streams = 1, .priority = priority, .failed = failed };
    char path[4096];
    const char *build = getenv("top_builddir");
    const struct module *m;
    struct device_found found;
    struct err e = { 0 };
    setenv("CK_FORK", "no", 1);
    if (real)
        return;
    snprintf(path, sizeof path, "%s/.libs/piper_cuda.so", build ? build : ".");
    setenv("PIPER_CUDA_MODULE", path, 0);
    if (access(getenv("PIPER_CUDA_MODULE"), R_OK) != 0) {
        printf("there is no %s: configure --with-cuda makes it\n", getenv("PIPER_CUDA_MODULE"));
        exit(77);
    }
    if (module_cuda(&m, &e) != ST_OK) /* it is there: not being able to load it is a failure */
        process_fail(e.status, e.text);
    if (m->compute->device->find(0, &found, &e) != ST_OK) {
        printf("%s\n", e.text);
        exit(77);
    }
    real = m->compute;
    if (real->device->open(&setup, &e) != ST_OK)
        process_fail(e.status, e.text);
    stream = wide.stream = narrow.stream = real->device->stream(0);
    if (real->libraries->open(stream, NULL, &e) != ST_OK)
        process_fail(e.status, e.text);
    backend = *real;
    backend.kernel = kernel;
    backend.pair = pair;
}

static uint64_t workspace(const struct ir_kernel *k)
{
    return ir_target_by_name(real->target)->workspace(k);
}

static void *take(size_t bytes)
{
    void *p = real->device->alloc(bytes);
    CHECK(p);
    real->device->synchronize(); /* the zeros: they are in order with no stream */
    return p;
}

static void give(void *p)
{
    real->device->release(p);
}

static void copy(void *to, const void *from, size_t bytes)
{
    real->device->copy(to, from, bytes, stream);
    real->device->synchronize();
    check();
}

#define DEVICE(text, type)                                                                                \
    {                                                                                                     \
        .name = text, .backend = &backend, .compute = type, .workspace = workspace, .setup = open_device, \
        .alloc = take, .free = give, .put = copy, .get = copy                                             \
    }
static struct machine wide = DEVICE("device", IR_F32), narrow = DEVICE("device, bfloat16", IR_BF16);
const struct machine *const machines[] = { &wide, &narrow, NULL };
