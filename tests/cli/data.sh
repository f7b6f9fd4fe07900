#!/bin/sh
# time-limit: 60
# piper data: readers, what is skipped and said, shares, folders, interruption. Prints TAP.
piper=${PIPER:-./piper}
src=$(cd "${top_srcdir:-.}" && pwd)
case $piper in /*) ;; *) piper=$PWD/$piper ;; esac
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
tok=$src/tests/text/small/llama3.json
n=0

# result NAME WHY: good when WHY is empty
result()
{
    n=$((n + 1))
    if [ -z "$2" ]; then
        echo "ok $n - $1"
    else
        echo "not ok $n - $1: $2"
        sed 's/^/# /' out err
    fi
}
# run NAME STATUS PATTERN ARGUMENT...: out and err together have a line like each of the patterns, separated by @
run()
{
    name=$1 status=$2 patterns=$3 got=0
    shift 3
    "$piper" data "$@" >out 2>err || got=$?
    why=
    [ $got -eq "$status" ] || why="exit status $got, expected $status"
    while [ -n "$patterns" ]; do
        pattern=${patterns%%@*}
        grep -Eq -e "$pattern" out err || why="$why; no line like: $pattern"
        case $patterns in *@*) patterns=${patterns#*@} ;; *) patterns= ;; esac
    done
    result "$name" "$why"
}
# same NAME FILE FILE: the tokens of both are the same
same()
{
    "$piper" data info "$2" | sed 1,3d >one 2>err
    "$piper" data info "$3" | sed 1,3d >two 2>err
    cp one out
    if cmp -s one two; then why=; else why="the files differ"; fi
    result "$1" "$why"
}

# ---- documents
printf '{"text": "Hello there, it'"'"'s one"}\n{"n": 1}\n\nnot JSON\n{"text": "two\\nlines \\u00e9\\ud800"}\n{"text": ""}\n{"text": 5}\n{"text": "three"}' >a.jsonl
run "JSONL: what is skipped, with its lines" 0 \
    '^a\.h5: [0-9]+ tokens, vocabulary 368, 3 documents@skipped a\.jsonl:2: no such field@skipped a\.jsonl:4: no JSON object@a\.jsonl:6: the text is empty@a\.jsonl:7: the field is no string@^piper: 4 lines skipped@1 place of the text was no valid UTF-8' \
    jsonl a.jsonl --tokenizer "$tok" -o a.h5
run "what is in it" 0 '3 documents, vocabulary 368@^tokenizer: llama3@^from: a\.jsonl@8 to 15 +@Hello there, it.s one<\|endoftext\|>two\\nlines é.{1,3}<\|endoftext\|>three<\|endoftext\|>' \
    info a.h5
# a read of a text ends behind the first, second or third byte of a character of four
for k in 1 2 3; do
    { yes 'a line' | head -c $((1048576 - k)) && printf '\360\237\230\200'; } >"wide$k"
done
run "characters that stand in two reads" 0 '3 documents' text wide1 wide2 wide3 --tokenizer "$tok" -o wide.h5
why=$(grep 'no valid UTF-8' err)
result "are whole" "$why"
gzip -c a.jsonl >a.jsonl.gz
run "a packed file" 0 '3 documents' jsonl a.jsonl.gz --tokenizer "$tok" -o gz.h5
same "gzip changes nothing" a.h5 gz.h5
if command -v zstd >/dev/null && zstd -q -c a.jsonl >a.jsonl.zst; then
    run "another" 0 '3 documents' jsonl a.jsonl.zst --tokenizer "$tok" -o zst.h5
    same "zstd changes nothing" a.h5 zst.h5
fi
{ "$piper" data jsonl - --tokenizer "$tok" -o stdin.h5 <a.jsonl; } >out 2>err
same "standard input" a.h5 stdin.h5
run "no end-of-text token" 0 '3 documents' jsonl a.jsonl --tokenizer "$tok" --eos no -o no.h5
run "its tokens" 0 'it.s onetwo\\nlines é.{1,3}three$' info no.h5
run "a field that is nowhere" 65 'lines-few\.jsonl: contains no text: 0 bytes in 0 documents@6 lines skipped' jsonl "$src/tests/fuzz/corpus/lines-few.jsonl" --field t -o bad.h5
printf '{"t": "ab"}\n{"t": "cde"}\n' >b.jsonl
run "bytes of a field" 0 '^b\.h5: 5 tokens, vocabulary 256, 2 documents$' jsonl b.jsonl --field t -o b.h5

# ---- sentencepiece models
pieces=$src/tests/text/small/pieces-llama2.model
run "a sentencepiece model" 0 '^p\.h5: [0-9]+ tokens, vocabulary [0-9]+, 3 documents' jsonl a.jsonl --tokenizer "$pieces" -o p.h5
run "its text" 0 '^tokenizer: pieces-llama2@one</s> two\\nlines' info p.h5
mkdir model nothing
cp "$pieces" model/tokenizer.model
run "a folder with one" 0 '3 documents' jsonl a.jsonl --tokenizer model -o p2.h5
same "it is the same" p.h5 p2.h5
head -c 3000 "$pieces" >cut.model
run "one that is cut off" 65 'cut\.model: what is at byte [0-9]+ is no field of a sentencepiece model' jsonl a.jsonl --tokenizer cut.model -o bad.h5
LC_ALL=C sed 's/<0x41>/<0x-1>/' "$pieces" >minus.model
run "one with a byte below 0" 65 'minus\.model: piece [0-9]+ is a byte and has the text "<0x-1>", expected one as <0x41>' jsonl a.jsonl --tokenizer minus.model -o bad.h5
run "a folder without a tokenizer" 66 'nothing: has no tokenizer\.json, tokenizer\.model or spiece\.model' jsonl a.jsonl --tokenizer nothing -o bad.h5
run "a pattern with one" 64 'a sentencepiece model has its own' jsonl a.jsonl --tokenizer "$pieces" --pattern gpt2 -o bad.h5

# ---- files
mkdir folder
for i in 1 2 10; do echo "file $i" >folder/part-$i.txt; done
touch folder/.hidden
run "a folder, in natural order" 0 '3 documents' text folder --tokenizer "$tok" -o folder.h5
run "its files" 0 '^from: part-1\.txt, part-2\.txt, part-10\.txt$@^file 1\\n<\|endoftext\|>file 2\\n' info folder.h5
run "a pattern of names" 0 '3 documents' text 'folder/part-*.txt' --tokenizer "$tok" -o glob.h5
same "folder and pattern" folder.h5 glob.h5
run "a folder without fitting files" 66 'folder: is a folder without files for jsonl' jsonl folder -o bad.h5
run "a pattern that fits nothing" 66 'x\*: fits no file' text 'x*' -o bad.h5

# ---- large ones: batches, several pieces of a document, any number of threads
awk 'BEGIN { for (i = 0; i < 60000; i++) printf "line %d of a long text, café %x\n%s", i, i * 7919, i % 50 ? "" : "\n  indented;\n" }' >long.txt
OMP_NUM_THREADS=1 "$piper" data text long.txt --tokenizer "$tok" -o one.h5 >out 2>err
OMP_NUM_THREADS=3 "$piper" data text long.txt --tokenizer "$tok" -o three.h5 >out 2>err
if cmp -s one.h5 three.h5; then why=; else why="the files differ"; fi
result "threads change nothing" "$why"
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "{\"text\": \"document %d\"}\n", i }' >many.jsonl
run "a share, and the rest" 0 '^s\.h5: [0-9]+ tokens, vocabulary 368, 2[67][0-9][0-9] documents@^s-eval\.h5: [0-9]+ tokens, vocabulary 368, [23][0-9][0-9] documents' \
    jsonl many.jsonl --tokenizer "$tok" --split 0.9 -o s.h5
cp s-eval.h5 first.h5
run "once more" 0 documents jsonl many.jsonl --tokenizer "$tok" --split 0.9 -o s.h5
if cmp -s s-eval.h5 first.h5; then why=; else why="another draw"; fi
result "the same seed draws the same" "$why"
run "another seed" 0 documents jsonl many.jsonl --tokenizer "$tok" --split 0.9 --seed 2 -o s.h5
if cmp -s s-eval.h5 first.h5; then why="the same draw"; else why=; fi
result "another seed draws others" "$why"
# more documents than are looked through at a time, all of one length
awk 'BEGIN { for (i = 0; i < 9000; i++) print "{\"text\": \"the same words\"}" }' >even.jsonl
run "documents of one length" 0 '^e\.h5: [0-9]+ tokens, vocabulary 368, 9000 documents' jsonl even.jsonl --tokenizer "$tok" -o e.h5
run "are in one line of lengths" 0 '^ +[0-9]+ to [0-9]+ +9000 #+$' info e.h5
if [ "$(grep -c '^ *[0-9]* to [0-9]' out)" -eq 1 ]; then why=; else why="more than one line"; fi
result "and in no other" "$why"
run "one document cannot be shared out" 65 'would have 0 tokens in 0 documents.*--split' text folder/part-1.txt --split 0.5 -o bad.h5

# ---- ids
run "documents pass through an import" 0 '^i\.h5: [0-9]+ tokens, vocabulary 368, 6 documents' import a.h5 folder.h5 --tokenizer "$tok" -o i.h5
run "ids above the vocabulary are found here" 65 '^piper: a\.h5: token [0-9]+ is [0-9]+, expected an id below 300' import a.h5 --vocab 300 -o bad.h5
printf '\001\000\002\000\003\000' >raw.bin
run "ids without a header" 0 '^r\.h5: 3 tokens, vocabulary 4, 1 document' import raw.bin --raw uint16 -o r.h5
run "what they are must be said" 65 'raw\.bin: is no token file: .*--raw uint16' import raw.bin -o bad.h5

# ---- conversations: as the text that the template makes of them, with the assistant's words and the end of its turn as targets
printf '{"messages": [{"role": "user", "content": "Hi <|im_end|>"}, {"role": "assistant", "content": "The message is it."}, {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n{"messages": [{"role": "user", "content": "x"}]}\n{}\n' >c.jsonl
printf '{"text": "The message is it."}\n{"text": "y"}\n' >said.jsonl
"$piper" data jsonl said.jsonl --tokenizer "$tok" -o said.h5 >out 2>err
said=$(sed -n 's/^said\.h5: \([0-9]*\) tokens.*/\1/p' out)
run "conversations" 0 "^c\\.h5: [0-9]+ tokens, vocabulary 368, 1 document\$@^template chatml: $said of [0-9]+ tokens are targets@skipped c\\.jsonl:2: no message of an assistant@skipped c\\.jsonl:3: no list of messages" \
    chat c.jsonl --tokenizer "$tok" -o c.h5
sed 's/ <|im_end|>//' c.jsonl | sed 1q >c2.jsonl
printf '{"text": "<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nThe message is it.<|im_end|>\\n<|im_start|>user\\nx<|im_end|>\\n<|im_start|>assistant\\ny<|im_end|>\\n"}\n' >t.jsonl
"$piper" data chat c2.jsonl --tokenizer "$tok" -o c2.h5 >out 2>err
"$piper" data jsonl t.jsonl --tokenizer "$tok" --eos no -o t.h5 >out 2>err
same "a conversation is the text of its template" c2.h5 t.h5
run "padding" 0 '^c3\.h5: 64 tokens' chat c2.jsonl --tokenizer "$tok" --pad 64 -o c3.h5
run "a template of another tokenizer" 64 'llama3\.json: has no token <\|start_header_id\|>, which the template llama3 needs' chat c.jsonl --tokenizer "$tok" --template llama3 -o bad.h5
run "a template that is none" 64 'template: found "vicuna", expected chatml' chat c.jsonl --tokenizer "$tok" --template vicuna -o bad.h5
run "chat without a tokenizer" 64 'chat needs --tokenizer' chat c.jsonl -o bad.h5

# ---- a model's vocabulary against the file's
model()
{
    vocab=$1
    shift
    echo "{\"model_type\": \"gpt2\", \"vocab_size\": $vocab, \"n_embd\": 8, \"n_layer\": 1, \"n_head\": 1, \"n_positions\": 8}" >model.json
    echo '{"batch_size": 1, "seq_len": 8, "steps": 1, "data": "folder.h5"}' >train.json
    echo '[]' >none.json
    "$piper" build -m model.json -s none.json -t train.json -o job.h5 "$@" >out 2>err
    grep '^note: ' out
}
said=$(model 300)
case $said in
'note: train.json: $.data: folder.h5 has a vocabulary of 368 tokens, the model 300: training stops at an id from 300 on') why= ;;
*) why="found: $said" ;;
esac
result "a model with a smaller vocabulary" "$why"
why=$(model 512)
result "a padded vocabulary is fine" "$why"
said=$(model 512 --set train.data=nothere.h5)
case $said in 'note: train.json: $.data: nothere.h5: '*) why= ;; *) why="found: $said" ;; esac
result "data that are not there yet" "$why"

# ---- mistakes
printf 'PAR1xxxxxxxxxxxxxxxx' >p.parquet
run "parquet" 65 '^piper: p\.parquet: is a parquet file; make JSONL of it: python3 -c .*read_parquet' jsonl p.parquet --tokenizer "$tok" -o bad.h5
run "parquet as ids" 65 '^piper: p\.parquet: is a parquet file' import p.parquet -o bad.h5
printf 'a\000b' >zero
run "a byte of 0" 65 '^piper: zero: holds a byte of 0' text zero --tokenizer "$tok" -o bad.h5
head -c 40 a.jsonl.gz >cut.gz
run "the same without a tokenizer" 65 '^piper: zero: holds a byte of 0' text zero -o bad.h5
run "JSONL as text" 65 '^piper: a\.jsonl: is JSONL by its name, expected text: piper data jsonl' text a.jsonl --tokenizer "$tok" -o bad.h5
run "a packed file that is cut off" 65 '^piper: cut\.gz: ends inside its packed data' jsonl cut.gz --tokenizer "$tok" -o bad.h5
run "rank file without a pattern" 64 'tiktoken rank file.*--pattern' text long.txt --tokenizer "$src/tests/text/small/tiktoken.tiktoken" -o bad.h5
run "a pattern with a tokenizer.json" 64 'pattern goes with a tiktoken rank file' text long.txt --tokenizer "$tok" --pattern gpt2 -o bad.h5
run "no tokenizer" 65 'long\.txt: line 1: expected a token in base64' text long.txt --tokenizer long.txt -o bad.h5
run "options of another verb" 64 '^piper: data: --raw goes with import, not with text' text long.txt --raw uint16 -o bad.h5
run "a verb that is none" 64 'found "json", expected text, jsonl, chat, import or info; did you mean "jsonl"' json a.jsonl -o bad.h5
run "a share that is none" 64 'split: found "99", expected a share between 0 and 1' text long.txt --split 99 -o bad.h5
why=$(ls bad* 2>/dev/null)
result "nothing is left of what failed" "$why"

# ---- interruption
{ cat many.jsonl; sleep 20; } | "$piper" data jsonl - --tokenizer "$tok" -o stopped.h5 >out 2>err &
reader=$!
sleep 1
kill -TERM $reader 2>/dev/null
i=0
while kill -0 $reader 2>/dev/null && [ $i -lt 50 ]; do sleep 0.1; i=$((i + 1)); done
why=$(ls stopped* 2>/dev/null)
[ $i -lt 50 ] || why="$why; it goes on"
result "an interrupted import leaves nothing" "$why"
echo "1..$n"
