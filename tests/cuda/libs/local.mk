# Matrix products and attention of libraries. Their files are compiled against stand-ins of the libraries' headers, whatever
# is installed, and tested on what these compute; with --with-cuda also against the real headers, and cuDNN builds its plans.
CUDA_LIBS_SOURCES = \
	src/cuda/attention.c src/cuda/cuda.h \
	src/cuda/experts.c src/cuda/fail.h \
	src/cuda/head.c \
	src/cuda/libs.c src/cuda/libs.h src/cuda/libs_private.h \
	src/cuda/linear.c \
	src/cuda/matmul.c src/cuda/matmul.h src/cuda/matmul_file.c \
	src/cuda/sdpa.c src/cuda/sdpa.h \
	src/cuda/sdpa_graph.c src/cuda/sdpa_graph.h
CUDA_FAKE_LIBS_SOURCES = \
	tests/cuda/cuda_runtime_api.h tests/cuda/libs/cublasLt.h tests/cuda/libs/cudnn.h \
	tests/cuda/libs/fake.h \
	tests/cuda/libs/fake_cublaslt.c \
	tests/cuda/libs/fake_cudnn.c tests/cuda/libs/fake_cudnn.h tests/cuda/libs/fake_cudnn_run.c \
	tests/cuda/libs/fake_runtime.c
CUDA_FAKE_LIBS_CPPFLAGS = -I$(top_srcdir)/tests/cuda/libs -I$(top_srcdir)/tests/cuda $(AM_CPPFLAGS) -I$(top_srcdir)/tests \
	$(CHECK_CFLAGS)

UNIT_TESTS += tests/cuda/test_matmul tests/cuda/test_members_libs tests/cuda/test_products
tests_cuda_test_members_libs_SOURCES = $(CUDA_LIBS_SOURCES) $(CUDA_FAKE_LIBS_SOURCES) $(MEMBERS_TEST_SOURCES) tests/cuda/machine_libs.c
tests_cuda_test_members_libs_CPPFLAGS = $(CUDA_FAKE_LIBS_CPPFLAGS)
tests_cuda_test_members_libs_LDADD = $(PIPER_IR) $(CHECK_LIBS) -lm
tests_cuda_test_libs_SOURCES = $(CUDA_LIBS_SOURCES) $(CUDA_FAKE_LIBS_SOURCES) $(OPS_TEST_SOURCES) tests/cuda/machine_libs.c
tests_cuda_test_libs_CPPFLAGS = $(CUDA_FAKE_LIBS_CPPFLAGS)
tests_cuda_test_libs_LDADD = $(PIPER_IR) $(CHECK_LIBS) -lm
tests_cuda_test_matmul_SOURCES = src/cuda/matmul.c src/cuda/matmul.h src/cuda/matmul_file.c \
	src/cuda/sdpa.c src/cuda/sdpa.h src/cuda/sdpa_graph.c src/cuda/sdpa_graph.h \
	$(CUDA_FAKE_LIBS_SOURCES) tests/cuda/test_matmul.c
tests_cuda_test_matmul_CPPFLAGS = $(CUDA_FAKE_LIBS_CPPFLAGS)
tests_cuda_test_matmul_LDADD = $(PIPER_IR) $(CHECK_LIBS) -lm

PRODUCTS_TEST_SOURCES = $(MACHINE_TEST_SOURCES) tests/cuda/test_products.c \
	tests/num/oracle.c tests/num/oracle_dense.c tests/num/oracle_moe.c
tests_cuda_test_products_SOURCES = $(CUDA_LIBS_SOURCES) $(CUDA_FAKE_LIBS_SOURCES) $(PRODUCTS_TEST_SOURCES) \
	tests/cuda/machine_libs.c
tests_cuda_test_products_CPPFLAGS = $(CUDA_FAKE_LIBS_CPPFLAGS)
tests_cuda_test_products_LDADD = $(PIPER_IR) $(CHECK_LIBS) -lm
check_PROGRAMS += tests/cuda/peak
tests_cuda_peak_SOURCES = $(CUDA_LIBS_SOURCES) $(CUDA_FAKE_LIBS_SOURCES) $(MACHINE_TEST_SOURCES) \
	tests/cuda/machine_libs.c tests/gpu/peak.c
tests_cuda_peak_CPPFLAGS = $(CUDA_FAKE_LIBS_CPPFLAGS)
tests_cuda_peak_LDADD = $(PIPER_IR) $(CHECK_LIBS) -lm

SCRIPT_TESTS += tests/cuda/plans.sh
if HAVE_CUDA
noinst_LTLIBRARIES += libpiper_cuda_libs.la
libpiper_cuda_libs_la_SOURCES = $(CUDA_LIBS_SOURCES)
libpiper_cuda_libs_la_CPPFLAGS = $(AM_CPPFLAGS) $(CUDA_CFLAGS)

check_PROGRAMS += tests/cuda/plans_test
tests_cuda_plans_test_SOURCES = tests/cuda/plans_test.c src/cuda/attention.c src/cuda/cudnn_load.c src/cuda/sdpa.c src/cuda/sdpa_graph.c
tests_cuda_plans_test_CPPFLAGS = $(AM_CPPFLAGS) $(CUDA_CFLAGS)
tests_cuda_plans_test_LDADD = $(PIPER_IR) $(CUDA_LIBS)
endif
