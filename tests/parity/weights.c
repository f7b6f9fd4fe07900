#include "weights.h"

#include <stdio.h>

#include "ir/family/files.h"

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

uint64_t weights_hash_name(const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return h;
}

uint64_t weights_hash_at(uint64_t name, uint64_t i)
{
    return mix(name ^ mix(i + 1));
}

double weights_number(const json_t *of, size_t what)
{
    return json_number_value(json_array_get(of, what));
}

void weights_fill(float *x, const json_t *of, uint64_t name, uint64_t at)
{
    const double middle = weights_number(of, WEIGHTS_MIDDLE), most = weights_number(of, WEIGHTS_SPREAD);
    const double u = (double)(weights_hash_at(name, at) >> 40) / 8388608.0 - 1;
    *x = (float)(middle + most * u);
}

const char *weights_walk(const struct ir_graph *g, const json_t *row, uint32_t param, float *x, weights_visit f)
{
    static char missing[256];
    struct arena a;
    arena_init(&a);
    const struct ir_place place = ir_file_place(g, param, &a);
    const uint32_t *d = place.size, tensors = ir_place_tensors(&place, g, param);
    missing[0] = '\0';
    for (uint32_t e = 0; e < tensors; e++) {
        const char *name = ir_place_name(&place, e, &a);
        const json_t *of = json_object_get(json_object_get(row, "tensors"), name);
        if (!of) {
            snprintf(missing, sizeof missing, "%s", name);
            continue;
        }
        const uint64_t h = weights_hash_name(name);
        for (uint64_t i = 0; i < d[0]; i++)
            for (uint64_t k = 0; k < d[1]; k++)
                for (uint64_t l = 0; l < d[2]; l++)
                    f(x++, of, h, place.first + i * place.stride[0] + k * place.stride[1] + l * place.stride[2]);
    }
    arena_release(&a);
    return missing[0] ? missing : NULL;
}
