#!/bin/sh
# time-limit: 1200
# Runs every line of tests/mpi/testlist and prints TAP: one case a line. LISTFILE names another list.
list=${LISTFILE:-${top_srcdir:-.}/tests/mpi/testlist}
run=${top_srcdir:-.}/tests/run-mpi

out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT

n=0
while read -r line; do
    case $line in
    '' | '#'*) continue ;;
    esac
    n=$((n + 1))
    status=0
    # shellcheck disable=SC2086 # a line of the list is a command line
    sh "$run" $line >"$out" 2>&1 </dev/null || status=$?
    case $status in
    0) echo "ok $n - $line" ;;
    77) echo "ok $n - $line # SKIP $(tail -n 1 "$out")" ;;
    *)
        echo "not ok $n - $line"
        sed 's/^/# /' "$out"
        ;;
    esac
done <"$list"
echo "1..$n"
