noinst_LTLIBRARIES += libpiper_io.la
libpiper_io_la_SOURCES =
libpiper_io_la_CPPFLAGS = $(AM_CPPFLAGS) $(HDF5_CFLAGS) $(MPI_CFLAGS)
