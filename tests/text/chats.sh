#!/bin/sh
# Conversations as token ids against what `transformers` makes of them with templates that do the same (chats.py wrote small/chats.txt).
# Prints TAP.
src=$(cd "${top_srcdir:-.}" && pwd)/tests/text/small
encode=$(cd "${top_builddir:-.}" && pwd)/tests/text/encode
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
# a folder each: with a token before a text, without, and with a template of its own
mkdir plain bos own
cp "$src/chat.json" plain/tokenizer.json
cp "$src/chat.json" own/tokenizer.json
cp "$src/chat.json" bos/tokenizer.json
echo '{"bos_token": "<|begin_of_text|>", "add_bos_token": true}' >bos/tokenizer_config.json
sed -n 's/^jinja \(.*\)$/{"chat_template": \1}/p' "$src/chats.txt" >own/tokenizer_config.json
n=0
sed -n 's/^template \([^ ]*\).*/\1/p' "$src/chats.txt" >names
while read -r name; do
    case $(grep "^template $name " "$src/chats.txt") in
    *bos) tokenizer=bos template=$name ;;
    *qwen2*) tokenizer=own template=- ;;
    *) tokenizer=plain template=$name ;;
    esac
    sed -n "/^template $name /,/^template/p" "$src/chats.txt" >of
    sed -n 's/^chat //p' of >chats.jsonl
    sed -n 's/^ids //p' of >expected
    "$encode" -m "$template" "$tokenizer" <chats.jsonl >got 2>&1
    n=$((n + 1))
    if [ -s expected ] && cmp -s expected got; then
        echo "ok $n - $name: $(wc -l <got) conversations"
    else
        echo "not ok $n - $name"
        diff expected got | sed 's/^/# /'
    fi
done <names
# a text that is trimmed, an answer that begins with a line's end, names of special tokens in it
cat >chats.jsonl <<'JSON'
{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\n<|im_end|>"}]}
{"messages": [{"role": "user", "content": "a"}]}
{"messages": [{"role": "narrator", "content": "a"}]}
JSON
"$encode" -m chatml plain <chats.jsonl >got 2>&1
n=$((n + 1))
end=$(sed -n 's/.*\[{"id":\([0-9]*\),"content":"<|im_end|>".*/\1/p; s/.*{"id":\([0-9]*\),"content":"<|im_end|>".*/\1/p' "$src/chat.json" | head -n 1)
said=$(sed 1q got | tr ' ' '\n' | grep -c "^$end\\*\$")
if [ "$said" -eq 1 ] && sed -n 2p got | grep -q 'no message of an assistant' && sed -n 3p got | grep -q 'a role that is none of'; then
    echo "ok $n - names of special tokens are text, and what is no conversation is said"
else
    echo "not ok $n - names of special tokens are text, and what is no conversation is said"
    sed 's/^/# /' got
fi
echo "1..$n"
