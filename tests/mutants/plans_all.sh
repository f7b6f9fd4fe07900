#!/bin/sh
# time-limit: 9600
# All single-field mutants of compiled plans, one launch for each number of ranks: none that the checker accepts changes a result. With ROWS=FILE
# what became of them is appended there; awk -f table.awk FILE makes the table of PLANS.md of it. RANKS and PART="1 10", the first of ten
# parts, for a piece of it.
run=${top_srcdir:-.}/tests/run-mpi
program=${top_builddir:-.}/tests/mutants/plans
row='^[a-z]* [a-z_]* [a-z]* [0-9]*$'
n=0
for ranks in ${RANKS-1 2 4}; do
    n=$((n + 1)) out=plans-$ranks.out
    # shellcheck disable=SC2086 # words
    if "$run" -t 3000 "$program" "$ranks" 0 1 ${PART-1 1} >"$out" 2>&1; then
        echo "ok $n - $ranks ranks"
    else
        echo "not ok $n - $ranks ranks"
    fi
    [ -z "${ROWS-}" ] || grep "$row" "$out" >>"$ROWS"
    grep -v "$row" "$out" | sed 's/^/# /' | tail -n 60
    rm -f "$out"
done
echo "1..$n"
