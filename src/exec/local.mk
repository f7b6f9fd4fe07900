libpiper_main_la_SOURCES += \
	src/exec/arena.c src/exec/backends.c src/exec/backends.h src/exec/bind.c src/exec/bucket_view.c \
	src/exec/bucket_view.h src/exec/check.c src/exec/compute.h src/exec/device.c src/exec/device.h \
	src/exec/device_comm.c src/exec/device_libs.c src/exec/device_open.c src/exec/device_ops.h \
	src/exec/device_pairs.c src/exec/device_rounds.c src/exec/device_state.c src/exec/emulate.c src/exec/exec.h src/exec/host.c \
	src/exec/lanes.c src/exec/look.c src/exec/machine.h src/exec/module.c src/exec/module.h src/exec/open.c src/exec/part.c \
	src/exec/private.h src/exec/rounds.c src/exec/run.c src/exec/sums.c src/exec/text.c
