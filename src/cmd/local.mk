libpiper_main_la_SOURCES += \
	src/cmd/build.c src/cmd/calibrate.c src/cmd/calibrate.h src/cmd/calibrate_compute.c \
	src/cmd/calibrate_kernel.c src/cmd/calibrate_links.c src/cmd/checkpoint.c src/cmd/command.h src/cmd/data.c \
	src/cmd/halt.c src/cmd/info.c src/cmd/options.c src/cmd/options.h src/cmd/plan.c src/cmd/trace.c \
	src/cmd/train.c
