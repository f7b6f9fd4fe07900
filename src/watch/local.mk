libpiper_main_la_SOURCES += \
	src/watch/beside.c src/watch/inquiry.c src/watch/look.c src/watch/private.h src/watch/process.c src/watch/record.c \
	src/watch/verdict.c src/watch/watch.c src/watch/watch.h

UNIT_TESTS += tests/unit/test_watch
tests_unit_test_watch_SOURCES = tests/unit/test_watch.c src/watch/private.h src/watch/verdict.c
tests_unit_test_watch_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_watch_LDADD = $(PIPER_BASE) $(CHECK_LIBS) -lm
