#!/bin/sh
# time-limit: 28800
# Builds with sanitizers: the tests of `make check` with addresses and undefined behaviour looked at, by gcc and by clang; and a run of two
# ranks that writes checkpoints beside its steps, with data races looked at.
# sanitize_all.sh [gcc] [clang] [thread] [TEST...]: some of them, and of the tests (tests/unit/test_base). SANITIZE_DIR=DIR: the builds stay
# there, and the next time only what has changed is compiled, and only tests that have not passed there (their .trs) are run.
build=${top_builddir:-.}
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
shown=$dir/log
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

what='' only=''
for word in "$@"; do
    case $word in
    gcc | clang | thread) what="$what $word" ;;
    tests/*) only="$only $word" ;;
    *) echo "usage: sanitize_all.sh [gcc] [clang] [thread] [tests/TEST...]" && exit 99 ;;
    esac
done
what="${what:-gcc clang thread} "
asked()
{
    case " $what" in *" $1 "*) ;; *) return 1 ;; esac
}

stay=${SANITIZE_DIR:-$dir}
mkdir -p "$stay" && stay=$(cd "$stay" && pwd) || exit 99
rm -rf "$stay/tree"
make -C "$build" -s distdir distdir="$stay/tree" >"$dir/log" 2>&1 || { echo 'Bail out! make distdir failed' && cat "$dir/log"; exit 1; }

# configured NAME ARGUMENT...: a build folder of that name
configured()
{
    folder=$stay/$1
    shift
    mkdir -p "$folder" && cd "$folder" && { [ -f Makefile ] || ../tree/configure -q "$@" >"$dir/log" 2>&1; } && make -s -j"$(nproc)" >"$dir/log" 2>&1
}

# left TEST...: those that have not passed here
left()
{
    for test in "$@"; do
        grep -qs '^:global-test-result: \(PASS\|SKIP\)' "${test%.sh}.trs" || printf '%s ' "$test"
    done
}

# some OPTIONS TEST...: of them those that have not passed
some()
{
    options=$1
    shift
    # shellcheck disable=SC2046 # words
    set -- $(left "$@")
    [ $# -eq 0 ] || LD_PRELOAD=$dir/open.so ASAN_OPTIONS=$named:$options TEST_TIME_SCALE=$((15 * ${TEST_TIME_SCALE:-1})) \
        make -k -j"$(nproc)" check-TESTS check_PROGRAMS= TESTS="$*" >>"$dir/log" 2>&1
}

# checked COMPILER: the tests in its folder
checked()
{
    cd "$stay/$1" && make -s -k -j"$(nproc)" check TESTS= >"$dir/log" 2>&1 || return
    tests=${only:-$(echo "all-tests: ; @echo \$(TESTS)" | make -s -f Makefile -f - all-tests)}
    good=0
    : >"$dir/log"
    quick=fast_unwind_on_malloc=1:detect_leaks=0
    case $1 in
    gcc) programs=fast_unwind_on_malloc=1 scripts=$quick ;;
    *) programs=$quick scripts=fast_unwind_on_malloc=0:malloc_context_size=8 ;;
    esac
    # shellcheck disable=SC2046,SC2086 # words
    {
        some $programs $(printf '%s\n' $tests | grep -v '\.sh$') || good=1
        some $scripts $(printf '%s\n' $tests | grep '\.sh$') || good=1
    }
    return $good
}

# Leaks are looked for once: in programs of tests by gcc, in what scripts start by clang (not in ranks: run-mpi). lsan.supp knows
# leaks by the names of libraries, so none is closed again before they are looked for, since its functions have no names then; and
# calls have to be followed through libraries without frame pointers, but for programs of tests, most of which start no MPI.
# Following them at each allocation, and looking for leaks, is what made this slow: 20 steps of a tiny model take 0.09 s of a
# processor without a sanitizer, 0.20 with, 0.38 if leaks are looked for, 0.57 if calls are followed so for 8 frames, 0.78 for all
# of them. Kernels take ten times as long as without: hence the limits.
echo 'int dlclose(void *handle); int dlclose(void *handle) { (void)handle; return 0; }' >"$dir/open.c"
cc -shared -fPIC -o "$dir/open.so" "$dir/open.c" || exit 99
named="verify_asan_link_order=0:allocator_may_return_null=1" # HDF5 asks for as much as a mutated file says
named="$named:suppressions=$stay/tree/tests/asan.supp"

for compiler in gcc clang; do
    asked $compiler || continue
    if ! command -v $compiler >"$dir/log"; then
        n=$((n + 1))
        echo "ok $n - $compiler # SKIP there is none"
        continue
    fi
    (configured $compiler CC=$compiler --enable-sanitize)
    result "$compiler: it builds"
    (checked $compiler)
    status=$?
    grep '^# [A-Z]*: ' "$dir/log"
    grep '^FAIL' "$dir/log" | sed 's/^/# /'
    [ $status -eq 0 ]
    result "$compiler: make check"
done

asked thread || { echo "1..$n" && exit 0; }
(configured thread CC=gcc CFLAGS='-O1 -g -fsanitize=thread' LDFLAGS=-fsanitize=thread)
result 'thread sanitizer: it builds'
# libraries without instrumentation synchronize unseen: one thread of OpenMP, and only what piper itself does counts
export TSAN_OPTIONS='ignore_noninstrumented_modules=1 halt_on_error=0 exitcode=23 log_path=races' OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
cd "$stay/thread" && rm -rf run races.* && cp "$stay"/tree/tests/jobs/*.json . &&
    ./piper data text "$stay/tree/README" -o tokens.h5 >"$dir/log" 2>&1 &&
    echo '[{"op":"replicate","filter":{},"devices":[0,1],"zero":1}]' >zero1.json &&
    ./piper build -m tiny.json -s zero1.json -t adamw.json -o job.h5 --set train.checkpoint_every=1 --set train.steps=40 >"$dir/log" 2>&1 &&
    sh "$stay/tree/tests/run-mpi" "$PWD/piper" 2 train job.h5 -o run >"$dir/log" 2>&1
status=$?
cat races.* >>"$dir/log" 2>&1
[ $status -eq 0 ] && [ ! -s "$(find . -name 'races.*' | head -n 1)" ] && [ -f run/checkpoints/step-000040.h5 ]
result 'thread sanitizer: two ranks, checkpoints beside the steps'
echo "1..$n"
