libpiper_main_la_SOURCES += \
	src/tune/evaluate.c src/tune/guess.c src/tune/guess.h src/tune/search.c src/tune/search.h \
	src/tune/space.c src/tune/space.h src/tune/strategy.c src/tune/strategy.h
