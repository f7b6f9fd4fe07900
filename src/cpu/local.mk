noinst_LTLIBRARIES += libpiper_cpu.la
libpiper_cpu_la_SOURCES = \
	src/cpu/act.c \
	src/cpu/attention.c \
	src/cpu/blas.c \
	src/cpu/blas.h \
	src/cpu/cpu.c \
	src/cpu/cpu.h \
	src/cpu/dispatch.c \
	src/cpu/embed.c \
	src/cpu/experts.c \
	src/cpu/head.c \
	src/cpu/linear.c \
	src/cpu/norm.c \
	src/cpu/rope.c \
	src/cpu/router.c \
	src/cpu/update.c \
	src/cpu/vec.c \
	src/cpu/vec.h \
	src/cpu/vec_body.h \
	src/cpu/vec_math.h
# Loops marked simd vectorise only when sqrt sets no errno and a comparison cannot trap. Neither changes a result.
libpiper_cpu_la_CFLAGS = $(AM_CFLAGS) $(PIPER_OPT_KERNELS) $(OPENMP_CFLAGS) -fno-math-errno -fno-trapping-math
libpiper_cpu_la_CPPFLAGS = $(AM_CPPFLAGS) $(CBLAS_CFLAGS)
libpiper_cpu_la_LIBADD = $(CBLAS_LIBS) -lm
