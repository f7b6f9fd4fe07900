libpiper_main_la_SOURCES += \
	src/job/compile_job.c src/job/compile_job.h src/job/config.c src/job/config.h src/job/machine_file.c \
	src/job/machine_file.h

UNIT_TESTS += tests/unit/test_config
tests_unit_test_config_SOURCES = tests/unit/test_config.c src/job/config.c src/job/config.h
tests_unit_test_config_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_config_LDADD = $(PIPER_IR) $(CHECK_LIBS)
