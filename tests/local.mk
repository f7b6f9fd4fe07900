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
	CC='$(CC)' MPIEXEC='$(MPIEXEC)' MPIEXEC_FLAGS='$(MPIEXEC_FLAGS)' \
	LSAN_OPTIONS='suppressions=$(abs_top_srcdir)/tests/lsan.supp:print_suppressions=0' \
	UBSAN_OPTIONS=print_stacktrace=1; \
	export top_srcdir top_builddir PIPER CC MPIEXEC MPIEXEC_FLAGS LSAN_OPTIONS UBSAN_OPTIONS;

TESTS = $(SCRIPT_TESTS) $(PROG_TESTS)
check_PROGRAMS += $(PROG_TESTS) $(MPI_PROGS) $(LONG_PROGS)
if HAVE_CHECK
TESTS += $(UNIT_TESTS)
check_PROGRAMS += $(UNIT_TESTS)
endif

SCRIPT_TESTS += tests/check-functions.sh tests/check-includes.sh tests/check-runners.sh tests/man.sh tests/recipes.sh tests/mpi/all.sh \
	tests/matrix/same.sh tests/matrix/matrix.sh tests/matrix/reference.sh
LONG_TESTS += tests/matrix/all.sh
SCRIPT_TESTS += tests/train/begin.sh tests/train/bf16.sh tests/train/data.sh tests/train/ends.sh tests/train/files.sh \
	tests/train/keep.sh tests/train/kill.sh tests/train/left.sh tests/train/memory.sh \
	tests/train/resume.sh tests/train/rows.sh
EXTRA_DIST += tests/train/bench_stall.sh

# A checkpoint of each strategy, loaded under every other one.
MPI_PROGS += tests/train/anywhere
tests_train_anywhere_SOURCES = tests/train/anywhere.c src/train/pieces.c src/train/pieces.h src/exec/bucket_view.c src/exec/bucket_view.h src/base/number.h
tests_train_anywhere_CPPFLAGS = $(AM_CPPFLAGS) $(HDF5_CFLAGS) $(MPI_CFLAGS)
tests_train_anywhere_LDADD = libpiper_sched.la $(PIPER_IO)
LONG_TESTS += tests/train/anywhere.sh tests/train/kill_all.sh

# The cost model: hidden all-to-all in simulation; the compiler at thousands of ranks; predicted beside measured.
SCRIPT_TESTS += tests/hidden.sh
LONG_TESTS += tests/predict.sh tests/scale.sh

SCRIPT_TESTS += tests/train/hang.sh tests/train/numbers.sh
LONG_TESTS += tests/train/hang_all.sh tests/train/hang_soak.sh
EXTRA_DIST += tests/train/hang_lib.sh tests/train/spin.c
EXTRA_DIST += tests/matrix/lib.sh tests/train/lib.sh $(SCRIPT_TESTS) $(LONG_TESTS) tests/run-test tests/run-mpi tests/tap.sh \
	tests/lsan.supp tests/mpi/testlist

# Random strategies: random_test judges thousands in one process and writes those that the scripts train.
PROG_TESTS += tests/matrix/random_test
tests_matrix_random_test_SOURCES = tests/matrix/random_test.c tests/matrix/random.h tests/matrix/random_model.c \
	tests/matrix/random_part.c tests/matrix/random_strategy.c tests/matrix/random_order.c \
	tests/matrix/random_break.c tests/matrix/random_break.h tests/matrix/random_break_place.c tests/matrix/random_break_order.c
tests_matrix_random_test_LDADD = $(PIPER_SCHED)
SCRIPT_TESTS += tests/matrix/random.sh
LONG_TESTS += tests/matrix/random_all.sh

# Random graphs whose operators share inputs, on several ranks, against float64: lines of tests/mpi/testlist start it.
MPI_PROGS += tests/matrix/graphs_test
tests_matrix_graphs_test_SOURCES = tests/matrix/graphs.h tests/matrix/graphs_model.c tests/matrix/graphs_strategy.c \
	tests/matrix/graphs_test.c tests/num/evaluate.c tests/num/evaluate.h tests/num/num.c tests/num/num.h tests/num/oracle.c \
	tests/num/oracle_dense.c tests/num/oracle_moe.c
tests_matrix_graphs_test_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_matrix_graphs_test_LDFLAGS = $(piper_LDFLAGS)
tests_matrix_graphs_test_LDADD = $(piper_LDADD)
LONG_TESTS += tests/matrix/graphs_all.sh

# Models of every family against transformers: lines of tests/mpi/testlist start it.
MPI_PROGS += tests/parity/parity
tests_parity_parity_SOURCES = tests/parity/parity.c
tests_parity_parity_LDFLAGS = $(piper_LDFLAGS)
tests_parity_parity_LDADD = $(piper_LDADD)
EXTRA_DIST += tests/parity/README tests/parity/make_parity.py tests/parity/models.py tests/parity/parity.json

# Emulated runs, and what is made of traces.
SCRIPT_TESTS += tests/emulate/emulate.sh tests/emulate/trace.sh
LONG_TESTS += tests/emulate/makespan.sh tests/emulate/overhead.sh
EXTRA_DIST += tests/emulate/recorded/trace.0000.h5 tests/emulate/recorded/summary.txt \
	tests/emulate/recorded/perfetto.json tests/emulate/recorded/picture.svg

MOSTLYCLEANFILES += test-suite-long.log

# The long tests, in a report of their own.
.PHONY: check-long
check-long: all
	@exec $(MAKE) $(AM_MAKEFLAGS) check TESTS="$(LONG_TESTS)" TEST_SUITE_LOG=test-suite-long.log

# What users get wrong, and text in, text out.
SCRIPT_TESTS += tests/cli/errors.sh tests/cli/plan_cuda.sh tests/golden/golden.sh
EXTRA_DIST += \
	tests/golden/expand-grid/expand.txt \
	tests/golden/expand-grid/model.json \
	tests/golden/expand-grid/strategy.json \
	tests/golden/expand-grid/train.json \
	tests/golden/expand-primitives/expand.txt \
	tests/golden/expand-primitives/model.json \
	tests/golden/expand-primitives/strategy.json \
	tests/golden/expand-primitives/train.json \
	tests/golden/expand-two-way/expand.txt \
	tests/golden/expand-two-way/model.json \
	tests/golden/expand-two-way/schedule.txt \
	tests/golden/expand-two-way/strategy.json \
	tests/golden/expand-two-way/train.json \
	tests/golden/expand-v/expand.txt \
	tests/golden/expand-v/model.json \
	tests/golden/expand-v/strategy.json \
	tests/golden/expand-v/train.json \
	tests/golden/first/dag.txt \
	tests/golden/first/expand.txt \
	tests/golden/first/model.json \
	tests/golden/first/plan.txt \
	tests/golden/first/strategy.json \
	tests/golden/first/train.json \
	tests/golden/grid/dag.txt \
	tests/golden/grid/expand.txt \
	tests/golden/grid/model.json \
	tests/golden/grid/plan.txt \
	tests/golden/grid/simulate.txt \
	tests/golden/grid/strategy.json \
	tests/golden/grid/train.json \
	tests/golden/pipeline/dag.txt \
	tests/golden/pipeline/expand.txt \
	tests/golden/pipeline/model.json \
	tests/golden/pipeline/plan.txt \
	tests/golden/pipeline/simulate.txt \
	tests/golden/pipeline/schedule.svg \
	tests/golden/pipeline/schedule.txt \
	tests/golden/pipeline/strategy.json \
	tests/golden/pipeline/train.json

UNIT_TESTS += tests/unit/test_roundtrip tests/unit/test_compile
tests_unit_test_roundtrip_SOURCES = tests/unit/test_roundtrip.c tests/unit/compiled.h
tests_unit_test_roundtrip_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_roundtrip_LDADD = $(PIPER_SCHED) $(CHECK_LIBS)

tests_unit_test_compile_SOURCES = tests/unit/test_compile.c tests/unit/compiled.h
tests_unit_test_compile_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_unit_test_compile_LDADD = $(PIPER_SCHED) $(CHECK_LIBS)

# Readers of what others wrote, fed with mutations.
check_PROGRAMS += tests/fuzz/fuzz
tests_fuzz_fuzz_SOURCES = tests/fuzz/fuzz.c tests/fuzz/fuzz.h tests/fuzz/hdf5.c tests/fuzz/mutate.c tests/fuzz/targets.c \
	tests/fuzz/targets_run.c tests/fuzz/targets_text.c src/cuda/matmul_file.c
tests_fuzz_fuzz_LDADD = libpiper_main.la libpiper_sched.la libpiper_text.la $(PIPER_IO) $(PCRE2_LIBS) $(ZLIB_LIBS) $(ZSTD_LIBS)
SCRIPT_TESTS += tests/fuzz/fuzz.sh
LONG_TESTS += tests/fuzz/fuzz_all.sh
EXTRA_DIST += \
	tests/fuzz/corpus/csv-1f1b.csv tests/fuzz/corpus/csv-pair.csv tests/fuzz/corpus/csv-split.csv \
	tests/fuzz/corpus/halt-before.txt tests/fuzz/corpus/halt-now.txt tests/fuzz/corpus/lock-slurm.txt \
	tests/fuzz/corpus/products-two.txt tests/fuzz/corpus/topology-small.json \
	tests/fuzz/corpus/model-gpt2.json tests/fuzz/corpus/model-moe.json \
	tests/fuzz/corpus/strategy-grid.json tests/fuzz/corpus/strategy-one.json tests/fuzz/corpus/strategy-primitives.json \
	tests/fuzz/corpus/ids-array.npy tests/fuzz/corpus/ids-shard.bin tests/fuzz/corpus/index-two.idx \
	tests/fuzz/corpus/lines-few.jsonl tests/fuzz/corpus/packed-text.gz tests/fuzz/corpus/packed-text.zst \
	tests/fuzz/corpus/pattern-gpt2.txt tests/fuzz/corpus/pattern-llama3.txt tests/fuzz/corpus/pattern-unusual.txt \
	tests/fuzz/corpus/ranks-small.tiktoken tests/fuzz/corpus/tokenizer-bytes.json tests/fuzz/corpus/tokenizer-fallback.json \
	tests/fuzz/corpus/train-all.json tests/fuzz/hostile/trace.h5 tests/train/version-1.h5

# Stopping well: piper halt, locks, limits of time; job scripts with stand-ins, and in a private Slurm cluster.
SCRIPT_TESTS += tests/train/halt.sh tests/train/signals.sh tests/train/taken.sh tests/batch/scripts.sh tests/batch/slurm.sh
LONG_TESTS += tests/batch/slurm_all.sh tests/train/signals_all.sh
EXTRA_DIST += tests/batch/cluster.sh tests/batch/launcher.c

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
SCRIPT_TESTS += tests/fault/disk.sh tests/fault/durable.sh tests/fault/fault.sh
LONG_TESTS += tests/fault/fault_all.sh tests/fault/kills_all.sh
EXTRA_DIST += tests/fault/lib.sh
