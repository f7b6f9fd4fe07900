#!/bin/sh
# The recipes of ir/README and of piper-tutorial(7), followed to the letter: each adds what stands there (one new file, one row in a table, one line
# that names the file to make), compiles the two changed files with the flags of this build, links them in front of its
# libraries, and uses what was added. Also: the plan that the README explains is the one of tests/golden/first. Prints TAP.
src=${top_srcdir:-.}
build=${top_builddir:-.}
readme=$src/ir/README
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
shown=$dir/log

# The indented block below the line that begins with $1, without its indentation.
block()
{
    awk -v title="$1" '
        index($0, title) == 1 { found = 1; next }
        found && /^[^ ]/ { exit }
        found { lines[++n] = substr($0, 5); if (NF) last = n }
        END { for (i = 2; i <= last; i++) print lines[i] }' "$readme"
}

# New files and rows of a recipe (its heading is $1), applied to copies in the folder $2; prints what changed.
apply()
{
    mkdir -p "$2"
    sed -n "/^Recipe: $1\$/,/^Recipe: /p" "$readme" | grep -E '^New (file|row)' |
        while read -r _ what rest; do
            case $what in
            file)
                file=${rest%:}
                [ ! -e "$src/$file" ] || { echo "$file is there already"; return 1; }
                mkdir -p "$2/${file%/*}"
                block "New file $file:" >"$2/$file"
                echo "$file new, $(wc -l <"$2/$file") lines" ;;
            row)
                file=${rest#in } below=${rest##* below }
                file=${file%%,*} below=${below%:}
                mkdir -p "$2/${file%/*}"
                row=$(sed -n "/^Recipe: $1\$/,/^Recipe: /p" "$readme" | awk -v title="New row in $file" '
                    index($0, title) == 1 { found = 1; next }
                    found && NF { sub(/^ */, ""); print; exit }')
                ROW=$row BELOW=$below awk '
                    { print }
                    index($0, ENVIRON["BELOW"]) && !done { match($0, /^[ \t]*/); print substr($0, 1, RLENGTH) ENVIRON["ROW"]; done = 1 }' \
                    "$src/$file" >"$2/$file"
                echo "$file +$(diff "$src/$file" "$2/$file" | grep -c '^>') -$(diff "$src/$file" "$2/$file" | grep -c '^<')" ;;
            esac
        done
}

# Compiles the .c files below $1 and links them as $1/piper.
link_piper()
{
    cat >"$dir/recipe.mk" <<'EOS'
include Makefile
recipe-object:
	$(COMPILE) -c -o $(object) $(source)
recipe-piper:
	$(LIBTOOL) --silent --tag=CC --mode=link $(CCLD) $(piper_CFLAGS) $(CFLAGS) $(AM_LDFLAGS) $(LDFLAGS) -o $(to)/piper \
	    $(to)/*.o $(piper_OBJECTS) $(piper_LDADD) $(LIBS)
EOS
    (
        cd "$build" || exit 1
        for file in "$1"/sched/*.c "$1"/sched/*/*.c; do
            [ -f "$file" ] || continue
            name=${file##*/}
            make -s -f "$dir/recipe.mk" recipe-object source="$file" object="$1/${name%.c}.o" || exit 1
        done
        make -s -f "$dir/recipe.mk" recipe-piper to="$1"
    )
}

plan()
{
    "$1" build -m "$dir/model.json" -s "$dir/strategy.json" -t "$dir/train.json" -o "$dir/job.h5" >"$dir/log" 2>&1 &&
        shift && "$with" plan "$dir/job.h5" "$@" 2>>"$dir/log"
}

cat >"$dir/model.json" <<'EOS'
{"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
 "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 16}
EOS
echo '{"batch_size": 12, "seq_len": 8, "steps": 1}' >"$dir/train.json"

# ---- a schedule
apply 'add a schedule' "$dir/schedule" >"$dir/log" 2>&1 && sed 's/^/# /' "$dir/log" &&
    [ "$(grep -c ' new, ' "$dir/log")" -eq 1 ] && [ "$(grep -c ' +1 -0$' "$dir/log")" -eq 2 ] && [ "$(wc -l <"$dir/log")" -eq 3 ]
result 'add a schedule: a new file, a row, a line to make'
link_piper "$dir/schedule" >"$dir/log" 2>&1
result 'add a schedule: it compiles'
with=$dir/schedule/piper
block 'Its test is its order' >"$dir/lines"
read -r kind ranks microbatches chunks <"$dir/lines"
echo "[{\"op\":\"layout\",\"pp\":$ranks,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"$kind\",\"microbatches\":$microbatches}]" \
    >"$dir/strategy.json"
plan "$with" --csv - >"$dir/csv" && sed 1d "$dir/lines" >"$dir/rows" && [ "$chunks" -eq 1 ] && [ -s "$dir/rows" ] &&
    grep '^[0-9]*F' "$dir/csv" | diff "$dir/rows" - >>"$dir/log" 2>&1
result "add a schedule: \"$kind\" runs in the order that stands there"
"$PIPER" build -m "$dir/model.json" -s "$dir/strategy.json" -t "$dir/train.json" -o "$dir/job.h5" >"$dir/log" 2>&1
[ $? -eq 65 ] && grep -q "unknown schedule \"$kind\"" "$dir/log"
result "add a schedule: \"$kind\" is not there without it"

# ---- a directive
# directive NAME RECIPE FOLDER: adds it to a copy; sets with, the program that has it, and example, a directive, which strategy.json is
directive()
{
    apply "$2" "$dir/$3" >"$dir/log" 2>&1 && sed 's/^/# /' "$dir/log" &&
        [ "$(grep -c ' new, ' "$dir/log")" -eq 1 ] && [ "$(grep -c ' +1 -0$' "$dir/log")" -eq 2 ] && [ "$(wc -l <"$dir/log")" -eq 3 ]
    result "$1: a new file, a row, a line to make"
    link_piper "$dir/$3" >"$dir/log" 2>&1
    result "$1: it compiles"
    with=$dir/$3/piper
    example=$(sed -n 's/^ *\/\* [a-z_]*: \({"op":.*}\),.*/\1/p' "$readme")
    echo "[$example]" >"$dir/strategy.json"
}
directive 'add a directive' 'add a directive' directive
plan "$with" --expand >"$dir/out" &&
    cat "$dir/out" >>"$dir/log" && grep -q '"op":"replicate".*"devices":\["0-3"\]' "$dir/out" &&
    "$with" plan "$dir/job.h5" >"$dir/out" 2>>"$dir/log" && grep -q '^ranks .* 4 data-parallel replicas' "$dir/out"
result "add a directive: $example makes 4 replicas"
echo "[$example]" | sed 's/}/,"devise":1}/' >"$dir/strategy.json"
! plan "$with" >"$dir/out" && grep -q 'devise' "$dir/log" && grep -q 'devices' "$dir/log"
result 'add a directive: a key that it does not know is refused'

# ---- a directive of the tutorial: its section as the README would have it
sed 's/\\-/-/g; s/\\(aq/'"'"'/g; s/\\(dq/"/g; s/\\e/\\/g; s/^\\&//' "$src/src/man/piper-tutorial.7" | awk '
    /^\.SS Recipe: / { inside = 1; print substr($0, 5); next }
    /^\.S[HS]/ { inside = 0 }
    !inside { next }
    /^\.nf/ { block = 1; print ""; next }
    /^\.fi/ { block = 0; print ""; next }
    block { print (length($0) ? "    " : "") $0; next }
    !/^\./ { print }' >"$dir/tutorial"
readme=$dir/tutorial
directive 'the tutorial: a directive' fsdp fsdp
plan "$with" --expand >"$dir/out" && cat "$dir/out" >>"$dir/log" && grep -q '"op":"replicate".*"devices":\["0-3"\],"zero":3' "$dir/out" &&
    grep -q '"op":"recompute"' "$dir/out" && "$with" plan "$dir/job.h5" >"$dir/out" 2>>"$dir/log" && grep -q '^ranks .* 4 data-parallel replicas' "$dir/out"
result "the tutorial: $example shards over 4 ranks"
echo "[$example]" | sed 's/true/"yes"/' >"$dir/strategy.json"
! plan "$with" >"$dir/out" && grep -q 'recompute: found "yes", expected true or false' "$dir/log"
result 'the tutorial: a value of another type is refused'
readme=$src/ir/README

# ---- what the README quotes
sed -n '/^From tests\/golden\/first/,/^Next:/p' "$readme" | grep -E '^  +[a-z]+ [0-9]+ ' >"$dir/quotes"
: >"$dir/log"
while read -r quote; do
    quote=${quote%%  *}
    grep -qF -- "$quote" "$src/tests/golden/first/plan.txt" || echo "not in the plan: $quote" >>"$dir/log"
done <"$dir/quotes"
[ "$(wc -l <"$dir/quotes")" -ge 10 ] && [ ! -s "$dir/log" ]
result 'the plan that the README explains is a real one'
awk 'NR == FNR { if (match($0, /ROW\("[a-z-]+", /)) passes[substr($0, RSTART + 5, RLENGTH - 8)] = 1; next }
    /^[^ ]/ { inside = /^sched\/passes.h/ }
    !inside { next }
    { gsub(/[,.]/, " "); for (i = 1; i <= NF; i++) seen[$i] = 1 }
    END { for (p in passes) { n++; if (!(p in seen)) print "the README lacks the pass " p }; if (n < 10) print "no table of passes" }' \
    "$src/sched/passes.h" "$readme" >"$dir/log"
[ ! -s "$dir/log" ]
result 'all passes of the compiler are in the README'
grep -oE '(ir|sched|src|comm|tests)/[a-z0-9_/*-]+(\.[a-z]+)?' "$readme" | sort -u | while read -r file; do
    case $file in
    sched/schedules/serial.c | sched/directives/data_parallel.c | src/cpu/) continue ;;
    esac
    # shellcheck disable=SC2086 # patterns such as src/exec*.c
    ls -d "$src"/$file >/dev/null 2>&1 || echo "no such file: $file"
done >"$dir/log"
[ ! -s "$dir/log" ]
result 'files that the README names are there'
echo "1..$n"
