#!/bin/sh
# time-limit: 900
# More than 2^31 tokens, and files above 4 GiB: a sparse file of ids becomes a token file whose documents lie behind 4 GiB; and JSONL of
# 4.4 GB, whose last lines are read and counted.
piper=${PIPER:-./piper}
case $piper in /*) ;; *) piper=$PWD/$piper ;; esac
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
if [ "$free" -lt 6 ]; then
    echo "$free GiB are free here, 6 are needed"
    exit 77
fi
truncate -s 4294969296 ids
printf '\007' | dd of=ids bs=1 seek=4294969280 conv=notrunc 2>/dev/null
printf '\001\000\002\000\003\000\004\000' >few
"$piper" data import ids few --raw uint16 -o big.h5 || exit 1
"$piper" data info big.h5 >out || exit 1
cat out
grep -q '^big.h5: 2147484652 tokens of 2 bytes, 2 documents, vocabulary 8$' out || exit 1
grep -Eq '^2147483648 to 4294967295 +1 ' out || exit 1
grep -Eq '^ +4 to 7 +1 ' out || exit 1
rm -f big.h5 ids
# lines of 1100 bytes that say two, then one that says nothing and one that says five
line=$(printf '{"n": "%01080d", "text": "ab"}' 1)
{ yes "$line" | head -n 4000000 && printf '{"n": 1}\n{"text": "cdefg"}\n'; } |
    "$piper" data jsonl - -o lines.h5 >out 2>err || exit 1
cat out err
grep -q '^lines.h5: 8000005 tokens, vocabulary 256, 4000001 documents$' out || exit 1
grep -q 'skipped .*:4000001: no such field$' err || exit 1
