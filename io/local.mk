noinst_LTLIBRARIES += libpiper_io.la
libpiper_io_la_SOURCES = \
	io/block_hash.c io/block_hash.h \
	io/checkpoint.h io/checkpoint_private.h \
	io/checkpoint_data.c io/checkpoint_diff.c io/checkpoint_dir.c io/checkpoint_keep.c io/checkpoint_layout.c \
	io/checkpoint_params.c io/checkpoint_read.c io/checkpoint_save.c \
	io/checkpoint_write.c \
	io/file.c io/file.h \
	io/h5.c io/h5.h io/h5_attr.c io/h5_guard.c io/h5_private.h io/h5_read.c io/h5_version.h io/h5_write.c \
	io/job.c io/job.h io/job_train.c io/job_train.h \
	io/machine.c io/machine.h \
	io/model.c io/model.h io/model_private.h io/model_read.c io/model_write.c \
	io/order.c io/order.h \
	io/safetensors.h io/safetensors_export.c io/safetensors_import.c io/safetensors_open.c io/safetensors_quantized.c \
	io/safetensors_private.h \
	io/sha256.c io/sha256.h \
	io/tokens.c io/tokens.h io/tokens_import.c io/tokens_import.h io/tokens_write.c io/tokens_write.h \
	io/trace.h io/trace_private.h io/trace_read.c io/trace_write.c
libpiper_io_la_CPPFLAGS = $(AM_CPPFLAGS) $(HDF5_CFLAGS) $(MPI_CFLAGS)

MPI_PROGS += tests/mpi/bench_checkpoint
if HAVE_CHECK
MPI_PROGS += tests/mpi/test_checkpoint
endif

tests_mpi_test_checkpoint_SOURCES = tests/mpi/test_checkpoint.c tests/unit/io_sample.h
tests_mpi_test_checkpoint_CPPFLAGS = $(AM_CPPFLAGS) $(HDF5_CFLAGS) $(MPI_CFLAGS) $(CHECK_CFLAGS)
tests_mpi_test_checkpoint_LDADD = $(PIPER_IO) $(CHECK_LIBS)

tests_mpi_bench_checkpoint_SOURCES = tests/mpi/bench_checkpoint.c
tests_mpi_bench_checkpoint_CPPFLAGS = $(AM_CPPFLAGS) $(HDF5_CFLAGS) $(MPI_CFLAGS)
tests_mpi_bench_checkpoint_LDADD = $(PIPER_IO)

dist_man_MANS += src/man/piper-checkpoint.5 src/man/piper-job.5 src/man/piper-tokens.5 src/man/piper-trace.5
