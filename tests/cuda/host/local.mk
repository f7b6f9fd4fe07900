# Our own CUDA kernels compiled for the host, and the tests of operators, updates and parts on them.
CUDA_HOST_SOURCES = \
	tests/cuda/cuda_runtime_api.h \
	tests/cuda/host/cuda_bf16.h \
	tests/cuda/host/cuda_on_host.cc \
	tests/cuda/host/cuda_on_host.h \
	tests/cuda/host/cuda_runtime.h \
	tests/cuda/host/kernels.cc

PARTS_TEST_SOURCES = tests/cuda/parts_attention.c tests/cuda/parts_attention.h tests/cuda/test_parts.c

if HAVE_CXX
check_LTLIBRARIES += libpiper_cuda_host.la
libpiper_cuda_host_la_SOURCES = $(CUDA_HOST_SOURCES)
libpiper_cuda_host_la_CPPFLAGS = -I$(top_srcdir)/tests/cuda/host -I$(top_srcdir)/tests/cuda $(AM_CPPFLAGS)
# Kernels see one memory as numbers of several types. Level 2 whatever CFLAGS say: the tests run on it.
libpiper_cuda_host_la_CXXFLAGS = $(CXX17_FLAG) $(PIPER_WARN) $(PIPER_SAN) -O2 -fno-strict-aliasing -Wno-unknown-pragmas
CUDA_HOST_CPPFLAGS = -I$(top_srcdir)/tests/cuda/host -I$(top_srcdir)/tests/cuda $(CPU_TEST_CPPFLAGS)
CUDA_HOST_LDADD = libpiper_cuda_host.la $(PIPER_IR) $(CHECK_LIBS) -lm

SLOW_UNIT_TESTS += tests/cuda/test_ops_host
UNIT_TESTS += tests/cuda/test_members_host tests/cuda/test_update_host tests/cuda/test_parts_host
tests_cuda_test_members_host_SOURCES = $(MEMBERS_TEST_SOURCES) tests/cuda/machine_host.c
nodist_EXTRA_tests_cuda_test_members_host_SOURCES = none.cc
tests_cuda_test_members_host_CPPFLAGS = $(CUDA_HOST_CPPFLAGS)
tests_cuda_test_members_host_LDADD = $(CUDA_HOST_LDADD)
tests_cuda_test_ops_host_SOURCES = $(OPS_TEST_SOURCES) tests/cuda/machine_host.c
nodist_EXTRA_tests_cuda_test_ops_host_SOURCES = none.cc
tests_cuda_test_ops_host_CPPFLAGS = $(CUDA_HOST_CPPFLAGS)
tests_cuda_test_ops_host_LDADD = $(CUDA_HOST_LDADD)
tests_cuda_test_update_host_SOURCES = $(UPDATE_TEST_SOURCES) tests/cuda/machine_host.c
nodist_EXTRA_tests_cuda_test_update_host_SOURCES = none.cc
tests_cuda_test_update_host_CPPFLAGS = $(CUDA_HOST_CPPFLAGS)
tests_cuda_test_update_host_LDADD = $(CUDA_HOST_LDADD)
tests_cuda_test_parts_host_SOURCES = $(MACHINE_TEST_SOURCES) $(PARTS_TEST_SOURCES) tests/cuda/machine_host.c
nodist_EXTRA_tests_cuda_test_parts_host_SOURCES = none.cc
tests_cuda_test_parts_host_CPPFLAGS = $(CUDA_HOST_CPPFLAGS)
tests_cuda_test_parts_host_LDADD = $(CUDA_HOST_LDADD)
endif
