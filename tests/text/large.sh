#!/bin/sh
# time-limit: 900
# More than 2^31 tokens, and files above 4 GiB: a sparse file of bytes as ids becomes a token file whose documents lie behind 4 GiB.
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
truncate -s 2147484648 ids
printf '\007' | dd of=ids bs=1 seek=2147484640 conv=notrunc 2>/dev/null
printf '\001\002\003\004' >few
"$piper" data import ids few --raw uint8 -o big.h5 || exit 1
"$piper" data info big.h5 >out || exit 1
cat out
grep -q '^big.h5: 2147484652 tokens of 2 bytes, 2 documents, vocabulary 8$' out || exit 1
grep -Eq '^2147483648 to 4294967295 +1 ' out || exit 1
grep -Eq '^ +4 to 7 +1 ' out || exit 1
