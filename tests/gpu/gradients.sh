#!/bin/sh
# time-limit: 900
# The gradient of every tensor of GPT-2 124M at real sizes, on the device and by PyTorch: tests/gpu/refcheck.py. What 64 sequences
# of 1,024 tokens and 50,257 words need is tested nowhere else: more than 2^31 logits, every launch at full size. SMALL: a model of no
# size. Prints TAP; 77 without a device or without PyTorch.
piper=${PIPER:-./piper} src=${top_srcdir:-.} n=0
. "$src/tests/gpu/lib.sh" || exit 99
if ! "$piper" info | grep -q 'cuda  *available'; then
    "$piper" info | sed -n 's/.*cuda  *//p'
    exit 77
fi
# Python keeps to the host's libraries, the program to its own
PIPER_LIBRARIES=${LD_LIBRARY_PATH-} LD_LIBRARY_PATH=${PIPER_HOST_LIBRARIES-${LD_LIBRARY_PATH-}}
export PIPER_LIBRARIES LD_LIBRARY_PATH
python3 -c 'import torch' 2>/dev/null || { echo "python3 has no PyTorch"; exit 77; }
case $piper in /*) ;; *) piper=$PWD/$piper ;; esac
case $src in /*) ;; *) src=$PWD/$src ;; esac
dir=$(mktemp -d "$(in_memory 4)/piper-gradients.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
trap 'exit 99' TERM
cd "$dir" || exit 99

# compare TYPE BATCH LENGTH LAYERS WIDTH HEADS VOCABULARY
compare()
{
    n=$((n + 1)) good='not '
    ! python3 "$src/tests/gpu/refcheck.py" "$piper" cuda "$@" >out 2>&1 || good=
    echo "${good}ok $n - $1, $2 x $3: $(grep . out | tail -n 1)"
    sed 's/^/# /' out
    rm -rf ./*
}
if [ -n "${SMALL-}" ]; then
    compare bfloat16 2 32 2 64 2 256
    compare float32 2 32 2 64 2 256
else
    compare bfloat16 64 1024 12 768 12 50257
    compare float32 8 1024 12 768 12 50257
fi
echo "1..$n"
