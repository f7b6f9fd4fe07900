#include <string.h>

#include "comm/comm.h"

static const struct comm_backend *const backends[] = { &comm_null, &comm_mpi };

const struct comm_backend *comm_backend_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!strcmp(backends[i]->name, name))
            return backends[i];
    return NULL;
}

uint32_t comm_group_rank(const struct comm_group *g, uint32_t index)
{
    return g->list ? g->list[index] : g->start + index * g->stride;
}

uint32_t comm_group_index(const struct comm_group *g, uint32_t rank)
{
    uint32_t i = 0;
    while (i < g->count && comm_group_rank(g, i) != rank)
        i++;
    return i < g->count ? i : UINT32_MAX;
}

uint32_t comm_type_size(enum comm_type type)
{
    static const uint32_t size[] = { [COMM_F32] = 4, [COMM_BF16] = 2, [COMM_F64] = 8, [COMM_I32] = 4, [COMM_BYTE] = 1 };
    CHECK((size_t)type < sizeof size / sizeof *size);
    return size[type];
}
