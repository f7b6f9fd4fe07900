#!/bin/sh
# time-limit: 1800
# refused.sh: which refusals of sched/check do unit tests reach? The checker is built with gcov in a copy of a tree that is configured and built
# in place (.), in a temporary folder; the tests that damage plans are run; then each call that refuses (check_wrong() and what calls it) must
# have run, but for those of the table beside it, `refused`, which must not. Prints TAP. It takes minutes.
src=$(realpath "${top_srcdir:-.}")
table=$src/tests/mutants/refused
tests="tests/unit/test_mutants tests/unit/test_check tests/unit/test_compile tests/unit/test_damage tests/unit/test_balance"
[ -x "$src/piper" ] || { echo "$src: there is no piper, expected a tree that is configured and built in place"; exit 2; }
command -v gcov >/dev/null || { echo '1..0 # SKIP there is no gcov'; exit 77; }
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
tree=$dir/tree
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
# shellcheck disable=SC2086 # words
build()
{
    mkdir "$tree" && (cd "$src" && tar cf - --exclude=.git .) | (cd "$tree" && tar xf -) && cd "$tree" && ./config.status -q &&
        rm -f sched/check/*.lo && make -s libpiper_sched.la "CFLAGS=-O1 -w --coverage -fprofile-update=atomic" &&
        for test in $tests; do rm -f "$test"; done &&
        make -s LDFLAGS=--coverage "CFLAGS=$(sed -n 's/^CFLAGS = //p' Makefile)" $tests
}
if ! (build) >"$dir/log" 2>&1; then
    echo 'Bail out! the checker cannot be built with gcov' && tail -n 5 "$dir/log" && exit 1
fi
cd "$tree" || exit 2
export top_srcdir="$tree" top_builddir="$tree"
for test in $tests; do
    sh tests/run-test "$test" >"$dir/log" 2>&1 || { echo "Bail out! $test failed" && tail -n 5 "$dir/log" && exit 1; }
done
mkdir "$dir/lines"
for f in sched/check/*.c; do
    if ! gcov -o sched/check/.libs "$f" >"$dir/log" 2>&1 || ! mv "${f##*/}.gcov" "$dir/lines"; then
        echo "Bail out! gcov $f" && exit 1
    fi
done

# "FILE: MESSAGE" of each refusal, behind it whether it ran: message, its first string, or the call where it has none in its line.
awk -F: 'FNR == 1 { file = FILENAME; sub(/.*\//, "", file); sub(/\.gcov$/, "", file) }
    { text = $0; sub(/^[^:]*:[^:]*:/, "", text) }
    text ~ /[^_a-z](check_wrong|wrong|wrong_item|wrong_value|race|not_left|err_set|report|order_report)\(/ && text !~ /^(static )?enum status/ {
        ran = $1; gsub(/ /, "", ran)
        if (ran == "-") next
        line = text
        if (line !~ /"/ && (getline rest) > 0) { sub(/^[^:]*:[^:]*:/, "", rest); line = line rest }
        if (match(line, /"[^"]*"/)) message = substr(line, RSTART + 1, RLENGTH - 2)
        else { message = text; sub(/^ */, "", message) }
        print (ran ~ /^[#=]/ ? "missed" : "reached") "\t" file ": " message
    }' "$dir"/lines/*.gcov | sort -u >"$dir/refusals"
grep '^reached' "$dir/refusals" | cut -f 2 >"$dir/reached"
grep '^missed' "$dir/refusals" | cut -f 2 | grep -vxFf "$dir/reached" >"$dir/missed"
grep -v '^#' "$table" | sed -n 's/ ## .*//p' >"$dir/known"
n=0 good=true
while read -r line; do
    n=$((n + 1))
    if grep -qxF "$line" "$dir/known"; then
        echo "ok $n - $line # not reached, as the table says"
    else
        echo "not ok $n - $line: no test reaches it" && good=false
    fi
done <"$dir/missed"
while read -r line; do
    n=$((n + 1))
    if grep -qxF "$line" "$dir/known"; then
        echo "not ok $n - $line: a test reaches it, the table says that none does" && good=false
    else
        echo "ok $n - $line"
    fi
done <"$dir/reached"
echo "1..$n"
[ "$n" -gt 200 ] || { echo "Bail out! $n refusals, expected more than 200" && exit 1; }
$good
