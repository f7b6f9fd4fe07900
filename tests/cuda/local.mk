# The device layer and the executor on a device, without one: tests/cuda/fake is a CUDA runtime whose device is this machine.
check_LTLIBRARIES += tests/cuda/piper_fake.la
CUDA_FAKE_SOURCES = \
	src/cuda/device.c \
	tests/cuda/cuda_runtime_api.h \
	tests/cuda/nvtx3/nvToolsExt.h \
	tests/cuda/fake/fake.h \
	tests/cuda/fake/graph.c \
	tests/cuda/fake/kernels.c \
	tests/cuda/fake/memory.c \
	tests/cuda/fake/run.c \
	tests/cuda/fake/stream.c
tests_cuda_piper_fake_la_SOURCES = src/cuda/cuda.c $(CUDA_FAKE_SOURCES)
tests_cuda_piper_fake_la_CPPFLAGS = -I$(top_srcdir)/tests/cuda $(AM_CPPFLAGS) -DCUDA_TARGET='"cpu"' -DCUDA_COMM=NULL
tests_cuda_piper_fake_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere

UNIT_TESTS += tests/cuda/test_device
tests_cuda_test_device_SOURCES = tests/cuda/test_device.c $(CUDA_FAKE_SOURCES)
tests_cuda_test_device_CPPFLAGS = -I$(top_srcdir)/tests/cuda $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_cuda_test_device_LDADD = $(PIPER_CPU) $(CHECK_LIBS) -lm

# What needs a GPU: make check-gpu. Without one the tests are skipped and say so.
# The tests of operators and updates on the device of a module: with the module of tests/cuda/fake they are tried without one.
GPU_PROGS += tests/gpu/test_members tests/gpu/test_ops tests/gpu/test_update
DEVICE_MACHINE = tests/gpu/machine_device.c tests/gpu/machine_device.h src/rundir/folder.c src/rundir/folder.h src/exec/module.c src/exec/module.h
# The module takes functions of the program: the fake one the CPU's kernels, the real one those that its NCCL back end calls.
DEVICE_LINK = $(AM_LDFLAGS) -export-dynamic -Wl,--undefined=compute_cpu,--undefined=world_max_u64,--undefined=comm_group_rank
DEVICE_LDADD = $(PIPER_COMM) $(CPU_TEST_LDADD)
DEVICE_CPPFLAGS = $(CPU_TEST_CPPFLAGS) -DPKGLIBDIR='"$(pkglibdir)"'
tests_gpu_test_ops_SOURCES = $(OPS_TEST_SOURCES) $(DEVICE_MACHINE)
tests_gpu_test_ops_CPPFLAGS = $(DEVICE_CPPFLAGS)
tests_gpu_test_ops_LDFLAGS = $(DEVICE_LINK)
tests_gpu_test_ops_LDADD = $(DEVICE_LDADD)
tests_gpu_test_members_SOURCES = $(MEMBERS_TEST_SOURCES) $(DEVICE_MACHINE)
tests_gpu_test_members_CPPFLAGS = $(DEVICE_CPPFLAGS)
tests_gpu_test_members_LDFLAGS = $(DEVICE_LINK)
tests_gpu_test_members_LDADD = $(DEVICE_LDADD)
tests_gpu_test_update_SOURCES = $(UPDATE_TEST_SOURCES) $(DEVICE_MACHINE)
tests_gpu_test_update_CPPFLAGS = $(DEVICE_CPPFLAGS)
tests_gpu_test_update_LDFLAGS = $(DEVICE_LINK)
tests_gpu_test_update_LDADD = $(DEVICE_LDADD)
check_PROGRAMS += tests/gpu/test_members tests/gpu/test_ops tests/gpu/test_update
SCRIPT_TESTS += tests/gpu/rehearse.sh tests/gpu/packed.sh
LONG_TESTS += tests/gpu/rehearse_all.sh

if HAVE_CUDA
GPU_PROGS += tests/gpu/test_parts
EXTRA_PROGRAMS += tests/gpu/test_parts
tests_gpu_test_parts_SOURCES = $(MACHINE_TEST_SOURCES) $(PARTS_TEST_SOURCES) tests/gpu/parts_device.c $(DEVICE_MACHINE)
tests_gpu_test_parts_CPPFLAGS = $(DEVICE_CPPFLAGS) $(CUDA_CFLAGS)
tests_gpu_test_parts_LDFLAGS = $(DEVICE_LINK)
tests_gpu_test_parts_LDADD = $(DEVICE_LDADD)
endif
# Products, attention and the measured peak by the functions of a module that has them.
GPU_PROGS += tests/gpu/test_products tests/gpu/peak
EXTRA_PROGRAMS += tests/gpu/test_products tests/gpu/peak
tests_gpu_test_products_SOURCES = $(PRODUCTS_TEST_SOURCES) tests/gpu/products_device.c $(DEVICE_MACHINE)
tests_gpu_test_products_CPPFLAGS = $(DEVICE_CPPFLAGS)
tests_gpu_test_products_LDFLAGS = $(DEVICE_LINK)
tests_gpu_test_products_LDADD = $(DEVICE_LDADD)
tests_gpu_peak_SOURCES = $(MACHINE_TEST_SOURCES) tests/gpu/peak.c tests/gpu/products_device.c $(DEVICE_MACHINE)
tests_gpu_peak_CPPFLAGS = $(DEVICE_CPPFLAGS)
tests_gpu_peak_LDFLAGS = $(DEVICE_LINK)
tests_gpu_peak_LDADD = $(DEVICE_LDADD)

GPU_TESTS += tests/gpu/gradients.sh tests/gpu/train.sh tests/gpu/sanitize.sh
EXTRA_DIST += $(GPU_TESTS) tests/gpu/bench.sh tests/gpu/check.sh tests/gpu/env.sh tests/gpu/first.sh tests/gpu/lib.sh \
	tests/gpu/llmc.sh tests/gpu/measure.sh tests/gpu/pack.sh tests/gpu/refcheck.py tests/gpu/table.sh tests/gpu/RESULTS.md
# Automake has rules for the tests of TESTS only: these have a runner of their own. `all` is a make of its own, so the programs come
# after it.
.PHONY: check-gpu gpu-programs gpu-list
gpu-programs: all
	@$(MAKE) $(AM_MAKEFLAGS) $(GPU_PROGS)
check-gpu: gpu-programs
	@$(AM_TESTS_ENVIRONMENT) sh $(srcdir)/tests/gpu/check.sh $(GPU_PROGS) $(GPU_TESTS)
gpu-list:
	@echo $(GPU_PROGS) $(GPU_TESTS)
clean-local: clean-gpu
.PHONY: clean-gpu
clean-gpu:
	-rm -rf check-gpu
