#!/bin/sh
# shellcheck disable=SC2086 # $run and $includes are commands with arguments
#
# Tests of the tests: what run-test, run-mpi, the list of MPI tests, check-includes.sh and check-functions.sh must refuse, they refuse.
tests=${top_srcdir:-.}/tests
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
n=0

# expect NAME STATUS TEXT COMMAND...: the command ends with STATUS and prints a line that matches TEXT.
expect()
{
    n=$((n + 1))
    name=$1 status=$2 text=$3
    shift 3
    got=0
    "$@" >"$dir/out" 2>&1 </dev/null || got=$?
    if [ "$got" -eq "$status" ] && grep -q -e "$text" "$dir/out"; then
        echo "ok $n - $name"
    else
        echo "not ok $n - $name: exit status $got, expected $status; no line with '$text' in:"
        sed 's/^/# /' "$dir/out"
    fi
}
script()
{
    cat >"$dir/$1"
    chmod +x "$dir/$1"
}

script pass.sh </dev/null
echo 'echo no such device; exit 77' | script skip.sh
echo 'exit 3' | script fail.sh
printf '# time-limit: 1\nsleep 20\n' | script slow.sh
printf '# time-limit: 50\nsleep 20\n' | script long.sh
printf 'echo ok 1 - a; echo 1..1; exit 1\n' | script dies.sh
printf 'echo ok 1 - a; echo not ok 2 - b; echo 1..2; exit 1\n' | script cases.sh
run="sh $tests/run-test"
expect 'run-test: exit status 0 is good' 0 '^ok 1 - pass.sh' $run "$dir/pass.sh"
expect 'run-test: 77 is skipped, with the reason' 0 '^ok 1 - skip.sh # SKIP no such device' $run "$dir/skip.sh"
expect 'run-test: another status is bad' 0 '^not ok 1 - fail.sh (exit status 3)' $run "$dir/fail.sh"
expect 'run-test: TEST_LIMIT stands for the limit of a test' 1 'after its time limit of 1 s' env TEST_LIMIT=1 TEST_TIME_SCALE=9 $run \
    "$dir/long.sh"
expect 'run-test: a time limit ends a test' 1 '^Bail out! slow.sh: ended after its time limit' \
    env TEST_TIME_SCALE=1 $run "$dir/slow.sh"
expect 'run-test: a bad end after good cases shows' 1 '^ok 1 - a' $run "$dir/dies.sh"
expect 'run-test: failed cases are counted once' 0 '^not ok 2 - b' $run "$dir/cases.sh"

# A stand-in for mpirun: takes [-q] -n RANKS and runs the program once.
script mpirun <<'EOS'
#!/bin/sh
case $1 in
--version) echo 'mpirun (Open MPI) 4.1'; exit 0 ;;
-q) shift ;;
esac
shift 2
exec "$@"
EOS
printf '#!/bin/sh\necho hello\n' | script quiet
printf '#!/bin/sh\necho oops >&2\n' | script noisy
printf '#!/bin/sh\necho why >&2\nexit 65\n' | script refuses
printf '#!/bin/sh\nsleep 20\n' | script hangs
run="env MPIEXEC=$dir/mpirun MPIEXEC_FLAGS= sh $tests/run-mpi"
expect 'run-mpi: a good program' 0 '^hello' $run "$dir/quiet" 2
expect 'run-mpi: text on stderr is bad' 1 'expected nothing there' $run "$dir/noisy" 2
expect 'run-mpi: a wrong exit status is bad' 1 'exit status 65, expected 0' $run "$dir/refuses" 2
expect 'run-mpi: an expected failure is good' 0 '^why' $run -x 65 "$dir/refuses" 2
expect 'run-mpi: a failure that does not come is bad' 1 'exit status 0, expected 65' $run -x 65 "$dir/quiet" 2
expect 'run-mpi: a time limit ends a program' 1 'time limit of 1 s' env TEST_TIME_SCALE=1 $run -t 1 "$dir/hangs" 2
expect 'run-mpi: no launcher is a skip' 77 'no MPI launcher' \
    env MPIEXEC="$dir/none" sh "$tests/run-mpi" "$dir/quiet" 2
printf '# two tests\n%s 2\n\n%s 2\n' "$dir/quiet" "$dir/noisy" >"$dir/list"
expect 'the list: every line is a case' 0 "^not ok 2 - $dir/noisy" \
    env MPIEXEC="$dir/mpirun" LISTFILE="$dir/list" sh "$tests/mpi/all.sh"

mkdir -p "$dir/src/base" "$dir/src/cpu" "$dir/src/exec" "$dir/src/train" "$dir/src/view" "$dir/ir/family" "$dir/sched" "$dir/comm" "$dir/io"
includes="sh $tests/check-includes.sh $dir"
# refuse FILE HEADER: a tree whose only sin is that line does not pass. allow: it does.
refuse()
{
    printf '#include <stdio.h>\n#include %s\n' "$2" >"$dir/$1"
    expect "includes: $1 may not include $2" 1 "^$1:2: " $includes
    rm "$dir/$1"
}
allow()
{
    printf '#include <stdio.h>\n#include %s\n' "$2" >"$dir/$1"
    expect "includes: $1 may include $2" 0 'all allowed' $includes
    rm "$dir/$1"
}
refuse src/base/a.c '"ir/op.h"'
refuse src/base/a.h '<mpi.h>'
refuse ir/a.c '"sched/sched.h"'
refuse ir/a.c '"base/json.h"'
refuse ir/a.c '"exec/compute.h"'
refuse ir/a.h '<hdf5.h>'
refuse sched/a.c '"comm/comm.h"'
refuse sched/a.c '<mpi.h>'
refuse sched/a.c '<jansson.h>'
refuse comm/a.c '"ir/graph.h"'
refuse comm/a.h '<mpi.h>'
refuse comm/a.c '<hdf5.h>'
refuse comm/a.c '"base/json.h"'
refuse comm/world.c '"comm/comm.h"'
refuse comm/world.h '<mpi.h>'
refuse io/a.c '"sched/sched.h"'
refuse io/a.c '"comm/comm.h"'
refuse io/a.c '<mpi.h>'
refuse io/a.c '"../ir/op.h"'
refuse src/train/a.c '<hdf5.h>'
refuse src/train/a.c '"cmd/options.h"'
refuse src/exec/a.c '"sched/sched.h"'
refuse src/view/a.c '"train/train.h"'
refuse src/a.c '"train/train.h"'
refuse src/cpu/a.c '<cuda_runtime_api.h>'
allow src/base/a.h '<jansson.h>'
allow ir/family/a.c '"base/json.h"'
allow sched/a.c '"ir/graph.h"'
allow comm/a.c '<mpi.h>'
allow comm/mpi_private.h '<mpi.h>'
allow comm/world.c '<mpi.h>'
allow io/a.c '<hdf5.h>'
allow io/a.c '"comm/world.h"'
allow src/train/a.c '"sched/sched.h"'
allow src/cpu/a.c '"exec/compute.h"'
allow src/a.c '"cmd/command.h"'
expect 'includes: an empty tree does not pass' 1 'no source files' $includes

# ---- check-functions.sh
functions="sh $tests/check-functions.sh $dir"
body() # LINES
{
    printf '{\n%s}\n' "$(yes '    f();' | head -n $(($1 - 2)))
"
}
{ printf 'void g(int a, int b, int c, int d,\n       int e_, int f_)\n'; body 60; } >"$dir/ir/a.c"
expect 'functions: 60 lines, six parameters' 0 '^1 functions, 0 too large' $functions
{ printf 'void g(void)\n'; body 61; } >"$dir/ir/a.c"
expect 'functions: 61 lines' 1 '^ir/a.c:2: g: 61 lines' $functions
{ printf 'void g(int a, int b, int c, int d, int e_, int f_, int h)\n'; body 3; } >"$dir/ir/a.c"
expect 'functions: seven parameters' 1 '^ir/a.c:2: g: 7 parameters' $functions
{ printf 'void g(int a, int b, int c, int d, int e_, int f_,\n       struct err *e)\n'; body 3; } >"$dir/ir/a.c"
expect 'functions: six parameters and the error' 0 '^1 functions, 0 too large' $functions
{ printf '/* Parameters: all of a point. */\nvoid g(int a, int b, int c, int d, int e_, int f_, int h)\n'; body 3; } >"$dir/ir/a.c"
expect 'functions: seven parameters with a reason' 0 '^1 functions, 0 too large' $functions
rm "$dir/ir/a.c"

# ---- a case whose name has a command in it is judged by that command where sh is bash
judged_by_name()
{
    ! grep -rnHE --include='*.sh' "^ *result [\"'].*[\$]\\([^(]" "$@" && echo clean
}
expect 'result: no command in the name' 0 '^clean$' judged_by_name "$tests"
# shellcheck disable=SC2016 # the text of a script
echo 'result "$1: $(tail -n 1 out)"' >"$dir/named.sh"
expect 'result: a command in the name is found' 1 'named.sh:1:result' judged_by_name "$dir/named.sh"

# ---- every script of the tree
lint()
{
    (cd "$tests/.." && shellcheck -x "$@" && echo clean)
}
if command -v shellcheck >/dev/null; then
    (cd "$tests/.." && find .ci/run jobscripts src/base tests \( -name run -o -name 'run-*' -o -name '*.sh' -o -name 'piper*.slurm' \
        -o -name '*.pbs' \) -type f) 2>/dev/null | sort >"$dir/scripts"
    # shellcheck disable=SC2046 # names without spaces
    expect "shellcheck: $(wc -l <"$dir/scripts") scripts" 0 '^clean$' lint $(cat "$dir/scripts")
    echo 'if true; then' | script bad.sh
    expect 'shellcheck: a bad script is found' 1 SC1073 shellcheck -s sh "$dir/bad.sh"
else
    n=$((n + 1))
    echo "ok $n - shellcheck # SKIP there is no shellcheck on this machine"
fi
echo "1..$n"
