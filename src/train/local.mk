libpiper_main_la_SOURCES += \
	src/train/data.c src/train/eval.c src/train/feed.c src/train/feed.h src/train/head.c src/train/head.h src/train/init_params.c \
	src/train/init_params.h src/train/keep.c src/train/load.c src/train/load.h src/train/loop.c src/train/metrics.c src/train/metrics.h src/train/pieces.c \
	src/train/pieces.h src/train/predict.c src/train/predict.h src/train/private.h src/train/replicas.c \
	src/train/replicas.h src/train/samples.c src/train/save.c src/train/shared.c src/train/spent.c src/train/start.c src/train/state.c \
	src/train/stop.c src/train/threads.c src/train/trace.c src/train/train.c src/train/train.h

UNIT_TESTS += tests/unit/test_state
tests_unit_test_state_SOURCES = tests/unit/test_state.c \
	src/train/init_params.c src/train/init_params.h src/base/number.h src/train/pieces.c src/train/pieces.h src/train/replicas.c src/train/replicas.h src/exec/bucket_view.c src/exec/bucket_view.h
tests_unit_test_state_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_state_CFLAGS = $(AM_CFLAGS) $(OPENMP_CFLAGS)
tests_unit_test_state_LDADD = $(PIPER_IR) $(CHECK_LIBS)
