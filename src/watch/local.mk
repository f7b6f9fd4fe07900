libpiper_main_la_SOURCES += \
	src/watch/beside.c src/watch/inquiry.c src/watch/look.c src/watch/private.h src/watch/process.c src/watch/record.c \
	src/watch/verdict.c src/watch/watch.c src/watch/watch.h
