# PIPER_CUDA: --with-cuda[=DIR]. Finds nvcc, cuBLASLt, cuDNN and NCCL; sets NVCC, NVCC_GENCODE, CUDA_CFLAGS, CUDA_LIBS
# and the conditional HAVE_CUDA. libcuda itself is never linked: the program must start on a host without a driver;
# cuDNN and NCCL are loaded when a plan needs them.
AC_DEFUN([PIPER_CUDA],[
AC_ARG_VAR([NVCC],[CUDA compiler])
AC_ARG_VAR([NVCCFLAGS],[flags for nvcc (default: -O3 -lineinfo)])
AC_ARG_VAR([CUDA_ARCHS],[GPU architectures to compile for, 80 or later (default: 80 90)])
AC_ARG_WITH([cuda],[AS_HELP_STRING([--with-cuda@<:@=DIR@:>@],[use CUDA, cuBLASLt, cuDNN and NCCL (default: no)])],
  [],[with_cuda=no])
piper_how_CUDA="off (--with-cuda=DIR)"
AS_IF([test "x$with_cuda" != xno],[
  AS_IF([test "x$with_cuda" = xyes],[
    AC_PATH_PROG([NVCC],[nvcc],[],[$PATH$PATH_SEPARATOR${CUDA_HOME:-/usr/local/cuda}/bin])
    AS_IF([test -n "$NVCC"],[with_cuda=`AS_DIRNAME(["$NVCC"])`; with_cuda=`AS_DIRNAME(["$with_cuda"])`])],
    [test -n "$NVCC" || NVCC=$with_cuda/bin/nvcc])
  AS_IF([test ! -x "$NVCC"],[AC_MSG_ERROR([--with-cuda: found no nvcc (looked at '$NVCC'); give --with-cuda=DIR with DIR/bin/nvcc])])
  piper_cuda_lib=$with_cuda/lib
  for piper_d in "$with_cuda/targets/x86_64-linux/lib" "$with_cuda/targets/sbsa-linux/lib" "$with_cuda/lib64"; do
    AS_IF([test -e "$piper_d/libcudart_static.a"],[piper_cuda_lib=$piper_d])
  done
  NVCC_GENCODE=
  for piper_a in ${CUDA_ARCHS:=80 90}; do
    NVCC_GENCODE="$NVCC_GENCODE -gencode arch=compute_$piper_a,code=sm_$piper_a"
  done
  # code for the newest one as PTX too, for GPUs that come later
  NVCC_GENCODE="$NVCC_GENCODE -gencode arch=compute_$piper_a,code=compute_$piper_a"
  AS_IF([test "x${NVCCFLAGS+set}" != xset],[NVCCFLAGS="-O3 -lineinfo"])
  piper_cuda_dir="-L$piper_cuda_lib -Wl,-rpath,$piper_cuda_lib"
  piper_cuda_rt="-lcudart_static -ldl -lrt -lpthread -lstdc++"
  # what the oldest versions that will do have and the ones before them have not
  PIPER_TRY_LINK([CUDART],[$with_cuda],[-I$with_cuda/include],[$piper_cuda_dir $piper_cuda_rt],
    [[#include <cuda_runtime_api.h>]],
    [[void *f; return (int)cudaGetDriverEntryPointByVersion("cuInit", &f, 12000, cudaEnableDefault, (void *)0);]])
  PIPER_TRY_LINK([CUBLASLT],[$with_cuda],[-I$with_cuda/include],[$piper_cuda_dir -lcublasLt],
    [[#include <cublasLt.h>]],[[cublasLtHandle_t h; return (int)cublasLtCreate(&h);]])
  PIPER_TRY_LINK([CUDNN],[$with_cuda],[-I$with_cuda/include],[$piper_cuda_dir -lcudnn],
    [[#include <cudnn.h>]],
    [[cudnnBackendDescriptor_t d; return (int)cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d);]])
  PIPER_TRY_LINK([NCCL],[$with_cuda],[-I$with_cuda/include],[$piper_cuda_dir -lnccl],
    [[#include <nccl.h>]],
    [[ncclConfig_t c = NCCL_CONFIG_INITIALIZER; c.splitShare = 0;
      return (int)ncclCommSplit((void *)0, NCCL_SPLIT_NOCOLOR, 0, (void *)0, &c);]])
  _PIPER_CUDA_PART([CUDART],[the CUDA runtime 12.5 or later],[cuda-cudart-dev])
  _PIPER_CUDA_PART([CUBLASLT],[cuBLASLt],[libcublas-dev])
  _PIPER_CUDA_PART([CUDNN],[cuDNN 9.8 or later],[libcudnn9-dev-cuda-12])
  _PIPER_CUDA_PART([NCCL],[NCCL 2.18 or later],[libnccl-dev])
  CUDA_CFLAGS="-I$with_cuda/include"
  CUDA_LIBS="$piper_cuda_dir -lcublasLt $piper_cuda_rt"
  piper_how_CUDA="$with_cuda, architectures $CUDA_ARCHS"
  NVCC_WARN="--compiler-options=-Wall,-Wextra"
  AS_IF([test "x$enable_werror" = xyes],[NVCC_WARN="$NVCC_WARN -Werror all-warnings"])
  AC_DEFINE_UNQUOTED([CUDA_LIBDIR],["$piper_cuda_lib"],[where cuDNN and NCCL were when this was built])
  AC_DEFINE([HAVE_CUDA],[1],[the CUDA libraries were found])])
AM_CONDITIONAL([HAVE_CUDA],[test "x$with_cuda" != xno])
AC_SUBST([NVCC_GENCODE])
AC_SUBST([NVCC_WARN])
AC_SUBST([CUDA_CFLAGS])
AC_SUBST([CUDA_LIBS])
])

# _PIPER_CUDA_PART(NAME, WORDS, PACKAGE)
AC_DEFUN([_PIPER_CUDA_PART],[AS_IF([test "x$piper_have_$1" != xyes],[
  PIPER_MISSING([$2 (for --with-cuda)],[$3, from NVIDIA's repository],
    [--with-cuda=DIR, with it under DIR/include and DIR/lib64, or CPPFLAGS=-I... LDFLAGS=-L...],
    [module load cuda cudnn nccl])])])
