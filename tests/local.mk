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

SCRIPT_TESTS += tests/check-includes.sh tests/check-runners.sh tests/man.sh tests/recipes.sh tests/mpi/all.sh tests/matrix/same.sh tests/matrix/matrix.sh tests/matrix/reference.sh
LONG_TESTS += tests/matrix/all.sh
SCRIPT_TESTS += tests/train/bf16.sh tests/train/data.sh tests/train/ends.sh tests/train/memory.sh tests/train/resume.sh
EXTRA_DIST += tests/matrix/lib.sh tests/train/lib.sh $(SCRIPT_TESTS) $(LONG_TESTS) tests/run-test tests/run-mpi tests/lsan.supp tests/mpi/testlist

# Random strategies: random_test judges thousands in one process and writes those that the scripts train.
PROG_TESTS += tests/matrix/random_test
tests_matrix_random_test_SOURCES = tests/matrix/random_test.c tests/matrix/random.h tests/matrix/random_model.c \
	tests/matrix/random_part.c tests/matrix/random_strategy.c tests/matrix/random_order.c \
	tests/matrix/random_break.c tests/matrix/random_break.h tests/matrix/random_break_place.c tests/matrix/random_break_order.c
tests_matrix_random_test_LDADD = $(PIPER_SCHED)
SCRIPT_TESTS += tests/matrix/random.sh
LONG_TESTS += tests/matrix/random_all.sh

MOSTLYCLEANFILES += test-suite-long.log

# The long tests, in a report of their own.
.PHONY: check-long
check-long: all $(check_PROGRAMS)
	@for t in $(LONG_TESTS); do \
	    exec $(MAKE) $(AM_MAKEFLAGS) check TESTS="$(LONG_TESTS)" TEST_SUITE_LOG=test-suite-long.log; \
	done; echo 'check-long: there are no long tests'

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
	tests/golden/grid/strategy.json \
	tests/golden/grid/train.json \
	tests/golden/pipeline/dag.txt \
	tests/golden/pipeline/expand.txt \
	tests/golden/pipeline/model.json \
	tests/golden/pipeline/plan.txt \
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
