noinst_LTLIBRARIES += libpiper_sched.la
libpiper_sched_la_SOURCES = \
	sched/again.c sched/buckets.c sched/build.c sched/compile.c sched/compile.h sched/devices.c sched/devices.h \
	sched/directive.c sched/directive.h sched/filter.c sched/filter.h sched/fit.c sched/gather.c sched/move.c \
	sched/passes.h sched/peak.c sched/reduce.c sched/sched.h sched/schedule.h sched/sequence.c sched/side.c sched/side.h sched/weights.c sched/weights.h \
	sched/directives/counts.c sched/directives/csv.c sched/directives/csv.h sched/directives/csv_write.c sched/directives/layout.c \
	sched/directives/order.c sched/directives/place.c sched/directives/recompute.c \
	sched/directives/fuse_collectives.c sched/directives/reference.c sched/directives/reference.h sched/directives/region.c sched/directives/ring_exchange.c sched/directives/shard_tensor.c sched/directives/replicate.c sched/directives/rows.c sched/directives/schedule.c sched/directives/shard.c sched/directives/split.c \
	sched/directives/stream.c \
	sched/schedules/1f1b.c sched/schedules/dualpipe.c sched/schedules/dualpipe.h sched/schedules/dualpipev.c \
	sched/schedules/gpipe.c sched/schedules/interleaved-zb.c sched/schedules/interleaved.c \
	sched/schedules/row.h sched/schedules/zb-h1.c sched/schedules/zb-h2.c sched/schedules/zb-v.c \
	sched/lower/border.c sched/lower/comm.c sched/lower/gradients.c sched/lower/holders.c sched/lower/index.c sched/lower/lower.c sched/lower/lower.h \
	sched/lower/memory.c sched/lower/memory.h sched/lower/program.c sched/lower/program.h sched/lower/ring.c sched/lower/rounds.c sched/lower/tables.c \
	sched/lower/tape.c \
	sched/lower/values.c \
	sched/cost/bound.c sched/cost/bound.h sched/cost/bound_memory.c sched/cost/bound_pieces.c \
	sched/cost/bound_private.h sched/cost/bound_stages.c sched/cost/bound_time.c \
	sched/cost/comm.c sched/cost/cost.c sched/cost/cost.h sched/cost/simulate.c sched/cost/simulate.h \
	sched/cost/simulate_report.c sched/cost/simulate_steady.c sched/cost/timeline.c sched/cost/timeline.h sched/cost/timeline_units.c \
	sched/check/bind.c sched/check/check.c sched/check/check.h sched/check/cover.c sched/check/execute.c sched/check/gradients.c sched/check/heads.c sched/check/layouts.c sched/check/match.c \
	sched/check/memory.c sched/check/names.c sched/check/params.c sched/check/pieces.c sched/check/places.c sched/check/programs.c sched/check/replicas.c sched/check/ring.c sched/check/rounds.c sched/check/run.c sched/check/shapes.c \
	sched/check/spans.c sched/check/steps.c sched/check/values.c sched/check/values.h
