/* Streams and events. */
#include "fake.h"

#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void after(cudaStream_t s, struct fake_piece *p)
{
    fake_piece_drop(s->last);
    s->last = p;
}

/* The stream of calls that name none: it keeps no order with the others, which are non-blocking. */
static cudaStream_t stream_or_default(cudaStream_t s)
{
    static struct CUstream_st none = { .tail = -1 };
    return s ? s : &none;
}

cudaError_t fake_enqueue(cudaStream_t stream, const struct fake_work *work)
{
    cudaStream_t s = stream_or_default(stream);
    FAKE_LOCKED;
    if (s->into)
        s->tail = fake_node_new(s->into, work, &s->tail, 1);
    else
        after(s, fake_piece_new(work, &s->last, 1));
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    if (flags != cudaStreamNonBlocking || priority > 0 || priority < -5)
        return fake_error(cudaErrorInvalidValue);
    *stream = mem_alloc(sizeof **stream);
    (*stream)->tail = -1;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    fake_piece_drop(stream->last);
    mem_free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (fake_capture)
        return fake_error(cudaErrorStreamCaptureUnsupported);
    FAKE_LOCKED;
    fake_counts.synchronizes++;
    if (stream->last)
        fake_run_until(stream->last);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    if (fake_capture)
        return fake_error(cudaErrorStreamCaptureUnsupported);
    FAKE_LOCKED;
    fake_counts.synchronizes++;
    if (fake_note)
        fake_note('s');
    fake_run_until(NULL);
    return cudaSuccess;
}

/* ---- events ---------------------------------------------------------------------------------------------------- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    *event = mem_alloc(sizeof **event);
    (*event)->node = -1;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    fake_piece_drop(event->after);
    mem_free(event);
    return cudaSuccess;
}

static void take_time(const void *arg)
{
    (*(const cudaEvent_t *)arg)->time = now();
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
    struct fake_work time = { .run = take_time, .arg = &event, .bytes = sizeof event };
    FAKE_LOCKED;
    if (flags == cudaEventRecordExternal && !stream->into)
        return fake_error(cudaErrorInvalidValue);
    if (stream->into && flags != cudaEventRecordExternal) {
        event->capture = stream->into->number;
        event->node = stream->tail;
        return cudaSuccess;
    }
    fake_enqueue(stream, &time);
    event->capture = 0;
    if (!stream->into) {
        fake_piece_drop(event->after);
        event->after = fake_piece_hold(stream->last);
    }
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}

/* A stream that waits for an event of a capture is captured too; one that is captured cannot wait for what is not. */
static cudaError_t wait_captured(cudaStream_t stream, cudaEvent_t event, bool deaf)
{
    static const struct fake_work nothing = { .run = NULL };
    if (!fake_capture || event->capture != fake_capture->number)
        return fake_error(cudaErrorStreamCaptureIsolation);
    if (!stream->into) {
        stream->into = fake_capture;
        stream->tail = -1;
        vec_add(&fake_capture->streams, stream);
    }
    int64_t before[] = { stream->tail, deaf ? -1 : event->node };
    stream->tail = fake_node_new(stream->into, &nothing, before, 2);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    static const struct fake_work nothing = { .run = NULL };
    FAKE_LOCKED;
    bool deaf = fake_is_deaf();
    fake_counts.waits++;
    if (flags == cudaEventWaitExternal) {
        if (!stream->into || event->capture)
            return fake_error(cudaErrorInvalidValue);
        stream->tail = fake_node_new(stream->into, &nothing, &stream->tail, 1);
        stream->into->nodes.at[stream->tail].outside = deaf ? NULL : event;
        return cudaSuccess;
    }
    if (stream->into || event->capture)
        return wait_captured(stream, event, deaf);
    struct fake_piece *before[] = { stream->last, deaf ? NULL : event->after };
    after(stream, fake_piece_new(&nothing, before, 2));
    return cudaSuccess;
}

/* The piece is held: the event may be recorded again meanwhile. */
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    struct fake_piece *until;
    if (fake_captures())
        return fake_error(cudaErrorStreamCaptureUnsupported);
    {
        FAKE_LOCKED;
        fake_counts.synchronizes++;
        until = fake_piece_hold(event->after);
    }
    if (!until)
        return cudaSuccess;
    fake_leave_to_others(until);
    FAKE_LOCKED;
    fake_run_until(until);
    fake_piece_drop(until);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    *ms = (float)(1e3 * (to->time - from->time));
    return from->time > 0 && to->time > 0 ? cudaSuccess : fake_error(cudaErrorInvalidValue);
}
