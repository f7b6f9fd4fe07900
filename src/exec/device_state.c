/* State of a device in host memory: its image, for initialisation and comparison, and the copies of it that a checkpoint is
 * made of, which a stream of their own takes while the next step runs. */
#include "exec/device.h"

#include <sys/mman.h>

/* ---- the image ------------------------------------------------------------------------------------------------- */

static bool has_image(uint32_t arena)
{
    return arena == ARENA_PARAMS || arena == ARENA_OPTIM;
}

static void *addresses(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        process_fail(ST_DEVICE, "cannot reserve address space for the host image of the device's state");
    return p;
}

/* The device writes snapshots itself: pinned. Gradients have addresses, which are computed, but never contents. */
unsigned char *const *exec__device_image(const struct exec *x)
{
    struct exec__device *d = x->own;
    for (uint32_t a = 0; a < ARENA_COUNT; a++) {
        uint64_t bytes = x->plan->h->arena_bytes[a];
        if (!d->image[a] && bytes && (has_image(a) || a == ARENA_GRADS))
            d->image[a] = addresses(bytes);
    }
    return d->image;
}

static void copy_image(struct exec *x, bool to_device)
{
    struct exec__device *d = x->own;
    unsigned char *const *image = exec__device_image(x);
    for (uint32_t a = 0; a < ARENA_COUNT; a++) {
        void *to = to_device ? x->arena[a] : image[a];
        const void *from = to_device ? image[a] : x->arena[a];
        if (has_image(a) && image[a])
            d->ops->copy(to, from, x->plan->h->arena_bytes[a], d->streams[PLAN_COMPUTE_STREAM]);
    }
    d->ops->synchronize();
    const char *text = d->ops->error();
    if (text)
        process_fail(ST_DEVICE, text);
}

void exec__device_download(struct exec *x)
{
    copy_image(x, false);
}

/* The image's pages are given back to the system. */
void exec__device_upload(struct exec *x)
{
    const struct exec__device *d = x->own;
    copy_image(x, true);
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        if (has_image(a) && d->image[a])
            madvise(d->image[a], x->plan->h->arena_bytes[a], MADV_DONTNEED);
}

/* ---- copies ---------------------------------------------------------------------------------------------------- */

/* What the device has where the image has p. */
static const void *on_device(const struct exec *x, const void *p)
{
    const struct exec__device *d = x->own;
    for (uint32_t a = 0; a < ARENA_COUNT; a++) {
        uintptr_t first = (uintptr_t)d->image[a], at = (uintptr_t)p;
        if (has_image(a) && first && at >= first && at < first + x->plan->h->arena_bytes[a])
            return x->arena[a] + (at - first);
    }
    CHECK(!"an address of the image");
    return NULL;
}

/* Nothing runs on the device now. Without copies the caller reads the image. */
void exec__device_copy_begin(struct exec *x, const struct exec_copy *list, uint32_t n)
{
    struct exec__device *d = x->own;
    if (x->sums)
        d->ops->copy(x->sums->memory.kept, x->sums->memory.sums, x->sums->n * sizeof *x->sums->memory.sums,
                     d->copy_stream);
    if (!n) {
        exec__device_download(x);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        d->ops->copy(list[i].to, on_device(x, list[i].from), list[i].bytes, d->copy_stream);
    d->ops->record(exec__device_copied(x), d->copy_stream);
    d->ops->clock_zero(d->streams[PLAN_COMPUTE_STREAM]);
    d->copying = true;
    exec__device_check(x, NULL);
}

void exec__device_copy_wait(struct exec *x)
{
    const struct exec__device *d = x->own;
    const char *error = d->ops->await(exec__device_copied(x));
    if (error)
        process_fail(ST_DEVICE, error);
}

void exec__device_before_update(struct exec *x, void *stream)
{
    struct exec__device *d = x->own;
    if (!d->image[ARENA_SNAPSHOT])
        return;
    bool first = !d->held;
    d->held = true;
    if (first)
        d->ops->stamp(exec__device_held(x), stream);
    d->ops->wait_outside(stream, exec__device_copied(x));
    if (first)
        d->ops->stamp(exec__device_held(x) + 1, stream);
}

void exec__device_ran(struct exec *x, uint32_t list)
{
    struct exec__device *d = x->own;
    if (!d->copying || !d->updates[list])
        return;
    d->copying = false;
    x->copy_waited += d->ops->clock_read(exec__device_held(x) + 1) - d->ops->clock_read(exec__device_held(x));
}
