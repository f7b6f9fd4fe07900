libpiper_main_la_SOURCES += \
	src/cmd/asked.c src/cmd/asked.h src/cmd/build.c src/cmd/calibrate.c src/cmd/calibrate.h src/cmd/calibrate_compute.c \
	src/cmd/calibrate_kernel.c src/cmd/calibrate_links.c src/cmd/calibrate_runs.c src/cmd/checkpoint.c src/cmd/checkpoint.h src/cmd/checkpoint_files.c src/cmd/command.h src/cmd/data.c \
	src/cmd/data.h src/cmd/data_chat.c src/cmd/data_files.c src/cmd/data_import.c src/cmd/data_info.c src/cmd/data_progress.c src/cmd/data_sink.c src/cmd/data_text.c \
	src/cmd/eval.c src/cmd/generate.c src/cmd/halt.c src/cmd/info.c src/cmd/options.c src/cmd/options.h src/cmd/plan.c src/cmd/plan_memory.c src/cmd/plan_memory.h src/cmd/plan_zero.c src/cmd/plan_zero.h src/cmd/output.c src/cmd/output.h src/cmd/picture.c src/cmd/picture.h src/cmd/plot.c src/cmd/report.c src/cmd/run_state.c src/cmd/run_state.h src/cmd/sources.c src/cmd/sources.h src/cmd/trace.c \
	src/cmd/train.c src/cmd/tune.c src/cmd/tune.h src/cmd/tune_measure.c src/cmd/tune_report.c src/cmd/watch.c
