#!/bin/sh
# faults.sh [FIRST [LAST]]: the faults of the table beside it, `faults`, are put into the code one at a time; each is built and the tests
# that should see it are run until one is red. They are numbered from 1. Works in a copy of a tree that is configured and built in place
# (.), in a temporary folder, or in $FAULTS_TREE, where it stays and is used as it is for the next part of the table. Prints TAP: a fault
# that no test sees is `not ok`, unless the table says that it changes nothing; then one that is seen is. One that is not seen for a reason
# which the table gives is a TODO of TAP, and `not ok` when it is seen after all. It takes two hours of two cores.
# faults.sh lines: only whether the lines that go stand in their files, once.
first=${1:-1} last=${2:-999999}
src=$(realpath "${top_srcdir:-.}")
table=$src/tests/mutants/faults
lines=false
[ "$first" != lines ] || lines=true first=1
if $lines; then
    unset FAULTS_TREE
elif [ ! -x "$src/piper" ]; then
    echo "$src: there is no piper, expected a tree that is configured and built in place" && exit 2
fi
if [ "${FAULTS_TREE-}" ]; then
    dir=$FAULTS_TREE
    mkdir -p "$dir" || exit 2
else
    dir=$(mktemp -d) || exit 2
    trap 'rm -rf "$dir"' EXIT
fi
dir=$(realpath "$dir")
tree=$dir/tree
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 TEST_LIMIT="${TEST_LIMIT:-100}"

# The parts of fault number $1, as files: file, what, old, new, tests, now.
part()
{
    rm -rf "$dir/fault" && mkdir "$dir/fault" && touch "$dir/fault/old" "$dir/fault/new" "$dir/fault/tests" "$dir/fault/now"
    awk -v want="$1" -v to="$dir/fault/" '
        /^#/ { next }
        !NF { there = 0; next }
        !there { there = 1; if (++n == want) { at = index($0, ": "); print substr($0, 1, at - 1) >(to "file"); print substr($0, at + 2) >(to "what") } next }
        n != want { next }
        /^-/ { print substr($0, 3) >(to "old") }
        /^\+/ { print substr($0, 3) >(to "new") }
        /^by / { print substr($0, 4) >(to "tests") }
        /^now / { print substr($0, 5) >(to "now") }' "$table"
    [ -f "$dir/fault/file" ]
}

# Of a file, as $dir/changed: whole lines `old`, which stand there once, become `new`.
change()
{
    awk -v file="$1" 'FILENAME ~ /fault\/old$/ { old = old $0 "\n"; next }
        FILENAME ~ /fault\/new$/ { new = new $0 "\n"; next }
        { text = text $0 "\n" }
        END {
            text = "\n" text
            at = index(text, "\n" old)
            rest = substr(text, at + 1 + length(old))
            if (!at || index("\n" rest, "\n" old)) exit 1
            printf "%s%s%s", substr(text, 2, at - 1), new, rest
        }' "$dir/fault/old" "$dir/fault/new" "$src/$1" >"$dir/changed"
}

if $lines; then
    n=0 stale=0
    while part $((n + 1)); do
        n=$((n + 1)) file=$(cat "$dir/fault/file")
        change "$file" 2>"$dir/log" && continue
        stale=$((stale + 1))
        echo "not ok $stale - $file: $(cat "$dir/fault/what"): the lines to change do not stand there once: see row $n of tests/mutants/faults"
    done
    if [ $stale -eq 0 ]; then
        [ $n -gt 0 ] || printf 'not '
        echo "ok 1 - $n faults, whose lines stand in their files once"
    fi
    echo "1..$((stale > 0 ? stale : 1))"
    [ $stale -eq 0 ] && [ $n -gt 0 ]
    exit
fi

copy()
{
    mkdir "$tree" && (cd "$src" && tar cf - --exclude=.git .) | (cd "$tree" && tar xf -) && cd "$tree" && ./config.status -q
}
if [ ! -d "$tree" ] && ! (copy) >"$dir/log" 2>&1; then
    echo 'Bail out! the tree cannot be copied' && cat "$dir/log" && exit 2
fi
cd "$tree" || exit 2
variable()
{
    sed -n "s/^$1 = //p" Makefile
}
flags="$(variable CFLAGS) -w" # a fault may leave something unused
top_srcdir=$tree top_builddir=$tree PIPER=$tree/piper CC=$(variable CC) MPIEXEC=$(variable MPIEXEC)
export top_srcdir top_builddir PIPER CC MPIEXEC

# What the tests need that is built.
needs()
{
    # shellcheck disable=SC2013 # words
    for word in $(cat "$dir/fault/tests"); do
        case $word in
        tests/run-mpi) ;;
        *.sh) echo piper tests/train/ranks
            case $word in
            tests/fault/*) echo tests/fault/piper-fault ;;
            tests/fuzz/*) echo tests/fuzz/fuzz ;;
            tests/text/*) echo tests/text/encode ;;
            tests/train/flips.sh) echo tests/train/flip ;;
            tests/matrix/random.sh) echo tests/matrix/random_test ;;
            esac ;;
        tests/*/*) echo "$word" ;;
        esac
    done
}

# Runs a test; true: it is red.
is_red()
{
    case $1 in
    tests/run-mpi) shift; ! sh tests/run-mpi -t $((TEST_LIMIT / ${TEST_TIME_SCALE:-1})) "$@" >"$dir/log" 2>&1 ;;
    *) ! sh tests/run-test "$@" >"$dir/log" 2>&1 || grep -Eq '^(not ok|Bail out)' "$dir/log" ;;
    esac
}

number=$((first - 1)) good=true
while number=$((number + 1)) && [ "$number" -le "$last" ] && part "$number"; do
    file=$(cat "$dir/fault/file") what=$(cat "$dir/fault/what") now=$(cat "$dir/fault/now") seen='' since=$(date +%s)
    if ! change "$file"; then
        echo "not ok $number - $file: $what: the lines to change do not stand there once" && good=false
        continue
    fi
    cp "$dir/changed" "$file"
    # shellcheck disable=SC2046 # words
    if ! make -s CFLAGS="$flags" $(needs | tr ' ' '\n' | sort -u) >"$dir/log" 2>&1; then
        echo "not ok $number - $file: $what: it does not build" && tail -n 5 "$dir/log" | sed 's/^/# /'
        good=false
    else
        while read -r line && [ -z "$seen" ]; do
            # shellcheck disable=SC2086 # words
            is_red $line </dev/null && seen=$line
        done <"$dir/fault/tests"
        ok='not ok' todo=''
        case ${seen:+seen}:$now in
        seen:equivalent* | seen:"not seen"*) todo=', but the table says that it is not' ;;
        seen:* | :equivalent*) ok=ok ;;
        :"not seen: "*) todo=" # TODO ${now#not seen: }" ;;
        esac
        case $ok$todo in "not ok" | "not ok,"*) good=false ;; esac
        echo "$ok $number - $file: $what: ${seen:-not seen} ($(($(date +%s) - since)) s)$todo"
        [ -z "$seen" ] || grep -E -m 1 '^(not ok|Bail out|run-mpi: )' "$dir/log" | cut -c 1-200 | sed 's/^/# /'
    fi
    cp "$src/$file" "$file"
done
echo "1..$((number - 1))"
$good
