libpiper_main_la_SOURCES += \
	src/rundir/batch_time.c src/rundir/batch_time.h src/rundir/events.c src/rundir/events.h \
	src/rundir/flight.c src/rundir/flight.h src/rundir/folder.c src/rundir/folder.h src/rundir/halt.c \
	src/rundir/halt.h src/rundir/lock.c src/rundir/lock.h src/rundir/log.c src/rundir/log.h \
	src/rundir/signals.c src/rundir/signals.h

UNIT_TESTS += tests/unit/test_events
tests_unit_test_events_SOURCES = tests/unit/test_events.c src/rundir/events.c src/rundir/events.h
tests_unit_test_events_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_events_LDADD = $(PIPER_BASE) $(CHECK_LIBS)
