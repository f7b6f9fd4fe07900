#!/bin/sh
# Text in, text out: every folder here holds a job (model.json, strategy.json, train.json) and what comes of it:
#   expand.txt  its strategy as primitive directives (piper plan --expand)
#   dag.txt     its training DAG after the last pass (the last but one part of piper plan --dump)
#   plan.txt    the plans of its classes of ranks (the last part)
#   simulate.txt  a step predicted on H100s (piper plan --simulate, with the data sheet that is installed)
#   schedule.txt, schedule.svg  the pictures of piper plan and piper plan --svg
# Prints TAP, with the differences. `UPDATE=1 make check TESTS=tests/golden/golden.sh` writes them anew; a new one is a word more
# in the table below. What changes then is to be read before it is committed.
piper=${PIPER:-./piper}
src=${top_srcdir:-.}/tests/golden
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
shown=$dir/log

# What each folder has: a file that is missing fails, a folder that has no line here too.
cat >"$dir/table" <<'EOS'
expand-grid expand.txt
expand-primitives expand.txt
expand-two-way expand.txt schedule.txt
expand-v expand.txt
first expand.txt dag.txt plan.txt
grid expand.txt dag.txt plan.txt simulate.txt
pipeline expand.txt dag.txt plan.txt simulate.txt schedule.txt schedule.svg
EOS

for case in "$src"/*/; do
    case=${case%/} name=${case%/}
    name=${name##*/}
    "$piper" build -m "$case/model.json" -s "$case/strategy.json" -t "$case/train.json" -o "$dir/job.h5" >"$dir/log" 2>&1 &&
        "$piper" plan "$dir/job.h5" --expand >"$dir/expand.txt" 2>"$dir/log" &&
        "$piper" plan "$dir/job.h5" --dump >"$dir/dump" 2>"$dir/log" &&
        "$piper" plan "$dir/job.h5" --svg "$dir/schedule.svg" >"$dir/log" 2>&1 &&
        "$piper" plan "$dir/job.h5" --simulate --machine "$src/../../src/machines/h100.json" >"$dir/simulate.txt" 2>"$dir/log" &&
        "$piper" plan "$dir/job.h5" >"$dir/summary" 2>"$dir/log"
    result "$name compiles" || continue
    awk -v dag="$dir/dag.txt" -v plan="$dir/plan.txt" '
        /^after / { text = ""; next }
        /^plan / && !to { printf "%s", text >dag; to = plan }
        to { print >to; next }
        { text = text $0 "\n" }' "$dir/dump"
    sed -n '/^schedule /,$p' "$dir/summary" >"$dir/schedule.txt"
    files=$(sed -n "s/^$name //p" "$dir/table")
    for what in ${files:-no-line-in-the-table}; do
        [ -z "${UPDATE-}" ] || cp "$dir/$what" "$case/$what"
        diff -u "$case/$what" "$dir/$what" >"$dir/log"
        result "$name/$what"
    done
done
echo "1..$n"
