#!/bin/sh
# time-limit: 900
# Every operator and the optimizers, forward and backward, with each set of instructions that this processor has.
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
shown=out
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
tests=${top_builddir:-.}/tests/num
case $tests in /*) ;; *) tests=$PWD/$tests ;; esac
piper=${PIPER:-./piper}
case $piper in /*) ;; *) piper=$PWD/$piper ;; esac
cd "$dir" || exit 99

products() # what PIPER_ISA=$1 gives
{
    PIPER_ISA=$1 "$piper" info | sed -n 's/.*available: \([a-z0-9]*\); products: float32 \([^,]*\), bfloat16 \([^;]*\).*/\1 \2 \3/p'
}
have=
for isa in base avx2 avx512 avx512_bf16 amx_bf16 neon; do
    uses=$(products $isa)
    [ -n "$uses" ] || continue # of another kind of processor
    [ "$uses" != "$have" ] || continue # this processor has no more
    have=$uses
    for test in test_ops test_update test_kernels; do
        PIPER_ISA=$isa "$tests/$test" >out 2>&1
        result "$test with $isa: $uses"
    done
done
echo "1..$n"
