#!/bin/sh
# time-limit: 120
# piper-tutorial(7), typed in: every command of the page, section after section, and what it prints against what stands there. "..."
# stands for the rest of a line or for lines; numbers of blocks that are marked as measured may be others, and the last digit of a
# fraction always. Then the words of other programs against what piper help says of them. Prints TAP.
page=${top_srcdir:-.}/src/man/piper-tutorial.7
case $page in /*) ;; *) page=$PWD/$page ;; esac
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
rm -f text tokens.h5 ./*.json

# text of the page: roff's characters
plain()
{
    sed 's/\\-/-/g; s/\\(aq/'"'"'/g; s/\\(ga/`/g; s/\\(ha/^/g; s/\\(ti/~/g; s/\\(dq/"/g; s/\\e/\\/g; s/^\\&//' "$1"
}
# Its commands: section, kind of the block, the command's lines, what stands below it; a file each, NN.section and so on.
plain "$page" | awk '
    /^\.SH/ { section = tolower(substr($0, 5)) }
    /^\.\\" measured/ { measured = 1; next }
    /^\.nf/ { block = 1; next }
    /^\.fi/ { block = command = heredoc = measured = 0; next }
    !block { next }
    heredoc { print >(name ".command"); if ($0 == heredoc) heredoc = ""; next }
    more { print >(name ".command"); more = goes_on($0); next }
    /^\$ / {
        name = sprintf("line.%02d", ++n)
        print substr($0, 3) >(name ".command")
        print section >(name ".section")
        printf "" >(name ".want")
        if (measured) print >(name ".measured")
        command = 1
        if (match($0, /<<[A-Z]+$/)) heredoc = substr($0, RSTART + 2)
        more = goes_on($0)
        next
    }
    command { print >(name ".want") }
    # a line that ends with a backslash or inside of quotes
    function goes_on(line) { quotes += gsub("\047", "&", line); return line ~ /\\$/ || quotes % 2 }'

# As they are typed, but for the program and the launcher.
piper()
{
    "$piper" "$@"
}
mpirun() # -q -n N --oversubscribe piper WORD...
{
    ranks=$3
    shift 5
    on_ranks 0 "$ranks" "$@"
}

# like WANT GOT [MEASURED]: the lines that were printed are those that stand there
like()
{
    awk -v measured="${3-}" '
        function pattern(line, dots,  n, i, part, out) {
            gsub(/[][\\.*+?(){}^$|]/, "\\\\&", line)
            gsub(/ +/, " +", line)
            if (dots)
                gsub(/ *\+*\\\.\\\.\\\./, ".*", line)
            if (measured)
                gsub(/[0-9]+(\\\.[0-9]+)?/, "[0-9.e+-]+", line)
            else
                line = loose(line)
            return "^" line "$"
        }
        # the last digit of a fraction may be another one
        function loose(line,  out) {
            while (match(line, /[0-9]\\\.[0-9]+/)) {
                out = out substr(line, 1, RSTART + RLENGTH - 2) "[0-9]"
                line = substr(line, RSTART + RLENGTH)
            }
            return out line
        }
        NR == FNR { want[++n] = $0; next }
        { got[++m] = $0 }
        END {
            for (i = j = 1; i <= n; i++) {
                if (want[i] ~ /^ *\.\.\.$/) {
                    skip = 1
                    continue
                }
                p = pattern(want[i], 1)
                while (skip && j <= m && got[j] !~ p)
                    j++
                if (j > m || got[j] !~ p) {
                    print "stands there: " want[i]
                    print "is printed:   " (j > m ? "(nothing more)" : got[j])
                    exit 1
                }
                j++
                skip = 0
            }
            if (n && !skip && j <= m) {
                print "is printed, too: " got[j]
                exit 1
            }
        }' "$1" "$2"
}

# the directory that is fine-tuned: as published, but small
published()
{
    sed 's/"vocab_size": 256/"vocab_size": 384, "head_dim": 16, "tie_word_embeddings": true, "initializer_range": 0.1/' model.json >hf.json
    mkdir tokens
    cp "$src/tests/text/small/chat.json" tokens/tokenizer.json
    echo '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": "{{ bos }}<|im_start|>"}' >tokens/tokenizer_config.json
    echo hello >hf.text && piper data text hf.text hf.text hf.text hf.text --tokenizer tokens -o hf.h5 &&
        piper build -m hf.json -s one.json -t train.json --set train.data=hf.h5 --set train.seq_len=4 --set train.batch_size=1 --set 'train.trace_steps=[]' -o hf.job &&
        piper train hf.job -o hf.run --steps 1 && piper checkpoint export hf.run --tokenizer tokens -o hf/
    ok=$?
    rm -rf hf.* tokens
    return $ok
}

section='' failed=''
: >told
end_section()
{
    [ -z "$section" ] || { [ -z "$failed" ]; result "$section: $count commands"; }
}
shown=told
for command in line.*.command; do
    line=${command%.command}
    now=$(cat "$line.section")
    if [ "$now" != "$section" ]; then
        end_section
        section=$now failed='' count=0
        : >told
        case $section in fine-tune*) published >out 2>&1 || { failed=yes; cat out >>told; } ;; esac
    fi
    count=$((count + 1))
    eval "$(cat "$command")" >out 2>&1
    status=$?
    why=$(like "$line.want" out "$(cat "$line.measured" 2>/dev/null)")
    if grep -q '^piper: ' "$line.want"; then # a mistake
        [ $status -ne 0 ] || why="exit status 0"
    elif [ $status -ne 0 ]; then
        why="exit status $status"
    fi
    if [ -n "$why" ]; then
        failed=yes
        { sed '1s/^/$ /' "$command" && echo "$why" && echo 'all of it:' && cat out; } >>told
    fi
done
end_section
set -- line.*.command
[ $# -ge 30 ] || echo "Bail out! $# commands were found"

# ---- words of other programs: each is known, and what piper help calls it stands in its paragraph
: >told
known=0
plain "$page" | awk '
    /^\.SH/ { inside = /MEGATRON/; }
    !inside { next }
    /^\.TP/ { tag = 1; next }
    tag { printf "%s%s\t", sep, $0; tag = 0; sep = "\n"; next }
    sep && !/^\.S[SH]/ { printf "%s ", $0 }
    END { print "" }' >paragraphs
while IFS=$(printf '\t') read -r words paragraph; do
    for word in $(echo "$words" | grep -oE '(--)?[a-z][a-z0-9_]*([-_][a-z0-9_]+)+|--[a-z][a-z0-9]*'); do
        known=$((known + 1))
        if ! piper help "$word" >out 2>&1; then
            { echo "unknown: $word" && cat out; } >>told
            continue
        fi
        for ours in $(sed 's/^[^:]*: //; s/{"op":"\([a-z]*\)",/\1 {/; s/"op"//g' out | grep -oE '"[a-z_.0-9-]+"' | tr -d '"'); do
            case $paragraph in
            *"$ours"*) ;;
            *) echo "$word is called $ours by piper help, and not in its paragraph: $paragraph" >>told ;;
            esac
        done
    done
done <paragraphs
[ ! -s told ] && [ $known -ge 60 ]
result "$known words of other programs: piper help says what stands there"
echo "1..$n"
