noinst_LTLIBRARIES += libpiper_sched.la
libpiper_sched_la_SOURCES = \
	sched/buckets.c \
	sched/build.c \
	sched/check/bind.c \
	sched/check/check.c sched/check/check.h \
	sched/check/cover.c \
	sched/check/match.c \
	sched/check/memory.c \
	sched/check/params.c \
	sched/check/programs.c \
	sched/check/run.c \
	sched/check/spans.c \
	sched/check/steps.c \
	sched/compile.c sched/compile.h \
	sched/devices.c \
	sched/directive.c \
	sched/filter.c \
	sched/layout.c \
	sched/lower.c sched/lower.h \
	sched/memory.c sched/memory.h \
	sched/move.c \
	sched/order.c \
	sched/place.c \
	sched/program.c sched/program.h \
	sched/reduce.c \
	sched/replicate.c \
	sched/sched.h \
	sched/schedule.c \
	sched/schedules/1f1b.c \
	sched/schedules/gpipe.c \
	sched/sequence.c \
	sched/split.c \
	sched/tape.c
