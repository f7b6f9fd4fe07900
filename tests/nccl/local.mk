# The NCCL back end on a stand-in that records its calls: no toolkit, no GPU. Lines of tests/mpi/testlist start it.
MPI_PROGS += tests/nccl/test_nccl
tests_nccl_test_nccl_SOURCES = \
	tests/nccl/cells.c tests/nccl/cells.h tests/nccl/device.c tests/nccl/judge.c tests/nccl/standin.c \
	tests/nccl/standin.h tests/nccl/standin/nccl.h tests/nccl/test_nccl.c \
	$(NCCL_SOURCES) \
	src/exec/bind.c src/exec/bucket_view.c src/exec/check.c src/exec/device.c src/exec/device_comm.c src/exec/device_libs.c \
	src/exec/device_open.c src/exec/device_pairs.c src/exec/device_rounds.c src/exec/device_state.c src/exec/lanes.c src/exec/look.c src/exec/open.c src/exec/part.c src/exec/rounds.c \
	src/exec/run.c src/exec/sums.c src/exec/text.c
tests_nccl_test_nccl_CPPFLAGS = -I$(top_srcdir)/tests/nccl/standin $(AM_CPPFLAGS)
tests_nccl_test_nccl_LDADD = libpiper_comm.la libpiper_world.la $(PIPER_SCHED) $(MPI_LIBS) -lm
LONG_TESTS += tests/nccl/all.sh

# What needs a GPU: start-up by real NCCL.
GPU_TESTS += tests/gpu/nccl.sh
if HAVE_CUDA
GPU_PROGS += tests/nccl/start
EXTRA_PROGRAMS += tests/nccl/start
tests_nccl_start_SOURCES = tests/nccl/start.c $(NCCL_SOURCES) comm/nccl_load.c
tests_nccl_start_CPPFLAGS = $(AM_CPPFLAGS) $(CUDA_CFLAGS)
tests_nccl_start_LDADD = $(PIPER_COMM) $(CUDA_LIBS)
endif
