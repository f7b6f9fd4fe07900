#include <string.h>

#include "base/number.h"
#include "comm/mpi_private.h"

/* Elements that are summed at a time: they stay in the first-level cache, and the constant count lets the compiler
 * vectorise. */
enum { BLOCK = 512 };

static const unsigned char *term(const struct comm__terms *t, uint32_t i)
{
    return i == t->me ? t->own : t->scratch + i * t->stride;
}

/* Integers are summed as unsigned: they wrap. */
#define DEFINE_SUM(name, T)                                                       \
    static void name(T *dst, const struct comm__terms *t, uint64_t n)             \
    {                                                                             \
        for (uint64_t at = 0; at < n; at += BLOCK) {                              \
            uint64_t m = n - at < BLOCK ? n - at : BLOCK;                         \
            T acc[BLOCK];                                                         \
            memcpy(acc, (const T *)(const void *)term(t, 0) + at, m * sizeof(T)); \
            for (uint32_t i = 1; i < t->members; i++) {                           \
                const T *restrict x = (const T *)(const void *)term(t, i) + at;   \
                if (m == BLOCK)                                                   \
                    for (uint32_t k = 0; k < BLOCK; k++)                          \
                        acc[k] += x[k];                                           \
                else                                                              \
                    for (uint32_t k = 0; k < m; k++)                              \
                        acc[k] += x[k];                                           \
            }                                                                     \
            memcpy(dst + at, acc, m * sizeof(T));                                 \
        }                                                                         \
    }
DEFINE_SUM(sum_f32, float)
DEFINE_SUM(sum_f64, double)
DEFINE_SUM(sum_u32, uint32_t)

/* In float32, rounded once. */
static void sum_bf16(uint16_t *dst, const struct comm__terms *t, uint64_t n)
{
    for (uint64_t at = 0; at < n; at += BLOCK) {
        uint64_t m = n - at < BLOCK ? n - at : BLOCK;
        float acc[BLOCK] = { 0 };
        for (uint32_t i = 0; i < t->members; i++) {
            const uint16_t *restrict x = (const uint16_t *)(const void *)term(t, i) + at;
            for (uint32_t k = 0; k < m; k++)
                acc[k] += number_from_bf16(x[k]);
        }
        for (uint32_t k = 0; k < m; k++)
            dst[at + k] = number_to_bf16(acc[k]);
    }
}

void comm__sum(enum comm_type type, void *dst, const struct comm__terms *t, uint64_t n)
{
    switch (type) {
    case COMM_F32:
        sum_f32(dst, t, n);
        break;
    case COMM_F64:
        sum_f64(dst, t, n);
        break;
    case COMM_I32:
        sum_u32(dst, t, n);
        break;
    case COMM_BF16:
        sum_bf16(dst, t, n);
        break;
    case COMM_BYTE:
        CHECK(!"a reduction of this type");
    }
}
