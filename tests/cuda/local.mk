# The device layer and the executor on a device, without one: tests/cuda/fake is a CUDA runtime whose device is this machine.
check_LTLIBRARIES += tests/cuda/piper_fake.la
tests_cuda_piper_fake_la_SOURCES = \
	src/cuda/cuda.c \
	src/cuda/device.c \
	tests/cuda/fake/cuda_runtime_api.h \
	tests/cuda/fake/fake.h \
	tests/cuda/fake/graph.c \
	tests/cuda/fake/kernels.c \
	tests/cuda/fake/memory.c \
	tests/cuda/fake/run.c \
	tests/cuda/fake/stream.c
tests_cuda_piper_fake_la_CPPFLAGS = -I$(top_srcdir)/tests/cuda/fake $(AM_CPPFLAGS) -DCUDA_TARGET='"cpu"' -DCUDA_COMM=NULL
tests_cuda_piper_fake_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere

UNIT_TESTS += tests/cuda/test_device
tests_cuda_test_device_SOURCES = tests/cuda/test_device.c \
	src/cuda/device.c \
	tests/cuda/fake/graph.c tests/cuda/fake/kernels.c tests/cuda/fake/memory.c tests/cuda/fake/run.c tests/cuda/fake/stream.c
tests_cuda_test_device_CPPFLAGS = -I$(top_srcdir)/tests/cuda/fake $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_cuda_test_device_LDADD = $(PIPER_CPU) $(CHECK_LIBS) -lm
SCRIPT_TESTS += tests/cuda/fake.sh

# What needs a GPU: make check-gpu. Without one the tests are skipped and say so.
GPU_TESTS += tests/gpu/train.sh
EXTRA_DIST += $(GPU_TESTS)
.PHONY: check-gpu
check-gpu: all $(GPU_PROGS)
	@exec $(MAKE) $(AM_MAKEFLAGS) check TESTS="$(GPU_TESTS)" TEST_SUITE_LOG=test-suite-gpu.log
MOSTLYCLEANFILES += test-suite-gpu.log
