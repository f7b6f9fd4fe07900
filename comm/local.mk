# Below comm and io.
noinst_LTLIBRARIES += libpiper_world.la
libpiper_world_la_SOURCES = comm/mpi_call.h comm/mpi_patience.c comm/world.c comm/world.h
libpiper_world_la_CPPFLAGS = $(AM_CPPFLAGS) $(MPI_CFLAGS)

noinst_LTLIBRARIES += libpiper_comm.la
libpiper_comm_la_SOURCES = \
	comm/backends.c \
	comm/comm.h \
	comm/liveness.c \
	comm/liveness.h \
	comm/mpi.c \
	comm/mpi_private.h \
	comm/mpi_progress.c \
	comm/mpi_rounds.c \
	comm/mpi_sum.c \
	comm/null.c \
	comm/rows.h
# In the module.
NCCL_SOURCES = comm/nccl.c comm/nccl_open.c comm/nccl_private.h comm/nccl_watch.c

libpiper_comm_la_CPPFLAGS = $(AM_CPPFLAGS) $(MPI_CFLAGS)

MPI_PROGS += tests/mpi/test_comm tests/mpi/bench_comm
tests_mpi_test_comm_SOURCES = tests/mpi/test_comm.c tests/mpi/test_comm.h tests/mpi/test_comm_random.c
tests_mpi_test_comm_CPPFLAGS = $(AM_CPPFLAGS) $(MPI_CFLAGS)
tests_mpi_test_comm_LDADD = $(PIPER_COMM)
tests_mpi_bench_comm_SOURCES = tests/mpi/bench_comm.c tests/mpi/test_comm.h
tests_mpi_bench_comm_CPPFLAGS = $(AM_CPPFLAGS) $(MPI_CFLAGS)
tests_mpi_bench_comm_LDADD = $(PIPER_COMM)
