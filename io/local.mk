noinst_LTLIBRARIES += libpiper_io.la
libpiper_io_la_SOURCES = \
	io/block_hash.c io/block_hash.h \
	io/checkpoint.h io/checkpoint_private.h \
	io/checkpoint_diff.c io/checkpoint_dir.c io/checkpoint_read.c io/checkpoint_write.c \
	io/file.c io/file.h \
	io/h5.c io/h5.h io/h5_private.h io/h5_read.c io/h5_write.c \
	io/job.c io/job.h io/job_train.c io/job_train.h \
	io/model.c io/model.h \
	io/order.c io/order.h \
	io/sha256.c io/sha256.h \
	io/tokens.c io/tokens.h \
	io/world.c io/world.h
libpiper_io_la_CPPFLAGS = $(AM_CPPFLAGS) $(HDF5_CFLAGS) $(MPI_CFLAGS)

UNIT_TESTS += tests/unit/test_io_job
tests_unit_test_io_job_SOURCES = tests/unit/test_io_job.c tests/unit/io_sample.h
tests_unit_test_io_job_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_io_job_LDADD = $(PIPER_IO) $(CHECK_LIBS)
