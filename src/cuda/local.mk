# Our own CUDA kernels. nvcc compiles them through libtool; the word -prefer-non-pic keeps libtool from adding a flag that
# nvcc does not know.
CUDA_KERNELS = \
	src/cuda/attention_f32.cu \
	src/cuda/bins.cuh \
	src/cuda/columns.cu \
	src/cuda/cuda.h \
	src/cuda/dispatch.cu \
	src/cuda/embed.cu \
	src/cuda/kernel.cuh \
	src/cuda/loss.cu \
	src/cuda/map.cu \
	src/cuda/norm.cu \
	src/cuda/product.cuh \
	src/cuda/rope.cu \
	src/cuda/router.cu \
	src/cuda/update.cu
EXTRA_DIST += $(CUDA_KERNELS)
SUFFIXES = .cu
AM_V_NVCC = $(am__v_NVCC_@AM_V@)
am__v_NVCC_ = $(am__v_NVCC_@AM_DEFAULT_V@)
am__v_NVCC_0 = @echo "  NVCC    " $@;
am__v_NVCC_1 =
NVCC_COMPILE = $(NVCC) -std=c++17 $(NVCC_GENCODE) $(NVCCFLAGS) $(NVCC_WARN) --compiler-options=-fPIC $(DEFS) \
	$(DEFAULT_INCLUDES) $(AM_CPPFLAGS) $(CPPFLAGS)
.cu.lo:
	$(AM_V_NVCC)$(MKDIR_P) $(@D) && $(LIBTOOL) $(AM_V_lt) --tag=CC --mode=compile $(NVCC_COMPILE) -prefer-non-pic -c \
		-o $@ $<

if HAVE_CUDA
noinst_LTLIBRARIES += libpiper_cuda_kernels.la
libpiper_cuda_kernels_la_SOURCES = $(CUDA_KERNELS)
src/cuda/attention_f32.lo src/cuda/columns.lo src/cuda/dispatch.lo src/cuda/embed.lo src/cuda/loss.lo src/cuda/map.lo \
src/cuda/norm.lo src/cuda/rope.lo src/cuda/router.lo src/cuda/update.lo: \
	src/cuda/bins.cuh src/cuda/cuda.h src/cuda/kernel.cuh src/cuda/product.cuh src/compute.h ir/op.h \
	ir/target_cuda_own.h
endif
