#include "ir/optimizer.h"

#include <stdio.h>
#include <string.h>

const struct optimizer_info optimizer_info[OPTIMIZERS] = {
    [OPT_ADAMW] = { .name = "adamw", .moments = 2, .weight_decay = 0.1 },
    [OPT_SGD] = { .name = "sgd", .moments = 0, .weight_decay = 0 },
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

const char *optimizer_names(char *text, size_t size)
{
    size_t n = 0;
    for (uint32_t kind = 0; kind < OPTIMIZERS && n < size; kind++)
        n += (size_t)snprintf(text + n, size - n, "%s\"%s\"",
                              kind == 0                ? ""
                              : kind + 1 == OPTIMIZERS ? " or "
                                                       : ", ",
                              optimizer_info[kind].name);
    return text;
}
