libpiper_main_la_SOURCES += \
	src/job/build_job.c src/job/build_job.h src/job/compile_job.c src/job/compile_job.h src/job/config.c src/job/config.h src/job/data_path.c src/job/data_path.h src/job/expert_note.c src/job/expert_note.h src/job/keep_job.c src/job/keep_job.h src/job/machine_file.c \
	src/job/machine_file.h src/job/progress.c src/job/progress.h src/job/set.c src/job/need.c src/job/need.h
