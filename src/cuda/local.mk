# The CUDA back end is a module that the program loads when it is asked for: a program built here runs on hosts without CUDA.
CUDA_SOURCES = \
	src/cuda/attention.c \
	src/cuda/attention_f32.cu \
	src/cuda/attention_tiles.cu \
	src/cuda/attention.cuh \
	src/cuda/bins.cuh \
	src/cuda/columns.cu \
	src/cuda/cuda.c \
	src/cuda/cuda.h \
	src/cuda/cudnn_load.c \
	src/cuda/device.c \
	src/cuda/dispatch.cu \
	src/cuda/embed.cu \
	src/cuda/expert_bias.cu \
	src/cuda/experts.c \
	src/cuda/fail.h \
	src/cuda/gate.cuh \
	src/cuda/grouped.cu \
	src/cuda/grouped.cuh \
	src/cuda/head.c \
	src/cuda/kernel.cuh \
	src/cuda/libs.c \
	src/cuda/libs.h \
	src/cuda/libs_private.h \
	src/cuda/linear.c \
	src/cuda/loss.cu \
	src/cuda/map.cu \
	src/cuda/matmul.c \
	src/cuda/matmul.h \
	src/cuda/matmul_file.c \
	src/cuda/norm.cu \
	src/cuda/product.cuh \
	src/cuda/rope.cu \
	src/cuda/router.cu \
	src/cuda/router.cuh \
	src/cuda/router_loss.cuh \
	src/cuda/sdpa.c \
	src/cuda/sdpa.h \
	src/cuda/sdpa_graph.c \
	src/cuda/sdpa_graph.h \
	src/cuda/tensor.cuh \
	src/cuda/update.cu

SUFFIXES = .cu
# libtool knows no nvcc: it would take -Xcompiler for itself, and add flags for position-independent code that nvcc has not.
NVCC_COMPILE = $(NVCC) $(NVCC_GENCODE) $(NVCCFLAGS) $(NVCC_WARN) -std=c++17 --compiler-options=-fPIC $(DEFS) $(DEFAULT_INCLUDES) \
	$(AM_CPPFLAGS) $(CUDA_CFLAGS) $(CPPFLAGS)
AM_V_NVCC = $(am__v_NVCC_@AM_V@)
am__v_NVCC_ = $(am__v_NVCC_@AM_DEFAULT_V@)
am__v_NVCC_0 = @echo "  NVCC    " $@;
am__v_NVCC_1 =
.cu.lo:
	$(AM_V_NVCC)$(MKDIR_P) $(@D) && $(LIBTOOL) $(AM_V_lt) --tag=CC --mode=compile $(NVCC_COMPILE) -prefer-non-pic -c -o $@ $<
CUDA_OBJECTS = \
	src/cuda/attention_f32.lo src/cuda/attention_tiles.lo src/cuda/columns.lo src/cuda/dispatch.lo src/cuda/embed.lo src/cuda/expert_bias.lo src/cuda/grouped.lo src/cuda/loss.lo \
	src/cuda/map.lo src/cuda/norm.lo src/cuda/rope.lo src/cuda/router.lo src/cuda/update.lo
$(CUDA_OBJECTS): src/exec/compute.h ir/split.h src/cuda/attention.cuh src/cuda/bins.cuh src/cuda/cuda.h src/cuda/gate.cuh src/cuda/grouped.cuh src/cuda/kernel.cuh \
	src/cuda/product.cuh src/cuda/router.cuh src/cuda/router_loss.cuh src/cuda/tensor.cuh ir/op.h ir/target_cuda_own.h

if HAVE_CUDA
pkglib_LTLIBRARIES += piper_cuda.la
piper_cuda_la_SOURCES = $(CUDA_SOURCES) $(NCCL_SOURCES) comm/nccl_load.c src/base/library.c src/base/library.h
piper_cuda_la_CPPFLAGS = $(AM_CPPFLAGS) $(CUDA_CFLAGS)
piper_cuda_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared
piper_cuda_la_LIBADD = $(CUDA_LIBS)
endif
