#!/bin/sh
# Tokens of the small tokenizers beside this script against digests of what the libraries `tokenizers` and `sentencepiece` give (small.py
# made them), whole and with the texts cut where encode_cut() allows; with POINTS in the environment instead those of every code point in
# several forms. Prints TAP.
src=$(cd "${top_srcdir:-.}" && pwd)/tests/text/small
encode=${top_builddir:-.}/tests/text/encode
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
why=$dir/why words=$dir/words text=$dir/text back=$dir/back
n=0
texts=texts.bin
# compare NAME WANT OPTION...
compare()
{
    n=$((n + 1))
    name=$1 want=$2
    shift 2
    got=$("$encode" "$@" <"$src/$texts" 2>"$why" | sha256sum)
    if grep -q 'has no PCRE2' "$why"; then
        echo "ok $n - $name # SKIP this build has no PCRE2"
    elif [ "${got%% *}" = "$want" ]; then
        echo "ok $n - $name"
    else
        echo "not ok $n - $name"
    fi
}
while read -r file pattern mode want; do
    set -- "$src/$file"
    [ "$pattern" = - ] || set -- -p "$pattern" "$@"
    case ${POINTS:+points}$mode in
    special)
        compare "$file" "$want" "$@"
        compare "$file, cut" "$want" -c 100 "$@"
        ;;
    plain) compare "$file, special tokens as text" "$want" -s "$@" ;;
    pointspoints:*) texts=points.txt && compare "$file, every code point as ${mode#*:}" "$want" -u "${mode#*:}" "$@" ;;
    decoded:*) compare "$file, decoded" "$want" -d -n "${mode#*:}" "$@" ;;
    esac
done <"$src/digests.txt"

# words that begin like longer ones before them: of 300,000 pairs some have the same place in the table of words met
n=$((n + 1))
LC_ALL=C awk 'BEGIN {
    x = 1
    for (i = 0; i < 20000; i++) {
        word = ""
        for (k = 0; k < 6; k++)
            word = word sprintf("%c", 97 + (x = x * 16807 % 2147483647) % 26)
        for (k = 6; k > 0; k--)
            printf " %s", substr(word, 1, k)
    }
}' >"$words"
{
    printf '\140\075\010\000' # their bytes: 540,000
    cat "$words"
} >"$text"
"$encode" -d "$src/gpt2.json" <"$text" >"$back" && cmp -s "$back" "$text" || printf 'not '
echo "ok $n - words that begin like others met before"
echo "1..$n"
