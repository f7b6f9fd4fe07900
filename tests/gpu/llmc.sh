# shellcheck shell=sh
# For measure.sh: llm.c's train_gpt2cu beside us. Its source is the user's checkout, in $LLMC; nothing of it is kept here.
# The caller has read lib.sh.

# Little-endian bytes of a number.
le32()
{
    # shellcheck disable=SC2059 # the format is made of octal numbers
    printf "$(printf '\\%03o\\%03o\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"
}

# llmc_data TEXT: its bytes as tokens, in llm.c's format: 256 int32 (20240520, 1, how many tokens), then uint16.
llmc_data()
{
    le32 20240520
    le32 1
    le32 "$(wc -c <"$1")"
    head -c $((253 * 4)) /dev/zero
    od -An -v -to1 "$1" | awk '{ for (i = 1; i <= NF; i++) printf "\\%s\\000", $i; print "" }' |
        while read -r bytes; do
            # shellcheck disable=SC2059
            printf "$bytes"
        done
}

# llmc_build ARCHITECTURE: train_gpt2cu, unless it is there. With cuDNN where its frontend lies where llm.c looks for it. Its source
# stays as it is; what it lacks is given to nvcc beside it, in the folder llmc-lacks.
llmc_build()
{
    [ ! -x "$LLMC/train_gpt2cu" ] || return 0
    cuda=${CUDA_HOME:-/usr/local/cuda} cudnn=0
    if [ -d "$HOME/cudnn-frontend/include" ] || [ -d "$LLMC/cudnn-frontend/include" ]; then
        cudnn=1
    fi
    mkdir -p llmc-lacks
    # the compiler reads this before the source
    cat >llmc-lacks/cuda13.h <<'TEXT'
#include <cuda_runtime.h>
#if defined __cplusplus && CUDART_VERSION >= 13000 /* a place is no longer a number */
static inline cudaError_t cudaMemAdvise(const void *p, size_t n, cudaMemoryAdvise advice, int device)
{
    cudaMemLocation at = {};
    at.type = device < 0 ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
    at.id = device < 0 ? 0 : device;
    return cudaMemAdvise(p, n, advice, at);
}
#endif
TEXT
    # it links NVML in any case, and uses it where its header is: else a library without contents
    [ -f "$cuda/include/nvml.h" ] || echo '!<arch>' >llmc-lacks/libnvidia-ml.a
    (
        PATH=$PATH:$cuda/bin NVCC_APPEND_FLAGS="-include $PWD/llmc-lacks/cuda13.h -L$PWD/llmc-lacks"
        # cuDNN's frontend calls the driver and NVRTC, and llm.c's makefile does not name them
        [ $cudnn -eq 0 ] || NVCC_APPEND_FLAGS="$NVCC_APPEND_FLAGS -L$cuda/lib64/stubs -lcuda -lnvrtc"
        export PATH NVCC_APPEND_FLAGS
        # its makefile does not find the architecture by itself
        make -C "$LLMC" train_gpt2cu USE_CUDNN=$cudnn NO_MULTI_GPU=1 NO_USE_MPI=1 GPU_COMPUTE_CAPABILITY="$1"
    ) >llmc-build.log 2>&1 || stop "llm.c does not build, see $PWD/llmc-build.log; its own README says what it needs"
}

# llmc_run BATCH LENGTH STEPS: trains on llmc.bin with as few things beside training as its options allow. With the host's CUDA
# libraries, which it was linked with: env.sh has changed LD_LIBRARY_PATH for a packed folder.
llmc_run()
{
    LD_LIBRARY_PATH=${PIPER_HOST_LIBRARIES-${LD_LIBRARY_PATH-}}:${CUDA_HOME:-/usr/local/cuda}/lib64${PIPER_CUDA_LIBRARIES-} "$LLMC/train_gpt2cu" -e d12 -i "$PWD/llmc.bin" \
        -j "$PWD/llmc.bin" -b "$1" -t "$2" -d $(($1 * $2)) -x "$3" -r 0 -z 0 -l 0.0001 -c 0.0 -v 1000000 -m 1 -s 0 -h 0 \
        >llmc.log 2>&1
}

# llmc_seconds SKIP: of its output, the median of the seconds of the steps after the first SKIP; nothing when there are none
llmc_seconds()
{
    awk -F'|' -v skip="$1" '/^step / { for (i = 1; i <= NF; i++) if ($i ~ / ms *$/ && ++n > skip) printf "%.6f\n", $i / 1000 }' |
        median
}

# Which llm.c: commit, attention.
llmc_version()
{
    commit=$(git -C "$LLMC" log -1 --format=%h 2>/dev/null)
    if ldd "$LLMC/train_gpt2cu" 2>/dev/null | grep -q libcudnn; then
        echo "${commit:-of unknown version}, with cuDNN"
    else
        echo "${commit:-of unknown version}, without cuDNN"
    fi
}
