/* What both kinds of own attention kernels know of where queries and keys stand: src/exec/compute.h, struct op_positions. Included by the
 * .cu files that launch them. */
#ifndef PIPER_CUDA_ATTENTION_CUH
#define PIPER_CUDA_ATTENTION_CUH

#include "cuda/kernel.cuh"

namespace
{
/* Token i stands at first0 + i for i < run0, then at first1 + i - run0; key j likewise. */
struct attention_place {
    unsigned t, keys, t_all, run0, first0, first1, key0, key_first0, key_first1;
    const int32_t *document; /* (b, t_all); NULL: none */
    unsigned window;
    __device__ __forceinline__ unsigned position(unsigned i) const
    {
        return i < run0 ? first0 + i : first1 + (i - run0);
    }
    __device__ __forceinline__ unsigned key_position(unsigned j) const
    {
        return j < key0 ? key_first0 + j : key_first1 + (j - key0);
    }
    /* The first position of the document that `position` of sequence s is in. */
    __device__ __forceinline__ unsigned document_of(unsigned s, unsigned position) const
    {
        return document ? static_cast<unsigned>(document[static_cast<uint64_t>(s) * t_all + position]) : 0;
    }
    /* Does a query at a position see a key at one? document: the query's. */
    __device__ __forceinline__ bool sees(unsigned query, unsigned key, unsigned from) const
    {
        return key <= query && query - key < window && key >= from;
    }
};

inline attention_place attention_place_of(const struct op_args *a)
{
    const struct op_positions *w = a->positions;
    attention_place p = { a->t, a->t, a->t, a->t, 0, 0, a->t, 0, 0, a->document, INT32_MAX };
    if (a->attrs->window)
        p.window = a->attrs->window;
    if (!w)
        return p;
    p.keys = p.key0 = w->keys;
    p.t_all = w->t_all;
    p.run0 = w->run[0].count;
    p.first0 = w->run[0].first;
    p.first1 = w->run[1].first;
    if (w->key_run[0].count) {
        p.key0 = w->key_run[0].count;
        p.key_first0 = w->key_run[0].first;
        p.key_first1 = w->key_run[1].first;
    }
    return p;
}

inline bool attention_ring(const struct op_args *a)
{
    return a->positions && a->positions->ring;
}

inline bool attention_last_phase(const struct op_args *a, bool backward)
{
    return attention_ring(a) && a->phase + (backward ? 0 : 1) == a->positions->ring;
}
} // namespace

#endif
