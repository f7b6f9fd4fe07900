#!/bin/sh
# Tokens of the small tokenizers beside this script against digests of what the libraries `tokenizers` and `sentencepiece` give (small.py
# made them), whole and with the texts cut where encode_cut() allows; with POINTS in the environment instead those of every code point in
# several forms. Prints TAP.
src=$(cd "${top_srcdir:-.}" && pwd)/tests/text/small
encode=${top_builddir:-.}/tests/text/encode
why=$(mktemp) || exit 99
trap 'rm -f "$why"' EXIT
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
echo "1..$n"
