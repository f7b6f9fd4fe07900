/* Safetensors files made in memory, tensor by tensor. */
#ifndef PIPER_TESTS_UNIT_TENSOR_FILE_H
#define PIPER_TESTS_UNIT_TENSOR_FILE_H

#include <stdio.h>
#include <string.h>

#include "tests/unit/io_sample.h"

/* Writes header text and n bytes of data. */
static inline void write_raw(const char *path, const char *header, const void *data, size_t n)
{
    size_t k = strlen(header);
    char *b = mem_alloc(8 + k + n);
    for (int i = 0; i < 8; i++)
        b[i] = (char)(k >> 8 * i);
    memcpy(b + 8, header, k);
    if (n)
        memcpy(b + 8 + k, data, n);
    sample_write_file(path, b, 8 + k + n);
    mem_free(b);
}

/* A file under construction. */
static struct {
    char header[20000];
    uint8_t data[20000];
    size_t n, used;
} f;

static inline void start_file(void)
{
    f.used = 0;
    f.n = (size_t)sprintf(f.header, "{\"__metadata__\":{\"format\":\"pt\"}");
}

static inline void add_tensor(const char *name, const char *type, const char *shape, const void *data, size_t bytes)
{
    f.n += (size_t)sprintf(f.header + f.n, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", name,
                           type, shape, f.used, f.used + bytes);
    memcpy(f.data + f.used, data, bytes);
    f.used += bytes;
}

static inline void end_file(const char *path)
{
    strcpy(f.header + f.n, "}");
    write_raw(path, f.header, f.data, f.used);
}

#endif
