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
	sched/check/replicas.c \
	sched/check/run.c \
	sched/check/spans.c \
	sched/check/steps.c \
	sched/check/values.c \
	sched/compile.c sched/compile.h \
	sched/cost.c sched/cost.h sched/cost_comm.c \
	sched/csv.c sched/csv.h \
	sched/csv_write.c \
	sched/devices.c \
	sched/directive.c \
	sched/filter.c \
	sched/fit.c \
	sched/gather.c \
	sched/layout.c \
	sched/lower.c sched/lower.h \
	sched/lower_comm.c \
	sched/lower_index.c \
	sched/lower_tables.c \
	sched/lower_values.c \
	sched/memory.c sched/memory.h \
	sched/move.c \
	sched/order.c \
	sched/place.c \
	sched/program.c sched/program.h \
	sched/recompute.c \
	sched/reduce.c \
	sched/replicate.c \
	sched/sched.h \
	sched/schedule.c \
	sched/schedules/1f1b.c \
	sched/schedules/dualpipe.c sched/schedules/dualpipe.h \
	sched/schedules/dualpipev.c \
	sched/schedules/gpipe.c \
	sched/schedules/interleaved-zb.c \
	sched/schedules/interleaved.c \
	sched/schedules/row.h \
	sched/schedules/zb-h1.c \
	sched/schedules/zb-h2.c \
	sched/schedules/zb-v.c \
	sched/sequence.c \
	sched/shard.c \
	sched/simulate.c sched/simulate.h sched/simulate_report.c \
	sched/split.c \
	sched/stream.c \
	sched/tape.c \
	sched/timeline.c sched/timeline.h \
	sched/timeline_units.c

UNIT_TESTS += tests/unit/test_schedules
tests_unit_test_schedules_SOURCES = tests/unit/test_schedules.c tests/unit/schedule_sim.c tests/unit/schedule_sim.h
tests_unit_test_schedules_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_schedules_LDADD = $(PIPER_SCHED) $(CHECK_LIBS)
EXTRA_DIST += tests/golden/schedules.txt

UNIT_TESTS += tests/unit/test_csv
tests_unit_test_csv_SOURCES = tests/unit/test_csv.c tests/unit/schedule_sim.c tests/unit/schedule_sim.h
tests_unit_test_csv_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_csv_LDADD = $(PIPER_SCHED) $(CHECK_LIBS)

UNIT_TESTS += tests/unit/test_check
tests_unit_test_check_SOURCES = tests/unit/test_check.c tests/unit/plan_job.h
tests_unit_test_check_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_check_LDADD = $(PIPER_SCHED) $(CHECK_LIBS)

UNIT_TESTS += tests/unit/test_timeline
tests_unit_test_timeline_SOURCES = tests/unit/test_timeline.c
tests_unit_test_timeline_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_timeline_LDADD = $(PIPER_SCHED) $(CHECK_LIBS)

UNIT_TESTS += tests/unit/test_cost
tests_unit_test_cost_SOURCES = tests/unit/test_cost.c tests/unit/compiled.h
tests_unit_test_cost_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_cost_LDADD = $(PIPER_SCHED) $(CHECK_LIBS)
