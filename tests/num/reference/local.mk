UNIT_TESTS += tests/num/test_reference
tests_num_test_reference_SOURCES = tests/num/test_reference.c tests/num/naive.c tests/num/naive.h
tests_num_test_reference_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests $(CHECK_CFLAGS) $(HDF5_CFLAGS) $(MPI_CFLAGS)
tests_num_test_reference_LDADD = $(PIPER_IO) $(PIPER_CPU) $(CHECK_LIBS) -lm
