#!/bin/sh
# faults.sh [FIRST [LAST]]: the faults of the table beside it, `faults`, are put into the code one at a time; each is built and the tests
# that should see it are run until one is red. They are numbered from 1. Works in a copy of a tree that is configured and built in place
# (.), in a temporary folder, or in $FAULTS_TREE, where it stays and is used as it is for the next part of the table. Prints TAP: a fault
# that no test sees is `not ok`, unless the table says that it changes nothing; then one that is seen is. It takes an hour.
first=${1:-1} last=${2:-999999}
src=$(realpath "${top_srcdir:-.}")
table=$src/tests/mutants/faults
[ -x "$src/piper" ] || { echo "$src: there is no piper, expected a tree that is configured and built in place"; exit 2; }
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

# Whole lines `old` of a file, which stand there once, become `new`.
put_in()
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
        }' "$dir/fault/old" "$dir/fault/new" "$src/$1" >"$dir/changed" && cp "$dir/changed" "$1"
}

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
    if ! put_in "$file"; then
        echo "not ok $number - $file: $what: the lines to change do not stand there once" && good=false
        continue
    fi
    # shellcheck disable=SC2046 # words
    if ! make -s CFLAGS="$flags" $(needs | tr ' ' '\n' | sort -u) >"$dir/log" 2>&1; then
        echo "not ok $number - $file: $what: it does not build" && tail -n 5 "$dir/log" | sed 's/^/# /'
        good=false
    else
        while read -r line && [ -z "$seen" ]; do
            # shellcheck disable=SC2086 # words
            is_red $line </dev/null && seen=$line
        done <"$dir/fault/tests"
        case $now in equivalent*) expected='' ;; *) expected=seen ;; esac
        if [ "${seen:+seen}" = "$expected" ]; then ok=ok; else ok='not ok' good=false; fi
        echo "$ok $number - $file: $what: ${seen:-not seen} ($(($(date +%s) - since)) s)"
        [ -z "$seen" ] || grep -E -m 1 '^(not ok|Bail out|run-mpi: )' "$dir/log" | cut -c 1-200 | sed 's/^/# /'
    fi
    cp "$src/$file" "$file"
done
echo "1..$((number - 1))"
$good
