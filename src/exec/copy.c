/* Copies of state out of the arenas. A device makes them itself; on the host there is no thread for them: whoever waits first
 * works through the list, and who comes meanwhile takes a share of what is left. */
#include "exec/device.h"

void exec__copies_init(struct exec__copies *c)
{
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->all_done, NULL);
}

void exec__copies_release(struct exec__copies *c)
{
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->all_done);
}

void exec_copy_begin(struct exec *x, const struct exec_copy *list, uint32_t n)
{
    struct exec__copies *c = &x->copies;
    if (x->device) {
        exec__device_copy_begin(x, list, n);
        return;
    }
    pthread_mutex_lock(&c->lock);
    CHECK(c->done == c->n);
    c->list = list;
    c->n = n;
    c->next = c->done = 0;
    pthread_mutex_unlock(&c->lock);
}

void exec_copy_wait(struct exec *x)
{
    struct exec__copies *c = &x->copies;
    if (x->device) {
        exec__device_copy_wait(x);
        return;
    }
    pthread_mutex_lock(&c->lock);
    while (c->next < c->n) {
        const struct exec_copy *k = &c->list[c->next++];
        pthread_mutex_unlock(&c->lock);
        memcpy(k->to, k->from, k->bytes);
        pthread_mutex_lock(&c->lock);
        if (++c->done == c->n)
            pthread_cond_broadcast(&c->all_done);
    }
    while (c->done < c->n)
        pthread_cond_wait(&c->all_done, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

void exec__before_update(struct exec *x)
{
    struct exec__copies *c = &x->copies;
    pthread_mutex_lock(&c->lock);
    bool under_way = c->done < c->n;
    pthread_mutex_unlock(&c->lock);
    if (!under_way)
        return;
    double begin = clock_now();
    exec_copy_wait(x);
    c->waited += clock_now() - begin;
}

double exec_copy_waited(const struct exec *x)
{
    return x->copies.waited;
}
