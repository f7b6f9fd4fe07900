# Every test runs under tests/run-test, which sets its environment and a time limit and turns any program into TAP, so
# that single cases are counted.
TEST_EXTENSIONS = .sh
LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_DRIVER = $(TAP_DRIVER)
LOG_COMPILER = $(SHELL) $(srcdir)/tests/run-test
SH_LOG_COMPILER = $(LOG_COMPILER)
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/src/build-aux/tap-driver.sh
AM_TESTS_ENVIRONMENT = \
	top_srcdir='$(abs_top_srcdir)' top_builddir='$(abs_top_builddir)' PIPER='$(abs_top_builddir)/piper' \
	PIPER_MACHINES='$(abs_top_srcdir)/src/machines' \
	CC='$(CC)' MPIEXEC='$(MPIEXEC)' MPIEXEC_FLAGS='$(MPIEXEC_FLAGS)' \
	LSAN_OPTIONS='suppressions=$(abs_top_srcdir)/tests/lsan.supp:print_suppressions=0' \
	UBSAN_OPTIONS=print_stacktrace=1; \
	export top_srcdir top_builddir PIPER PIPER_MACHINES CC MPIEXEC MPIEXEC_FLAGS LSAN_OPTIONS UBSAN_OPTIONS;

# make begins them in this order: those that take longest are not the last, for which one processor waits.
SLOW_TESTS = tests/matrix/matrix.sh tests/mpi/all.sh tests/fault/fault.sh tests/matrix/same.sh tests/train/signals.sh tests/train/halt.sh \
	tests/batch/slurm.sh tests/train/hang.sh tests/train/left.sh tests/recipes.sh tests/train/ends.sh tests/cli/errors.sh \
	tests/cuda/fake.sh tests/train/resume.sh tests/train/files.sh tests/train/taken.sh tests/fault/durable.sh tests/cli/commands.sh
SLOW_UNIT_TESTS += tests/num/test_ops tests/cuda/test_libs tests/unit/test_damage
TESTS = $(SLOW_TESTS)
if HAVE_CHECK
TESTS += $(SLOW_UNIT_TESTS)
endif
TESTS += $(SCRIPT_TESTS) $(PROG_TESTS)
check_PROGRAMS += $(PROG_TESTS) $(MPI_PROGS) $(LONG_PROGS)
if HAVE_CHECK
TESTS += $(UNIT_TESTS)
check_PROGRAMS += $(SLOW_UNIT_TESTS) $(UNIT_TESTS)
endif

# Unit tests: a name here is all that a new one takes. Its source is tests/unit/NAME.c; it links what of the program it calls.
UNIT_TESTS += tests/unit/test_balance tests/unit/test_base tests/unit/test_bound tests/unit/test_bytes tests/unit/test_calibrate tests/unit/test_check tests/unit/test_compile tests/unit/test_config \
	tests/unit/test_cost tests/unit/test_csv tests/unit/test_draw tests/unit/test_export tests/unit/test_family tests/unit/test_graph tests/unit/test_graph_model \
	tests/unit/test_io_job tests/unit/test_io_machine tests/unit/test_io_quantized tests/unit/test_io_safetensors tests/unit/test_io_samples tests/unit/test_io_tokens \
	tests/unit/test_io_trace tests/unit/test_json tests/unit/test_memory_room tests/unit/test_metrics tests/unit/test_mutants tests/unit/test_op \
	tests/unit/test_options tests/unit/test_plan tests/unit/test_relations tests/unit/test_roundtrip tests/unit/test_rows tests/unit/test_schedules tests/unit/test_speak tests/unit/test_split \
	tests/unit/test_threads tests/unit/test_timeline tests/unit/test_trace_walk tests/unit/test_watch
LDADD = $(piper_LDADD) $(CHECK_LIBS) -lm
noinst_HEADERS += tests/unit/compiled.h tests/unit/io_sample.h tests/unit/model.h tests/unit/mutants.h tests/unit/plan_edit.h tests/unit/plan_job.h tests/unit/schedule_sim.h \
	tests/unit/suite.h tests/unit/tensor_file.h
tests_unit_test_csv_SOURCES = tests/unit/test_csv.c tests/unit/schedule_sim.c
tests_unit_test_mutants_SOURCES = tests/unit/test_mutants.c tests/unit/mutants_programs.c tests/unit/mutants_rounds.c tests/unit/mutants_rules.c tests/unit/mutants_share.c tests/unit/mutants_zero.c
tests_unit_test_schedules_SOURCES = tests/unit/test_schedules.c tests/unit/schedule_sim.c
# Those that look at files with HDF5 itself.
IO_TEST_CPPFLAGS = $(AM_CPPFLAGS) $(HDF5_CFLAGS) $(MPI_CFLAGS)
tests_unit_test_io_job_CPPFLAGS = $(IO_TEST_CPPFLAGS)
tests_unit_test_io_quantized_CPPFLAGS = $(IO_TEST_CPPFLAGS)
tests_unit_test_io_safetensors_CPPFLAGS = $(IO_TEST_CPPFLAGS)
tests_unit_test_io_tokens_CPPFLAGS = $(IO_TEST_CPPFLAGS)

SCRIPT_TESTS += tests/check-functions.sh tests/check-includes.sh tests/check-runners.sh tests/man.sh tests/matrix/again.sh tests/matrix/reference.sh tests/site.sh tests/tutorial.sh
LONG_TESTS += tests/aarch64/aarch64.sh tests/batch/installed.sh tests/cli/viewers.sh tests/matrix/all.sh tests/sanitize_all.sh
LONG_TESTS += tests/matrix/again_all.sh tests/matrix/share_all.sh tests/matrix/zero_group_all.sh
SCRIPT_TESTS += tests/train/balance.sh tests/train/begin.sh tests/train/bf16.sh tests/train/blend.sh tests/train/data.sh tests/train/documents.sh tests/train/freeze.sh tests/train/keep.sh tests/train/kill.sh \
	tests/train/flips.sh tests/train/memory.sh tests/train/rows.sh tests/train/spent.sh

# Jobs one after another under one launch of MPI, for the tests that train: tests/jobs/lib.sh.
check_PROGRAMS += tests/train/ranks
tests_train_ranks_SOURCES = tests/train/ranks.c
tests_train_ranks_CPPFLAGS = $(AM_CPPFLAGS) $(MPI_CFLAGS)
tests_train_ranks_LDFLAGS = $(piper_LDFLAGS) -Wl,--wrap=world_init,--wrap=world_finalize
tests_train_ranks_LDADD = $(piper_LDADD)

# One bit of a running rank's memory changes.
check_PROGRAMS += tests/train/flip
tests_train_flip_SOURCES = tests/train/flip.c src/exec/bucket_view.c src/exec/bucket_view.h src/base/number.h
tests_train_flip_LDADD = libpiper_sched.la $(PIPER_IO)
EXTRA_DIST += tests/train/flip_maps.c
LONG_TESTS += tests/train/flips_all.sh

# A checkpoint of each strategy, loaded under every other one.
MPI_PROGS += tests/train/anywhere
tests_train_anywhere_SOURCES = tests/train/anywhere.c src/train/pieces.c src/train/pieces.h src/exec/bucket_view.c src/exec/bucket_view.h src/base/number.h
tests_train_anywhere_CPPFLAGS = $(AM_CPPFLAGS) $(HDF5_CFLAGS) $(MPI_CFLAGS)
tests_train_anywhere_LDADD = libpiper_sched.la $(PIPER_IO)
LONG_TESTS += tests/train/anywhere.sh tests/train/kill_all.sh

# The cost model: hidden all-to-all in simulation; the compiler at thousands of ranks; predicted beside measured.
SCRIPT_TESTS += tests/hidden.sh tests/overlap.sh
SCRIPT_TESTS += tests/tune.sh
LONG_TESTS += tests/tune_all.sh
LONG_TESTS += tests/predict.sh tests/scale.sh

SCRIPT_TESTS += tests/train/numbers.sh
LONG_TESTS += tests/train/hang_all.sh tests/train/hang_soak.sh

# Random strategies: random_test judges thousands in one process and writes those that the scripts train.
PROG_TESTS += tests/matrix/random_test
tests_matrix_random_test_SOURCES = tests/matrix/random_test.c tests/matrix/random.h tests/matrix/random_model.c \
	tests/matrix/random_part.c tests/matrix/random_strategy.c tests/matrix/random_share.c tests/matrix/random_order.c \
	tests/matrix/random_break.c tests/matrix/random_break.h tests/matrix/random_break_place.c tests/matrix/random_break_order.c \
	tests/matrix/random_break_share.c
tests_matrix_random_test_LDADD = $(PIPER_SCHED)
SCRIPT_TESTS += tests/matrix/random.sh tests/matrix/rounds.sh tests/matrix/share.sh tests/cli/pictures.sh tests/cli/report.sh tests/cli/share.sh tests/cli/watch.sh
SCRIPT_TESTS += tests/matrix/zero_group.sh tests/cli/placement.sh tests/cli/zero_group.sh
LONG_TESTS += tests/matrix/random_all.sh

# Published strategies, which are installed for piper-zoo(7) too.
SCRIPT_TESTS += tests/zoo/zoo.sh
LONG_TESTS += tests/zoo/all.sh
zoodir = $(pkgdatadir)/zoo
dist_zoo_DATA = \
	tests/zoo/attention-ffn.json tests/zoo/bitpipe-v.json tests/zoo/bitpipe.csv tests/zoo/bitpipe.json \
	tests/zoo/breadth-first.csv tests/zoo/breadth-first.json tests/zoo/chimera-4.json tests/zoo/chimera.csv \
	tests/zoo/chimera.json tests/zoo/dhelix.json tests/zoo/eager-1f1b.csv tests/zoo/eager-1f1b.json \
	tests/zoo/encoder-bubbles.json tests/zoo/expert-folding.json tests/zoo/gems-experts.json tests/zoo/gems-replicas.json \
	tests/zoo/gems-zero1.json tests/zoo/gems-zero3.json tests/zoo/gems.csv tests/zoo/gems.json tests/zoo/hanayo.csv \
	tests/zoo/hanayo.json tests/zoo/head-spread.json tests/zoo/helixpipe.json tests/zoo/hetero-dp.json tests/zoo/kfkb.csv \
	tests/zoo/kfkb.json tests/zoo/lomo.json tests/zoo/model-attention-stages.json tests/zoo/model-attention.json tests/zoo/model-dense.json \
	tests/zoo/model-encoder.json tests/zoo/model-ends.json tests/zoo/model-experts-stages.json tests/zoo/model-experts.json \
	tests/zoo/model-ffn.json tests/zoo/model-head.json tests/zoo/model-mlp.json tests/zoo/model-uneven.json \
	tests/zoo/partial-recompute.json tests/zoo/permuted-sets.json tests/zoo/pipedream-bw.csv tests/zoo/pipedream-bw.json \
	tests/zoo/pipedream-zero3.json tests/zoo/pipedream.json tests/zoo/replica-microbatches.json tests/zoo/roundpipe.json \
	tests/zoo/selective-attention.json tests/zoo/selective-mlp.json tests/zoo/two-batch-overlap.json \
	tests/zoo/uneven-stages.json tests/zoo/v-half.csv tests/zoo/v-half.json tests/zoo/v-min.csv tests/zoo/v-min.json \
	tests/zoo/zero-by-part.json tests/zoo/zeropp.csv tests/zoo/zeropp.json

# Random graphs whose operators share inputs, on several ranks, against float64: lines of tests/mpi/testlist start it.
MPI_PROGS += tests/matrix/graphs_test
tests_matrix_graphs_test_SOURCES = tests/matrix/graphs.h tests/matrix/graphs_model.c tests/matrix/graphs_strategy.c \
	tests/matrix/graphs_test.c tests/num/evaluate.c tests/num/evaluate.h tests/num/num.c tests/num/num.h tests/num/oracle.c \
	tests/num/oracle_dense.c tests/num/oracle_moe.c
tests_matrix_graphs_test_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_matrix_graphs_test_LDFLAGS = $(piper_LDFLAGS)
tests_matrix_graphs_test_LDADD = $(piper_LDADD)
LONG_TESTS += tests/matrix/graphs_all.sh

# Single-field mutants of compiled plans, refused or run: lines of tests/mpi/testlist start it; all of them: plans_all.sh.
MPI_PROGS += tests/mutants/plans
tests_mutants_plans_SOURCES = tests/mutants/plans.c tests/mutants/mutants.c tests/mutants/mutants.h
tests_mutants_plans_CPPFLAGS = $(AM_CPPFLAGS) $(HDF5_CFLAGS) $(MPI_CFLAGS)
tests_mutants_plans_LDFLAGS = $(piper_LDFLAGS)
tests_mutants_plans_LDADD = $(piper_LDADD)
LONG_TESTS += tests/mutants/plans_all.sh
# Faults put into the code, and the tests that see them: sh tests/mutants/faults.sh; make sees to it that their lines are there.
SCRIPT_TESTS += tests/mutants/fault_lines.sh
EXTRA_DIST += tests/mutants/PLANS.md tests/mutants/faults tests/mutants/faults.sh tests/mutants/refused tests/mutants/table.awk
LONG_TESTS += tests/mutants/refused.sh
tests/mutants/faults tests/mutants/refused: ; # make knows how to make them from their scripts, and did

# Models of every family against transformers: lines of tests/mpi/testlist start it.
MPI_PROGS += tests/parity/parity
tests_parity_parity_SOURCES = tests/parity/bfloat16.c tests/parity/init.c tests/parity/model.c \
	tests/parity/model.h tests/parity/parity.c tests/parity/weights.c tests/parity/weights.h
tests_parity_parity_LDFLAGS = $(piper_LDFLAGS)
tests_parity_parity_LDADD = $(piper_LDADD)
LONG_TESTS += tests/parity/bfloat16_all.sh
PROG_TESTS += tests/parity/generate
tests_parity_generate_SOURCES = tests/parity/generate.c tests/parity/weights.c tests/parity/weights.h
tests_parity_generate_LDFLAGS = $(piper_LDFLAGS)
tests_parity_generate_LDADD = $(piper_LDADD)
EXTRA_DIST += tests/parity/generate.json tests/parity/make_generate.py
EXTRA_DIST += tests/train/documents.py tests/train/documents.txt
EXTRA_DIST += tests/parity/README tests/parity/bfloat16.json tests/parity/bfloat16.txt tests/parity/equations.py \
	tests/parity/exported.txt tests/parity/init.json tests/parity/make_bfloat16.py tests/parity/make_init.py tests/parity/make_parity.py \
	tests/parity/models.py tests/parity/parity.json

# Emulated runs, and what is made of traces.
SCRIPT_TESTS += tests/emulate/emulate.sh tests/emulate/otf2.sh tests/emulate/trace.sh
LONG_TESTS += tests/emulate/makespan.sh tests/emulate/overhead.sh

MOSTLYCLEANFILES += test-suite-long.log

# Folders of data whole; of the others what is no test. tests/speed: steps beside PyTorch's, python3 tests/speed/table.py ./piper
# tests/golden has what its test leaves, which would be taken for a result there
dist-hook: dist-golden
.PHONY: dist-golden
dist-golden:
	rm -f $(distdir)/tests/golden/*.log $(distdir)/tests/golden/*.trs
EXTRA_DIST += tests/emulate/recorded tests/fuzz/corpus tests/fuzz/hostile tests/fuzz/RESULTS.md tests/golden tests/jobs tests/num/reference tests/speed \
	tests/unit/data $(SLOW_TESTS) $(SCRIPT_TESTS) $(LONG_TESTS) tests/run-test tests/run-mpi tests/tap.sh tests/asan.supp tests/lsan.supp \
	tests/aarch64/sysroot.sh tests/batch/cluster.sh tests/batch/launcher.c tests/cli/lib.sh tests/fault/lib.sh tests/matrix/lib.sh tests/mpi/testlist \
	tests/train/bench_stall.sh tests/train/hang_lib.sh tests/train/lib.sh tests/train/spin.c tests/train/version-1.h5

# The long tests, in a report of their own.
.PHONY: check-long
check-long: all
	@exec $(MAKE) $(AM_MAKEFLAGS) check TESTS="$(LONG_TESTS)" TEST_SUITE_LOG=test-suite-long.log

# What users get wrong, and text in, text out.
SCRIPT_TESTS += tests/cli/export.sh tests/cli/golden.sh tests/cli/generate.sh tests/cli/plan_cuda.sh tests/golden/golden.sh

# Readers of what others wrote, fed with mutations.
check_PROGRAMS += tests/fuzz/fuzz
tests_fuzz_fuzz_SOURCES = tests/fuzz/fuzz.c tests/fuzz/fuzz.h tests/fuzz/hdf5.c tests/fuzz/mutate.c tests/fuzz/targets.c \
	tests/fuzz/targets_commands.c tests/fuzz/targets_run.c tests/fuzz/targets_text.c src/cuda/matmul_file.c
tests_fuzz_fuzz_LDFLAGS = $(piper_LDFLAGS)
tests_fuzz_fuzz_LDADD = $(piper_LDADD)
SCRIPT_TESTS += tests/fuzz/fuzz.sh
LONG_TESTS += tests/fuzz/fuzz_all.sh

# Stopping well: piper halt, locks, limits of time; job scripts with stand-ins, and in a private Slurm cluster.
SCRIPT_TESTS += tests/batch/scripts.sh
LONG_TESTS += tests/batch/slurm_all.sh tests/train/signals_all.sh

# Calls that fail, ranks that stop: the program's own objects with tests/fault/fault.c between them and the system.
check_PROGRAMS += tests/fault/piper-fault
tests_fault_piper_fault_SOURCES = src/main.c tests/fault/fault.c
tests_fault_piper_fault_CPPFLAGS = $(AM_CPPFLAGS) $(MPI_CFLAGS)
tests_fault_piper_fault_LDFLAGS = $(piper_LDFLAGS) \
	-Wl,--wrap=calloc,--wrap=clock_gettime,--wrap=close,--wrap=fallocate,--wrap=fclose,--wrap=fflush,--wrap=fopen,--wrap=fsync \
	-Wl,--wrap=fdopendir,--wrap=fstatat,--wrap=ftruncate,--wrap=malloc,--wrap=mkdir,--wrap=mkdirat,--wrap=mmap,--wrap=open,--wrap=openat \
	-Wl,--wrap=pread,--wrap=pthread_create,--wrap=pwrite,--wrap=readdir,--wrap=realloc,--wrap=renameat \
	-Wl,--wrap=stat,--wrap=unlinkat,--wrap=write,--wrap=watch_phase,--wrap=exec_run
tests_fault_piper_fault_LDADD = $(piper_LDADD)
SCRIPT_TESTS += tests/fault/disk.sh
LONG_TESTS += tests/fault/fault_all.sh tests/fault/kills_all.sh
