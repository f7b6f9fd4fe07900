libpiper_main_la_SOURCES += \
	src/speak/evaluate.c src/speak/evaluate.h src/speak/model.c src/speak/model.h src/speak/sample.c src/speak/sample.h \
	src/speak/speaker.c src/speak/speaker.h src/speak/text.c src/speak/text.h \
	src/speak/tokens.c src/speak/tokens.h src/speak/walk.c src/speak/walk.h
