#include "ir/optimizer.h"

#include <string.h>

const struct optimizer_info optimizer_info[OPTIMIZERS] = {
    [OPT_ADAMW] = { .name = "adamw", .moments = 2 },
    [OPT_SGD] = { .name = "sgd", .moments = 0 },
};

const char *optimizer_name(uint32_t kind)
{
    return kind < OPTIMIZERS ? optimizer_info[kind].name : NULL;
}

uint32_t optimizer_by_name(const char *name)
{
    uint32_t kind = 0;
    while (kind < OPTIMIZERS && strcmp(optimizer_info[kind].name, name) != 0)
        kind++;
    return kind;
}
