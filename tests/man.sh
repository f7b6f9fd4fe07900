#!/bin/sh
# The manuals against the program: options of every command against its --help, keys of the files against the tables that
# read them, and the examples, which are run. Prints TAP.
src=${top_srcdir:-.}
man=$src/src/man
piper=$(realpath "${PIPER:-./piper}")
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
log=$dir/log
. "$src/tests/tap.sh" || exit 99
shown=$log

# clean NAME: good when the log has no line
clean()
{
    [ ! -s "$log" ]
    result "$1"
    : >"$log"
}

# lacks WHAT A B: lines of the sorted file A that are not in B go to the log as "WHAT: line".
lacks()
{
    comm -23 "$2" "$3" | sed "s|^|$1: |" >>"$log"
}

plain()
{
    sed 's/\\-/-/g; s/\\(dq/"/g; s/\\e/\\/g' "$1"
}

: >"$log"

# ---- commands
"$piper" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' >"$dir/commands"
while read -r command; do
    page=$man/piper-$command.1
    [ -f "$page" ] || { echo "there is no $page" >"$log"; clean "$command has a page"; continue; }
    "$piper" "$command" --help | sed -n '/^Options:/,/^$/p' | cut -c1-28 | grep -oE '(^| )--?[a-z][a-z0-9-]*' | tr -d ' ' |
        sort -u >"$dir/help"
    plain "$page" | awk '/^\.SH/ { inside = /^.SH OPTIONS/ } tag && inside { print } { tag = /^\.T[PQ]/ }' |
        grep -oE '(^|[^a-z-])--?[a-z][a-z0-9-]*' | grep -oE '[-][a-z0-9-]*' | sort -u >"$dir/page"
    lacks "not in the manual" "$dir/help" "$dir/page"
    lacks "not in --help" "$dir/page" "$dir/help"
    plain "$page" | awk '/^\.SH/ { inside = /EXAMPLES/ } inside' | grep -E "(^|[0-9] )piper $command" |
        grep -oE ' --?[a-z][a-z0-9-]*' | tr -d ' ' | grep -vx -e -q -e -n | sort -u >"$dir/used"
    lacks "in an example, not in --help" "$dir/used" "$dir/help"
    clean "options of piper $command"
done <"$dir/commands"
[ "$(wc -l <"$dir/commands")" -ge 7 ] || echo 'piper --help lists too few commands' >"$log"
for page in "$man"/*.[157]; do
    plain "$page" | sed -n 's/^\.BR* \(piper[a-z-]*\) (\([157]\)).*/\1.\2/p' | while read -r other; do
        [ -f "$man/$other" ] || echo "${page##*/} refers to $other, which does not exist"
    done
    if command -v groff >/dev/null; then
        { groff -ww -man -Tutf8 "$page" >/dev/null; } 2>&1
    fi
    if command -v mandoc >/dev/null; then
        mandoc -Tlint -Wwarning "$page"
    fi
done >>"$log"
clean 'pages: references and markup'

# ---- keys
# The keys that a page has in the sections whose heading fits: bold words of the lines below .TP, and of paragraphs when
# $3 is all. A key of an object inside is written with a dot.
page_keys()
{
    sed 's/\\-/-/g' "$1" | awk -v heading="$2" -v all="${3-}" '
        /^\.S[HS] / { inside = substr($0, 5) ~ heading }
        inside && (tag || all) && /^\.BR? / {
            roman = /^\.BR / ? 1 : 0
            $0 = substr($0, roman ? 5 : 4)
            for (i = 0; match($0, /^ *("[^"]*"|[^ "]+)/); i++) {
                word = substr($0, RSTART, RLENGTH)
                $0 = substr($0, RLENGTH + 1)
                gsub(/^ *"?|"$/, "", word)
                if (!roman || i % 2 == 0)
                    print word
            }
        }
        { tag = /^\.TP/ }' | grep -E '^[a-zA-Z_.0-9-]+$' | sort -u
}
# The strings of a table in a C file that begins with the given line.
strings()
{
    awk -v first="$2" 'index($0, first) { on = 1 } on { print } on && /};/ { exit }' "$1" | grep -oE '"[^"]+"' | tr -d '"' | sort -u
}

for file in "$src"/sched/directives/*.c; do
    name=$(sed -n 's/^const struct directive_kind .*\.name = "\([a-z_]*\)".*/\1/p' "$file")
    [ -n "$name" ] || continue
    echo "$name" >>"$dir/directives"
    strings "$file" 'const keys[]' | grep -vx op >"$dir/code"
    page_keys "$man/piper-strategy.5" "^$name\$" >"$dir/page"
    if [ "$name" = schedule ]; then
        grep -ohE '\.name = "[a-z0-9-]+"' "$src"/sched/schedules/*.c | cut -d'"' -f2 >"$dir/schedules"
        echo csv >>"$dir/schedules"
        sort "$dir/schedules" "$dir/code" -o "$dir/code"
    fi
    lacks "not in piper-strategy(5)" "$dir/code" "$dir/page"
    lacks "not in ${file##*/}" "$dir/page" "$dir/code"
    clean "keys of the directive $name"
done
[ "$(wc -l <"$dir/directives")" -ge 9 ] || echo 'too few directives were found' >"$log"

strings "$src/src/job/config.c" 'const char *const keys[] = { "optimizer",' >"$dir/code"
for object in optimizer lr; do
    awk -v name="read_$object(" 'index($0, name) && /^static/ { on = 1 } on && /keys\[\]/ { print; exit }' "$src/src/job/config.c" |
        grep -oE '"[^"]+"' | tr -d '"' | sed "s/^/$object./"
done | sort -u - "$dir/code" -o "$dir/code"
page_keys "$man/piper-train-config.5" '.' >"$dir/page"
[ "$(wc -l <"$dir/code")" -ge 20 ] || echo 'too few keys of train.json were found' >"$log"
lacks 'not in piper-train-config(5)' "$dir/code" "$dir/page"
lacks 'not in config.c' "$dir/page" "$dir/code"
clean 'keys of train.json'

# Of a model: every key of the tables stands somewhere, ignored ones under their heading; what the page has is a key.
tables()
{
    cat "$src"/ir/family/*.c "$src/ir/family/decoder.h" "$src/ir/family/hf.h" | grep -oE "\\b($1)\\(\"?[a-z_0-9A-Z]+\"?[,)]" | sed 's/.*(//' | tr -d '",)' | sort -u
}
{
    tables 'SIZE|SIZE_NONE|COUNT_IN|FLAG_IN|COUNT|COUNT_NONE|NUMBER|NUMBER_NONE|FLAG|WORD|SIZE_IN|NUMBER_IN|WORD_IN|EPS|OTHER|ALIAS|INFO|NOISE|NEUTRAL|REFUSED'
    echo initializer_range
} | grep -vxE 'model_type|key' | sort -u >"$dir/code"
grep -oE 'ROW\([a-z0-9_]+\)' "$src/ir/family/family.c" | sed 's/ROW(//; s/)//' | grep -vx name | sort -u >"$dir/families"
{ tables INFO | grep -vx key; cat "$dir/families"; } | sort -u >"$dir/ignored"
plain "$man/piper-model.5" | awk '/^\.S[HS]/ { inside = /^.SS Ignored/; next } inside' | grep -oE '[a-z_0-9]{3,}' | grep _ | sort -u >"$dir/page"
lacks 'ignored in the manual, not in the tables' "$dir/page" "$dir/ignored"
plain "$man/piper-model.5" | grep -oE '[a-z_0-9]{3,}' | sort -u >"$dir/page"
lacks 'not in piper-model(5)' "$dir/code" "$dir/page"
page_keys "$man/piper-model.5" '^(Sizes|Norms|Positions|Windows|Factors|Experts)' | sort -u >"$dir/page"
lacks 'not in the tables' "$dir/page" "$dir/code"
[ "$(wc -l <"$dir/page")" -ge 40 ] || echo 'too few keys of models were found' >>"$log"
clean 'keys of a Hugging Face model'
awk '/^\.SH/ { inside = /FAMILIES/ } inside && /^\.BR? / { print }' "$man/piper-model.5" | grep -oE '[a-z0-9_]+' | grep -vxE 'model_type' | sort -u >"$dir/page"
lacks 'family not in piper-model(5)' "$dir/families" "$dir/page"
lacks 'no family' "$dir/page" "$dir/families"
clean 'families of models'

{ # of an operator of a "graph"
    sed -n '/define ATTRIBUTES(X)/,/clang-format on/p' "$src/ir/op.c" | grep -oE 'X\(A_[A-Z_]+, [a-z_]+' | cut -d' ' -f2 | grep -vx flags
    sed -n '/flag_names\[\] = {/,/};/p' "$src/ir/family/explicit.c" | grep -oE '"[a-z_0-9]+"' | tr -d '"'
    printf '%s\n' capacity_factor inv_freq op name in param tags block init std
} | sort -u >"$dir/code"
page_keys "$man/piper-model.5" '^OPERATORS' >"$dir/page"
lacks 'not in piper-model(5)' "$dir/code" "$dir/page"
printf '%s\n' graph vocab_size initializer_range annotate | sort -u "$dir/code" - >"$dir/known"
lacks 'no key of an operator' "$dir/page" "$dir/known"
grep -oE '\.name = "[a-z_]+"' "$src/ir/op.c" | cut -d'"' -f2 | grep -vxE 'sum|copy|to_blocks|from_blocks' | sort -u >"$dir/code"
plain "$man/piper-model.5" | grep -oE '[a-z_]+' | sort -u >"$dir/page"
lacks 'operator not in piper-model(5)' "$dir/code" "$dir/page"
clean 'keys of a graph model'

# ---- examples of files: each block that begins with [ or { is one
examples()
{
    rm -rf "$dir/examples"
    mkdir "$dir/examples"
    plain "$1" | awk -v to="$dir/examples/" '
        /^\.nf/ { name = to sprintf("%02d", ++n); on = 1; next }
        /^\.fi/ { on = 0 }
        on { print >name }'
}
cat >"$dir/model.json" <<'EOS'
{"model_type": "qwen3_moe", "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
 "num_key_value_heads": 2, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
EOS
echo '{"batch_size": 64, "seq_len": 8, "steps": 1}' >"$dir/train.json"
echo '[]' >"$dir/one.json"
for page in strategy model train-config; do
    examples "$man/piper-$page.5"
    count=0
    for example in "$dir"/examples/*; do
        model=$dir/model.json strategy=$dir/one.json train=$dir/train.json
        case $page in
        strategy) strategy=$example ;;
        model) model=$example ;;
        *) train=$example ;;
        esac
        count=$((count + 1))
        if ! "$piper" build -m "$model" -s "$strategy" -t "$train" -o "$dir/job.h5" >"$dir/out" 2>&1 ||
            ! { "$piper" plan "$dir/job.h5" || "$piper" plan "$dir/job.h5" -n 4; } >>"$dir/out" 2>&1; then
            cat "$example" "$dir/out" >>"$log"
        fi
        grep '^note: .*unknown' "$dir/out" >>"$log"
    done
    [ "$count" -ge 2 ] || echo "$count examples were found" >>"$log"
    clean "$count examples of piper-$page(5)"
done

# ---- the zoo: a strategy of tests/zoo each, as it is there
mkdir "$dir/shown"
plain "$man/piper-zoo.7" | awk -v to="$dir/shown/" '/^\.SS / { name = $2 } /^\.fi/ { on = 0 } on { print >(to name ".json") } /^\.nf/ { on = 1 }'
ls "$dir/shown" >"$dir/page"
for file in "$src"/tests/zoo/*.json; do
    name=${file##*/}
    case $name in model-*) continue ;; esac
    echo "$name"
    diff "$file" "$dir/shown/$name" >>"$log" 2>&1
done >"$dir/code"
lacks 'not in piper-zoo(7)' "$dir/code" "$dir/page"
lacks 'not in tests/zoo' "$dir/page" "$dir/code"
[ "$(wc -l <"$dir/code")" -ge 30 ] || echo 'too few strategies were found' >>"$log"
clean 'strategies of the zoo'

# ---- examples of commands, each in a new folder with the files that it names; training, and stopping it, is left to the other tests
cd "$dir" || exit 99
mkdir bin fixture fixture/gpt2
printf '#!/bin/sh\nexec "%s" "$@"\n' "$piper" >bin/piper
chmod +x bin/piper
(
    cd fixture || exit 1
    cp ../model.json ../one.json .
    seq 4000 | tee alice.txt sherlock.txt >book.txt
    "$piper" data text book.txt -o tokens.h5
    echo '[{"op":"layout","pp":1}]' >open.json
    cp one.json strategy.json
    cp one.json dp.json
    echo '{"batch_size": 64, "seq_len": 8, "steps": 3, "data": "tokens.h5", "trace_steps": [2]}' >train.json
    sed -i 's/"vocab_size": 64/"vocab_size": 256/' model.json
    "$piper" build -m model.json -s open.json -t train.json -o open.h5
    "$piper" build -m model.json -s strategy.json -t train.json -o job.h5
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 "$piper" train job.h5 -o run
    cp -r run baseline && cp -r run wide
    "$piper" checkpoint export run -o gpt2/model.safetensors
    printf '\210\330\064\001\001\000\000\000\010\000\000\000' >fineweb_train_000001.bin # 20240520, 1, 8 tokens
    head -c 1012 /dev/zero >>fineweb_train_000001.bin
    printf '\001\000\002\000\003\000\004\000\005\000\006\000\007\000\010\000' >>fineweb_train_000001.bin
) >out 2>&1
for file in open.h5 gpt2/model.safetensors run/trace.0000.h5; do
    [ -f "fixture/$file" ] || cat out >"$log"
done
clean 'a small run to try the examples on'
for page in "$man"/piper.1 "$man"/piper-*.1; do
    plain "$page" | awk '/^\.SH/ { inside = /EXAMPLES/ } inside' | grep -E '^piper ' | grep -vE '^piper (train|halt)'
done | sort -u >examples.txt
while read -r line; do
    rm -rf now
    cp -r fixture now
    case $line in
    *import*-o\ run*) rm -rf now/run ;;
    *' -n 64'*) cp now/open.h5 now/job.h5 ;;
    *'--steps 10'*) line="${line%--steps 10*}--steps 2${line##*--steps 10}" ;;
    esac
    case $line in
    *'| dot '*) line="${line%%| dot *}| grep -q ^digraph" ;;
    esac
    (
        cd now || exit 1
        PATH=$dir/bin:$PATH
        eval "$line"
    ) >out 2>&1 </dev/null || { echo "$line"; cat out; } >>"$log"
done <examples.txt
[ "$(wc -l <examples.txt)" -ge 10 ] || echo 'too few examples were found' >>"$log"
clean "$(wc -l <examples.txt) examples of commands"
echo "1..$n"
