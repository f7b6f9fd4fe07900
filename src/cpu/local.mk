noinst_LTLIBRARIES += libpiper_cpu.la
libpiper_cpu_la_SOURCES = \
	src/cpu/act.c \
	src/cpu/avx512.h \
	src/cpu/attention.c \
	src/cpu/bf16.c \
	src/cpu/blas.c \
	src/cpu/blas.h \
	src/cpu/cpu.c \
	src/cpu/cpu.h \
	src/cpu/dispatch.c \
	src/cpu/embed.c \
	src/cpu/experts.c \
	src/cpu/gemm.c \
	src/cpu/gemv.c \
	src/cpu/head.c \
	src/cpu/isa.c \
	src/cpu/isa.h \
	src/cpu/kernel.c \
	src/cpu/kernel.h \
	src/cpu/kernel_amx.c \
	src/cpu/kernel_bf16.c \
	src/cpu/kernel_body.h \
	src/cpu/linear.c \
	src/cpu/norm.c \
	src/cpu/rope.c \
	src/cpu/router.c \
	src/cpu/team.c \
	src/cpu/update.c \
	src/cpu/vec.c \
	src/cpu/vec.h \
	src/cpu/vec_body.h \
	src/cpu/vec_math.h
# Loops marked simd vectorise only when sqrt sets no errno and a comparison cannot trap. Neither changes a result.
libpiper_cpu_la_CFLAGS = -Wno-pass-failed $(AM_CFLAGS) $(PIPER_OPT_KERNELS) $(OPENMP_CFLAGS) -fopenmp-simd \
	-fno-math-errno -fno-trapping-math
libpiper_cpu_la_CPPFLAGS = $(AM_CPPFLAGS) $(CBLAS_CFLAGS)

UNIT_TESTS += tests/num/test_kernels tests/num/test_members tests/num/test_update tests/num/test_vec
CPU_TEST_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests $(CHECK_CFLAGS)
CPU_TEST_LDADD = $(PIPER_CPU) $(CHECK_LIBS) -lm
# Operators and updates of any back end: tests/num/machine_cpu.c names those of the CPU.
MACHINE_TEST_SOURCES = tests/num/machine.c tests/num/machine.h tests/num/num.c tests/num/num.h
OPS_TEST_SOURCES = $(MACHINE_TEST_SOURCES) \
	tests/num/oracle.c tests/num/oracle_dense.c tests/num/oracle_moe.c \
	tests/num/attention.c tests/num/pairs.c \
	tests/num/problem.c \
	tests/num/run_op.c tests/num/run_op.h \
	tests/num/test_ops.c
# Of the same operators the parts of several devices.
MEMBERS_TEST_SOURCES = $(MACHINE_TEST_SOURCES) \
	tests/num/members.c tests/num/members.h \
	tests/num/members_route.c \
	tests/num/oracle.c tests/num/oracle_dense.c tests/num/oracle_moe.c \
	tests/num/problem.c \
	tests/num/run_op.c tests/num/run_op.h \
	tests/num/test_members.c
UPDATE_TEST_SOURCES = $(MACHINE_TEST_SOURCES) tests/num/test_update.c
tests_num_test_ops_SOURCES = $(OPS_TEST_SOURCES) tests/num/machine_cpu.c
tests_num_test_ops_CPPFLAGS = $(CPU_TEST_CPPFLAGS)
tests_num_test_ops_LDADD = $(CPU_TEST_LDADD)
tests_num_test_members_SOURCES = $(MEMBERS_TEST_SOURCES) tests/num/machine_cpu.c
tests_num_test_members_CPPFLAGS = $(CPU_TEST_CPPFLAGS)
tests_num_test_members_LDADD = $(CPU_TEST_LDADD)
tests_num_test_update_SOURCES = $(UPDATE_TEST_SOURCES) tests/num/machine_cpu.c
tests_num_test_update_CPPFLAGS = $(CPU_TEST_CPPFLAGS)
tests_num_test_update_LDADD = $(CPU_TEST_LDADD)
# The kernel for AMX on a model of its tiles takes the place of the library's.
tests_num_test_kernels_SOURCES = tests/num/amx_model.h tests/num/num.c tests/num/num.h tests/num/test_kernels.c \
	src/cpu/kernel_amx.c
tests_num_test_kernels_CPPFLAGS = $(CPU_TEST_CPPFLAGS) $(CBLAS_CFLAGS) -DCPU_AMX_MODEL='"num/amx_model.h"'
tests_num_test_kernels_LDADD = $(CPU_TEST_LDADD)
tests_num_test_vec_SOURCES = tests/num/num.c tests/num/num.h tests/num/test_vec.c
tests_num_test_vec_CPPFLAGS = $(CPU_TEST_CPPFLAGS)
tests_num_test_vec_LDADD = $(CPU_TEST_LDADD)

# The same with every set of instructions of this processor.
LONG_TESTS += tests/num/isa.sh

# Times of the kernels beside their floors: make tests/num/bench_ops
EXTRA_PROGRAMS = tests/num/bench_ops
tests_num_bench_ops_SOURCES = tests/num/bench_ops.c
tests_num_bench_ops_LDADD = $(PIPER_CPU) -lm
