#!/bin/sh
# What piper trace makes of a recorded run: two ranks, zb-v, four microbatches, steps 1 and 2, kernels of 10 ms (emulated).
# Each output is a file in recorded/; `UPDATE=1 make check TESTS=tests/emulate/trace.sh` writes them anew. Prints TAP.
piper=${PIPER:-./piper}
src=${top_srcdir:-.}/tests/emulate/recorded
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
shown=$dir/log
mkdir "$dir/run" "$dir/empty"
cp "$src/trace.0000.h5" "$dir/run"

# same FILE: as it is kept
same()
{
    [ -z "${UPDATE-}" ] || cp "$dir/$1" "$src/$1"
    diff -u "$src/$1" "$dir/$1" >"$dir/log"
}
# refuses STATUS TEXT ARGUMENT...
refuses()
{
    expected=$1 text=$2
    shift 2
    "$piper" trace "$@" >"$dir/log" 2>&1
    [ $? -eq "$expected" ] && grep -q -e "$text" "$dir/log" && [ "$(wc -l <"$dir/log")" -eq 1 ]
}

"$piper" trace "$dir/run" >"$dir/summary.txt" 2>"$dir/log" && same summary.txt
result 'summary'
"$piper" trace "$dir/run" --perfetto "$dir/perfetto.json" --ranks 1 >"$dir/log" 2>&1 && same perfetto.json
result 'Perfetto, one rank'
"$piper" trace "$dir/run" --svg - >"$dir/picture.svg" 2>"$dir/log" && same picture.svg
result 'picture'
"$piper" trace "$dir/run" --perfetto - --svg "$dir/other.svg" --ranks 1 >"$dir/perfetto.json" 2>"$dir/log" && same perfetto.json && [ -s "$dir/other.svg" ]
result 'standard output has one file alone, though another one is written'
"$piper" trace "$dir/run" --svg "$dir/steps.svg" --steps 1-2 --ranks 0 >"$dir/log" 2>&1 &&
    [ "$(grep -c '>rank 0<' "$dir/steps.svg")" -eq 1 ] && ! grep -q '>rank 1<' "$dir/steps.svg" &&
    [ "$(grep -c '<title>forward of stage 0, microbatch 3' "$dir/steps.svg")" -eq 4 ] # measured and expected, twice
result 'picture of two steps of one rank'
if command -v xmllint >/dev/null 2>&1; then
    xmllint --noout "$dir/picture.svg" >"$dir/log" 2>&1
    result 'the picture is well-formed'
fi

# One event a line: times of a track do not go back, slices do not overlap where they compute, every arrow has both ends, inside
# slices.
"$piper" trace "$dir/run" --perfetto "$dir/all.json" >"$dir/log" 2>&1 && awk '
    function field(name,   s) { s = $0; if (!sub(".*\"" name "\":", "", s)) return ""; sub("[,}].*", "", s); return s }
    function bad(what) { print what ": " $0; wrong = 1 }
    /"ph":"M"/ && /thread_name/ { track[field("tid")] = field("pid") }
    /"ph":"X"/ { t = field("tid"); ts = field("ts") + 0; slices++
        if (track[t] == "" || track[t] != field("pid")) bad("no such track")
        if (seen[t] && ts < last[t]) bad("goes back")
        if (/"cat":"compute"/ && ts < end[t] - 0.002) bad("overlaps")
        if (field("dur") + 0 < 0) bad("negative")
        seen[t] = 1; last[t] = ts; end[t] = ts + field("dur") }
    /"ph":"[sf]"/ { t = field("tid"); arrows++
        ts = field("ts") + 0; if (ts < last[t] - 0.002 || ts > end[t] + 0.002) bad("outside of its slice")
        ends[field("id")] += /"ph":"s"/ ? 1 : 1000 }
    END { for (i in ends) if (ends[i] != 1001) { print "arrow " i " has one end"; wrong = 1 }
        print slices " slices, " arrows " ends of arrows"
        exit wrong || !slices || !arrows }' "$dir/all.json" >"$dir/log"
result 'Perfetto: tracks in order, arrows with both ends'
if command -v python3 >/dev/null 2>&1; then
    python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$dir/all.json" >"$dir/log" 2>&1
    result 'Perfetto: it is JSON'
fi

refuses 66 'trace.0000.h5' "$dir/empty"
result 'no trace'
refuses 65 'no events' "$dir/run" --steps 9 --svg -
result 'no such step'
refuses 74 'cannot be written' "$dir/run" --svg "$dir/none/p.svg"
result 'nowhere to write to'
head -c 20000 "$src/trace.0000.h5" >"$dir/run/trace.0000.h5"
refuses 65 'trace.0000.h5' "$dir/run" --svg -
result 'a damaged trace'
echo "1..$n"
