# All but main(): the program, and the one whose calls fail (tests/fault), are made of it.
noinst_LTLIBRARIES += libpiper_main.la
libpiper_main_la_SOURCES = \
	src/backends.c src/backends.h src/calibrate.h src/calibrate_compute.c src/calibrate_kernel.c \
	src/calibrate_links.c src/cmd_build.c src/cmd_calibrate.c src/cmd_checkpoint.c src/cmd_data.c src/cmd_halt.c \
	src/cmd_info.c src/cmd_plan.c src/cmd_trace.c src/cmd_train.c \
	src/command.h \
	src/batch_time.c src/batch_time.h \
	src/compile_job.c src/compile_job.h \
	src/compute.h \
	src/config.c src/config.h \
	src/draw.h src/draw_plan.c src/draw_plan.h src/draw_spans.c src/draw_svg.c src/draw_text.c \
	src/device.h src/draw_trace.c src/draw_trace.h src/duration.c src/duration.h src/emulate.c src/exec.h \
	src/exec_arena.c src/exec_check.c src/exec_copy.c src/exec_device.c src/exec_device.h src/exec_device_comm.c \
	src/exec_device_libs.c src/exec_device_open.c src/exec_device_pairs.c src/exec_device_state.c src/exec_lanes.c \
	src/exec_look.c src/exec_open.c src/exec_private.h src/exec_run.c src/exec_text.c \
	src/feed.c src/feed.h \
	src/folder.c src/folder.h \
	src/halt.c src/halt.h \
	src/init.c src/init.h \
	src/lock.c src/lock.h \
	src/machine_file.c src/machine_file.h \
	src/memory_room.c src/memory_room.h \
	src/module.c src/module.h \
	src/metrics.c src/metrics.h \
	src/number.h \
	src/options.c src/options.h \
	src/pieces.c src/pieces.h \
	src/predict.c src/predict.h \
	src/quota.c src/quota.h src/replicas.c src/replicas.h \
	src/report.c src/report.h \
	src/ring.c src/ring.h \
	src/shard.c src/shard.h \
	src/signals.c src/signals.h \
	src/threads.c src/threads.h \
	src/simulate_other.c src/simulate_text.c src/simulate_text.h \
	src/trace_perfetto.c src/trace_summary.c src/trace_summary.h src/trace_view.c src/trace_view.h src/train.c \
	src/train.h src/train_data.c src/train_eval.c src/train_loop.c src/train_private.h src/train_save.c src/train_shared.c src/train_start.c src/train_state.c \
	src/train_stop.c src/train_threads.c src/train_trace.c src/watch.c src/watch.h src/watch_beside.c src/watch_inquiry.c \
	src/watch_look.c src/watch_private.h src/watch_record.c src/watch_verdict.c
libpiper_main_la_CPPFLAGS = $(AM_CPPFLAGS) -DPIPER_MACHINES='"$(pkgdatadir)/machines"' -DPKGLIBDIR='"$(pkglibdir)"'
libpiper_main_la_CFLAGS = $(AM_CFLAGS) $(OPENMP_CFLAGS)

bin_PROGRAMS += piper
piper_SOURCES = src/main.c
# Modules use the program's own functions.
piper_LDFLAGS = $(AM_LDFLAGS) -export-dynamic
piper_LDADD = libpiper_main.la libpiper_sched.la libpiper_comm.la libpiper_cpu.la $(PIPER_IO) $(CBLAS_LIBS) $(OPENMP_CFLAGS)

dist_man_MANS += \
	src/man/piper.1 src/man/piper-build.1 src/man/piper-calibrate.1 src/man/piper-checkpoint.1 src/man/piper-data.1 \
	src/man/piper-halt.1 src/man/piper-info.1 src/man/piper-plan.1 src/man/piper-trace.1 src/man/piper-train.1 \
	src/man/piper-machine.5 src/man/piper-model.5 src/man/piper-strategy.5 src/man/piper-train-config.5

UNIT_TESTS += tests/unit/test_memory_room
tests_unit_test_memory_room_SOURCES = tests/unit/test_memory_room.c src/memory_room.c src/memory_room.h
tests_unit_test_memory_room_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_memory_room_LDADD = $(PIPER_BASE) $(CHECK_LIBS)

UNIT_TESTS += tests/unit/test_draw tests/unit/test_options tests/unit/test_state tests/unit/test_threads tests/unit/test_watch
tests_unit_test_draw_SOURCES = tests/unit/test_draw.c src/draw.h src/draw_spans.c src/draw_svg.c src/draw_text.c
tests_unit_test_draw_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_draw_LDADD = $(PIPER_BASE) $(CHECK_LIBS) -lm

tests_unit_test_options_SOURCES = tests/unit/test_options.c src/options.c src/options.h src/duration.c src/duration.h
tests_unit_test_options_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_options_LDADD = $(PIPER_BASE) $(CHECK_LIBS)

tests_unit_test_state_SOURCES = tests/unit/test_state.c \
	src/init.c src/init.h src/number.h src/pieces.c src/pieces.h src/replicas.c src/replicas.h src/shard.c src/shard.h
tests_unit_test_state_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_state_CFLAGS = $(AM_CFLAGS) $(OPENMP_CFLAGS)
tests_unit_test_state_LDADD = $(PIPER_IR) $(CHECK_LIBS)

tests_unit_test_threads_SOURCES = tests/unit/test_threads.c src/quota.c src/quota.h src/threads.c src/threads.h
tests_unit_test_threads_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_threads_LDADD = $(PIPER_BASE) $(CHECK_LIBS) -lm

tests_unit_test_watch_SOURCES = tests/unit/test_watch.c src/watch_private.h src/watch_verdict.c
tests_unit_test_watch_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_watch_LDADD = $(PIPER_BASE) $(CHECK_LIBS) -lm

SCRIPT_TESTS += tests/cli/commands.sh tests/check-runtime.sh

machinesdir = $(pkgdatadir)/machines
dist_machines_DATA = src/machines/a100.json src/machines/h100.json
