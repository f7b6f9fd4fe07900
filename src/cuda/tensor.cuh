/* What tensor cores need, for sm_80 and later (PTX ISA: cp.async, ldmatrix, mma): pieces of 16 bytes copied to shared memory
 * in the background, 8 x 8 matrices of 16 bits from there to registers, and their products. All lanes of a warp call
 * load_matrices() and multiply_add() together.
 *
 * Fragments. Lane l has g = l/4 and t = l%4. Matrix i of load_matrices() has its rows at the pointers of lanes 8i..8i+7;
 * to[i] is elements (g, 2t) and (g, 2t+1) of it, or with TURNED (2t, g) and (2t+1, g). multiply_add() does c += a b, a (16,16)
 * as four such matrices: rows 0-7, rows 8-15, then both with k 8-15; b (16,8): k 0-7 and 8-15 of element (k, n=g); c (16,8):
 * (g, 2t), (g, 2t+1), then both 8 rows below. */
#ifndef PIPER_CUDA_TENSOR_CUH
#define PIPER_CUDA_TENSOR_CUH

#include "cuda/kernel.cuh"

#ifdef __CUDACC__ /* else tests/cuda/host has them */

__device__ __forceinline__ unsigned shared_address(const void *p)
{
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

/* 16 bytes, both places 16-byte aligned; zeros, and nothing is read, where they are not inside. */
__device__ __forceinline__ void copy_async(void *shared, const void *global, bool inside)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
                 "r"(inside ? 16 : 0)
                 : "memory");
}

/* Ends a group of this thread's copies. */
__device__ __forceinline__ void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until at most N groups of this thread's copies are under way. */
template <int N> __device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

template <bool TURNED> __device__ __forceinline__ void load_matrices(unsigned (&to)[4], const void *row)
{
    if constexpr (TURNED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(shared_address(row))
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(shared_address(row))
                     : "memory");
}

__device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

#endif
